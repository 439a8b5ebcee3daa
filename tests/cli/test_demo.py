"""How the command line finds the demo: by entry points, since the library imports no example."""

from importlib.metadata import EntryPoint, EntryPoints

import pytest

from runtime.cli import main
from runtime.cli.demo_command import find_demo
from runtime.errors import ConfigurationError


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The objects that installed distributions offer as demos; a test may change the list."""
    values: list[str] = []

    def entry_points(*, group: str) -> EntryPoints:
        return EntryPoints(EntryPoint(name="shop", value=value, group=group) for value in values)

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    return values


def test_the_demo_of_the_shop_is_installed() -> None:
    assert find_demo().__module__ == "actorloom_shop.demo"


def test_an_installation_without_a_demo_says_what_to_do(offered: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo"])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "Error: the demo is not installed: run `pip install actorloom`, or `make setup` in a checkout of the repository\n"
    )


def test_a_demo_whose_package_is_missing_counts_as_not_installed(offered: list[str]) -> None:
    offered.append("no_such_package.demo:demo")
    with pytest.raises(ConfigurationError, match="the demo is not installed"):
        find_demo()


def test_an_error_in_the_module_of_a_demo_is_not_hidden(offered: list[str]) -> None:
    offered.append("tests.cli.test_demo:nothing")
    with pytest.raises(AttributeError, match="nothing"):
        find_demo()
