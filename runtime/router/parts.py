"""The parts of a pattern as it is written: its fields, and each ``$or`` with its alternatives."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple, cast

from runtime.actor.patterns import Branch, compile_branches

__all__ = ["Part", "as_json", "parts_of", "together"]


class Part(NamedTuple):
    """A field of a pattern, or an ``$or``."""

    path: str
    """The names of the field, joined by dots. The path of an ``$or`` ends with ``$or``."""
    wanted: Sequence[object]
    """The literals and operators that are listed for the field, or the alternatives of the ``$or``."""
    branches: list[Branch]
    """The part as a compiled pattern. That of a field has one branch with one condition."""
    alternatives: list[list[Part]]
    """The parts of each alternative; empty for a field."""


def parts_of(pattern: Mapping[str, object] | str) -> list[Part]:
    """Return the parts of a valid pattern, in their order. All of them must hold."""
    fields: object = json.loads(pattern) if isinstance(pattern, str) else pattern
    return [*_parts(cast("Mapping[str, object]", fields), "")]


def together(parts: Sequence[Part]) -> list[Branch]:
    """Return the branches of a pattern of several parts of one pattern."""
    found: list[Branch] = [{}]
    for part in parts:
        found = [{**branch, **more} for branch in found for more in part.branches]
    return found


def as_json(value: object) -> str:
    """Return a part of a pattern, or a value of an event, as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, default=dict)


def _parts(pattern: Mapping[str, object], prefix: str) -> Iterator[Part]:
    for key, value in pattern.items():
        path = prefix + key
        if key == "$or":
            listed = cast("Sequence[Mapping[str, object]]", value)
            alternatives = [[*_parts(each, prefix)] for each in listed]
            yield Part(path, listed, [branch for parts in alternatives for branch in together(parts)], alternatives)
        elif isinstance(value, Mapping):
            yield from _parts(cast("Mapping[str, object]", value), f"{path}.")
        else:
            branches = compile_branches({path: value}, "pattern")
            yield Part(path, branches[0][path].matchers, branches, [])
