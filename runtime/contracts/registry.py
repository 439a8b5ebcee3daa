"""The registry of schemas: the versions that each actor of a namespace has had, in the KV bucket ``schemas``.

The key is the name of the actor. A start reads it once, and stores it only if the schemas have changed. It is stored under the
sequence of the entry that was read, so two processes that start at the same time lose nothing of each other.
"""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple

import msgspec

from runtime.contracts.entries import Entry, SchemaKind
from runtime.contracts.versions import Record, Start
from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import kv_config
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.contracts")

_ATTEMPTS: Final = 20
"""The attempts to store a record that other processes store at the same time."""
_HEADERS: Final = 1024
"""Bytes of the largest message that are left for the subject and the headers."""


class Registered(NamedTuple):
    """The record of an actor as it is stored."""

    actor: str
    record: Record
    sequence: int
    """The sequence under which the next one is stored; 0 if none is stored."""


class Registry:
    """The registered schemas of one namespace. All methods raise the errors of `JetStream`.

    Args:
        jetstream: The client.
        namespace: The namespace.
        replicas: The number of replicas of a new bucket.
    """

    def __init__(self, jetstream: JetStream, namespace: str, replicas: int = 1) -> None:
        self._jetstream = jetstream
        self._bucket = Names("", namespace).schema_bucket
        self._replicas = replicas

    def now(self) -> float:
        """Return the time of the server in Unix seconds."""
        return self._jetstream.connection.clock.now()

    async def find(self, actor: str) -> Registered:
        """Return the record of an actor, by one request; an empty one if none is stored, or if it is unreadable, which is logged."""
        stored = await self._jetstream.find_last(f"KV_{self._bucket}", self._subject(actor))
        if stored is None:
            return Registered(actor, Record(), 0)
        try:
            return _registered(stored)
        except CodecError as error:
            logger.warning("%s", error)
            return Registered(actor, Record(), stored.sequence)

    async def read(self) -> AsyncIterator[Registered | CodecError]:
        """Iterate over the records of all actors. In place of an unreadable one comes the error."""
        if await self._jetstream.find_stream(f"KV_{self._bucket}") is None:
            return
        async for stored in self._jetstream.read(f"KV_{self._bucket}", f"$KV.{self._bucket}.>"):
            try:
                found = _registered(stored)
            except CodecError as error:
                yield error
                continue
            if found.record.histories:
                yield found

    async def register(
        self, actor: str, entries: Sequence[Entry], start: Start, *, allow_breaking: bool = False
    ) -> None:
        """Check the schemas with which an actor starts against those that are registered, and register them.

        Args:
            actor: The name of the actor.
            entries: Its schemas.
            start: The start.
            allow_breaking: Whether a breaking change is logged and registered. Versions before it count no longer.

        Raises:
            ContractBroken: A change breaks others. Nothing is registered.
            CodecError: A registered schema is no JSON Schema.
        """
        attempts = 0
        while True:
            found = await self.find(actor)
            broken = _check(found, entries, start, allow_breaking)
            record = found.record.after(entries, start, broken)
            if record == found.record:
                return
            try:
                await self._store(found, record)
            except WrongSequence:
                attempts += 1
                if attempts == _ATTEMPTS:
                    raise
            else:
                return

    async def _store(self, found: Registered, record: Record) -> None:
        """Store a record in the place of another one, without its oldest versions if it is too large for one message."""
        most = self._jetstream.connection.max_payload - _HEADERS
        body = msgspec.json.encode(record)
        while len(body) > most:
            shorter = record.without_oldest()
            if shorter is None:
                logger.warning(
                    "%s: its schemas are not registered: %d bytes do not fit one message", found.actor, len(body)
                )
                return
            record, body = shorter, msgspec.json.encode(shorter)
        first = found.sequence == 0
        if first:
            description = "Actorloom: the schemas with which actors have started"
            await self._jetstream.ensure_stream(kv_config(self._bucket, description, self._replicas))
        block = header_block.join(header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % found.sequence))
        await self._jetstream.publish(self._subject(found.actor), body, headers=block, new_stream=first)

    def _subject(self, actor: str) -> str:
        return f"$KV.{self._bucket}.{actor}"


def _check(
    found: Registered, entries: Sequence[Entry], start: Start, allow_breaking: bool
) -> list[tuple[SchemaKind, str]]:
    """Return the kinds and names of the schemas whose breaking change is allowed."""
    if not found.record.histories:
        return []
    from runtime.contracts.rules import ContractBroken, broken_by  # A first start has nothing to compare.

    broken = broken_by(found.actor, entries, found.record, start.time)
    if broken and not allow_breaking:
        raise ContractBroken(found.actor, broken)
    for each in broken:
        logger.warning("%s: a breaking change is allowed: %s", found.actor, each)
    return list(dict.fromkeys((each.kind, each.type.removeprefix(f"{found.actor}.")) for each in broken))


def _registered(stored: StoredMessage) -> Registered:
    """Return the record of a message; an empty one for the marker of an entry that somebody has deleted. Raises `CodecError`."""
    actor = stored.subject.rpartition(".")[2]
    if not stored.payload:
        return Registered(actor, Record(), stored.sequence)
    try:
        record = msgspec.json.decode(stored.payload, type=Record)
    except UNDECODABLE as error:
        raise CodecError(f"{stored.subject}: the registered schemas are unreadable: {error}") from None
    return Registered(actor, record, stored.sequence)
