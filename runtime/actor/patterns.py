"""Event patterns: the `where` of a reaction, compiled into one predicate over the decoded JSON of an event.

The semantics are those of Amazon EventBridge. All fields of a pattern must match. The values that are listed for a field are
alternatives. An array in the body matches if any of its elements does. A listed value is a literal or one of these
operators::

    {"prefix": "a"}   {"suffix": ".png"}   {"equals-ignore-case": "DK"}   {"wildcard": "a*b"}   # \\* is a literal star
    {"prefix": {"equals-ignore-case": "a"}}   # also with suffix
    {"anything-but": value, or [values], or {"prefix" | "suffix" | "wildcard" | "equals-ignore-case": text or [texts]}}
    {"numeric": [">", 0, "<=", 5]}   {"exists": true}   {"cidr": "10.0.0.0/8"}   {"cidr": "2001:db8::/32"}
    {"exactly": "10.0.0.1"}   # a literal string that is an IP address matches each notation of that address

``"$or": [pattern, pattern, ...]`` may be added to the fields of a pattern at any depth. A pattern names fields as they are
named on the wire (camelCase), which may differ from the Python attributes. Names may be joined by dots:
``{"address.country": [...]}`` and ``{"address": {"country": [...]}}`` are the same pattern, and each matches an event with an
object `address` and an event with a field `address.country`. A pattern may be a dictionary or its JSON text.

A pattern differs from EventBridge in these points:

- A single value may be written without its list.
- ``{"total": {"numeric": [...]}}``, an operator without its list, is refused instead of taken for a field "numeric".
- A field that has two lists of values is refused. In EventBridge, the second list may replace the first one.
- An address matches `cidr` only if it is in the block. event-ruler also matches some numbers and some addresses of the other
  version of IP, and it accepts the lengths ``/+8`` and ``/8/``.
- `prefix` and `suffix` with a double quote do not match the empty string.
- `equals-ignore-case` compares characters outside the Basic Multilingual Plane as they are, and not as question marks.
- The alternatives of ``$or`` do not influence each other. event-ruler misses some matches if two of them share a list of values.
- Numbers are compared as they are decoded: a number in an event whose digits no double has is its nearest double.
- A wildcard may be of any complexity.
- If a JSON object has a name twice, its last value counts.
- In an event, arrays in more than `MAX_NESTED_ARRAYS` other arrays are not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from runtime.actor.pattern_fields import check_path
from runtime.actor.pattern_matching import MAX_NESTED_ARRAYS, Branch, Pattern
from runtime.actor.pattern_operators import OPERATORS, Predicate, compile_values, listed
from runtime.actor.pattern_plain import Condition, plain_test
from runtime.errors import DeclarationError

__all__ = [
    "MAX_BRANCHES",
    "MAX_FIELDS",
    "MAX_NAMES",
    "MAX_NESTED_ARRAYS",
    "Branch",
    "Condition",
    "Pattern",
    "Predicate",
    "compile_branches",
    "compile_pattern",
    "compile_where",
    "plain_test",
]

MAX_BRANCHES = 1_000
"""The largest number of combinations of the alternatives of all ``$or`` of a pattern, as in EventBridge."""
MAX_FIELDS = 256
"""The largest number of fields in one combination, as in EventBridge."""
MAX_NAMES = 100
"""The largest number of names in the path of a field."""

_RESERVED_IN_OR = frozenset(OPERATORS) | {
    "=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case", "date-after", "date-on-or-after",
    "date-before", "date-on-or-before", "in-date-range", "ip-address-in-range", "ip-address-not-in-range",
}  # fmt: skip
"""The names that EventBridge refuses as fields within ``$or``."""


def compile_pattern(pattern: object, name: str = "where", event: type | None = None) -> Predicate:
    """Compile a pattern into a predicate.

    Three details follow EventBridge. `exists` tests for leaves, so an object or an empty array does not exist. The fields of
    a pattern must all match within one element of each array of objects; fields are chosen in the order of their names, and a
    field is absent if no element has it that is consistent with the fields chosen before. `anything-but` matches an array if
    any of its elements does.

    Args:
        pattern: A dictionary of field names to patterns, or its JSON text.
        name: The first part of the path in error texts.
        event: The type of the events. A field that it does not have is refused. None to accept each field.

    Returns:
        A predicate over the types of decoded JSON: dict, list, str, int, float, bool and None. A body that is not an object
        has no fields.

    Raises:
        DeclarationError: The pattern is invalid. The text begins with the path of the faulty part.

    Example:
        matches = compile_pattern({"country": ["DK", "SE"], "total": [{"numeric": [">", 100]}]})
        assert matches({"country": "DK", "total": 150})
    """
    return Pattern(compile_branches(pattern, name, event)).matches


def compile_branches(pattern: object, name: str = "where", event: type | None = None) -> list[Branch]:
    """Return the combinations of alternatives of a pattern; one without ``$or`` has a single one.

    The arguments and errors are those of `compile_pattern`.
    """
    if isinstance(pattern, str):
        pattern = _read(pattern, name)
    branches = _add_fields([{}], pattern, "", name, in_or=False)
    if event is not None:
        for branch in branches:
            for condition in branch.values():
                check_path(event, condition.path, condition.label)
    return branches


def compile_where(where: Any, event: type | None, name: str) -> tuple[dict[str, Any] | None, Predicate | None]:
    """Return the pattern of a reaction to `event`, decoded, and its predicate; (None, None) without a pattern.

    `event` is the type of the events; None for events of any type.
    """
    if where is None:
        return None, None
    pattern = _read(where, name) if isinstance(where, str) else where
    return pattern, compile_pattern(pattern, name, event)


def _read(text: str, name: str) -> dict[str, Any]:
    """Decode the JSON text of a pattern. Refuse a name that an object has twice and a number that no double has."""

    def number(digits: str) -> float:
        if Decimal(repr(value := float(digits))) != Decimal(digits):
            raise DeclarationError(f"{name}: {digits} cannot be compared: no double has this value")
        return value

    def fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise DeclarationError(f"{name}: an object has a name twice: {', '.join(key for key, _ in pairs)}")
        return found

    try:
        pattern = json.loads(text, parse_float=number, object_pairs_hook=fields)
    except (ValueError, RecursionError) as error:
        raise DeclarationError(f"{name}: the text is not JSON: {error}") from None
    if not isinstance(pattern, dict):
        raise DeclarationError(f"{name}: expected a non-empty object, got {text}")
    return cast("dict[str, Any]", pattern)


def _add_fields(branches: list[Branch], pattern: object, prefix: str, label: str, *, in_or: bool) -> list[Branch]:
    """Return the branches with the conditions of a pattern added to each of them."""
    if not isinstance(pattern, Mapping) or not pattern:
        raise DeclarationError(f"{label}: expected a non-empty object, got {pattern!r}")
    for key, value in cast("Mapping[object, object]", pattern).items():
        if not isinstance(key, str):
            raise DeclarationError(f"{label}: a field name must be a string, got {key!r}")
        if in_or and key in _RESERVED_IN_OR:
            raise DeclarationError(f"{label}.{key}: an operator cannot be a field within $or")
        field = f"{label}.{key}"
        if (prefix + key).count(".") >= MAX_NAMES:
            raise DeclarationError(f"{label}: the path of a field may have at most {MAX_NAMES} names")
        if key == "$or":
            branches = _add_alternatives(branches, value, prefix, field)
        elif isinstance(value, Mapping):
            _refuse_bare_operator(cast("Mapping[object, object]", value), field)
            branches = _add_fields(branches, cast("object", value), f"{prefix}{key}.", field, in_or=in_or)
        else:
            condition = Condition(prefix + key, *compile_values(value, field), field, tuple(listed(value, field)))
            for branch in branches:
                _add_condition(branch, condition)
    return branches


def _add_condition(branch: Branch, condition: Condition) -> None:
    if branch.setdefault(condition.path, condition) is not condition:
        raise DeclarationError(f"{condition.label}: the field {condition.path!r} has two lists of values; join them")
    if len(branch) > MAX_FIELDS:
        raise DeclarationError(f"{condition.label}: a pattern may have at most {MAX_FIELDS} fields")


def _add_alternatives(branches: list[Branch], value: object, prefix: str, label: str) -> list[Branch]:
    alternatives = cast("Sequence[object]", value) if isinstance(value, list | tuple) else ()
    if len(alternatives) < 2:
        raise DeclarationError(f"{label}: expected a list of two patterns or more, got {value!r}")
    added: list[Branch] = []
    for index, alternative in enumerate(alternatives):
        copies = [dict(branch) for branch in branches]
        added += _add_fields(copies, alternative, prefix, f"{label}[{index}]", in_or=True)
        if len(added) > MAX_BRANCHES:
            raise DeclarationError(f"{label}: the alternatives have more than {MAX_BRANCHES:,} combinations")
    return added


def _refuse_bare_operator(value: Mapping[object, object], path: str) -> None:
    """Refuse ``{"total": {"numeric": [...]}}``, which would look for a field with the name "numeric"."""
    if len(value) != 1:
        return
    [(key, operand)] = value.items()
    if key in OPERATORS and (key == "numeric" or not isinstance(operand, list | tuple)):
        raise DeclarationError(f"{path}: an operator must be in a list: [{dict(value)!r}]")
