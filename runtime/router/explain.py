"""Why an event does not match a pattern: the first field that does not, with the values that are wanted and found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from runtime.actor.patterns import MAX_NESTED_ARRAYS, Condition, Pattern, compile_branches, plain_test
from runtime.router.parts import Part, as_json, parts_of, together

__all__ = ["NOT_THERE", "Mismatch", "explain"]

NOT_THERE = "not there"
"""The value of `Mismatch.found` for a field that the event lacks."""

_LONGEST = 200
"""The characters of a value that are shown."""


class Mismatch(msgspec.Struct, frozen=True):
    """The first field of a pattern that an event does not match. `str` gives a sentence."""

    path: str
    """The names of the field, joined by dots. The path of an ``$or`` ends with ``$or``."""
    wanted: str
    """The literals and operators that the pattern lists for the field, or the alternatives of ``$or``, as JSON."""
    found: str
    """The value as JSON, shortened; a list if arrays give the field several values. `NOT_THERE`, ``an object`` or ``an empty
    array`` if there is no value to compare; empty for ``$or``."""
    array: str = ""
    """The path of the array whose elements do not fit; empty if no array is on the way."""
    beside: tuple[str, ...] = ()
    """The fields that match alone, but not in the same element of an array as this one."""
    alternatives: tuple[Mismatch, ...] = ()
    """For ``$or``, the mismatch of each alternative."""

    def __str__(self) -> str:
        if self.alternatives:
            reasons = "; ".join(f"({number}) {each}" for number, each in enumerate(self.alternatives, 1))
            return f"no alternative of {self.path} holds: {reasons}"
        if self.beside:
            return f"{self.path} does not match {self.wanted} in the same array element as {' and '.join(self.beside)}"
        reason = f"{self.path} is {self.found}, but the pattern wants {self.wanted}"
        return f"no element of {self.array} fits: {reason}" if self.array else reason


def explain(pattern: Mapping[str, object] | str, body: object) -> Mismatch | None:
    """Return the first field of a pattern that an event does not match, or None if the event matches.

    Fields are taken in the order in which the pattern names them. Those that match in different elements of an array, and those
    whose absence depends on the other fields, come last.

    Args:
        pattern: As in the `where` of a reaction.
        body: The decoded JSON of the event.

    Raises:
        DeclarationError: The pattern is invalid.
    """
    branches = compile_branches(pattern, "pattern")
    if Pattern(branches).matches(body):
        return None
    return _first(parts_of(pattern), body)


def _first(parts: Sequence[Part], body: object) -> Mismatch:
    """Return the first mismatch of a pattern that does not match."""
    for part in parts:
        if all(any(_never_holds(each, body) for each in branch.values()) for branch in part.branches):
            return _alone(part, body)
    for count in range(1, len(parts)):
        if not Pattern(together(parts[:count])).matches(body):
            return _in_arrays(parts[:count], body)
    return _in_arrays(parts, body)


def _never_holds(condition: Condition, body: object) -> bool:
    """Return whether a condition holds beside no other: an absent field may be there in some elements of an array only."""
    if Pattern([{condition.path: condition}]).matches(body):
        return False
    return (
        not condition.absent or type(body) is not dict or plain_test(condition)(cast("dict[str, Any]", body)) is False
    )


def _in_arrays(parts: Sequence[Part], body: object) -> Mismatch:
    """Return the mismatch of the last part, which does not hold beside the parts before it."""
    *before, last = parts
    if not Pattern(last.branches).matches(body):
        return _alone(last, body)
    return Mismatch(last.path, _short(last.wanted), "", beside=tuple(part.path for part in before))


def _alone(part: Part, body: object) -> Mismatch:
    """Return the mismatch of a part that does not hold by itself."""
    if part.alternatives:
        reasons = tuple(_first(parts, body) for parts in part.alternatives)
        return Mismatch(part.path, _short(part.wanted), "", alternatives=reasons)
    values = [*_values(body, part.path, "", "", 0)]
    leaves = [value for value, _ in values if not isinstance(value, dict | list)]
    array = next((array for _, array in values if array), "")
    if leaves:
        found = _short(leaves if len(leaves) > 1 else leaves[0])
    else:
        found = NOT_THERE if not values else "an object" if isinstance(values[0][0], dict) else "an empty array"
    return Mismatch(part.path, _short(part.wanted), found, array if leaves else "")


def _values(value: Any, path: str, above: str, array: str, arrays: int) -> Iterator[tuple[Any, str]]:
    """Yield the values at a path, each with the path of the outermost array on the way. Arrays yield their elements.

    Args:
        value: The part of the event in which to look.
        path: The names below it, joined by dots; empty for the value itself.
        above: The names above it, with a dot behind each.
        array: The path of the array on the way.
        arrays: The number of arrays on the way.
    """
    if type(value) is list and value and arrays <= MAX_NESTED_ARRAYS:
        for element in cast("list[Any]", value):
            yield from _values(element, path, above, array or above[:-1], arrays + 1)
    elif not path:
        yield value, array
    elif type(value) is dict:
        fields = cast("dict[str, Any]", value)
        for end in (*(index for index, char in enumerate(path) if char == "."), len(path)):
            if (name := path[:end]) in fields:
                yield from _values(fields[name], path[end + 1 :], f"{above}{name}.", array, arrays)


def _short(value: object) -> str:
    text = as_json(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
