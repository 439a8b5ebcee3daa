"""The listed values of an event pattern, compiled into one predicate over a leaf of an event's JSON.

A leaf is a decoded JSON value that is not an object or an array. `runtime.actor.patterns` lists the operators.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import cast

from runtime.actor.pattern_addresses import address_of, network_of
from runtime.errors import DeclarationError

Predicate = Callable[[object], bool]
"""Takes a decoded JSON value and returns whether it matches. It never raises."""

__all__ = ["OPERATORS", "Predicate", "compile_values", "key_of", "listed"]


def compile_values(value: object, path: str) -> tuple[Predicate | None, bool]:
    """Compile what a pattern lists for one field.

    Args:
        value: A list of literals and operators, or a single literal.
        path: The path of the list in error texts.

    Returns:
        A predicate over one leaf, or None if only the absence of the field matches; and whether the absence matches.

    Raises:
        DeclarationError: The list is empty, or a part of it is invalid.
    """
    literals: list[object] = []
    tests: list[Predicate] = []
    absent = False
    matchers = listed(value, path)
    if not matchers:
        raise DeclarationError(f"{path}: an empty list matches nothing; list the values that match")
    for index, matcher in enumerate(matchers):
        item = f"{path}[{index}]"
        if not isinstance(matcher, Mapping):
            literals.append(_literal(matcher, item))
        elif (matcher := cast("Mapping[object, object]", matcher)) == {"exists": False} and matcher["exists"] is False:
            absent = True
        else:
            tests.append(_compile_operator(matcher, item))
    if literals:
        tests[:0] = _literal_tests(literals)
    return (_any(tests) if tests else None), absent


def listed(value: object, path: str) -> Sequence[object]:
    """Return a list as it is, and a single literal as a list of one value."""
    if isinstance(value, list | tuple):
        return cast("Sequence[object]", value)
    return (_literal(value, path),)


# Literals. Numbers are equal as JSON numbers: 300 and 300.0 are, and true and 1 are not.


def _literal(value: object, path: str) -> object:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float) and value - value == 0:  # not infinite and not NaN, which JSON cannot express
        return value
    raise DeclarationError(f"{path}: expected a string, number, boolean or null, got {value!r}")


def _literal_tests(literals: list[object]) -> list[Predicate]:
    keys = frozenset(map(key_of, literals))
    if all(literal is None or isinstance(literal, str) for literal in literals):
        tests: list[Predicate] = [keys.__contains__]
    else:
        tests = [lambda leaf: key_of(leaf) in keys]
    addresses = frozenset(address for literal in literals if (address := address_of(literal)) is not None)
    if addresses:  # as in EventBridge, a string that is an IP address matches each notation of that address
        tests.append(lambda leaf: address_of(leaf) in addresses)
    return tests


def key_of(leaf: object) -> object:
    """Return a hashable value that is equal for two leaves if they are equal in JSON."""
    kind = type(leaf)
    if kind is int:
        number = _comparable(cast("int", leaf))
        return (leaf,) if number is None else number
    return (leaf,) if kind is bool else leaf


_EXACT = 2**53
"""A double represents each integer up to this one."""


def _comparable(number: float) -> float | None:
    """Return a number that can be compared with doubles, or None if no double has its digits.

    EventBridge compares such an integer by its digits only, and never by its order.
    """
    if type(number) is float or -_EXACT <= number <= _EXACT:
        return number
    try:
        double = float(number)
    except OverflowError:
        return None
    return double if Decimal(repr(double)) == number else None


# The operators. Each takes its operand and its path, and returns a predicate over one leaf.


def _compile_operator(matcher: Mapping[object, object], path: str) -> Predicate:
    if len(matcher) != 1:
        raise DeclarationError(f"{path}: expected one operator, got {dict(matcher)!r}")
    [(name, operand)] = matcher.items()
    build = OPERATORS.get(cast("str", name))
    if build is None:
        raise DeclarationError(f"{path}: unknown operator {name!r}; the operators are {', '.join(OPERATORS)}")
    return build(operand, f"{path}.{name}")


def _exists(operand: object, path: str) -> Predicate:
    if operand is not True:  # `compile_values` handles False, because an absent field has no leaf to test
        raise DeclarationError(f"{path}: expected true or false, got {operand!r}")
    return lambda leaf: True


def _prefix(operand: object, path: str) -> Predicate:
    if isinstance(operand, Mapping):
        starts = re.compile(_any_case(_folded_text(operand, path)), re.DOTALL).match
        return lambda leaf: type(leaf) is str and starts(leaf) is not None
    text = _text(operand, path)
    return lambda leaf: type(leaf) is str and leaf.startswith(text)


def _suffix(operand: object, path: str) -> Predicate:
    if not isinstance(operand, Mapping):
        text = _text(operand, path)
        return lambda leaf: type(leaf) is str and leaf.endswith(text)
    text = _folded_text(operand, path)
    longest = sum(max(len(char.lower()), len(char.upper())) for char in text)
    search = re.compile(f"(?:{_any_case(text)})\\Z", re.DOTALL).search
    return lambda leaf: type(leaf) is str and search(leaf, max(0, len(leaf) - longest)) is not None


def _equals_ignore_case(operand: object, path: str) -> Predicate:
    equals = re.compile(_any_case(_text(operand, path)), re.DOTALL).fullmatch
    return lambda leaf: type(leaf) is str and equals(leaf) is not None


def _exactly(operand: object, path: str) -> Predicate:
    text = _text(operand, path)
    return lambda leaf: leaf == text


def _cidr(operand: object, path: str) -> Predicate:
    contains = network_of(_text(operand, path), path)
    return lambda leaf: (address := address_of(leaf)) is not None and contains(address)


def _wildcard(operand: object, path: str) -> Predicate:
    """Find the pieces between the stars one after another. This is linear, while a regular expression may backtrack."""
    first, *rest = _pieces(_text(operand, path), path)
    if not rest:
        return lambda leaf: leaf == first
    *middle, last = rest

    def matches(leaf: object) -> bool:
        if type(leaf) is not str or not leaf.startswith(first) or not leaf.endswith(last):
            return False
        start, end = len(first), len(leaf) - len(last)
        for piece in middle:
            found = leaf.find(piece, start, end)
            if found < 0:
                return False
            start = found + len(piece)
        return start <= end

    return matches


def _anything_but(operand: object, path: str) -> Predicate:
    if isinstance(operand, Mapping):
        return _anything_but_operator(cast("Mapping[object, object]", operand), path)
    values = listed(operand, path)
    if not values:
        raise DeclarationError(f"{path}: an empty list excludes nothing")
    texts = [value for value in values if isinstance(value, str)]
    if texts and len(texts) == len(values):
        excluded: frozenset[object] = frozenset(texts)
    elif texts:
        raise DeclarationError(f"{path}: expected only strings or only numbers, got {values!r}")
    else:
        excluded = frozenset(_number(value, path) for value in values)
    return lambda leaf: key_of(leaf) not in excluded


def _anything_but_operator(operand: Mapping[object, object], path: str) -> Predicate:
    if len(operand) != 1 or (name := cast("str", next(iter(operand)))) not in _NEGATABLE:
        raise DeclarationError(f"{path}: expected one of {', '.join(_NEGATABLE)}, got {dict(operand)!r}")
    path = f"{path}.{name}"
    texts = [_text(text, path) for text in listed(operand[name], path)]
    if not texts:
        raise DeclarationError(f"{path}: an empty list excludes nothing")
    if name in ("prefix", "suffix") and "" in texts:
        raise DeclarationError(f"{path}: an empty {name} excludes each string")
    excluded = _any([OPERATORS[name](text, path) for text in texts])
    return lambda leaf: not excluded(leaf)


def _numeric(operand: object, path: str) -> Predicate:
    parts = cast("Sequence[object]", operand) if isinstance(operand, list | tuple) else ()
    if len(parts) not in (2, 4):
        raise DeclarationError(f'{path}: expected [comparison, number] or a range such as [">", 0, "<=", 5]')
    bounds = [(_sign(sign, path), _number(number, path)) for sign, number in zip(parts[::2], parts[1::2], strict=True)]
    (sign, bound), (other_sign, other) = bounds[0], bounds[-1]
    if len(bounds) == 2 and not (sign in (">", ">=") and other_sign in ("<", "<=") and bound < other):
        raise DeclarationError(f"{path}: expected a lower bound and then a greater upper bound, got {list(parts)!r}")
    compare, compare_too = _COMPARISONS[sign], _COMPARISONS[other_sign]

    def matches(leaf: object) -> bool:
        if type(leaf) is not int and type(leaf) is not float:
            return False
        number = _comparable(leaf)
        return number is not None and compare(number, bound) and compare_too(number, other)

    return matches


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_NEGATABLE = ("prefix", "suffix", "wildcard", "equals-ignore-case")
OPERATORS: dict[str, Callable[[object, str], Predicate]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "anything-but": _anything_but,
    "exists": _exists,
    "numeric": _numeric,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
    "cidr": _cidr,
    "exactly": _exactly,
}
"""The functions that compile an operator from its operand and path, by the name of the operator."""


def _sign(value: object, path: str) -> str:
    if not isinstance(value, str) or value not in _COMPARISONS:
        raise DeclarationError(f"{path}: unknown comparison {value!r}; the comparisons are {' '.join(_COMPARISONS)}")
    return value


def _number(value: object, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DeclarationError(f"{path}: expected a number, got {value!r}")
    number = _comparable(value)
    if number is None or number - number != 0:
        raise DeclarationError(f"{path}: {value!r} cannot be compared: no double has this value")
    return number


def _text(operand: object, path: str) -> str:
    if not isinstance(operand, str):
        raise DeclarationError(f"{path}: expected a string, got {operand!r}")
    return operand


def _folded_text(operand: Mapping[object, object], path: str) -> str:
    if list(operand) != ["equals-ignore-case"]:
        raise DeclarationError(f"{path}: expected a string or equals-ignore-case, got {dict(operand)!r}")
    return _text(operand["equals-ignore-case"], f"{path}.equals-ignore-case")


def _any_case(text: str) -> str:
    """Return a regular expression for a text in which each character may be in its lower or upper case.

    EventBridge folds the characters of the pattern, one by one, and not those of the value: ``"ß"`` matches ``"SS"``, but
    ``"ss"`` does not match ``"ß"``.
    """
    return "".join(
        re.escape(lower) if lower == upper else f"(?:{re.escape(lower)}|{re.escape(upper)})"
        for lower, upper in ((char.lower(), char.upper()) for char in text)
    )


def _pieces(pattern: str, path: str) -> list[str]:
    """Split the pattern of a wildcard at its stars, and remove its backslashes."""
    pieces = [""]
    symbols = iter(pattern)
    for symbol in symbols:
        if symbol == "*":
            pieces.append("")
            continue
        if symbol == "\\":
            symbol = next(symbols, "")
            if symbol not in ("*", "\\"):
                raise DeclarationError(f"{path}: a backslash may precede only * or another backslash: {pattern!r}")
        pieces[-1] += symbol
    if "" in pieces[1:-1]:
        raise DeclarationError(f"{path}: two stars in a row are not allowed: {pattern!r}")
    return pieces


def _any(tests: list[Predicate]) -> Predicate:
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)
