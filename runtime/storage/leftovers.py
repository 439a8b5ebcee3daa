"""What a repartition leaves in the streams of before: timers, and the streams and consumers themselves.

Timers move after the switch to the new layout, because a schedule fires wherever it is stored. The tool moves them, or each
new owner moves those of its keys at its start, if the tool has died. Both call `Leftovers.move`, and hold the lease of the new
partition. So no timer of its keys is delivered meanwhile.

**Once.** A schedule is stored in the new stream under the expected sequence 0, and then deleted from the old one. If that is
interrupted, it may fire in both. A due timer moves only if the new stream has none of its name: a stream keeps the newest
firing of each name anyway. A timer that fires once has the same id in both streams, and a firing of a repeated one carries
the id that its former owner would have given it. So a firing that was handled before has no further effect.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final

from runtime.errors import ActorError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES, ApiError, ErrorCode, WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.layout import Layout, Layouts, WrongLayout
from runtime.storage.record_streams import remove, sharing
from runtime.storage.schedules import firing_of
from runtime.wire import header_block
from runtime.wire.buckets import Partition, partition_of
from runtime.wire.ids import accept_id
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

_AT_ONCE: Final = 64
"""Timers that are moved at the same time."""

_BEATEN: Final = 8
"""Times that another owner may be faster in deleting something, before it counts as an error."""

_KINDS: Final = ("schedule", "timer", "parked")
"""The kinds of messages that move."""

_KEPT: Final = (b"nats-schedule", b"nats-schedule-time-zone", b"nats-schedule-ttl")
"""The headers of the server that a moved timer keeps."""


class Leftovers:
    """What is left in the streams of a former layout of one actor.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        before: The number of partitions of the former layout.
        held: Returns whether the caller still holds its lease of the actor, of one partition at least. A process that was paused
            must not delete the streams of a later layout with the same names.
    """

    def __init__(self, jetstream: JetStream, names: Names, before: int, held: Callable[[], bool]) -> None:
        self._jetstream = jetstream
        self._names = names
        self._before = before
        self._held = held
        self._layouts = Layouts(jetstream, names)

    async def move(self, partition: Partition) -> int:
        """Move the timers of a partition, of the new layout, to its stream. Return their number. The caller holds its lease.

        Raises:
            ActorError, TimeoutError: The streams cannot be used now, or the lease is lost. The rest stays where it is.
        """
        new, moved = self._names.of(partition), 0
        for number in sharing(partition, self._before):
            old = self._names.of(Partition(self._before, number))
            try:
                # A schedule may fire while it moves. The firing is found by another pass.
                while found := await self._move(old, new):
                    moved += found
            except ApiError as error:
                # Another owner deletes it as soon as it has no timer left.
                if error.err_code != ErrorCode.STREAM_NOT_FOUND:
                    raise
        return moved

    async def clear(self) -> bool:
        """Delete the streams and consumers of the former layout, and store that nothing is left.

        Return False if a timer is left.

        Raises:
            ActorError, TimeoutError: The server refuses it, or does not answer. It can be repeated.
        """
        for _ in range(_BEATEN):
            try:
                return await self._clear()
            except ApiError as error:
                if error.err_code not in (ErrorCode.STREAM_NOT_FOUND, ErrorCode.CONSUMER_NOT_FOUND):
                    raise
                logger.debug("%s: another process clears the former layout as well: %s", self._names.actor, error)
        return await self._clear()

    async def _clear(self) -> bool:
        layout, sequence = await self._layouts.read()
        if layout.before != self._before:
            return True
        olds = self._names.partitions(self._before)
        found = [old for old in olds if await self._jetstream.find_stream(old.turns_stream) is not None]
        for old in found:
            if await self._first_timer(old) is not None:
                return False
        await self._delete_consumers(found)
        for old in found:
            await remove(self._jetstream, old, self._require)
        self._require()
        try:
            await self._layouts.store(Layout(layout.partitions, above=layout.above), sequence)
        except WrongLayout:
            logger.info("%s: another process has cleared the former layout", self._names.actor)
        return True

    def _require(self) -> None:
        if not self._held():
            raise ActorError(f"{self._names.actor}: the lease was lost before the end of a repartition")

    async def _move(self, old: Names, new: Names) -> int:
        moved = 0
        batch: list[StoredMessage] = []
        for kind in _KINDS:
            most = 1 if kind == "parked" else _AT_ONCE  # parked tells stay in their order
            async for stored in self._jetstream.read(old.turns_stream, f"{old.own}.{kind}.>"):
                tail = stored.subject.removeprefix(f"{old.own}.{kind}.")
                if partition_of(tail.split(".")[0], new.partition.total) != new.partition.number:
                    continue
                batch.append(stored)
                if len(batch) == most:
                    moved += await self._move_all(batch, old, new)
                    batch.clear()
            moved += await self._move_all(batch, old, new)
            batch.clear()
        return moved

    async def _move_all(self, batch: list[StoredMessage], old: Names, new: Names) -> int:
        self._require()
        return sum(await asyncio.gather(*(self._move_one(stored, old, new) for stored in batch)))

    async def _move_one(self, stored: StoredMessage, old: Names, new: Names) -> bool:
        """Move one timer. Return False if the server refuses its schedule, which then stays where it is."""
        subject = new.own + stored.subject.removeprefix(old.own)
        try:
            await self._jetstream.publish(subject, stored.payload, headers=_moved(stored, old, new))
        except WrongSequence:
            logger.debug("%s is in its new stream already", subject)
        except PublishError as error:
            if error.err_code not in INVALID_SCHEDULE_CODES:
                raise
            logger.error("%s: the timer stays in %s, which is not deleted: %s", subject, old.turns_stream, error)
            return False
        await self._jetstream.purge(old.turns_stream, stored.subject, stored.sequence)
        return True

    async def _first_timer(self, old: Names) -> StoredMessage | None:
        for kind in _KINDS:
            stored = await self._jetstream.get_last(old.turns_stream, f"{old.own}.{kind}.>")
            if stored is not None:
                return stored
        return None

    async def _delete_consumers(self, former: list[Names]) -> None:
        """Delete the consumers of the former layout on the streams of events, of commands by `tell` and of dead letters."""
        for stream in await event_streams(self._jetstream, former, self._names):
            for durable in await durables(self._jetstream, stream):
                if any(old.consumer_suffix(stream, durable) is not None for old in former):
                    self._require()
                    await self._jetstream.delete_consumer(stream, durable)


async def event_streams(jetstream: JetStream, partitions: Iterable[Names], names: Names) -> set[str]:
    """Return the streams on which partitions may have consumers, besides their own streams.

    A consumer may have no saved position, if somebody has deleted it. So these are the streams of dead letters and of commands of the actor, and all
    streams of events of its namespace. Positions name those of other namespaces.
    """
    streams = {names.dead_stream, names.tells_stream, *await jetstream.stream_names(f"{names.prefix}*.event.>")}
    for each in partitions:
        streams |= {stream async for stream, _ in positions(jetstream, each)}
    return streams


async def positions(jetstream: JetStream, names: Names) -> AsyncIterator[tuple[str, str]]:
    """Iterate over the stream and the name of each consumer of a partition that has a position; not over its own stream."""
    async for stored in jetstream.read(names.turns_stream, f"{names.own}.positions.*.*"):
        stream, durable = stored.subject.split(".")[-2:]
        if stream != names.turns_stream:
            yield stream, durable


async def durables(jetstream: JetStream, stream: str) -> list[str]:
    """Return the names of the consumers of a stream; none if there is no such stream."""
    try:
        return [info.name for info in await jetstream.consumers(stream)]
    except ApiError as error:
        if error.err_code != ErrorCode.STREAM_NOT_FOUND:
            raise
        return []


def _moved(stored: StoredMessage, old: Names, new: Names) -> bytes:
    """Return the header block of a timer in its new stream."""
    due = stored.subject.startswith(f"{old.own}.timer.")
    repeated = header_block.get(stored.headers, header_block.TIMER_RECURRING)
    timer_id = accept_id(header_block.get(stored.headers, header_block.IDEMPOTENCY_KEY) or "")
    target = header_block.get(stored.headers, b"Nats-Schedule-Target")
    # Any record of the new stream that sets or cancels a timer of this name is later.
    lines = [header_block.line(header_block.TIMER_TURN, b"0"), header_block.line(header_block.EXPECTED_SEQUENCE, b"0")]
    dropped = {header_block.TIMER_TURN.lower()}
    if target is not None and not due:
        moved = new.own + target.removeprefix(old.own)
        lines.append(header_block.line(b"Nats-Schedule-Target", moved.encode()))
    if due and (repeated is not None or timer_id is None):
        # Sequences are those of another stream now. The id of this firing stays the one that its handler knows.
        dropped |= {header_block.TIMER_RECURRING.lower(), header_block.IDEMPOTENCY_KEY.lower()}
        firing = firing_of(old, timer_id, stored.sequence, stored.time, repeated or "").id
        lines.append(header_block.line(header_block.IDEMPOTENCY_KEY, firing.encode()))
    for each in (stored.headers or b"").split(header_block.END)[1:]:
        name = each.partition(b":")[0].lower()
        if name and name not in dropped and (not name.startswith(b"nats-") or (name in _KEPT and not due)):
            lines.append(each + header_block.END)
    return header_block.join(*lines)
