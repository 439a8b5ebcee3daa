"""Dedup entries: the stored id, reply and commit time of a handled message that has left the record of its key (ADR 001).

A message may arrive again long after its key has handled many others, so its id and reply must outlive their place in the
record. They move to a message of their own in the turns stream, which expires after `Options.remember`. Entries are
written in the background, and only for busy keys; a message stays in the record until its entry is acknowledged.

**Shared entries.** An entry for each message would be another publish for each turn of a busy key, and a subject in the
server's memory for a day. So messages whose ids were created in the same time bucket share entries:
``<actor>.dedup.<key>.<bucket>.<part>``, with parts 0, 1, 2 and so on. The id tells a reader the bucket. The reader does
not know the number of parts; it reads them in order until one is absent, so there must never be a gap. Two rules see to
that:

- A part is published with an expected sequence of 0, and only after the part before it is stored. If another owner has
  written that part, the writer tries the next one.
- No part expires before a later one that is still needed. The parts of a bucket are all written within `_MAX_AGE` of the
  bucket's time, and each lives 2 × `_MAX_AGE` longer than messages are remembered. Hence the first part still exists when
  the last message of the bucket may be forgotten, however late that message's part was written.

**Entries of one message.** A message that is too old for the second rule, that has no time in its id, or whose reply is
large has an entry of its own, ``<actor>.dedup.<key>.<id>``. A reader looks there last.
"""

import itertools
from collections.abc import Callable, Sequence

import msgspec

from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.options import Options
from runtime.storage.key import StoredKey
from runtime.storage.key_dedup import MAX_REPLIES, KeyDedup, count_excess
from runtime.storage.record import Handled, Unreadable, encode_record, unreadable
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.ids import CLOCK_MARGIN, id_time
from runtime.wire.subjects import Names

_BUCKET_MS = 256
"""Milliseconds of one time bucket."""

_MAX_AGE = 60.0
"""Seconds: the greatest age of an id, or `Options.remember` if that is less, at which its message may share an entry."""

_MAX_REPLY = 1024
"""Bytes of the largest reply that a shared entry holds."""

_MAX_MESSAGES = 64
"""Messages in one entry at most."""

_decode = msgspec.json.Decoder(list[Handled]).decode


class DedupStore:
    """Writes and reads the dedup entries of one actor type.

    Args:
        jetstream: The client.
        names: The names of the actor; its turns stream holds the entries.
        options: `handled` and `remember` are used.
        on_stored: A callback with the sequence of each stored entry. The relay's checkpoint needs it, since it covers
            every sequence of the turns stream.
    """

    def __init__(self, jetstream: JetStream, names: Names, options: Options, on_stored: Callable[[int], None]) -> None:
        self._jetstream = jetstream
        self._clock = jetstream.connection.clock
        self._names = names
        self._handled = options.handled
        self._on_stored = on_stored
        seconds = max(int(options.remember), 1)
        self._max_age = min(_MAX_AGE, seconds)
        self._own_headers = header_block.join(header_block.ttl(seconds))
        self._shared_headers = header_block.join(
            header_block.line(header_block.EXPECTED_SEQUENCE, b"0"), header_block.ttl(seconds + 2 * self._max_age)
        )

    async def find(self, token: str, message_id: str) -> Handled | None:
        """Look up a handled message at the leader of the stream.

        Args:
            token: The key as a subject token.
            message_id: The id of the message.

        Returns:
            The message; None if it was not handled, or has no entry because the record still lists it.

        Raises:
            PublishError, TimeoutError, ApiError: The stream cannot be asked now.
            Unreadable: An entry that may list the message cannot be read.
        """
        damaged: Unreadable | None = None
        stream, names = self._names.turns_stream, self._names
        created = id_time(message_id)
        if created is not None:
            bucket = _bucket(created)
            for part in itertools.count():
                stored = await self._jetstream.get_last(stream, names.dedup_bucket(token, bucket, part))
                if stored is None:
                    break
                try:
                    for entry in _entries(stored):
                        if entry.id == message_id:
                            return entry
                except Unreadable as error:
                    damaged = error
        stored = await self._jetstream.get_last(stream, names.dedup_entry(token, message_id))
        for entry in _entries(stored) if stored is not None else ():
            if entry.id == message_id:
                return entry
        if damaged is not None:
            raise damaged
        return None

    def split(self, key: StoredKey, alone: bool = False) -> tuple[Sequence[Handled], Sequence[Handled]]:
        """Return the handled messages that the next record of a key lists, and those that it evicts.

        Args:
            key: The key.
            alone: Evict all messages whose entry is stored, and not only those that are too many.
        """
        if key.dedup is None:
            return key.handled, ()
        return key.dedup.split(key.handled, 0 if alone else self._handled - 1)  # at least one is added

    async def move_out(self, key: StoredKey) -> bool:
        """Store the entries of all messages that the record of a key lists, so that its successor need not list them.

        Called if the next record would be too large, for example because of a large reply before it.

        Returns:
            Whether all of them are stored. A message whose entry is not must stay in the record.
        """
        dedup = key.dedup
        if dedup is None:
            dedup = key.dedup = KeyDedup()
        left = [each for each in key.handled if each.id not in dedup.written and each.id not in dedup.writing]
        if left:
            self.write(key.token, dedup, left)
        while dedup.writing:
            await dedup.wait_written()
        return all(each.id in dedup.written for each in key.handled)

    def after_commit(self, key: StoredKey, evicted: Sequence[Handled], evicted_until: float, record_size: int) -> None:
        """Take note of a stored record, and start to write entries if it lists enough messages.

        Args:
            key: The key, whose `handled` is that of the new record.
            evicted: The messages that the record no longer lists.
            evicted_until: `Record.evicted_until`.
            record_size: The bytes of the record.
        """
        excess = count_excess(key.handled, self._handled, record_size)
        dedup = key.dedup
        if dedup is None:
            if not excess and not evicted:
                return
            dedup = key.dedup = KeyDedup()
        dedup.evicted_until, dedup.record_size = evicted_until, record_size
        if evicted:
            dedup.evict(evicted, self._clock.now())
        # Wait until many can share an entry, unless the record grows large.
        enough = 2 * self._handled if record_size <= MAX_REPLIES else 1
        if not dedup.writing and excess - len(dedup.written) >= enough:
            self.write(key.token, dedup, [each for each in key.handled[:excess] if each.id not in dedup.written])

    def write(self, token: str, dedup: KeyDedup, entries: list[Handled]) -> None:
        """Write the entries of messages in the background.

        An id moves from `dedup.writing` to `dedup.written` when its entry is stored. If that fails, a later commit
        writes it again; until then the message stays in the record.
        """
        dedup.writing.update([entry.id for entry in entries])
        now = self._clock.now()
        buckets: dict[int, list[Handled]] = {}
        for entry in entries:
            created = id_time(entry.id)
            if (
                created is None
                or not now - self._max_age < created < now + CLOCK_MARGIN
                or len(entry.reply) > _MAX_REPLY
            ):
                self._write_own(token, dedup, entry)
            else:
                buckets.setdefault(_bucket(created), []).append(entry)
        for bucket, group in buckets.items():
            self._write_shared(token, dedup, bucket, dedup.part if bucket == dedup.bucket else 0, group)

    def _write_own(self, token: str, dedup: KeyDedup, entry: Handled) -> None:
        """Write the entry of one message."""

        def on_reply(sequence: int, error: Exception | None) -> None:
            self._finish(dedup, [entry], sequence, error)

        self._publish(self._names.dedup_entry(token, entry.id), [entry], self._own_headers, on_reply)

    def _write_shared(self, token: str, dedup: KeyDedup, bucket: int, part: int, group: list[Handled]) -> None:
        """Write the entries of messages of one bucket, one part after another from the first free one."""
        first, others = group[:_MAX_MESSAGES], group[_MAX_MESSAGES:]

        def on_reply(sequence: int, error: Exception | None) -> None:
            if isinstance(error, WrongSequence) and error.last:
                # This part exists: an earlier owner has written it.
                self._write_shared(token, dedup, bucket, part + 1, group)
            elif error is not None:
                self._finish(dedup, group, sequence, error)
            else:
                self._finish(dedup, first, sequence, None)
                dedup.bucket, dedup.part = bucket, part + 1
                if others:
                    self._write_shared(token, dedup, bucket, part + 1, others)

        self._publish(self._names.dedup_bucket(token, bucket, part), first, self._shared_headers, on_reply)

    def _publish(
        self,
        subject: str,
        entries: list[Handled],
        headers: bytes,
        on_reply: Callable[[int, Exception | None], None],
    ) -> None:
        try:
            self._jetstream.publish_callback(subject, encode_record(entries), headers, on_reply)
        except PublishError as error:
            on_reply(0, error)

    def _finish(self, dedup: KeyDedup, entries: list[Handled], sequence: int, error: Exception | None) -> None:
        ids = [entry.id for entry in entries]
        dedup.writing.difference_update(ids)
        if error is None:
            self._on_stored(sequence)
            dedup.written.update(ids)
        dedup.wake()


def _entries(stored: StoredMessage) -> list[Handled]:
    """Return the messages of a dedup entry. Raises `Unreadable`."""
    try:
        return _decode(stored.payload)
    except UNDECODABLE as error:
        raise unreadable(stored.subject, f"the dedup entry is unreadable: {error}") from None


def _bucket(created: float) -> int:
    """Return the number of the time bucket of an id that was created at `created` (Unix seconds)."""
    return round(created * 1000) // _BUCKET_MS
