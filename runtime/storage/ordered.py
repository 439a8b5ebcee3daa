"""Values in order, in lists of bounded length, so that an insertion costs the same among a million values as among a hundred.

One sorted list would move half of its values for each insertion: 0.6 ms in a million (`python -m bench growth --large`).
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from _typeshed import SupportsRichComparison

T = TypeVar("T", bound="SupportsRichComparison")

_MAX_RUN = 1024
"""Values in one run at most; a longer run is split into two."""

_last: Any = itemgetter(-1)


class Ordered(Generic[T]):
    """Distinct values of one comparable type, in order.

    The values are in runs: sorted lists, one after another, none of them empty. A comparison with a value of another type
    raises `TypeError`.
    """

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[list[T]] = []

    def __bool__(self) -> bool:
        """Return whether there is a value."""
        return bool(self._runs)

    def add(self, value: T) -> None:
        """Add a value, which must not be present."""
        runs = self._runs
        if not runs:
            runs.append([value])
            return
        number = min(self._run_of(value), len(runs) - 1)
        run = runs[number]
        insort(run, value)
        if len(run) > _MAX_RUN:
            runs.insert(number + 1, run[_MAX_RUN // 2 :])
            del run[_MAX_RUN // 2 :]

    def remove(self, value: T) -> None:
        """Remove a value, which must be present."""
        number = self._run_of(value)
        run = self._runs[number]
        del run[bisect_left(run, value)]
        if not run:
            del self._runs[number]

    def ascending(self, after: T | None = None) -> Iterator[T]:
        """Iterate over the values above `after`, or over all, in ascending order."""
        runs = self._runs
        first = 0 if after is None else self._run_of(after)
        for number in range(first, len(runs)):
            run = runs[number]
            yield from run if after is None or number > first else islice(run, bisect_right(run, after), None)

    def descending(self, before: T | None = None) -> Iterator[T]:
        """Iterate over the values below `before`, or over all, in descending order."""
        runs = self._runs
        last = len(runs) - 1 if before is None else min(self._run_of(before), len(runs) - 1)
        for number in range(last, -1, -1):
            run = runs[number]
            yield from reversed(run if before is None or number < last else run[: bisect_left(run, before)])

    def _run_of(self, value: T) -> int:
        """Return the number of the first run whose last value is not below `value`, or the number of runs if there is none."""
        return bisect_left(self._runs, value, key=_last)
