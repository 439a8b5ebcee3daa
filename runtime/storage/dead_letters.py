"""Dead letters: what a reaction gave up, stored with all that is needed to look at it, send it again, or drop it.

One lies on ``<actor>.dead.<event or command>`` in the stream of the actor that gave up. Its body is the original's, and
so are its headers, but for the server's own (``Nats-…``); what it died of stands in ``Dead-…``.
"""

import logging
import re
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from runtime.errors import PublishError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.delivery import Delivery
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.subjects import Names, snake_case, valid_name

logger = logging.getLogger("actorloom.storage")

_MAX_REASON: Final = 500
_MAX_WRITTEN: Final = 2048
"""Characters of what else it died of."""
_MAX_HEADERS: Final = 64_000
"""Bytes of a dead letter's headers; JetStream refuses more than 64 KiB, and the original may have had as many."""
_PREFIX: Final = "Dead-"


class Failure(msgspec.Struct, frozen=True):
    """What a message died of, and where: each field is a header, ``Dead-Reason`` and so on."""

    reason: str
    attempts: int
    subject: str
    """The subject, stream and sequence of the message as it was first delivered."""
    stream: str
    sequence: int
    reaction: str
    """The method that gave it up."""
    id: str
    """The id under which the actor remembers it: sent again, it cannot do a thing twice."""


class DeadLetter(msgspec.Struct, frozen=True):
    """One dead letter as it is stored."""

    service: str
    sequence: int
    """Its sequence in the stream of dead letters."""
    name: str
    """The event, or the command of a timer, as it stands in subjects."""
    time: float
    """When it became a dead letter, in unix seconds."""
    failure: Failure
    headers: dict[str, str]
    """Those of the original."""
    payload: bytes

    @property
    def id(self) -> str:
        """What it is called: ``orders:17``."""
        return f"{self.service}:{self.sequence}"


class Selection(msgspec.Struct, frozen=True):
    """Which dead letters are meant: those that fit every field that is set. Times are unix seconds."""

    services: tuple[str, ...] = ()
    event: str = ""
    """The event's or command's class name, or as it stands in subjects."""
    reason: str = ""
    """A regular expression found anywhere in the reason, in any case."""
    since: float = 0.0
    before: float = float("inf")

    def fits(self, letter: DeadLetter) -> bool:
        """Whether `letter` is meant (its service is not looked at)."""
        return (
            self.since <= letter.time < self.before
            and (not self.event or letter.name in (self.event, snake_case(self.event)))
            and (not self.reason or re.search(self.reason, letter.failure.reason, re.IGNORECASE) is not None)
        )


class DeadLetters:
    """The dead letters of one actor. Beside what they say, its methods raise what `JetStream` does."""

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names

    async def store(self, stream: str, delivery: Delivery, name: str, failure: Failure) -> bool:
        """Publish a delivery of `stream` as a dead letter; return whether it is stored for certain."""
        subject = self._names.dead(name)
        # Fixed for this delivery and reaction, so that it is stored once.
        message_id = f"{self._names.actor}:{stream}:{delivery.stream_sequence}:{failure.reaction}"
        ours = [(header_block.MESSAGE_ID.decode(), message_id), *_written(failure)]
        block = header_block.encode([*_fitting(_kept(delivery.headers), _MAX_HEADERS - _size(ours)), *ours])
        try:
            await self._jetstream.publish(subject, delivery.payload, headers=block)
        except (PublishError, TimeoutError) as unacknowledged:
            logger.error("%s: a dead letter could not be stored: %s", subject, unacknowledged)
            return False
        return True

    async def get(self, sequence: int) -> DeadLetter | None:
        """Return one, or None where it is not there (any more)."""
        stored = await self._jetstream.get(self._names.dead_stream, sequence)
        return self._letter(stored) if stored is not None and self._is_dead(stored) else None

    async def read(self, selection: Selection = Selection()) -> AsyncIterator[DeadLetter]:
        """Iterate over those of `selection`, the oldest first."""
        async for stored in self._jetstream.read(self._names.dead_stream, self._names.dead(">")):
            letter = self._letter(stored)
            if selection.fits(letter):
                yield letter

    async def redrive(self, sequence: int) -> bool:
        """Send it again to the reaction that gave it up, and to no other; return False where it is not there any more.

        It leaves the dead letters only when it is stored on its way back. Two who do it at once send it once; whatever
        is sent twice takes effect once, as its id is the same.
        """
        letter = await self.get(sequence)
        if letter is None:
            return False
        pairs = [
            *letter.headers.items(),
            (header_block.MESSAGE_ID.decode(), f"redrive:{sequence}"),
            *_written(letter.failure),
        ]
        await self._jetstream.publish(
            self._names.redrive(letter.name), letter.payload, headers=header_block.encode(pairs)
        )
        await self.drop(sequence)
        return True

    async def drop(self, sequence: int) -> bool:
        """Delete one for good; return False where it is not there any more."""
        return await self._jetstream.delete_message(self._names.dead_stream, sequence)

    def _is_dead(self, stored: StoredMessage) -> bool:
        return stored.subject.startswith(self._names.dead(""))

    def _letter(self, stored: StoredMessage) -> DeadLetter:
        return DeadLetter(
            service=self._names.actor,
            sequence=stored.sequence,
            name=stored.subject.removeprefix(self._names.dead("")),
            time=stored.time,
            failure=read_failure(stored.headers),
            headers=dict(_kept(stored.headers)),
            payload=stored.payload,
        )


async def services(jetstream: JetStream, namespace: str) -> list[str]:
    """Return the names of the actors of `namespace` that have a stream of dead letters: all that have run."""
    prefix = Names("", namespace)
    found = await jetstream.stream_names(prefix.prefix + "*.dead.>")
    actors = [name.removeprefix(prefix.stream_prefix).removesuffix("-dead") for name in found]
    return [
        actor
        for actor, name in zip(actors, found, strict=True)
        if valid_name(actor) and Names(actor, namespace).dead_stream == name
    ]


def read_failure(block: bytes | None) -> Failure:
    """Return what the headers of a dead letter, or of one sent again, say. What is missing or odd is empty."""
    found = {name.lower(): value for name, value in header_block.parse(block).items()}

    def said(field: str) -> Any:
        text = found.get(f"{_PREFIX}{field}".lower(), "")
        # Anybody may write these; Python itself refuses numbers of more than 4300 digits.
        return (int(text) if len(text) < 20 and text.isdecimal() else 0) if field in ("attempts", "sequence") else text

    return Failure(*(said(field) for field in Failure.__struct_fields__))


def _written(failure: Failure) -> list[tuple[str, str]]:
    values = msgspec.structs.asdict(failure) | {"reason": failure.reason[:_MAX_REASON]}
    return [
        (f"{_PREFIX}{field.capitalize()}", _line(str(value)[:_MAX_WRITTEN]).encode(errors="replace").decode())
        for field, value in values.items()
    ]


def _line(value: str) -> str:
    """Return `value` on one line: a foreign publisher's id may have had more, and a dead letter must be stored."""
    return value.replace("\r", " ").replace("\n", " ")


def _size(pairs: list[tuple[str, str]]) -> int:
    return sum(len(name.encode()) + len(value.encode()) + 4 for name, value in pairs)


def _fitting(pairs: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """Return those of `pairs` that fit into `room` bytes: one that is too long is left out, those after it need not be."""
    found: list[tuple[str, str]] = []
    for pair in pairs:
        if (size := _size([pair])) <= room:
            room -= size
            found.append(pair)
    return found


def _kept(block: bytes | None) -> list[tuple[str, str]]:
    """Return the headers that a dead letter keeps: not the server's, nor those of an earlier death, nor what no line holds."""
    return [
        (name, value)
        for name, value in header_block.parse(block).items()
        if not name.lower().startswith(("nats-", "dead-")) and "\r" not in name + value and "\n" not in name + value
    ]
