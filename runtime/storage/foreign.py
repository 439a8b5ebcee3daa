"""The records that other writers store in a turns stream while this process owns it: found, learned of, and published.

A commit of a former owner may be stored after the take-over, and its outbox is then not published by anybody. A process of an
actor without state may crash while others run. The sequence of such a record is never marked as done here, so the
checkpoint stops in front of it (ADR 006). Just these sequences are read.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.checkpoint import Checkpoint
from runtime.storage.streams import StreamChanged
from runtime.wire.subjects import Names

_FEW = 64
"""Messages that are read one by one. The reading of a range needs a consumer."""

Learn = Callable[[StoredMessage], Awaitable[bool]]
"""Takes note of a record of another writer. Returns False if it may be a commit of this process that is under way."""


async def _learn_nothing(stored: StoredMessage) -> bool:
    return True


class ForeignRecords:
    """The records of other writers.

    Args:
        jetstream: The client.
        names: The names of the actor.
        checkpoint: The checkpoint of the relay.
        publishing: Returns the sequences of the records whose outbox is being published.
        adopt: Publishes the outbox of a record; returns False if it has none.
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        checkpoint: Checkpoint,
        publishing: Callable[[], set[int]],
        adopt: Callable[[StoredMessage], bool],
    ) -> None:
        self._jetstream = jetstream
        self._names = names
        self._checkpoint = checkpoint
        self._publishing = publishing
        self._adopt = adopt
        self._last = 0
        """The last sequence of the stream at the last look."""
        self._seen = 0
        """The sequence up to which all messages are accounted for, except for `_left`."""
        self._left: list[int] = []
        """The sequences at which another look is needed."""
        self.found = False
        """Whether other writers have stored any message. The reader sets it back."""
        self._lock = asyncio.Lock()
        self.learn: Learn = _learn_nothing
        """Called for each record, before its outbox is published."""

    async def follow(self) -> None:
        """Look for records that were stored since the last call but one, and deal with them.

        A sequence is looked at only if it was there at the last call already: before that, it may be a message of this
        process whose acknowledgement is still on its way.

        Raises:
            StreamChanged: The stream has lost messages, as if it was restored from a backup.
            ActorError, TimeoutError: The stream cannot be read now.
        """
        async with self._lock:
            if self._checkpoint.tracking:
                await self._follow()

    async def _follow(self) -> None:
        limit, self._last = self._last, await self._find_end()
        publishing, covers = self._publishing(), self._checkpoint.covers
        self._left = [n for n in self._left if n not in publishing and not covers(n)]
        self._left += self._checkpoint.unaccounted(self._seen + 1, limit, publishing)
        self._seen = max(self._seen, limit)
        self.found |= bool(self._left)
        done, later = set(self._left), list[int]()
        async for stored in self._read(self._left):
            if not stored.subject.startswith(self._names.turn("")):
                continue
            sequence = stored.sequence
            if not await self.learn(stored):
                done.discard(sequence)
                later.append(sequence)
            elif covers(sequence) or sequence in self._publishing() or self._adopt(stored):
                done.discard(sequence)
        for sequence in done:
            self._checkpoint.mark_done(sequence)
        self._left = later

    async def _find_end(self) -> int:
        """Return the last sequence of the stream.

        Raises:
            StreamChanged: It is lower than it was.
        """
        known, stream = max(self._checkpoint.last, self._last), self._names.turns_stream
        last = (await self._jetstream.stream_info(stream)).state.last_seq
        if last >= known:
            return last
        position = min(self._checkpoint.storable, last)
        # A write shows whether it was a former leader that has answered.
        ack = await self._jetstream.publish(self._names.checkpoint(), b"%d" % position)
        if ack.sequence <= known:
            raise StreamChanged(
                f"stream {stream} has lost messages: it ended at {known}, and ends at {last} now. It was restored from a "
                "backup, or the server has crashed"
            )
        self._checkpoint.mark_done(ack.sequence)
        return known

    async def _read(self, sequences: list[int]) -> AsyncIterator[StoredMessage]:
        """Iterate over the messages at some sequences, at least over the records that still exist."""
        stream, wanted = self._names.turns_stream, set(sequences)
        if len(sequences) <= _FEW:
            for sequence in sequences:
                if (stored := await self._jetstream.get(stream, sequence)) is not None:
                    yield stored
            return
        async for stored in self._jetstream.read(stream, self._names.turn("*"), start_sequence=min(sequences)):
            if stored.sequence > max(sequences):
                break
            if stored.sequence in wanted:
                yield stored
