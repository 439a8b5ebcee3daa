"""Matching an event pattern: its conditions are tested one by one. If the event has arrays of objects on the way, the fields
that the pattern names are collected first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from runtime.actor.pattern_arrays import Choice, Place, is_consistent
from runtime.actor.pattern_plain import Condition, plain_test

__all__ = ["MAX_NESTED_ARRAYS", "Branch", "Pattern"]

MAX_NESTED_ARRAYS = 32
"""The number of arrays within each other in which a field of an event is found."""


Branch = dict[str, Condition]
"""A combination of alternatives of all ``$or``: conditions that must all hold, by path."""

_Nodes = list[tuple[str, int | None, "_Nodes | None"]]
"""The names to look for in an object: each with the number of the path that it ends, and the names below it."""
_Fields = list[list[tuple[object, Place]]]
"""The leaves of an event with their places, by the number of their path."""


class Pattern:
    """A compiled pattern.

    Args:
        branches: The combinations of alternatives. An event matches the pattern if it matches one of them.
    """

    __slots__ = ("_branches", "_conditions", "_nodes", "_paths", "_plain")

    def __init__(self, branches: list[Branch]) -> None:
        paths = sorted({path for branch in branches for path in branch}, key=_order)
        numbers = {path: number for number, path in enumerate(paths)}
        distinct = {id(condition): condition for branch in branches for condition in branch.values()}
        number_of = {identity: number for number, identity in enumerate(distinct)}
        self._paths = len(paths)
        self._nodes = _nodes(numbers, "", {})
        self._conditions = [(numbers[c.path], c.test, c.absent) for c in distinct.values()]
        """Of each condition: the number of its path, its test, and whether absence matches."""
        self._plain = [plain_test(condition) for condition in distinct.values()]
        """Of each condition: whether it holds for an event without arrays of objects."""
        self._branches = [[number_of[id(branch[path])] for path in sorted(branch, key=_order)] for branch in branches]
        """The numbers of the conditions of each branch, in the order of their paths."""

    def matches(self, body: object) -> bool:
        """Return whether a decoded event matches."""
        fields = cast("dict[str, Any]", body) if type(body) is dict else {}
        if len(self._branches) > 1:
            return self._matches_branches(fields)
        unsure = False
        for plain in self._plain:
            holds = plain(fields)
            if not holds:
                if holds is None:
                    unsure = True
                else:
                    return False
        return not unsure or self._matches_nested(self._collect(fields))

    def _matches_branches(self, body: dict[str, Any]) -> bool:
        known: dict[int, bool | None] = {}
        unsure = False
        for branch in self._branches:
            sure = True
            for number in branch:
                if number not in known:
                    known[number] = self._plain[number](body)
                if not (holds := known[number]):
                    if holds is not None:
                        break
                    sure = False
            else:
                if sure:
                    return True
                unsure = True
        return unsure and self._matches_nested(self._collect(body))

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
