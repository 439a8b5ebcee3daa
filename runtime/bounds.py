"""Bounds of the numbers in options: each has a smallest and a largest value, and a value outside of them is refused.

A bound is part of the type of a field (``lane: Count``). So it holds for a value in code, in a file, in the environment and
in a flag. NaN, the infinities and booleans are in no bounds.
"""

from functools import lru_cache
from typing import Annotated, Any, Final

import msgspec

from runtime.clocks import YEAR
from runtime.errors import ConfigurationError

Count = Annotated[int, msgspec.Meta(ge=1, le=10_000_000)]
"""A number of things, at least one."""
CountOrNone = Annotated[int, msgspec.Meta(ge=0, le=10_000_000)]
"""A number of things, which may be 0."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=YEAR)]
"""A duration."""
SecondsOrNone = Annotated[float, msgspec.Meta(ge=0, le=YEAR)]
"""A duration, which may be 0."""

SecondsOrForever = Annotated[float, msgspec.Meta(ge=0)]
"""A duration, which may be 0 or infinite."""
Port = Annotated[int, msgspec.Meta(ge=0, le=65_535)]
"""A port, or 0 for any free one."""
LeaseTtl = Annotated[float, msgspec.Meta(ge=0.5, le=86_400)]
"""Seconds of a lease. Its renewals need a part of them."""
MOST_PARTITIONS: Final = 64
"""Partitions of an actor's keys at most: a key stays in one of so many buckets for ever."""
Partitions = Annotated[int, msgspec.Meta(ge=1, le=MOST_PARTITIONS)]
"""Parts of an actor's keys; a power of two."""
Replicas = Annotated[int, msgspec.Meta(ge=1, le=5)]
"""Copies of a stream: NATS allows five."""
Processes = Annotated[int, msgspec.Meta(ge=1, le=256)]
"""Processes of one machine, at least one."""


class Bounded(msgspec.Struct, frozen=True):
    """Base class of options: the constructor checks each number against the bounds in the type of its field.

    Raises:
        ConfigurationError: A number is outside of its bounds, or of another type. The text names the field.
    """

    def __post_init__(self) -> None:
        for name, kind in _numbers(type(self)):
            value = getattr(self, name)
            if (reason := fault(value, kind)) is not None:
                raise ConfigurationError(f"{type(self).__name__}.{name} = {value!r}: {reason}")


def fault(value: object, kind: Any) -> str | None:
    """Return the reason why a value is not a number of the type `kind`, which contains its bounds; None if it is one."""
    try:
        converted = msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError) as error:  # `ValueError`: a `Decimal` that signals
        return str(error)
    if isinstance(converted, float) and not isinstance(value, int | float):
        return f"Expected `float`, got `{type(value).__name__}`"
    return None if type(converted) is type(value) or isinstance(converted, float) else "Expected `int`, got `float`"


def is_number(kind: Any) -> bool:
    """Return whether a type is that of a number, or of a number or None."""
    return _is_number(msgspec.inspect.type_info(kind))


def check(name: str, value: object, kind: Any) -> None:
    """Raise `ConfigurationError` if a value is not a number of the type `kind`. The text has its name."""
    if (reason := fault(value, kind)) is not None:
        raise ConfigurationError(f"{name} = {value!r}: {reason}")


def check_timeout(timeout: object) -> None:
    """Raise `ConfigurationError` if a default timeout is no duration in seconds."""
    check("timeout", timeout, Seconds)


@lru_cache(maxsize=64)
def _numbers(options: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    """Return the names and types of the fields that are numbers."""
    fields = msgspec.structs.fields(options)
    return tuple((field.name, field.type) for field in fields if is_number(field.type))


def _is_number(info: msgspec.inspect.Type) -> bool:
    if isinstance(info, msgspec.inspect.UnionType):
        return any(_is_number(each) for each in info.types)
    return isinstance(info, msgspec.inspect.IntType | msgspec.inspect.FloatType)
