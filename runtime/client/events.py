"""Following events: an iterator over the events of one type, which survives reconnects and restarts of the server."""

from collections.abc import AsyncGenerator
from typing import Any, Generic, Self, TypeVar

from runtime.actor.call import in_handler
from runtime.actor.message import Contract, Event, codec_of, contract_of
from runtime.actor.since import read_since
from runtime.client.place import Place, follow, no_stream
from runtime.errors import CodecError, DeclarationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.telemetry import add_link
from runtime.wire.buckets import bucket_of
from runtime.wire.cloudevents import is_structured, read_structured
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names, published
from runtime.wire.tokens import key_token

E = TypeVar("E", bound=Event)


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
        self._place = Place(jetstream, names, [names.stored_event(contract.name, bucket, token)], since)
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
            stored = self._stored = follow(self._place)
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
            raise no_stream(self._place)
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
