"""Durations that code passes or a reply has: finite numbers of seconds within bounds, and nothing that only looks like one."""

from typing import Final

YEAR: Final = 31_536_000.0
"""Seconds of a year: the longest duration, unless its place says otherwise."""


def is_duration(value: object, shortest: float = 0.0, longest: float = YEAR) -> bool:
    """Return whether `value` is an integer or a float from `shortest` to `longest`.

    NaN, the infinities, booleans, and numbers of other types (`Decimal`, texts) are none: arithmetic with them fails later,
    or means something else.
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and shortest <= value <= longest
