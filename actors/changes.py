"""The date and the description of a change: `modifiedDate`, and `changed` in a `[Resource]Modified` event."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec

__all__ = ["changed", "stamp"]

_TICK = timedelta(microseconds=1)


def changed(old: msgspec.Struct, new: msgspec.Struct) -> tuple[str, ...]:
    """Return the dotted paths of the fields that differ between two states of a resource.

    The paths use the field names of the wire and keep the order of the fields. A changed array is one path, and so is an
    object that only one of the states has.
    """
    return tuple(_differences(msgspec.to_builtins(old), msgspec.to_builtins(new), ""))


def stamp(now: float, after: str = "") -> str:
    """Return the date of a change: ISO 8601 in UTC with a fixed width, so that dates compare as text.

    The date is always later than `after`, even if the clock was set back: readers treat an event whose date is not later
    as stale.

    Args:
        now: The time of the change, in Unix seconds.
        after: The date of the previous change; empty for the first one.
    """
    moment = datetime.fromtimestamp(now, UTC)
    if after:
        moment = max(moment, datetime.fromisoformat(after) + _TICK)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _differences(old: object, new: object, path: str) -> Iterator[str]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield path
        return
    before, after = cast("dict[str, object]", old), cast("dict[str, object]", new)
    for name in {**before, **after}:
        inner = f"{path}.{name}" if path else name
        if name in before and name in after:
            yield from _differences(before[name], after[name], inner)
        else:
            yield inner
