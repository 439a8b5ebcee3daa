"""The copy of an actor's records and dedup entries to the streams of another layout, and the check that it is complete.

**Outboxes.** A record that the relay of its owner has published completely is copied without its outbox: the next owner would
publish it again. A record above the checkpoint keeps it. These records are copied last, and the checkpoint of the new stream
is in front of them. So the next owner reads them only, and publishes what is left, as after any other change of owner.

**Lifetimes.** A dedup entry, and a record that expires, live in the new stream for as long as they would in the old one.
"""

import math
import re
from collections.abc import AsyncIterator, Callable
from hashlib import blake2b
from typing import Final

from runtime.admin.leases import Leases
from runtime.admin.refusal import Refused
from runtime.admin.repartition.writer import Writer
from runtime.admin.stored import published_until
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.record import Record, Unreadable, check_subject, decode_record, rewrite_record
from runtime.wire import header_block
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names

_CREATED: Final = header_block.line(header_block.EXPECTED_SEQUENCE, b"0")
"""Every copy creates its subject."""

_SECONDS = re.compile(r"(\d{1,10})s?").fullmatch

_PROGRESS: Final = 50_000
"""Messages after which a copy reports how many there are so far."""

_MASK: Final = 2**128 - 1


class Copies:
    """Copies between the streams of two layouts of one actor.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        before: The number of partitions of the old layout.
        after: The number of partitions of the new one.
        leases: The leases, which are looked at on the way.
        report: Called with a line of text from time to time.
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        before: int,
        after: int,
        leases: Leases,
        report: Callable[[str], None],
    ) -> None:
        self._jetstream = jetstream
        self._old = names.partitions(before)
        self._new = names.partitions(after)
        self._leases = leases
        self._report = report
        self._copied = 0
        self._clock = jetstream.connection.clock
        self._writer = Writer(jetstream, leases.require)
        self._sums = [_Sum() for _ in self._new]
        """Of the records that were sent, for each new partition."""

    async def copy(self) -> int:
        """Copy all records and dedup entries to the new streams, which are empty. Return the number of records.

        Raises:
            Unreadable: A record that was stored meanwhile cannot be read.
            ActorError, TimeoutError: The streams cannot be used, or the leases are lost.
        """
        for old in self._old:
            checkpoint = await published_until(self._jetstream, old)
            async for stored in self._read(old, "turn.>"):
                record = _decode(old, stored)
                if stored.sequence <= checkpoint and record.outbox:
                    payload = rewrite_record(stored.payload, record.commit_id, set())
                    await self._put_record(old, stored, payload)
                elif not record.outbox:
                    await self._put_record(old, stored, stored.payload)
            async for stored in self._read(old, "dedup.>"):
                await self._put(old, stored, stored.payload)
        await self._writer.settle()
        for new in self._new:
            last = (await self._jetstream.stream_info(new.turns_stream)).state.last_seq
            await self._jetstream.publish(new.checkpoint(), b"%d" % last, headers=header_block.join(_CREATED))
        for old in self._old:
            checkpoint = await published_until(self._jetstream, old)
            async for stored in self._read(old, "turn.>", checkpoint + 1):
                if _decode(old, stored).outbox:
                    await self._put_record(old, stored, stored.payload)
        await self._writer.settle()
        return sum(each.count for each in self._sums)

    async def compare(self) -> None:
        """Compare the records of the new streams with those that were sent. Raises `ActorError` if they differ."""
        for new, expected in zip(self._new, self._sums, strict=True):
            found = _Sum()
            async for stored in self._read(new, "turn.>"):
                if header_block.get(stored.headers, header_block.TTL) is None:
                    found.add(stored.subject, stored.payload)
            if (found.count, found.value) != (expected.count, expected.value):
                raise ActorError(
                    f"stream {new.turns_stream} has {found.count} records, and {expected.count} were copied, or they differ: "
                    "does another repartition run?"
                )

    async def _put_record(self, old: Names, stored: StoredMessage, payload: bytes) -> None:
        await self._put(old, stored, payload)
        if header_block.get(stored.headers, header_block.TTL) is None:
            number = partition_of(_token(old, stored), len(self._new))
            self._sums[number].add(self._new[number].own + stored.subject.removeprefix(old.own), payload)

    async def _put(self, old: Names, stored: StoredMessage, payload: bytes) -> None:
        expiry = b""
        if (ttl := header_block.get(stored.headers, header_block.TTL)) is not None and (found := _SECONDS(ttl)):
            left = stored.time + int(found[1]) - self._clock.now()
            if left <= 0:
                return
            expiry = header_block.ttl(math.ceil(left))
        new = self._new[partition_of(_token(old, stored), len(self._new))]
        subject = new.own + stored.subject.removeprefix(old.own)
        await self._writer.put(subject, payload, header_block.join(_CREATED, expiry))
        self._copied += 1
        if self._copied % _PROGRESS == 0:
            self._report(f"{self._copied} messages are copied")

    async def _read(self, names: Names, kind: str, start: int = 1) -> AsyncIterator[StoredMessage]:
        async for stored in self._jetstream.read(names.turns_stream, f"{names.own}.{kind}", start_sequence=start):
            self._leases.require()
            yield stored


async def check_records(jetstream: JetStream, names: Names, partitions: int) -> tuple[int, int]:
    """Read all records of a layout. Return their number, and the bytes of the streams.

    Raises:
        Refused: A record cannot be read by this version. The text names it.
        ActorError, TimeoutError: The streams cannot be read now.
    """
    records = size = 0
    for part in names.partitions(partitions):
        size += (await jetstream.stream_info(part.turns_stream)).state.bytes
        async for stored in jetstream.read(part.turns_stream, f"{part.own}.turn.>"):
            try:
                _decode(part, stored)
            except Unreadable as error:
                raise Refused(f"{error.reason}: nothing was changed") from None
            records += 1
    return records, size


async def count(jetstream: JetStream, names: Names, partitions: int, *kinds: str) -> int:
    """Return the number of messages of some kinds (``dedup``, ``timer``) in the streams of a layout."""
    found = 0
    for part in names.partitions(partitions):
        for kind in kinds:
            async for _ in jetstream.read(part.turns_stream, f"{part.own}.{kind}.>"):
                found += 1
    return found


def _decode(names: Names, stored: StoredMessage) -> Record:
    """Return a record. Raises `Unreadable`."""
    check_subject(stored.subject, names.turn(""))
    return decode_record(stored.payload, stored.subject)


def _token(names: Names, stored: StoredMessage) -> str:
    """Return the key token of a record or dedup entry."""
    return stored.subject.removeprefix(f"{names.own}.").split(".")[1]


class _Sum:
    """The number of some records, and the sum of their hashes, in whatever order they come."""

    __slots__ = ("count", "value")

    def __init__(self) -> None:
        self.count = 0
        self.value = 0

    def add(self, subject: str, payload: bytes) -> None:
        digest = blake2b(payload, digest_size=16, key=blake2b(subject.encode(), digest_size=32).digest()).digest()
        self.count += 1
        self.value = (self.value + int.from_bytes(digest)) & _MASK
