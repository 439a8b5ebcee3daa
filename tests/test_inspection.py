"""The table of the inspection: every fault has tests, and every test in the table exists."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TABLE: dict[str, dict[str, list[str]]] = tomllib.loads((ROOT / "tests" / "inspection.toml").read_text())
ITEMS = [
    *(f"A{n}" for n in range(1, 21)),
    *(f"B{n}" for n in range(1, 8)),
    *(f"C{n}" for n in range(1, 13)),
    *(f"D{n}" for n in range(1, 5)),
    "E",
    *(f"F{n}" for n in range(1, 6)),
]
"""The items of the inspection, in its order."""


class Collected:
    """A pytest plugin that keeps the node ids of a collection."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            self.names.add(item.nodeid)
            self.names.add(re.sub(r"\[.*", "", item.nodeid, flags=re.DOTALL))


def test_the_table_has_every_item_in_order() -> None:
    assert list(TABLE) == ITEMS


@pytest.mark.parametrize("item", ITEMS)
def test_every_item_has_tests(item: str) -> None:
    assert TABLE[item]["tests"], f"{item} has no test"


def test_every_test_in_the_table_exists() -> None:
    named = {name for entry in TABLE.values() for name in entry["tests"]}
    files = sorted({name.partition("::")[0] for name in named})
    assert not [file for file in files if not (ROOT / file).is_file()]
    collected = Collected()
    pytest.main(
        ["--collect-only", "-q", "-p", "no:cacheprovider", *(str(ROOT / file) for file in files)], plugins=[collected]
    )
    assert not sorted(named - collected.names)
