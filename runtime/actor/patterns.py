"""Event patterns: the `where` of a reaction, compiled into one predicate over the decoded JSON of an event.

The semantics are those of Amazon EventBridge. All fields of a pattern must match. The values that are listed for a field are
alternatives. An array in the body matches if any of its elements does. A listed value is a literal or one of these
operators::

    {"prefix": "a"}   {"suffix": ".png"}   {"equals-ignore-case": "DK"}   {"wildcard": "a*b"}   # \\* is a literal star
    {"prefix": {"equals-ignore-case": "a"}}   # also with suffix
    {"anything-but": value, or [values], or {"prefix" | "suffix" | "wildcard" | "equals-ignore-case": text or [texts]}}
    {"numeric": [">", 0, "<=", 5]}   {"exists": true}

``"$or": [pattern, ...]`` may be added to the fields of a pattern at any depth. In Python, a single value may be written
without its list. A pattern names fields as they are named on the wire (camelCase), which may differ from the Python
attributes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import cast

from runtime.errors import DeclarationError

Predicate = Callable[[object], bool]
"""Takes a decoded JSON value and returns whether it matches. It never raises."""

__all__ = ["Predicate", "compile_pattern"]


def compile_pattern(pattern: object, name: str = "where") -> Predicate:
    """Compile a pattern into a predicate.

    Three details follow EventBridge. `exists` tests for leaves, so an object or an empty array does not exist. The fields of
    a nested pattern must all match within one element of an array of objects. `anything-but` matches an array if any of its
    elements does.

    Args:
        pattern: A dictionary of field names to patterns.
        name: The first part of the path in error texts.

    Returns:
        A predicate over the types of decoded JSON: dict, list, str, int, float, bool and None. A body that is not an object
        has no fields.

    Raises:
        DeclarationError: The pattern is invalid. The text begins with the path of the faulty part.

    Example:
        matches = compile_pattern({"country": ["DK", "SE"], "total": [{"numeric": [">", 100]}]})
        assert matches({"country": "DK", "total": 150})
    """
    if not isinstance(pattern, Mapping) or not pattern:
        raise DeclarationError(f"{name}: expected a non-empty object, got {pattern!r}")
    fields = cast("Mapping[object, object]", pattern)
    return _all([_compile_field(key, value, name) for key, value in fields.items()])


def _compile_field(key: object, value: object, path: str) -> Predicate:
    if not isinstance(key, str):
        raise DeclarationError(f"{path}: a field name must be a string, got {key!r}")
    path = f"{path}.{key}"
    if key == "$or":
        return _compile_or(value, path)
    if isinstance(value, Mapping):
        _refuse_bare_operator(cast("Mapping[object, object]", value), path)
        nested = compile_pattern(cast("object", value), path)
        return lambda body: any(nested(item) for item in _leaves(_field(body, key)) or [None])
    matchers = _listed(value, path)
    if not matchers:
        raise DeclarationError(f"{path}: an empty list matches nothing; list the values that match")
    literals: set[tuple[bool, object]] = set()
    tests: list[Predicate] = []
    absent_matches = False
    for index, matcher in enumerate(matchers):
        item = f"{path}[{index}]"
        if not isinstance(matcher, Mapping):
            literals.add(_literal(matcher, item))
        elif _is_absent(matcher := cast("Mapping[object, object]", matcher)):
            absent_matches = True
        else:
            tests.append(_compile_operator(matcher, item))
    return _leaf_predicate(key, frozenset(literals), tests, absent_matches)


def _leaf_predicate(
    key: str, literals: frozenset[tuple[bool, object]], tests: list[Predicate], absent_matches: bool
) -> Predicate:
    def matches(body: object) -> bool:
        present = False
        for leaf in _leaves(_field(body, key)):
            if isinstance(leaf, dict):
                continue
            present = True
            if (isinstance(leaf, bool), leaf) in literals or any(test(leaf) for test in tests):
                return True
        return absent_matches and not present

    return matches


def _compile_or(value: object, path: str) -> Predicate:
    branches = _listed(value, path)
    if not branches:
        raise DeclarationError(f"{path}: expected a list of patterns")
    return _any([compile_pattern(branch, f"{path}[{index}]") for index, branch in enumerate(branches)])


def _refuse_bare_operator(value: Mapping[object, object], path: str) -> None:
    """Refuse ``{"total": {"numeric": [...]}}``, which would look for a field with the name "numeric"."""
    if len(value) != 1:
        return
    [(key, operand)] = value.items()
    if key in _OPERATORS and (key == "numeric" or not isinstance(operand, list | tuple)):
        raise DeclarationError(f"{path}: an operator must be in a list: [{dict(value)!r}]")


def _is_absent(matcher: Mapping[object, object]) -> bool:
    return len(matcher) == 1 and matcher.get("exists") is False


# The operators. Each takes its operand and its path, and returns a predicate over one leaf, which is not a dict or a list.


def _compile_operator(matcher: Mapping[object, object], path: str) -> Predicate:
    if len(matcher) != 1:
        raise DeclarationError(f"{path}: expected one operator, got {dict(matcher)!r}")
    [(name, operand)] = matcher.items()
    build = _OPERATORS.get(cast("str", name))
    if build is None:
        raise DeclarationError(f"{path}: unknown operator {name!r}; the operators are {', '.join(_OPERATORS)}")
    return build(operand, f"{path}.{name}")


def _exists(operand: object, path: str) -> Predicate:
    if operand is not True:  # `_compile_field` handles False, because an absent field has no leaf to test
        raise DeclarationError(f"{path}: expected true or false, got {operand!r}")
    return lambda leaf: True


def _prefix(operand: object, path: str) -> Predicate:
    text, fold = _foldable(operand, path)
    if fold:
        return lambda leaf: isinstance(leaf, str) and leaf.casefold().startswith(text)
    return lambda leaf: isinstance(leaf, str) and leaf.startswith(text)


def _suffix(operand: object, path: str) -> Predicate:
    text, fold = _foldable(operand, path)
    if fold:
        return lambda leaf: isinstance(leaf, str) and leaf.casefold().endswith(text)
    return lambda leaf: isinstance(leaf, str) and leaf.endswith(text)


def _equals_ignore_case(operand: object, path: str) -> Predicate:
    folded = _text(operand, path).casefold()
    return lambda leaf: isinstance(leaf, str) and leaf.casefold() == folded


def _wildcard(operand: object, path: str) -> Predicate:
    """Find the pieces between the stars one after another. This is linear, while a regular expression may backtrack."""
    first, *rest = _pieces(_text(operand, path), path)
    if not rest:
        return lambda leaf: leaf == first
    *middle, last = rest

    def matches(leaf: object) -> bool:
        if not isinstance(leaf, str) or not leaf.startswith(first) or not leaf.endswith(last):
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
    values = _listed(operand, path)
    if not values:
        raise DeclarationError(f"{path}: an empty list excludes nothing")
    excluded = frozenset(_literal(value, f"{path}[{index}]") for index, value in enumerate(values))
    return lambda leaf: (isinstance(leaf, bool), leaf) not in excluded


def _anything_but_operator(operand: Mapping[object, object], path: str) -> Predicate:
    if len(operand) != 1 or (name := next(iter(operand))) not in _NEGATABLE:
        raise DeclarationError(f"{path}: expected one of {', '.join(_NEGATABLE)}, got {dict(operand)!r}")
    texts = _listed(operand[name], f"{path}.{name}")
    if not texts:
        raise DeclarationError(f"{path}.{name}: an empty list excludes nothing")
    excluded = _any([_compile_operator({name: text}, path) for text in texts])
    return lambda leaf: not excluded(leaf)


def _numeric(operand: object, path: str) -> Predicate:
    parts = cast("Sequence[object]", operand) if isinstance(operand, list | tuple) else ()
    if len(parts) not in (2, 4):
        raise DeclarationError(f'{path}: expected [comparison, number] or a range such as [">", 0, "<=", 5]')
    bounds: list[tuple[Callable[[float, float], bool], float]] = []
    for sign, number in zip(parts[::2], parts[1::2], strict=True):
        compare = _COMPARISONS.get(sign) if isinstance(sign, str) else None
        if compare is None:
            raise DeclarationError(f"{path}: unknown comparison {sign!r}; the comparisons are {' '.join(_COMPARISONS)}")
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise DeclarationError(f"{path}: expected a number after {sign!r}, got {number!r}")
        bounds.append((compare, number))
    return lambda leaf: (
        isinstance(leaf, int | float)
        and not isinstance(leaf, bool)
        and all(compare(leaf, bound) for compare, bound in bounds)
    )


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.gt,
}
_NEGATABLE = ("prefix", "suffix", "wildcard", "equals-ignore-case")
_OPERATORS: dict[str, Callable[[object, str], Predicate]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "anything-but": _anything_but,
    "exists": _exists,
    "numeric": _numeric,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
}


def _listed(value: object, path: str) -> Sequence[object]:
    if isinstance(value, list | tuple):
        return cast("Sequence[object]", value)
    return (_literal(value, path)[1],)


def _literal(value: object, path: str) -> tuple[bool, object]:
    """Return a literal as a member of a set. True and 1 are equal in Python, but not in JSON, so the type is part of it."""
    if value is None or isinstance(value, str | int | float):
        return isinstance(value, bool), value
    raise DeclarationError(f"{path}: expected a string, number, boolean or null, got {value!r}")


def _text(operand: object, path: str) -> str:
    if not isinstance(operand, str):
        raise DeclarationError(f"{path}: expected a string, got {operand!r}")
    return operand


def _foldable(operand: object, path: str) -> tuple[str, bool]:
    if isinstance(operand, Mapping):
        inner = cast("Mapping[object, object]", operand)
        if list(inner) != ["equals-ignore-case"]:
            raise DeclarationError(f"{path}: expected a string or equals-ignore-case, got {dict(inner)!r}")
        return _text(inner["equals-ignore-case"], f"{path}.equals-ignore-case").casefold(), True
    return _text(operand, path), False


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


_ABSENT: list[object] = []
"""The value of an absent field: an array without elements, so it has no leaves."""


def _field(body: object, key: str) -> object:
    return cast("dict[str, object]", body).get(key, _ABSENT) if isinstance(body, dict) else _ABSENT


def _leaves(value: object) -> list[object]:
    """Return the elements of an array, with nested arrays flattened, or a list of the value itself."""
    if not isinstance(value, list):
        return [value]
    return list(_flatten(cast("list[object]", value)))


def _flatten(values: list[object]) -> Iterator[object]:
    stack: list[object] = values[::-1]
    while stack:  # not recursive, because the sender of a body chooses its depth
        item = stack.pop()
        if isinstance(item, list):
            stack.extend(cast("list[object]", item)[::-1])
        else:
            yield item


def _all(tests: list[Predicate]) -> Predicate:
    return tests[0] if len(tests) == 1 else lambda value: all(test(value) for test in tests)


def _any(tests: list[Predicate]) -> Predicate:
    return tests[0] if len(tests) == 1 else lambda value: any(test(value) for test in tests)
