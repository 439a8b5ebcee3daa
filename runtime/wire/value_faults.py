"""The place of a fault in a value: the first part of it that JSON cannot express. Used after a failure only."""

import math
from collections.abc import Iterator
from typing import Any

import msgspec

_DEEPEST = 64
"""The levels that are searched. A deeper value is no tree, or too deep for msgspec."""


def find_non_finite(value: Any, path: str = "$") -> str | None:
    """Return a text with the first NaN or infinity in a value, and its path: ``nan is not a JSON number - at `$.price```."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{value} is not a JSON number - at `{path}`"
    if path.count(".") + path.count("[") < _DEEPEST:
        for name, part in _parts(value):
            if (found := find_non_finite(part, path + name)) is not None:
                return found
    return None


def find_unencodable(value: Any, path: str = "$") -> str:
    """Return the path of the innermost part that msgspec cannot encode, of a value that cannot be encoded."""
    if path.count(".") + path.count("[") < _DEEPEST:
        for name, part in _parts(value):
            if not _is_encodable(part):
                return find_unencodable(part, path + name)
    return path


def _is_encodable(value: Any) -> bool:
    try:
        msgspec.json.encode(value)
    except Exception:  # noqa: BLE001 - the failure itself is reported elsewhere; this finds its place
        return False
    return True


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the path of each part of a value, from the value on, and the part itself."""
    if isinstance(value, msgspec.Struct):
        names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        yield from ((f".{encoded}", getattr(value, name)) for encoded, name in names)
    elif isinstance(value, dict):
        yield from (("[...]", key) for key in value)
        yield from (("[...]", part) for part in value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((f"[{number}]", part) for number, part in enumerate(value))
