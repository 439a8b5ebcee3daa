"""The records of an actor as its streams have them: found and read without the actor's code, whether it runs or not.

Each record is read at the leader of its stream, so it is the newest one of its key at that moment.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final

import msgspec

from runtime.admin.refusal import UnknownActor
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.layout import Layout, Layouts
from runtime.storage.record import Record, Unreadable, check_subject, decode_record
from runtime.wire import header_block
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token, readable_key

_AT_ONCE: Final = 64
"""Messages that are asked for at the same time."""


class StoredRecord(msgspec.Struct, frozen=True):
    """The newest record of a key."""

    key: str
    names: Names
    """The names of its partition."""
    message: StoredMessage
    record: Record


class StoredActor:
    """The streams of one actor. Use `open_actor`.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        layout: Its layout, as it was when it was read.
    """

    def __init__(self, jetstream: JetStream, names: Names, layout: Layout) -> None:
        self.jetstream = jetstream
        self.names = names
        self.layout = layout
        self.parts = names.partitions(layout.partitions)
        """The names of each partition."""

    def part(self, token: str) -> Names:
        """Return the names of the partition of a key, given its token."""
        return self.parts[partition_of(token, self.layout.partitions)]

    async def record(self, key: str) -> StoredRecord | None:
        """Return the record of a key; None if it has none.

        Raises:
            CodecError: The key is too long.
            Unreadable: The record cannot be read.
            ApiError, TimeoutError: The stream cannot be read now.
        """
        token = key_token(key)
        names = self.part(token)
        stored = await self.jetstream.get_last(names.turns_stream, names.turn(token))
        return None if stored is None else _decoded(names, stored)

    async def records(self, prefix: str = "") -> AsyncIterator[StoredRecord | Unreadable]:
        """Iterate over the records of all keys that begin with `prefix`, in the order of the keys.

        A key without an error has its newest record. A key that gets its first record meanwhile may be missing. The memory that this
        takes depends on the number of keys, and not on their states.

        Raises:
            ApiError, TimeoutError: A stream cannot be read now.
        """
        found: list[tuple[str, Names, str]] = []
        for names in self.parts:
            for subject in await self.jetstream.subjects(names.turns_stream, names.turn("*")):
                key = readable_key(subject.removeprefix(names.turn("")))
                if key.startswith(prefix):
                    found.append((key, names, subject))
        found.sort(key=lambda each: each[0])
        async for names, stored in self.read([(names, subject) for _, names, subject in found]):
            try:
                check_subject(stored.subject, names.turn(""))
                yield _decoded(names, stored)
            except Unreadable as error:
                yield error

    async def read(self, subjects: Sequence[tuple[Names, str]]) -> AsyncIterator[tuple[Names, StoredMessage]]:
        """Iterate over the newest message on each subject, in the order of the subjects. Those without one are left out."""
        for first in range(0, len(subjects), _AT_ONCE):
            some = subjects[first : first + _AT_ONCE]
            asked = [self.jetstream.get_last(names.turns_stream, subject) for names, subject in some]
            for (names, _), stored in zip(some, await asyncio.gather(*asked), strict=True):
                if stored is not None:
                    yield names, stored


async def open_actor(jetstream: JetStream, names: Names) -> StoredActor:
    """Return the streams of an actor, given its names as one whole.

    Raises:
        UnknownActor: It has never run here, or its streams were deleted.
        WrongLayout: Its layout is that of a newer version, unreadable, or was deleted.
        ApiError, PermissionDenied, TimeoutError: The streams cannot be asked for now.
    """
    layout, _ = await Layouts(jetstream, names).find()
    actor = StoredActor(jetstream, names, layout)
    if await jetstream.find_stream(stream := actor.parts[0].turns_stream) is None:
        raise UnknownActor(f"{names.actor}: no actor of this name has run here: there is no stream {stream}")
    return actor


async def published_until(jetstream: JetStream, names: Names) -> int:
    """Return the sequence up to which the records of a partition have nothing left to publish; 0 if that is not known.

    A record behind it may have nothing left either: an owner stores this from time to time.
    """
    stored = await jetstream.get_last(names.turns_stream, names.checkpoint())
    position = header_block.number(stored.payload) if stored is not None else None
    last = (await jetstream.stream_info(names.turns_stream)).state.last_seq
    return position if position is not None and position <= last else 0


def _decoded(names: Names, stored: StoredMessage) -> StoredRecord:
    key = readable_key(stored.subject.removeprefix(names.turn("")))
    return StoredRecord(key, names, stored, decode_record(stored.payload, stored.subject))
