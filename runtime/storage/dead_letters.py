"""Dead letters: messages that a reaction has given up, stored so that they can be inspected, redriven or dropped.

A dead letter is a message on ``<actor>.dead.<event or command>`` in the dead-letter stream of the actor that gave it up.
It has the body and the headers of the original, without the headers of the server (``Nats-…``), and a description of the
failure in ``Dead-…`` headers.

A replay sends stored events in the same way as a redrive.

A redrive publishes the message on ``<actor>.redrive.<event or command>``, which only this actor consumes, so that no other
listener of the event receives it a second time. It keeps the id under which the actor remembers the original, and can
therefore have no effect twice.
"""

import logging
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from runtime.errors import CodecError, PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.delivery import Delivery
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.dead_parts import PARTS, DeadParts
from runtime.wire import header_block
from runtime.wire.buckets import bucket_of
from runtime.wire.subjects import Names, published, snake_case, valid_name
from runtime.wire.tokens import NO_KEY, is_token, readable_key

logger = logging.getLogger("actorloom.storage")

_MAX_REASON: Final = 500
"""Characters of the reason that are stored."""
_MAX_FIELD: Final = 2048
"""Characters of every other field of a failure that are stored."""
_MAX_HEADERS: Final = 64_000
"""Bytes of a dead letter's headers. JetStream refuses more than 64 KiB, and the original may have had as many."""
_TO_SPACES: Final = str.maketrans("\r\n\0", "   ")
"""Replaces the characters that no header can hold."""
_PARTS_ROOM: Final = 16_384
"""Bytes that the header with the parts of a body may have."""
_REPLAY: Final = "replay:"
"""Begins the message ids of replayed events. The name of the replay follows."""
_PREFIX: Final = "Dead-"
"""The prefix of the headers that describe the failure."""


class Failure(msgspec.Struct, frozen=True):
    """The failure of a message, and its origin. Each field is a header: ``Dead-Reason``, ``Dead-Attempts`` and so on."""

    reason: str
    """The class name and the text of the last error."""
    attempts: int
    subject: str
    """The subject of the message as it was first delivered."""
    stream: str
    """The stream of that message."""
    sequence: int
    """The sequence of that message in its stream."""
    reaction: str
    """The name of the method that failed."""
    id: str
    """The id under which the actor remembers the message."""


class DeadLetter(msgspec.Struct, frozen=True):
    """One stored dead letter."""

    service: str
    """The name of the actor that gave it up."""
    sequence: int
    """The sequence in the dead-letter stream."""
    name: str
    """The event, or the command of a timer, in its form in subjects (``order_paid``)."""
    time: float
    """Unix seconds at which it was stored."""
    failure: Failure
    headers: dict[str, str]
    """The headers of the original."""
    payload: bytes
    """The body of the original."""

    @property
    def id(self) -> str:
        """The name by which people refer to it: ``orders:17``."""
        return f"{self.service}:{self.sequence}"

    @property
    def token(self) -> str:
        """The token of the key in the subject of the original: that of an event or of a told command, or that which set a timer."""
        return _key_token(self.failure.subject)

    @property
    def key(self) -> str | None:
        """The key of `token`, or the token itself if the key cannot be read from it; None for no key."""
        return None if self.token == NO_KEY else readable_key(self.token)


class Selection(msgspec.Struct, frozen=True):
    """A filter of dead letters. It selects those that match every field that is set."""

    services: tuple[str, ...] = ()
    """Names of actors. `matches` does not look at them: each actor has a stream of its own."""
    event: str = ""
    """The class name of the event or command, or its form in subjects."""
    reason: str = ""
    """A regular expression that is searched for in the reason, in any case."""
    since: float = 0.0
    """Unix seconds. Earlier dead letters are left out."""
    before: float = float("inf")
    """Unix seconds. Dead letters of this time and later ones are left out."""

    def matches(self, letter: DeadLetter) -> bool:
        """Return whether a dead letter is selected, whatever its service."""
        return (
            self.since <= letter.time < self.before
            and (not self.event or letter.name in (self.event, snake_case(self.event)))
            and (not self.reason or re.search(self.reason, letter.failure.reason, re.IGNORECASE) is not None)
        )


class DeadLetters:
    """The dead letters of one actor. Apart from `store`, its methods raise the errors of `JetStream`.

    Args:
        jetstream: The client.
        names: The names of the actor.
    """

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names
        self._parts = DeadParts(jetstream, names)

    async def store(self, stream: str, delivery: Delivery, name: str, failure: Failure) -> bool:
        """Store a message as a dead letter.

        Args:
            stream: The stream of the delivery.
            delivery: The message. The caller terminates it only after this returns True.
            name: The event, or the command of a timer, in its form in subjects.
            failure: The failure.

        Returns:
            Whether the dead letter is certainly stored. If not, the reason is logged.
        """
        subject = self._names.dead(name)
        # Fixed for this delivery and reaction, so that a repetition is dropped.
        message_id = f"{self._names.actor}:{stream}:{delivery.stream_sequence}:{failure.reaction}"
        own = [(header_block.MESSAGE_ID.decode(), message_id), *_failure_headers(failure)]
        try:
            await self._publish(subject, name, _original_headers(delivery.headers), own, delivery.payload)
        except (PublishError, TimeoutError) as error:
            logger.error("%s: a dead letter could not be stored: %s", subject, error)
            return False
        return True

    async def get(self, sequence: int) -> DeadLetter | None:
        """Return the dead letter at `sequence`, or None if there is none."""
        stored = await self._stored(sequence)
        return await self._letter(stored) if stored is not None else None

    async def read(self, selection: Selection = Selection()) -> AsyncIterator[DeadLetter]:
        """Iterate over the selected dead letters, oldest first."""
        async for stored in self._jetstream.read(self._names.dead_stream, self._names.dead("*")):
            letter = await self._letter(stored)
            if selection.matches(letter):
                yield letter

    async def redrive(self, sequence: int) -> bool:
        """Send a dead letter to the reaction that gave it up, and to no other.

        The dead letter is deleted only after the message is stored on its way back. Two callers that do this at the same
        time send it once.

        Returns:
            False if there is no such dead letter.
        """
        stored = await self._stored(sequence)
        if stored is None:
            return False
        headers = [
            *_original_headers(stored.headers),
            (header_block.MESSAGE_ID.decode(), f"redrive:{sequence}"),
            *_failure_headers(read_failure(stored.headers)),
        ]
        if (parts := header_block.get(stored.headers, PARTS)) is not None:
            headers.append((PARTS.decode(), parts))  # the message on its way back takes them over
        name = stored.subject.removeprefix(self._names.dead(""))
        subject = self._names.redrive(name, _key_token(read_failure(stored.headers).subject))
        await self._jetstream.publish(subject, stored.payload, headers=header_block.encode(headers))
        await self._jetstream.delete_message(self._names.dead_stream, sequence)
        return True

    async def replay(self, stream: str, stored: StoredMessage, replay: str, reaction: str, event_id: str) -> None:
        """Send a stored event to one reaction of this actor, and to no other, as a redrive does.

        A repetition within the duplicate window of the stream is dropped.

        Args:
            stream: The stream of the event.
            stored: The event.
            replay: The name of the replay.
            reaction: The name of the reaction.
            event_id: The id under which the actor remembers the event.
        """
        subject = published(stored.subject)
        name, token = subject.split(".")[-2], _key_token(subject)
        failure = Failure(f"replay {replay}", 0, subject, stream, stored.sequence, reaction, event_id)
        own = [
            (header_block.MESSAGE_ID.decode(), f"{_REPLAY}{replay}:{stream}:{stored.sequence}:{reaction}"),
            (header_block.REPLAY.decode(), replay),
            *_failure_headers(failure),
        ]
        await self._publish(
            self._names.redrive(name, token), name, _original_headers(stored.headers), own, stored.payload
        )

    async def move_redriven(self) -> int:
        """Give the dead letters on their way back, as an earlier version stored them, the subject with their bucket.

        The stream takes that subject itself meanwhile. Return their number.
        """
        moved, stream = 0, self._names.dead_stream
        async for stored in self._jetstream.read(stream, self._names.redriven("*")):
            token = _key_token(read_failure(stored.headers).subject)
            pairs = [
                (name, value)
                for name, value in header_block.parse(stored.headers).items()
                if not name.lower().startswith("nats-")
            ]
            headers = header_block.encode(pairs)
            await self._jetstream.publish(
                f"{stored.subject}.{bucket_of(token)}.{token}", stored.payload, headers=headers
            )
            await self._jetstream.delete_message(stream, stored.sequence)
            moved += 1
        return moved

    def is_in_parts(self, delivery: Delivery) -> bool:
        """Return whether `delivery` is a dead letter on its way back whose body must be read by `body`."""
        return not delivery.payload and header_block.get(delivery.headers, PARTS) is not None

    async def body(self, delivery: Delivery) -> bytes:
        """Return the body of a dead letter on its way back. Raises `CodecError` if a part of it is missing."""
        return await self._parts.load(delivery.headers, delivery.payload)

    async def finish(self, delivery: Delivery) -> None:
        """Delete a dead letter on its way back, or a replayed event, which is handled."""
        await self._parts.delete(delivery.headers)
        await self._jetstream.delete_message(self._names.dead_stream, delivery.stream_sequence)

    async def drop(self, sequence: int) -> bool:
        """Delete a dead letter permanently, or one on its way back; return False if there is none."""
        stored = await self._jetstream.get(self._names.dead_stream, sequence)
        if stored is None:
            return False
        await self._parts.delete(stored.headers)
        return await self._jetstream.delete_message(self._names.dead_stream, sequence)

    async def _publish(
        self, subject: str, name: str, original: list[tuple[str, str]], own: list[tuple[str, str]], payload: bytes
    ) -> None:
        """Publish a message with the headers of the original that fit, and `own`, the first of which is its id.

        If its body does not fit beside the headers, it is stored in parts before.
        """
        headers = [*_fitting(original, _MAX_HEADERS - _size(own)), *own]
        block = header_block.encode(headers)
        if self._parts.needed(block, payload):
            parts = await self._parts.store(name, own[0][1], payload)
            room = self._jetstream.connection.max_payload - _size(own) - _PARTS_ROOM
            headers = [*_fitting(headers[: -len(own)], room), *own, parts]
            block, payload = header_block.encode(headers), b""
        await self._jetstream.publish(subject, payload, headers=block)

    async def _stored(self, sequence: int) -> StoredMessage | None:
        """Return the message of a dead letter; None if there is none, or only one on its way back or a part of one."""
        stored = await self._jetstream.get(self._names.dead_stream, sequence)
        if stored is None or "." in stored.subject.removeprefix(self._names.dead("")):
            return None
        return stored

    async def _letter(self, stored: StoredMessage) -> DeadLetter:
        try:
            payload = await self._parts.load(stored.headers, stored.payload)
        except CodecError as error:
            logger.error("%s:%d: %s", self._names.actor, stored.sequence, error)
            payload = b""
        return DeadLetter(
            service=self._names.actor,
            sequence=stored.sequence,
            name=stored.subject.removeprefix(self._names.dead("")),
            time=stored.time,
            failure=read_failure(stored.headers),
            headers=dict(_original_headers(stored.headers)),
            payload=payload,
        )


async def known_services(jetstream: JetStream, namespace: str) -> list[str]:
    """Return the names of the actors in a namespace that have a dead-letter stream, which is every actor that has run."""
    prefix = Names("", namespace)
    streams = await jetstream.stream_names(prefix.prefix + "*.dead.>")
    actors = [stream.removeprefix(prefix.stream_prefix).removesuffix("-dead") for stream in streams]
    return [
        actor
        for actor, stream in zip(actors, streams, strict=True)
        if valid_name(actor) and Names(actor, namespace).dead_stream == stream
    ]


def replay_of(stored: StoredMessage) -> str:
    """Return the name of the replay that has sent a message; empty for another message, such as a redriven dead letter."""
    message_id = header_block.get(stored.headers, header_block.MESSAGE_ID) or ""
    return message_id.removeprefix(_REPLAY).partition(":")[0] if message_id.startswith(_REPLAY) else ""


def read_failure(block: bytes | None) -> Failure:
    """Return the failure in the headers of a dead letter, or of one that is redriven. A missing or invalid field is empty."""
    found = {name.lower(): value for name, value in header_block.parse(block).items()}

    def value(field: str) -> Any:
        text = found.get(f"{_PREFIX}{field}".lower(), "")
        if field not in ("attempts", "sequence"):
            return text
        return header_block.number(text) or 0

    return Failure(*(value(field) for field in Failure.__struct_fields__))


def _key_token(subject: str) -> str:
    """Return the token of the key in the subject of an event, told command or timer; that of no key if it is none of them."""
    match subject.split("."):
        case [*_, "event" | "tell", _, token] | [*_, "timer", token, _]:
            return token if is_token(token) else NO_KEY
        case _:
            return NO_KEY


def _failure_headers(failure: Failure) -> list[tuple[str, str]]:
    values = msgspec.structs.asdict(failure) | {"reason": failure.reason[:_MAX_REASON]}
    return [(f"{_PREFIX}{field.capitalize()}", _header_value(str(value))) for field, value in values.items()]


def _header_value(text: str) -> str:
    """Return a text that any header can hold, since a dead letter must be stored.

    The id of a foreign publisher may contain line breaks, NUL or lone surrogates.
    """
    line = text[:_MAX_FIELD].translate(_TO_SPACES)
    return line.encode(errors="replace").decode()


def _original_headers(block: bytes | None) -> list[tuple[str, str]]:
    """Return the headers that a dead letter keeps.

    Left out are those of the server, and those of an earlier failure. A dead letter of a replayed event keeps the replay's name.
    """
    return [
        (name, value)
        for name, value in header_block.parse(block).items()
        if not name.lower().startswith(("nats-", "dead-"))
    ]


def _size(headers: list[tuple[str, str]]) -> int:
    return sum(len(name.encode()) + len(value.encode()) + 4 for name, value in headers)


def _fitting(headers: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """Return the headers that fit into `room` bytes. A header that is too long is left out; later ones may still fit."""
    found: list[tuple[str, str]] = []
    for header in headers:
        if (size := _size([header])) <= room:
            room -= size
            found.append(header)
    return found
