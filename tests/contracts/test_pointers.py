"""JSON pointers into documents."""

from typing import Any

import pytest

from runtime.contracts.pointers import Problem, dangling, walk
from runtime.wire.json_pointers import resolve

DOCUMENT: dict[str, Any] = {"a/b": [{"c~d": {"e": 1}}], "refs": [{"$ref": "#/a~1b/0/c~0d"}, {"$ref": "other.json#/x"}]}


def test_the_pointer_of_an_object_leads_to_it() -> None:
    found = dict(walk(DOCUMENT))
    assert list(found) == ["", "/a~1b/0", "/a~1b/0/c~0d", "/refs/0", "/refs/1"]
    for pointer, each in found.items():
        assert resolve(DOCUMENT, f"#{pointer}") is each


@pytest.mark.parametrize("ref", ["#/absent", "#/a~1b/1", "#/a~1b/x", "#/a~1b/0/c~0d/e/f"])
def test_a_reference_to_nothing_is_a_problem(ref: str) -> None:
    with pytest.raises(LookupError):
        resolve(DOCUMENT, ref)
    assert list(dangling(DOCUMENT)) == [], "another document is not looked up"
    assert list(dangling({**DOCUMENT, "x/y": {"$ref": ref}})) == [Problem("/x~1y/$ref", f"{ref} does not exist")]
