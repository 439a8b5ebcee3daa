"""How a resource's change is dated and described: `modifiedDate`, and `changed` in a `[Resource]Modified` event."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import cast

import msgspec

__all__ = ["changed", "stamp"]

_TICK = timedelta(microseconds=1)


def changed(old: msgspec.Struct, new: msgspec.Struct) -> tuple[str, ...]:
    """Return what differs between two states of a resource: dotted paths in names of the wire, in field order.

    An array is named whole, and so is an object that only one of the two has.
    """
    return tuple(_differences(msgspec.to_builtins(old), msgspec.to_builtins(new), ""))


def stamp(now: float, after: str = "") -> str:
    """Return the date of a change at `now` (unix seconds), in ISO 8601 of a fixed width, so that dates compare as text.

    It is later than `after`, the date of the change before, also where the clock was set back: readers take a date that
    is not later for an old one.
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
