"""The checkpoint of the relay: the sequence of the turns stream up to which nothing is left to publish (ADR 006).

A restart must find the records with unpublished events without reading every key. It reads the records above the
checkpoint only, so the checkpoint must be exact: no record at or below it may have anything left to publish. Neither the
highest published sequence has this property (record 7 may be published while record 5 waits), nor the lowest waiting one
(another writer may have stored a record in between). So the relay marks each sequence of the stream as done, and the
checkpoint is the position up to which all are.
"""

from heapq import heappop, heappush

_MAX_DONE = 100_000
"""Sequences that are kept while this process does not own the checkpoint."""


class Checkpoint:
    """Tracks the sequences of the turns stream that are done, and the position up to which all are.

    The position moves only after `begin`, in the process that owns the checkpoint: the owner of the keys, or one of the
    processes of an actor without state. The others only keep a bounded number of sequences, in case they become the owner.
    """

    __slots__ = ("_done", "_done_set", "_held", "last", "position", "tracking")

    def __init__(self) -> None:
        self.position = 0
        """Every sequence up to this one is done, or held."""
        self.last = 0
        """The highest sequence that was ever done."""
        self.tracking = False
        """Whether this process owns the checkpoint."""
        self._done: list[int] = []
        """A heap of the sequences above `position` that are done."""
        self._done_set: set[int] = set()
        """The same sequences."""
        self._held: set[int] = set()
        """The sequences of records that this process cannot read, and that a newer version of it can publish."""

    def begin(self, position: int) -> None:
        """Start as the owner. Every sequence up to `position` is known to be done."""
        self.position = position
        self.last = max(self.last, position)
        self.tracking = True
        self._advance()

    def end(self) -> None:
        """Stop being the owner: another process may be it now."""
        self.tracking = False

    def mark_done(self, sequence: int) -> None:
        """Record that nothing is left to publish for `sequence`."""
        if sequence > self.last:
            self.last = sequence
        if sequence > self.position and sequence not in self._done_set:
            self._done_set.add(sequence)
            heappush(self._done, sequence)
            if self.tracking:
                self._advance()
            elif len(self._done) > _MAX_DONE:
                # A later owner begins near the end of the stream, so the lowest sequences are of no use to it.
                self._done_set.discard(heappop(self._done))

    def covers(self, sequence: int) -> bool:
        """Return whether everything that the record at `sequence` had to publish is published."""
        return (sequence <= self.position or sequence in self._done_set) and sequence not in self._held

    def hold(self, sequence: int) -> None:
        """Keep `sequence` above the stored checkpoint, so that a later owner reads its record again.

        The position itself moves on: otherwise one record of a newer format would let the table of done sequences grow.
        """
        self._held.add(sequence)
        self.mark_done(sequence)

    def release(self, sequence: int) -> None:
        """Take back a call of `hold`: the record was replaced or deleted."""
        self._held.discard(sequence)

    @property
    def first_held(self) -> int | None:
        """The lowest sequence that is held; None if none is."""
        return min(self._held, default=None)

    @property
    def storable(self) -> int:
        """The position that a later owner may begin from: `position`, or the sequence before the first one that is held."""
        return min(self.position, min(self._held) - 1) if self._held else self.position

    def unaccounted(self, first: int, last: int, publishing: set[int]) -> list[int]:
        """Return the sequences from `first` to `last` that are neither done nor in `publishing`.

        They are messages of other writers, such as a former owner that was paused, committed when it woke up, and never
        published its outbox.
        """
        first = max(first, self.position + 1)
        return [n for n in range(first, last + 1) if n not in self._done_set and n not in publishing]

    def _advance(self) -> None:
        while self._done and self._done[0] <= self.position + 1:
            sequence = heappop(self._done)
            self._done_set.discard(sequence)
            self.position = max(self.position, sequence)
