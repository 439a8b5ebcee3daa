"""One condition of an event pattern, tested on an event that has no arrays of objects on the way to the field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from runtime.actor.pattern_operators import Predicate

__all__ = ["Condition", "PlainTest", "plain_test"]


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


PlainTest = Callable[[dict[str, Any]], bool | None]
"""Takes a decoded object and returns whether a condition holds; None if that depends on the elements of an array, or if a name
with dots is beside others. False does not depend on other conditions."""

_NOTHING: dict[str, Any] = {}
"""In place of a field that is not there. As for an object, there is no leaf to test."""


def plain_test(condition: Condition) -> PlainTest:
    """Compile the test of a condition."""
    names = condition.path.split(".")
    return _test_at_top(condition) if len(names) == 1 else _test_below(condition, names)


def _test_at_top(condition: Condition) -> PlainTest:
    name, test, absent = condition.path, condition.test or _never, condition.absent

    def holds(body: dict[str, Any]) -> bool | None:
        value = body.get(name, _NOTHING)
        kind = type(value)
        return test(value) if kind is not dict and kind is not list else _holds_inside(value, test, absent)

    return holds


def _test_below(condition: Condition, names: list[str]) -> PlainTest:
    *above, last = names
    test, absent = condition.test or _never, condition.absent
    steps = [
        (name, [".".join(names[at:end]) for end in range(at + 2, len(names) + 1)]) for at, name in enumerate(above)
    ]
    """Each name with those that begin with it and have dots."""

    def holds(body: dict[str, Any]) -> bool | None:
        for name, dotted in steps:
            for longer in dotted:
                if longer in body:
                    return None
            inner = body.get(name)
            if type(inner) is not dict:
                return None if type(inner) is list and not _has_leaves_only(inner) else absent
            body = inner
        value = body.get(last, _NOTHING)
        kind = type(value)
        return test(value) if kind is not dict and kind is not list else _holds_inside(value, test, absent)

    return holds


def _never(leaf: object) -> bool:
    return False


def _holds_inside(value: dict[str, Any] | list[Any], test: Predicate, absent: bool) -> bool | None:
    """Return whether a condition holds for an object, which is no leaf, or for an array."""
    if not value or type(value) is dict:
        return absent
    return any(map(test, value)) if _has_leaves_only(cast("list[Any]", value)) else None


def _has_leaves_only(values: list[Any]) -> bool:
    return not any(type(value) is dict or type(value) is list for value in values)
