"""The public names: `runtime` exports the names that the reference lists, and each has a docstring."""

import inspect
import re
from pathlib import Path

import runtime
import runtime.router

REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"


def listed() -> list[str]:
    """Return the names in the first table of the reference."""
    section = REFERENCE.read_text().split("## Names", 1)[1].split("\n## ", 1)[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)


def test_all_is_sorted_and_is_what_the_reference_lists() -> None:
    assert list(runtime.__all__) == sorted(runtime.__all__)
    assert listed() == list(runtime.__all__)


def test_every_public_name_is_there_and_documented() -> None:
    for name in runtime.__all__:
        found = getattr(runtime, name)
        assert name == "new_key" or inspect.getdoc(found), name


def test_nothing_else_is_visible() -> None:
    modules = {path.stem for path in Path(runtime.__file__).parent.glob("*.py")} | {
        path.name for path in Path(runtime.__file__).parent.iterdir() if path.is_dir()
    }
    # pytest adds names with "@" to the modules of a distribution that has a plugin.
    visible = {name for name in vars(runtime) if not name.startswith(("_", "@"))}
    assert visible - modules - set(runtime.__all__) <= {"TYPE_CHECKING", "Any", "import_module"}


def test_the_names_of_the_router_are_those_of_the_reference() -> None:
    section = REFERENCE.read_text().split("## The router", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"\w+", row)]
    assert sorted(names) == sorted(runtime.router.__all__)
    assert all(inspect.getdoc(getattr(runtime.router, name)) for name in names)
