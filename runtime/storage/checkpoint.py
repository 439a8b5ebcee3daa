"""The checkpoint of the relay: up to which sequence of the turns stream nothing is left to publish."""

from heapq import heappop, heappush


class Checkpoint:
    """Accounts for each sequence of the turns stream, and so knows the one up to which nothing is left to publish.

    Every sequence is ours and relayed, or another's and looked at (`unaccounted`). Without `begin` it accounts for nothing.
    """

    __slots__ = ("_done", "_done_set", "position", "tracking")

    def __init__(self) -> None:
        self.position = 0
        self.tracking = False
        self._done: list[int] = []
        self._done_set: set[int] = set()

    def begin(self, position: int) -> None:
        """All at or below `position` is known to be published."""
        self.position = position
        self.tracking = True
        self._advance()

    def mark_done(self, sequence: int) -> None:
        """Nothing is left to do for `sequence`."""
        if sequence > self.position and sequence not in self._done_set:
            self._done_set.add(sequence)
            heappush(self._done, sequence)
            if self.tracking:
                self._advance()
            elif len(self._done) > 100_000:
                # Not the accountant (another process is): keep only what may still matter when we become it.
                self._done_set.discard(heappop(self._done))

    def covers(self, sequence: int) -> bool:
        """Whether all that the record at `sequence` had to publish is known to be published."""
        return sequence <= self.position or sequence in self._done_set

    def unaccounted(self, last: int, mine: set[int]) -> list[int]:
        """Return the sequences up to `last` that are neither accounted for nor in `mine` (being published)."""
        return [n for n in range(self.position + 1, last + 1) if n not in self._done_set and n not in mine]

    @property
    def newest(self) -> int:
        """The highest sequence accounted for."""
        return max(self._done_set, default=self.position)

    def _advance(self) -> None:
        while self._done and self._done[0] <= self.position + 1:
            sequence = heappop(self._done)
            self._done_set.discard(sequence)
            self.position = max(self.position, sequence)
