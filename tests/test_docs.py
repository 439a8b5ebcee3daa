"""The pages are true: tests run their files and commands, and compare their lists with the code."""

import re
import shutil
from pathlib import Path

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

import runtime
from runtime.host.config import Settings
from runtime.nats.options import ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.options import Options, RetryPolicy
from runtime.storage.streams import dead_config, events_config, turns_config
from runtime.wire.subjects import Names
from tests.support.shell import ROOT, matches, steps, terminal
from tests.test_layers import FLOORS

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / ".github").rglob("*.md")])
NATS = pytest.mark.skipif(shutil.which("nats") is None, reason="the nats command line is not installed")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
@pytest.mark.parametrize("stand_in", [True, pytest.param(False, marks=NATS)], ids=["stand-in", "nats"])
async def test_the_commands_of_a_page_print_its_outputs(page: str, stand_in: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    async with (
        EmbeddedServer(port=0, store_dir=tmp_path / "nats") as server,
        terminal(home, server.url, stand_in=stand_in, fresh=page == "README.md") as opened,
    ):
        played = 0
        for step in steps(ROOT / page):
            await opened.play(step)
            played += 1
        assert played > 5


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", ["docs/events.md", "docs/contracts.md"])
async def test_the_commands_of_a_long_page_print_its_outputs(page: str, tmp_path: Path) -> None:
    """Each command runs in a child of one process: the start of the command line is a matter of the other pages."""
    home = tmp_path / "home"
    home.mkdir()
    async with (
        EmbeddedServer(port=0, store_dir=tmp_path / "nats") as server,
        terminal(home, server.url) as opened,
    ):
        played = [await opened.play(step) for step in steps(ROOT / page)]
        assert len(played) > 10


def test_an_output_is_compared_as_a_whole() -> None:
    assert matches("a 17 b", "a … b")
    assert not matches("a 17 c", "a … b")
    assert not matches("a\nb", "a")


def test_the_reference_lists_the_public_names() -> None:
    assert first_column("Names") == sorted(runtime.__all__)


def test_the_reference_lists_the_settings() -> None:
    assert first_column("Settings of a process") == [field.name for field in fields(Settings)]
    known = [field.name for field in fields(ConnectionOptions) if field.name not in ("name", "public_api")]
    assert first_column("Connection") == known
    assert first_column("Limits of an actor") == [field.name for field in fields(Options)]
    assert first_column("Retries") == [field.name for field in fields(RetryPolicy)]


@pytest.mark.parametrize(
    ("heading", "kind"),
    [
        ("Settings of a process", Settings),
        ("Connection", ConnectionOptions),
        ("Limits of an actor", Options),
        ("Retries", RetryPolicy),
    ],
)
def test_the_reference_lists_the_defaults(heading: str, kind: type) -> None:
    shown = dict(re.findall(r"(?m)^\| `(\w+)` \| (?:`([^`]*)`)? ?\|", below(heading)))
    listed = [field for field in fields(kind) if field.name in shown and field.name != "retry"]
    defaults = {each.name: None if each.default is NODEFAULT else each.default for each in listed}
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value or "") for name, value in defaults.items()
    }
    assert {name: shown[name] for name in texts} == texts


def test_the_wire_contract_lists_the_subjects_of_every_stream() -> None:
    page, names = (DOCS / "wire.md").read_text(), Names("orders")
    for config in (turns_config(names), events_config(names), dead_config(names)):
        for subject in config.subjects:
            prefix = re.escape(re.split(r"[*>]", subject)[0])
            assert re.search(rf"(?m)^\|.*\| `{prefix}[^|]*\|[^|]*`{config.name}`", page), f"{subject} of {config.name}"


def below(heading: str) -> str:
    """Return the text of the reference between a heading and the next one."""
    text = (DOCS / "reference.md").read_text()
    found = re.search(rf"(?ms)^#+ {heading}\n(.*?)(?=^#|\Z)", text)
    assert found is not None, f"no heading {heading!r}"
    return found[1]


def first_column(heading: str) -> list[str]:
    """Return the names in the first column of the tables below a heading of the reference."""
    return re.findall(r"(?m)^\| `(\w+)` ", below(heading))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_the_picture_shows_every_room_on_its_floor(page: str) -> None:
    [picture] = re.findall(r"(?ms)^```\n(cli/.*?)^```", (ROOT / page).read_text())
    shown = [set(re.findall(r"\b([a-z]+)(?:/|\.py)", line)) for line in picture.splitlines()]
    assert shown == [rooms for rooms in FLOORS if not rooms & {"__main__", "__init__"}]


def test_every_page_is_in_the_index() -> None:
    index = (DOCS / "index.md").read_text() + (DOCS / "adr" / "README.md").read_text()
    pages = [page for page in DOCS.rglob("*.md") if page.name not in ("index.md", "README.md")]
    assert [page.name for page in pages if page.name not in index] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / ".pre-commit-config.yaml"], ids=lambda page: page.name)
def test_every_target_that_is_named_is_in_the_makefile(page: Path) -> None:
    targets = set(re.findall(r"(?m)^([a-z-]+):", (ROOT / "Makefile").read_text()))
    named = set(re.findall(r"(?:`|^|entry: )make ([a-z-]+)", page.read_text(), re.MULTILINE))
    assert named <= targets
