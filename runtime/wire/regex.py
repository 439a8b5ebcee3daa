"""Regular expressions of fields, with one meaning in JSON Schema and in Python.

A JSON Schema contains expressions of ECMA-262, and msgspec compares with those of Python, in which ``$`` also matches before a
final line feed, and ``\\d`` and ``\\w`` match digits and letters of all scripts. `portable` writes an expression so that both
read it alike. `pattern_check` compares decoded values with the portable expressions.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

Check = Callable[[Any, str], None]
"""Takes a value and its path, and raises `msgspec.ValidationError` if a text in it does not match its expression."""

_PARTS = re.compile(r"\\.|\[\^?\]?|[\]$]", re.DOTALL)
_SYNTAX = frozenset("^$\\.*+?()[]{}|/")
"""The characters that ECMA-262 permits behind a backslash, with the flag ``u``."""
_END = r"$(?!\n)"
_OUTSIDE = {r"\d": "[0-9]", r"\w": "[A-Za-z0-9_]", r"\A": "^", r"\Z": _END, r"\z": _END, "$": _END}
_INSIDE = {r"\d": "0-9", r"\w": "A-Za-z0-9_", r"\-": r"\-"}
_Fields = inspect.StructType | inspect.DataclassType | inspect.NamedTupleType | inspect.TypedDictType


def portable(pattern: str) -> str:
    """Return a regular expression of Python in the form that has the same meaning in ECMA-262.

    An expression with the flags ``m`` or ``x`` is returned unchanged: ECMA-262 has no such expressions.
    """
    if re.compile(pattern).flags & (re.MULTILINE | re.VERBOSE):
        return pattern
    parts: list[str] = []
    inside, end = False, 0
    for match in _PARTS.finditer(pattern):
        part = match[0]
        parts.append(pattern[end : match.start()])
        end = match.end()
        if part[0] == "[":
            # A bracket that comes first in a class is a member of it. ECMA-262 reads it as the end.
            parts.append(part.replace("]", r"\]") if not inside else part.replace("[", r"\["))
            inside = not (inside and part.endswith("]"))
        elif part == "]":
            parts.append(part if inside else r"\]")
            inside = False
        else:
            parts.append((_INSIDE if inside else _OUTSIDE).get(part) or _unescaped(part))
    return "".join((*parts, pattern[end:]))


def _unescaped(part: str) -> str:
    return part[1:] if part[0] == "\\" and not part[1].isalnum() and part[1] not in _SYNTAX else part


def pattern_check(kind: Any) -> Check | None:
    """Return the check of the values of a type; None if the comparisons of msgspec suffice, as for most types."""
    return _check(inspect.type_info(kind), {})


def _check(kind: Any, made: dict[Any, Check]) -> Check | None:
    if not _has_pattern(kind, set()):
        return None
    if isinstance(kind, inspect.Metadata):
        return _check(kind.type, made)
    if isinstance(kind, inspect.StrType):
        return _text_check(kind.pattern or "")
    if isinstance(kind, inspect.UnionType):
        return _all_of([found for each in kind.types if (found := _check(each, made)) is not None])
    if isinstance(kind, _Fields):
        if kind.cls not in made:

            def check_later(value: Any, path: str) -> None:  # a field inside may have this type again
                check(value, path)

            made[kind.cls] = check_later
            check = _fields_check(kind, made)
        return made[kind.cls]
    return _items_check(kind, made)


def _text_check(pattern: str) -> Check:
    search = re.compile(portable(pattern)).search

    def check(value: Any, path: str) -> None:
        if isinstance(value, str) and search(value) is None:
            raise msgspec.ValidationError(f"Expected `str` matching regex {pattern!r} - at `{path}`")

    return check


def _all_of(checks: list[Check]) -> Check:
    def check(value: Any, path: str) -> None:
        for each in checks:
            each(value, path)

    return check


def _fields_check(kind: _Fields, made: dict[Any, Check]) -> Check:
    checks = [(field.name, field.encode_name, _check(field.type, made)) for field in kind.fields]
    checked = [(name, encoded, found) for name, encoded, found in checks if found is not None]
    cls = getattr(kind.cls, "__origin__", kind.cls)
    mapping = isinstance(kind, inspect.TypedDictType)

    def check(value: Any, path: str) -> None:
        if isinstance(value, dict if mapping else cls):
            for name, encoded, found in checked:
                found(value.get(name) if mapping else getattr(value, name), f"{path}.{encoded}")

    return check


def _items_check(kind: Any, made: dict[Any, Check]) -> Check:
    if isinstance(kind, inspect.DictType):
        of_key, of_value = _check(kind.key_type, made), _check(kind.value_type, made)

        def check_dict(value: Any, path: str) -> None:
            if isinstance(value, dict):
                for key, item in value.items():
                    if of_key is not None:
                        of_key(key, f"{path}[...]")
                    if of_value is not None:
                        of_value(item, f"{path}[...]")

        return check_dict
    each = None if isinstance(kind, inspect.TupleType) else _check(kind.item_type, made)
    of_items = [_check(item, made) for item in kind.item_types] if isinstance(kind, inspect.TupleType) else []

    def check(value: Any, path: str) -> None:
        if isinstance(value, list | tuple | set | frozenset):
            for at, item in enumerate(value):
                found = of_items[at] if of_items else each
                if found is not None:
                    found(item, f"{path}[{at}]")

    return check


def _has_pattern(kind: Any, seen: set[Any]) -> bool:
    return any(
        isinstance(each, inspect.StrType) and each.pattern is not None and portable(each.pattern) != each.pattern
        for each in parts_of(kind, seen)
    )


def parts_of(kind: Any, seen: set[Any]) -> list[Any]:
    """Return a type and all types that it contains, each struct once.

    Args:
        kind: The type, as `msgspec.inspect` describes it.
        seen: The classes that are not visited again.
    """
    if isinstance(kind, _Fields):
        if kind.cls in seen:
            return []
        seen.add(kind.cls)
        inner = [field.type for field in kind.fields]
    elif isinstance(kind, inspect.UnionType):
        inner = list(kind.types)
    elif isinstance(kind, inspect.TupleType):
        inner = list(kind.item_types)
    elif isinstance(kind, inspect.DictType):
        inner = [kind.key_type, kind.value_type]
    else:
        inner = [found for name in ("type", "item_type") if (found := getattr(kind, name, None)) is not None]
    return [kind, *(part for each in inner for part in parts_of(each, seen))]
