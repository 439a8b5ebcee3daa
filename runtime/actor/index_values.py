"""The values by which an index may find and order states.

A value is *placed*: it becomes a scalar whose order is that of the values, and for which equal values have equal scalars. An
aware datetime becomes its microseconds since 1970, for example, so that one instant has one place in all time zones. In a page
token, and between the owners of partitions, a scalar is a text or a number: Decimals and infinities travel as texts.
"""

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import UnionType
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, Union, get_args, get_origin
from uuid import UUID

import msgspec

Scalar = str | int | float | None
"""The form of a placed value in page tokens and messages."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_INFINITIES: Final = ("inf", "-inf")


def same(value: Any) -> Any:
    """Return a value as it is: it is its own scalar."""
    return value


class Scale(NamedTuple):
    """How the values of one field are placed. None has no scalar: it comes before all values."""

    label: str
    """What a value is, for error texts: ``an aware datetime``."""
    kind: str
    """Scales of the same kind may be members of one union."""
    accepts: Callable[[Any], bool]
    """Return whether a value may be that of a filter."""
    place: Callable[[Any], Any]
    """Return the scalar of a value. Raises `ValueError` if it has no place; the text says why."""
    store: Callable[[Any], Scalar]
    """Return a scalar in the form that a token can hold."""
    load: Callable[[Scalar], Any]
    """Return the scalar of such a form. Raises `ValueError` for a form that `store` does not return."""
    always: bool = True
    """Whether each value of the field's type has a place."""
    read: Callable[[Any], Any] = same
    """Return the value of the field in a state."""


def scale_of(kind: Any) -> Scale | None:
    """Return the scale of a field's type; None if its values have no order, or are of several kinds."""
    return _scale_of(kind, ())


def may_be_naive(kind: Any) -> bool:
    """Return whether a type has no scale only because its datetimes may be naive."""
    return scale_of(kind) is None and _scale_of(kind, (msgspec.Meta(tz=True),)) is not None


def _scale_of(kind: Any, metas: tuple[Any, ...]) -> Scale | None:
    if isinstance(kind, NewType):
        return _scale_of(kind.__supertype__, metas)
    if hasattr(kind, "__value__"):  # ``type Name = …`` of Python 3.12
        return _scale_of(kind.__value__, metas)
    origin = get_origin(kind)
    if origin is Annotated:
        return _scale_of(kind.__origin__, (*metas, *kind.__metadata__))
    if origin is Literal:
        return _joined([_scale_of(type(value), ()) for value in get_args(kind) if value is not None])
    if origin is Union or origin is UnionType:
        return _joined([_scale_of(part, metas) for part in get_args(kind) if part is not type(None)])
    if not isinstance(kind, type):
        return None
    if issubclass(kind, Enum):
        return _enum_scale(kind)
    if kind is datetime:
        return _TIME if any(isinstance(meta, msgspec.Meta) and meta.tz for meta in metas) else None
    return _SCALES.get(kind)


def _joined(scales: list[Scale | None]) -> Scale | None:
    """Return the scale of a union's members; None if they are of several kinds."""
    found = [scale for scale in scales if scale is not None]
    if not found or len(found) < len(scales) or len({scale.kind for scale in found}) > 1:
        return None
    return next((scale for scale in found if not scale.always), found[0])


def _enum_scale(kind: type[Enum]) -> Scale | None:
    """Return the scale of an enum, which is ordered by its values; None if they are not all texts, or all integers."""
    types = {type(member.value) for member in kind}
    scale = _SCALES[types.pop()] if types == {str} or types == {int} else None
    if scale is None:
        return None
    plain = scale.accepts

    def place(value: Any) -> Any:
        return value.value if isinstance(value, Enum) else value

    def accepts(value: Any) -> bool:
        return isinstance(value, kind) or (not isinstance(value, Enum) and plain(value))

    # Two enums may have one name, in different modules.
    return Scale(f"a {kind.__name__}", f"enum {id(kind)}", accepts, place, scale.store, scale.load)


def _only(*types: type) -> Callable[[Any], Any]:
    """Return a function that returns a value of one of some exact types, and raises `ValueError` for another one."""

    def check(value: Any) -> Any:
        if type(value) not in types:
            raise ValueError(value)
        return value

    return check


def _is_a(*types: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, types) and not isinstance(value, bool)


def _not_nan(value: Any) -> Any:
    if value != value:  # true of NaN only
        raise ValueError("is NaN, which has no order")
    return value


def _place_decimal(value: Decimal) -> Decimal:
    if value.is_nan():
        raise ValueError("is NaN, which has no order")
    return value


def _load_decimal(value: Any) -> Decimal:
    try:
        return _place_decimal(Decimal(_only(str)(value)))
    except ArithmeticError:
        raise ValueError(value) from None


def _store_number(value: Any) -> Scalar:
    return str(value) if type(value) is float and math.isinf(value) else value


def _load_number(value: Any) -> Any:
    return float(value) if value in _INFINITIES else _only(int, float)(value)


def _place_time(value: datetime) -> int:
    if value.utcoffset() is None:
        raise ValueError("has no time zone")
    return (value - _EPOCH) // _MICROSECOND


_TEXT: Final = Scale("a str", "text", _is_a(str), same, same, _only(str))
_INTEGER: Final = Scale("an int", "number", _is_a(int, float), _not_nan, _store_number, _load_number)
_NUMBER: Final = Scale("a number", "number", _is_a(int, float), _not_nan, _store_number, _load_number, always=False)
_TIME: Final = Scale("an aware datetime", "time", _is_a(datetime), _place_time, same, _only(int), always=False)
_SCALES: Final[dict[type, Scale]] = {
    str: _TEXT,
    int: _INTEGER,
    float: _NUMBER,
    bool: Scale("a bool", "bool", lambda value: isinstance(value, bool), int, same, _only(int)),
    date: Scale(
        "a date",
        "date",
        lambda value: isinstance(value, date) and not isinstance(value, datetime),
        date.toordinal,
        same,
        _only(int),
    ),
    Decimal: Scale("a Decimal", "decimal", _is_a(Decimal), _place_decimal, str, _load_decimal, always=False),
    UUID: Scale("a UUID", "uuid", _is_a(UUID), str, same, _only(str)),
}
"""By exact type."""
