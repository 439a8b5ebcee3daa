"""Following events: an iterator over the events of one type, which survives reconnects and restarts of the server."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from typing import Any, Final, Generic, Self, TypeVar

from runtime.actor.call import in_handler
from runtime.actor.message import Contract, Event, codec_of, contract_of
from runtime.actor.since import FIRST, NEW, read_since
from runtime.backoff import Backoff
from runtime.errors import ActorError, CodecError, ConfigurationError, DeclarationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode, is_passing
from runtime.nats.jetstream.following import Following
from runtime.nats.jetstream.responses import StoredMessage, StreamInfo
from runtime.telemetry import add_link
from runtime.wire.buckets import bucket_of
from runtime.wire.cloudevents import is_structured, read_structured
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names, published
from runtime.wire.tokens import key_token

logger = logging.getLogger("actorloom.client")

E = TypeVar("E", bound=Event)

_BACKOFF: Final = Backoff(first=0.05, longest=2.0)
"""The pauses between two passes without a message."""

_MISSING: Final = 6
"""Looks in a row that find no stream, or not its end, after which it is gone. A server that has just become leader may not know
it yet."""


class Place:
    """Where a follower is in the stream of an actor: its next pass begins there.

    Args:
        jetstream: The client.
        names: The names of the actor.
        subject: The filter of the stored events.
        since: The start, as `read_since` returns it.
    """

    def __init__(self, jetstream: JetStream, names: Names, subject: str, since: str) -> None:
        self.jetstream = jetstream
        self.names = names
        self.stream = names.events_stream
        self.subject = subject
        self.sequence = 0 if since == FIRST else None
        """The stream sequence of the last event that was taken; None at a start by time, or at the end of the stream until it is found."""
        self.time = None if since in (FIRST, NEW) else since
        self.created = ""
        """The creation time of the stream; empty until it is found."""
        self.short = 0
        """Looks in a row that find an end of the stream before this place."""

    async def find(self) -> bool:
        """Find the stream, and what the next pass needs to know of it. Return False if there is none.

        Raises:
            ConfigurationError: An earlier version has created the stream.
            ActorError, TimeoutError: The stream cannot be asked for.
        """
        info = await self.jetstream.find_stream(self.stream)
        if info is None:
            return False
        if not info.config.get("subject_transform"):
            raise ConfigurationError(
                f"stream {self.stream}: an earlier version has created it, and its events cannot be followed: run "
                f"`actorloom upgrade {self.names.actor}`"
            )
        if self.created and self.created != info.created:
            logger.warning("stream %s was deleted and created again: all of its events follow", self.stream)
            self.sequence = 0
        elif self.sequence is None and self.time is None:
            self.sequence = info.state.last_seq
        self.created = info.created
        self._shorten(info)
        return True

    def _shorten(self, info: StreamInfo) -> None:
        """Go back to the end of a stream that has lost messages. A new leader of several replicas may not know all of them yet."""
        end = info.state.last_seq
        self.short = self.short + 1 if self.sequence is not None and self.sequence > end else 0
        if self.short >= (_MISSING if info.config.get("num_replicas", 1) > 1 else 1):
            text = "stream %s has lost messages: it ended at %d, and ends at %d now; the events that follow come from there"
            logger.warning(text, self.stream, self.sequence, end)
            self.sequence, self.short = end, 0


class Events(Generic[E]):
    """The events of one type, in the order of their stream. `Bus.events` returns it.

    It begins to pull with the first call of `anext`. Only one task may iterate at a time. The consumer on the server is
    deleted when the iteration ends: by `break`, `aclose`, a cancellation or an error. The next call of `anext` begins another
    one at the next event, unless `aclose` was called. As an asynchronous context manager it takes its place in the stream at
    the beginning of the block, and calls `aclose` at the end.
    """

    def __init__(self, jetstream: JetStream, contract: Contract, names: Names, key: str | None, since: str) -> None:
        token = "*" if key is None else key_token(key)
        bucket = "*" if key is None else bucket_of(token)
        self._decode = codec_of(contract.type).decode
        self._place = Place(jetstream, names, names.stored_event(contract.name, bucket, token), since)
        self._stored: AsyncGenerator[StoredMessage] | None = None
        self._closed = False
        self._label = f"Bus.events({contract.type.__name__})"
        self._waits = False
        """Whether a task waits for the next event."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> E:
        """Wait for the next event and return it.

        If the current span is recorded, it gets a link to the span of the event.

        Raises:
            CodecError: The event does not fit its class. The next call goes on after it.
            ConfigurationError: The stream of the actor is missing.
            ActorError, TimeoutError: The server refuses to serve the events, or did not answer at the start.
            StopAsyncIteration: `aclose` was called.
            RuntimeError: Another task waits for the next event.
        """
        self._require_alone()
        if self._closed:
            raise StopAsyncIteration
        stored = self._stored
        if stored is None:
            stored = self._stored = _follow(self._place)
        self._waits = True
        try:
            message = await anext(stored)
        except BaseException:
            self._stored = None
            raise
        finally:
            self._waits = False
        add_link(message.headers)
        return self._read(message)

    async def __aenter__(self) -> Self:
        """Find the place of the first event. Raises the errors of the first `anext`."""
        if not await self._place.find():
            raise _no_stream(self._place)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the iteration and delete the consumer. Further calls do nothing.

        Raises:
            RuntimeError: Another task waits for the next event.
        """
        self._require_alone()
        self._closed = True
        stored, self._stored = self._stored, None
        if stored is not None:
            await stored.aclose()

    def _require_alone(self) -> None:
        if self._waits:
            raise RuntimeError(f"{self._label}: another task waits for the next event: cancel it before")

    def _read(self, message: StoredMessage) -> E:
        try:
            payload = message.payload
            if is_structured(message.headers):
                payload = read_structured(message.headers, payload).payload()
            event: E = self._decode(payload)
            return event
        except (CodecError, *UNDECODABLE) as error:
            place = f"{published(message.subject)}, sequence {message.sequence} of {self._place.stream}"
            raise CodecError(f"{place}: {error}") from error


def make_events(jetstream: JetStream, namespace: str, event: object, key: object, since: object) -> Events[Any]:
    """Return the iterator of `Bus.events`, which describes the arguments and the errors."""
    contract = contract_of(event)
    label = f"Bus.events({contract.type.__name__})"
    if contract.op != "event" or not isinstance(event, type):
        raise DeclarationError(f"{label}: give the class of an event")
    if in_handler.get():
        raise DeclarationError(f"{label}: a handler cannot wait for events: declare a reaction, by @react")
    if key is not None and contract.key is None:
        raise DeclarationError(f"{label}: key={key!r}: its events have no key")
    if key is not None and not isinstance(key, str):
        raise DeclarationError(f"{label}: key={key!r} is not a text")
    return Events(jetstream, contract, Names(contract.actor, namespace), key, read_since(since, label))


async def _follow(place: Place) -> AsyncGenerator[StoredMessage]:
    """Yield the messages after a place, without an end, and move the place to each.

    This is a function, and no method of `Events`: the two would refer to each other, and `break` would not end it at once.

    Raises:
        ConfigurationError: The stream is missing.
        ActorError, TimeoutError: The server refuses, or did not answer at the start.
    """
    failures, missing, noted = 0, 0, False
    while True:
        try:
            found = await place.find()
            if found and not place.short:
                missing = 0
                following = Following(place.jetstream, place.stream, place.subject, place.sequence, place.time)
                async with following as messages:
                    async for stored in messages:
                        failures, noted = 0, False
                        place.sequence = stored.sequence
                        yield stored
            elif not found:
                missing += 1
                if not place.created or missing >= _MISSING:
                    raise _no_stream(place)
        except (ActorError, TimeoutError) as error:
            if not place.created or place.jetstream.connection.is_closed or not _passes(error):
                raise
            if not noted:
                logger.warning("events of %s: %s; trying again", place.stream, error)
            noted = True
        failures += 1
        await asyncio.sleep(_BACKOFF.delay(failures))


def _passes(error: Exception) -> bool:
    """Return whether an error passes by itself. A stream may be deleted between the look for it and the consumer."""
    return is_passing(error) or (isinstance(error, ApiError) and error.err_code == ErrorCode.STREAM_NOT_FOUND)


def _no_stream(place: Place) -> ConfigurationError:
    actor, namespace = place.names.actor, place.names.namespace
    where = f" in namespace {namespace!r}" if namespace else ""
    return ConfigurationError(f"there is no stream {place.stream}: {actor} creates it when it first starts{where}")
