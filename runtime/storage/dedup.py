"""Deduplication entries: what is kept of a handled message, id, reply and commit time, once it has left the record of its key.

Messages whose ids were created at about the same time share one (docs/adr/001).
"""

import itertools
import sys
import time
from collections import OrderedDict
from collections.abc import Callable

import msgspec

from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.storage.record import Handled, encode_record
from runtime.wire import header_block
from runtime.wire.ids import CLOCK_MARGIN, id_time
from runtime.wire.subjects import Names

_BUCKET_MS = 256
"""Milliseconds: messages whose ids fall into the same bucket share an entry."""

_PROMPT = 60.0
"""Seconds: a message whose id is older (or older than ids are remembered) has an entry of its own. So the shared entries of one
while are written within that time, and as they stay twice as much longer, none is missing before one that is needed."""

_SMALL = 1024
"""Bytes of the largest reply that is put into a shared entry."""

_TOGETHER = 64
"""Messages in one entry at most."""

_decode = msgspec.json.Decoder(list[Handled]).decode


class KeyDedup:
    """What a busy key remembers of messages that have left its record, or are about to."""

    __slots__ = ("bucket", "evicted_until", "forgotten_until", "part", "recent", "size", "writing", "written")

    def __init__(self, evicted_until: float = 0.0) -> None:
        self.writing: set[str] = set()
        """Ids whose entry is being written."""
        self.written: set[str] = set()
        """Ids still in the record whose entry is confirmed: they leave with the next commit."""
        self.bucket, self.part = -1, 0
        """The bucket of the last shared entry, and the part that is free after it."""
        self.recent: OrderedDict[str, float] = OrderedDict()
        """Ids that left the record lately, with their commit time: their replies are in their entries."""
        self.evicted_until = evicted_until
        """Latest commit time of all messages that have left the record."""
        self.forgotten_until = evicted_until
        """Latest commit time of a handled message that is neither in the record nor in `recent`."""
        self.size = sys.maxsize
        """Bytes of the record; more than any has where it was not written here."""


class DedupStore:
    """The stored dedup entries of one actor type. `stored` is told the sequence of each, for the account of the relay's checkpoint."""

    def __init__(self, jetstream: JetStream, names: Names, remember: float, stored: Callable[[int], None]) -> None:
        self._jetstream = jetstream
        self._names = names
        self._stored = stored
        seconds = max(int(remember), 1)
        self._prompt = min(_PROMPT, seconds)
        self._own = header_block.join(header_block.ttl(seconds))
        self._shared = header_block.join(
            header_block.line(header_block.EXPECTED_SEQUENCE, b"0"), header_block.ttl(seconds + 2 * self._prompt)
        )

    async def find(self, token: str, message_id: str) -> Handled | None:
        """Look up at the stream leader what a key has left of a message; None where it was not handled, or has no entry.

        Raises `PublishError`, `TimeoutError` or `ApiError` where that cannot be known.
        """
        stream, names = self._names.turns_stream, self._names
        if (created := id_time(message_id)) is not None:
            bucket = _bucket(created)
            for part in itertools.count():
                stored = await self._jetstream.get_last(stream, names.dedup_bucket(token, bucket, part))
                if stored is None:
                    break
                for entry in _decode(stored.payload):
                    if entry.id == message_id:
                        return entry
        stored = await self._jetstream.get_last(stream, names.dedup_entry(token, message_id))
        return _decode(stored.payload)[0] if stored is not None else None

    def write(self, token: str, dedup: KeyDedup, entries: list[Handled]) -> None:
        """Write the marks of `entries` in the background; `marks` learns which are there.

        What fails is written again after a later commit; until then its entries stay in the record.
        """
        dedup.writing.update([entry.id for entry in entries])
        now = time.time()
        shared: dict[int, list[Handled]] = {}
        for entry in entries:
            created = id_time(entry.id)
            if created is None or not now - self._prompt < created < now + CLOCK_MARGIN or len(entry.reply) > _SMALL:
                self._write(token, dedup, entry)
            else:
                shared.setdefault(_bucket(created), []).append(entry)
        for bucket, group in shared.items():
            self._share(token, dedup, bucket, dedup.part if bucket == dedup.bucket else 0, group)

    def _write(self, token: str, dedup: KeyDedup, entry: Handled) -> None:
        """Write the entry of one message."""

        def answered(sequence: int, error: Exception | None) -> None:
            self._note(dedup, [entry], sequence, error)

        self._publish(self._names.dedup_entry(token, entry.id), [entry], self._own, answered)

    def _share(self, token: str, dedup: KeyDedup, bucket: int, part: int, group: list[Handled]) -> None:
        """Write the entries of a group, each as the first part of their bucket that is free; a reader relies on there being no gap."""
        first, rest = group[:_TOGETHER], group[_TOGETHER:]

        def answered(sequence: int, error: Exception | None) -> None:
            if isinstance(error, WrongSequence) and error.last:
                self._share(token, dedup, bucket, part + 1, group)
            elif error is not None:
                self._note(dedup, group, sequence, error)
            else:
                self._note(dedup, first, sequence, None)
                dedup.bucket, dedup.part = bucket, part + 1
                if rest:
                    self._share(token, dedup, bucket, part + 1, rest)

        self._publish(self._names.dedup_bucket(token, bucket, part), first, self._shared, answered)

    def _publish(
        self,
        subject: str,
        entries: list[Handled],
        headers: bytes,
        answered: Callable[[int, Exception | None], None],
    ) -> None:
        try:
            self._jetstream.publish_callback(subject, encode_record(entries), headers, answered)
        except PublishError as error:
            answered(0, error)

    def _note(self, dedup: KeyDedup, entries: list[Handled], sequence: int, error: Exception | None) -> None:
        ids = [entry.id for entry in entries]
        dedup.writing.difference_update(ids)
        if error is None:
            self._stored(sequence)
            dedup.written.update(ids)


def _bucket(created: float) -> int:
    """Return the number of the time bucket in which an id was created (unix seconds)."""
    return round(created * 1000) // _BUCKET_MS
