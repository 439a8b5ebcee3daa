"""Schedules: the patterns of timers that repeat, as nats-server 2.15.1 reads them (NATS ADR-51).

A schedule is published after its turn has committed, and a schedule that the server refuses would be lost then. So it is
checked in the turn. `tests/actor/test_schedules.py` compares this check with the server.
"""

import re
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

_FORMS = "use @every 1m30s (at least a second), @daily, or a cron expression of six fields, seconds first"

_PREDEFINED = {
    "@yearly": "0 0 0 1 1 *", "@annually": "0 0 0 1 1 *", "@monthly": "0 0 0 1 * *", "@weekly": "0 0 0 * * 0",
    "@daily": "0 0 0 * * *", "@midnight": "0 0 0 * * *", "@hourly": "0 0 * * * *",
}  # fmt: skip
"""The cron expressions for which the names stand."""

_DURATION = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+", re.ASCII)
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {
    "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "µs": Fraction(1, 10**6), "μs": Fraction(1, 10**6),
    "ms": Fraction(1, 1000), "s": Fraction(1), "m": Fraction(60), "h": Fraction(3600),
}  # fmt: skip
"""Seconds of each unit."""

_LONGEST = 100 * 365 * 86_400
"""Seconds of an interval. The server counts in nanoseconds of 64 bits, which end in the year 2262."""

_NUMBER = re.compile(r"[+-]?\d{1,18}", re.ASCII)
"""A whole number as the server reads it, with or without a sign."""

_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]*")
"""The form of a time zone, such as ``Europe/Berlin``."""

_EARLY = 0.5
"""Seconds by which the clock of the server may have been set back between a firing and its storing."""

_YEARS = 5
"""Years within which a cron expression must match a time, or the server refuses it."""

_MONTHS = {name: number for number, name in enumerate("jan feb mar apr may jun jul aug sep oct nov dec".split(), 1)}
_WEEKDAYS = {name: number for number, name in enumerate("sun mon tue wed thu fri sat".split())}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("second", 0, 59, {}),
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of the week", 0, 6, _WEEKDAYS),
)
"""The name of each field of a cron expression, its smallest and largest value, and the names of its values."""


def schedule_fault(pattern: object, zone: object = "") -> str | None:
    """Return what is wrong with a schedule; None if the server accepts it.

    Args:
        pattern: The schedule.
        zone: Its time zone; empty for UTC.
    """
    if not isinstance(pattern, str) or not isinstance(zone, str):
        return f"{pattern!r} in the zone {zone!r} is no schedule: {_FORMS}"
    if re.fullmatch(r"[\t -~µμ]+", pattern) is None:
        return f"{pattern!r} is no schedule: {_FORMS}"
    if pattern.startswith("@every "):
        if zone:
            return f"{zone!r} is no time zone for {pattern!r}: an interval has none"
        return _interval_fault(pattern)
    if pattern not in _PREDEFINED and (fault := _cron_fault(pattern)) is not None:
        return fault
    return None if not zone or _is_zone(zone) else f"{zone!r} is no time zone that this machine knows"


class Meant(NamedTuple):
    """The time for which a schedule in a time zone has fired."""

    name: str
    """The local time. Two firings with the same name are one."""
    time: float
    """Unix seconds."""


def meant_time(pattern: str, zone: str, fired_at: float) -> Meant | None:
    """Return the time for which a schedule fired: the latest of its times until then. None if it has none, or is an interval.

    On the day on which clocks go back, local times come twice, and nats-server 2.15.1 fires four times a second while they do.
    A schedule with hours of its own runs at the first of two equal local times. One for each hour runs at both.
    """
    values = _values(pattern)
    try:
        tz = ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        return None
    if values is None:
        return None
    local = datetime.fromtimestamp(fired_at + _EARLY, tz)
    clock = local.replace(tzinfo=None, microsecond=0)
    if len(values[0][2]) == 24:
        found = _latest(values, clock)
        instant = None if found is None else found.replace(tzinfo=tz, fold=local.fold)
        return None if instant is None else Meant(instant.isoformat(), instant.timestamp())
    # While local times come for the second time, those until the change have been reached already.
    found = _latest(values, clock + (_offset(clock, tz, 0) - _offset(clock, tz, 1) if local.fold else timedelta()))
    while found is not None and found > clock and _offset(found, tz, 0) == _offset(found, tz, 1):
        found = _latest(values, found - timedelta(seconds=1))
    return None if found is None else Meant(found.isoformat(), found.replace(tzinfo=tz).timestamp())


def next_time(pattern: str, zone: str, after: float) -> float | None:
    """Return the next time of a schedule after another time, in Unix seconds; None if it has none within five years.

    That of an interval counts from `after`. When clocks change, the server may fire at other times.
    """
    if pattern.startswith("@every "):
        return after + float(_seconds(pattern.removeprefix("@every ")))
    values = _values(pattern)
    if values is None:
        return None
    tz = ZoneInfo(zone) if _has_zone(zone) else UTC
    local = datetime.fromtimestamp(after, tz).replace(tzinfo=None, microsecond=0)
    found = _earliest(values, local + timedelta(seconds=1))
    while found is not None and found.replace(tzinfo=tz).timestamp() <= after:
        found = _earliest(values, found + timedelta(seconds=1))
    return None if found is None else found.replace(tzinfo=tz).timestamp()


def _offset(local: datetime, zone: ZoneInfo, fold: int) -> timedelta:
    return local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta()


def _latest(values: "_Values", until: datetime) -> datetime | None:
    """Return the latest local time that matches, until another one; None if there is none in the years before."""
    fields, both = values
    seconds, minutes, hours, days, months, weekdays = fields
    for back in range(_YEARS * 366):
        day = until.date() - timedelta(back)
        matches = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month not in months or not (all(matches) if both else any(matches)):
            continue
        last = until.time() if back == 0 else time.max
        for hour in sorted((each for each in hours if each <= last.hour), reverse=True):
            for minute in sorted((each for each in minutes if (hour, each) <= (last.hour, last.minute)), reverse=True):
                found = [each for each in seconds if (hour, minute, each) <= (last.hour, last.minute, last.second)]
                if found:
                    return datetime.combine(day, time(hour, minute, max(found)))
    return None


def _earliest(values: "_Values", since: datetime) -> datetime | None:
    """Return the earliest local time that matches, from another one on; None if there is none in the years after."""
    (seconds, minutes, hours, days, months, weekdays), both = values
    for ahead in range(_YEARS * 366):
        day = since.date() + timedelta(ahead)
        matches = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month not in months or not (all(matches) if both else any(matches)):
            continue
        first = since.time() if ahead == 0 else time.min
        for hour in sorted(each for each in hours if each >= first.hour):
            for minute in sorted(each for each in minutes if (hour, each) >= (first.hour, first.minute)):
                found = [each for each in seconds if (hour, minute, each) >= (first.hour, first.minute, first.second)]
                if found:
                    return datetime.combine(day, time(hour, minute, min(found)))
    return None


def _interval_fault(pattern: str) -> str | None:
    text = pattern.removeprefix("@every ")
    if _DURATION.fullmatch(text) is None:
        return f"{pattern!r} is no schedule: {_FORMS}"
    if text.startswith("-") or not 1 <= _seconds(text) <= _LONGEST:
        return f"{pattern!r} is no schedule: its interval is not between a second and a hundred years"
    return None


def _seconds(interval: str) -> Fraction:
    """Return the seconds of an interval such as ``1m30s``."""
    return sum((Fraction(_decimal(number)) * _UNITS[unit] for number, unit in _PART.findall(interval)), Fraction())


def _decimal(number: str) -> str:
    """Return a number in a form that `Fraction` takes: ``.5`` and ``1.`` are durations of Go."""
    whole, _, part = number.partition(".")
    return f"{whole or 0}.{part or 0}"


_Values = tuple[list[set[int]], bool]
"""The values of each field of a cron expression, and whether a day must match both its field and that of the day of the week."""


@lru_cache(maxsize=1024)
def _values(pattern: str) -> _Values | None:
    """Return the values of a cron expression that the server accepts; None for an interval."""
    texts = _PREDEFINED.get(pattern, pattern).split()
    if len(texts) != len(_FIELDS):
        return None
    found = [
        _field(text, smallest, largest, names)
        for text, (_, smallest, largest, names) in zip(texts, _FIELDS, strict=True)
    ]
    if not all(values for values, _ in found):
        return None
    return [values for values, _ in found], found[3][1] or found[5][1]


def _cron_fault(pattern: str) -> str | None:
    texts = pattern.split()
    if len(texts) != len(_FIELDS):
        return f"{pattern!r} is no schedule: {_FORMS}"
    values: list[set[int]] = []
    stars: list[bool] = []
    for text, (label, smallest, largest, names) in zip(texts, _FIELDS, strict=True):
        found, star = _field(text, smallest, largest, names)
        if not found:
            return f"{pattern!r} is no schedule: {text!r} is no {label} ({smallest} to {largest})"
        values.append(found)
        stars.append(star)
    if not _has_day(values[3], values[4], values[5], both=stars[3] or stars[5]):
        return f"{pattern!r} is no schedule: it matches no day of the next {_YEARS} years"
    return None


def _field(text: str, smallest: int, largest: int, names: dict[str, int]) -> tuple[set[int], bool]:
    """Return the values of a field, and whether it has a star; no values if the field is invalid."""
    values: set[int] = set()
    star = False
    for part in filter(None, text.split(",")):
        limits, *steps = part.split("/")
        first, *last = limits.split("-")
        step = _number(steps[0], {}) if steps else 1
        if first in ("*", "?"):
            low, high = smallest, largest
            star |= step == 1
        elif len(last) <= 1:
            low = _number(first, names)
            # A single value with a step means all values from there on.
            high = _number(last[0], names) if last else largest if steps else low
        else:
            return set(), False
        if len(steps) > 1 or not step or low is None or high is None or not smallest <= low <= high <= largest:
            return set(), False
        values.update(range(low, high + 1, step))
    return values, star


def _number(text: str, names: dict[str, int]) -> int | None:
    """Return the value of a name or a number that is not negative; None for any other text."""
    value = names.get(text.lower())
    if value is None and _NUMBER.fullmatch(text) is not None:
        value = int(text)
    return value if value is not None and value >= 0 else None


def _has_day(days: set[int], months: set[int], weekdays: set[int], *, both: bool) -> bool:
    """Return whether any day until the end of the last year matches.

    Args:
        days: Days of the month.
        months: Months.
        weekdays: Days of the week, from 0 for Sunday.
        both: Whether a day must match both `days` and `weekdays`: one of them has a star. Else one of them is enough.
    """
    today = datetime.now(UTC).date()
    day, end = today, date(today.year + _YEARS, 12, 31)
    while day <= end:
        if day.month in months:
            matches = day.day in days, day.isoweekday() % 7 in weekdays
            if all(matches) if both else any(matches):
                return True
        day += timedelta(1)
    return False


@lru_cache(maxsize=1024)
def _is_zone(zone: str) -> bool:
    if _ZONE.fullmatch(zone) is None:
        return False
    # A machine without a database of time zones cannot tell. The server decides.
    return zone in ("UTC", "Local") or _has_zone(zone) or not _has_zone("Europe/London")


def _has_zone(zone: str) -> bool:
    try:
        ZoneInfo(zone)
    except (OSError, ValueError, KeyError):
        return False
    return True
