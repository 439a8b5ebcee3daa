"""Matching an event pattern: the fields that it names are collected from the event, and then its conditions are tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from runtime.actor.pattern_arrays import Choice, Place, is_consistent
from runtime.actor.pattern_operators import Predicate

__all__ = ["MAX_NESTED_ARRAYS", "Branch", "Condition", "Pattern"]

MAX_NESTED_ARRAYS = 32
"""The number of arrays within each other in which a field of an event is found."""


class Condition(NamedTuple):
    """What a pattern says about one field."""

    path: str
    """The names of the field, joined by dots."""
    test: Predicate | None
    """Tests one leaf; None if only the absence of the field matches."""
    absent: bool
    """Whether the absence of the field matches."""
    label: str
    """The path in error texts."""
    matchers: tuple[object, ...]
    """What the pattern lists for the field: literals and operators."""


Branch = dict[str, Condition]
"""A combination of alternatives of all ``$or``: conditions that must all hold, by path."""

_Nodes = list[tuple[str, int | None, "_Nodes | None"]]
"""The names to look for in an object: each with the number of the path that it ends, and the names below it."""
_Leaves = list[Sequence[object]]
"""The leaves of an event by the number of their path."""
_Fields = list[list[tuple[object, Place]]]
"""The leaves of an event with their places, by the number of their path."""


class Pattern:
    """A compiled pattern.

    Args:
        branches: The combinations of alternatives. An event matches the pattern if it matches one of them.
    """

    __slots__ = ("_branches", "_conditions", "_nodes", "_paths")

    def __init__(self, branches: list[Branch]) -> None:
        paths = sorted({path for branch in branches for path in branch}, key=_order)
        numbers = {path: number for number, path in enumerate(paths)}
        distinct = {id(condition): condition for branch in branches for condition in branch.values()}
        number_of = {identity: number for number, identity in enumerate(distinct)}
        self._paths = len(paths)
        self._nodes = _nodes(numbers, "", {})
        self._conditions = [(numbers[c.path], c.test, c.absent) for c in distinct.values()]
        """Of each condition: the number of its path, its test, and whether absence matches."""
        self._branches = [[number_of[id(branch[path])] for path in sorted(branch, key=_order)] for branch in branches]
        """The numbers of the conditions of each branch, in the order of their paths."""

    def matches(self, body: object) -> bool:
        """Return whether a decoded event matches."""
        leaves: _Leaves = [()] * self._paths
        if type(body) is dict and not _collect_flat(cast("dict[str, Any]", body), self._nodes, leaves):
            return self._matches_nested(self._collect(cast("dict[str, Any]", body)))
        known: dict[int, bool] = {}
        for branch in self._branches:
            for number in branch:
                holds = known.get(number)
                if holds is None:
                    holds = known[number] = self._holds(number, leaves)
                if not holds:
                    break
            else:
                return True
        return False

    def _holds(self, number: int, leaves: _Leaves) -> bool:
        path, test, absent = self._conditions[number]
        values = leaves[path]
        if not values:
            return absent
        if test is not None:
            for leaf in values:
                if test(leaf):
                    return True
        return False

    def _matches_nested(self, fields: _Fields) -> bool:
        choices: list[Choice | None] = [None] * len(self._conditions)
        for branch in self._branches:
            chosen: list[Choice] = []
            for number in branch:
                choice = choices[number]
                if choice is None:
                    choice = choices[number] = self._choice(number, fields)
                if not choice.matching and not choice.absent:
                    break
                chosen.append(choice)
            else:
                if is_consistent(chosen):
                    return True
        return False

    def _choice(self, number: int, fields: _Fields) -> Choice:
        path, test, absent = self._conditions[number]
        present = fields[path]
        matching = {place for leaf, place in present if test(leaf)} if test is not None else set[Place]()
        return Choice(matching, {place for _, place in present} if absent else set(), absent)

    def _collect(self, body: dict[str, Any]) -> _Fields:
        """Return the fields of each path. This is not recursive, because the sender of a body chooses its depth."""
        fields: _Fields = [[] for _ in range(self._paths)]
        arrays = 0
        stack: list[tuple[Any, int | None, _Nodes | None, Place]] = [(body, None, self._nodes, ())]
        while stack:
            value, path, nodes, place = stack.pop()
            if type(value) is dict:
                for key, ends, below in nodes or ():
                    if key in value:
                        stack.append((value[key], ends, below, place))
            elif type(value) is list:
                arrays += 1
                for position, item in enumerate(cast("list[Any]", value)):
                    if type(item) is not dict and type(item) is not list:
                        stack.append((item, path, None, place))
                    elif len(place) < MAX_NESTED_ARRAYS:
                        stack.append((item, path, nodes, (*place, (arrays, position))))
            elif path is not None:
                fields[path].append((value, place))
        return fields


def _collect_flat(body: dict[str, Any], nodes: _Nodes, leaves: _Leaves) -> bool:
    """Collect the leaves of each path; return False if the event has a named array of objects or arrays."""
    for key, ends, below in nodes:
        if key not in body:
            continue
        value = body[key]
        kind = type(value)
        if kind is dict:
            if below is not None and not _collect_flat(value, below, leaves):
                return False
        elif kind is list:
            for item in value:
                if type(item) is dict or type(item) is list:
                    return False
            if ends is not None:
                leaves[ends] = [*leaves[ends], *value]
        elif ends is not None:
            leaves[ends] = [*leaves[ends], value]
    return True


def _order(path: str) -> bytes:
    """Return the key that sorts paths as EventBridge does: by their UTF-16 units."""
    return path.encode("utf-16-be", "surrogatepass")


def _nodes(paths: Mapping[str, int], prefix: str, known: dict[str, _Nodes]) -> _Nodes:
    """Return the names by which an event can have the paths that begin with `prefix`, with and without dots in a name."""
    if prefix in known:
        return known[prefix]
    nodes = known[prefix] = []
    rest = [path[len(prefix) :] for path in paths if path.startswith(prefix)]
    names = {path[:end] for path in rest for end in (*_dots(path), len(path))}
    for name in sorted(names):
        below = f"{prefix}{name}."
        has_fields = any(path.startswith(below) for path in paths)
        nodes.append((name, paths.get(prefix + name), _nodes(paths, below, known) if has_fields else None))
    return nodes


def _dots(path: str) -> list[int]:
    return [index for index, char in enumerate(path) if char == "."]
