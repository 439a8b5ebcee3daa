"""The stored form of replays. By it a replay goes on after an interrupt, and can be listed and cancelled.

A replay is an entry of the bucket ``replays``, under its name. The command that runs it stores its position again and again,
each time under the sequence of the entry before. So the command notices if the replay was cancelled meanwhile, or goes on in
another process. The entry of a replay that has ended expires after 30 days.
"""

from collections.abc import AsyncIterator
from typing import Any, Final, Literal, NamedTuple

import msgspec

from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import kv_config
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import Names

Mode = Literal["missing", "again"]
"""``missing``: the receiver gets each event under the id that it had before. ``again``: under an id of this replay."""
Status = Literal["running", "cancelling", "cancelled", "done"]

_KEPT: Final = 30 * 86_400
"""Seconds for which a replay that has ended is listed."""


class Part(msgspec.Struct, frozen=True, omit_defaults=True):
    """The events of one type that a replay sends."""

    event: str
    """The CloudEvents type: ``orders.OrderPaid``; empty for events of any type."""
    reaction: str = ""
    """The name of the reaction that gets them; empty if targets of rules do."""
    method: str = ""
    """The name of its method, with which the ids end that the actor remembers."""
    filter: str = ">"
    """The subjects under which the stream has them."""
    where: dict[str, Any] | None = None
    """The content pattern of the reaction."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stretch of one stream that a replay sends."""

    stream: str
    first: int
    """The sequence at which it begins."""
    last: int
    """The sequence at which it ends."""
    done: int
    """The sequence up to which all events are sent."""
    parts: tuple[Part, ...]
    window: tuple[float, float] | None = None
    """Of an archive only: Unix seconds from which on, and before which, the events were emitted. A stream stores an event when it
    is emitted, so that the sequences are enough."""
    by_headers: bool = False
    """Of an archive that rules fill: the subject of a message does not name its event, and the headers do."""


class ReplayedTarget(msgspec.Struct, frozen=True, omit_defaults=True):
    """A target that gets the events of a rule."""

    target: str
    """The name of the target."""
    actor: str
    """The name of the actor that delivers to it."""
    input: Any = None
    """The input that the rule has for it."""


class ReplayedRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rule whose targets get events, as it was when the replay was created."""

    name: str
    version: int
    targets: tuple[ReplayedTarget, ...]
    sources: tuple[str, ...] = ()
    types: tuple[str, ...] = ()
    where: dict[str, Any] | None = None


class Replay(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One replay."""

    name: str
    actor: str = ""
    """The name of the actor whose reaction gets the events; empty if targets of rules get them."""
    reaction: str = ""
    """The name of the reaction, or of a method with several."""
    rules: tuple[ReplayedRule, ...] = ()
    """The rules whose targets get the events."""
    mode: Mode
    since: float
    """Unix seconds. Earlier events are left out."""
    until: float
    """Unix seconds. Events of this time and later ones are left out."""
    key: str | None = None
    """The key of the events; None for those of all keys."""
    rate: float
    """Events a second at most."""
    archive: str | None = None
    """The archive from which the events are read; None for the streams of the actors."""
    started: float
    """Unix seconds at which it was created."""
    total: int
    """The events that there were to send then."""
    sent: int = 0
    """The events that are sent, as far as that is stored. An event that is sent twice, because of a kill, counts once."""
    taken_back: int = 0
    """The events that a cancel has deleted before a process had handled them."""
    status: Status = "running"
    runner: str = ""
    """The command that runs it: a random id."""
    sources: tuple[Source, ...]

    @property
    def targets(self) -> list[str]:
        """The names of the targets that get the events, each once."""
        return list(dict.fromkeys(each.target for rule in self.rules for each in rule.targets))

    @property
    def actors(self) -> list[str]:
        """The names of the actors that get the events, each once."""
        return [self.actor] if self.actor else list(dict.fromkeys(e.actor for rule in self.rules for e in rule.targets))

    @property
    def receiver(self) -> str:
        """The reaction, or the rules and their targets, for people: ``billing.on_paid``, or ``book > ledger, crm``."""
        if self.actor:
            return f"{self.actor}.{self.reaction}"
        return f"{', '.join(rule.name for rule in self.rules)} > {', '.join(self.targets)}"


class Entry(NamedTuple):
    """A stored replay."""

    replay: Replay
    sequence: int
    """The sequence of the entry, under which the next one is stored."""
    time: float
    """Unix seconds at which it was stored."""


class Replays:
    """The replays of one namespace. All methods raise the errors of `JetStream`.

    Args:
        jetstream: The client.
        namespace: The namespace.
    """

    def __init__(self, jetstream: JetStream, namespace: str) -> None:
        self._jetstream = jetstream
        self._bucket = Names("", namespace).replay_bucket

    async def create(self, replay: Replay, replicas: int) -> Entry:
        """Store a new replay, and create the bucket if it is missing.

        Raises:
            WrongSequence: A replay of this name exists.
        """
        description = "Actorloom: replays, with their windows and how far they are"
        await self._jetstream.ensure_stream(kv_config(self._bucket, description, replicas))
        return await self.store(replay, 0)

    async def store(self, replay: Replay, sequence: int) -> Entry:
        """Store a replay in the place of the entry with `sequence`.

        Raises:
            WrongSequence: Another command has stored it meanwhile.
        """
        lines = [header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % sequence)]
        if replay.status in ("cancelled", "done"):
            lines.append(header_block.ttl(_KEPT))
        body, headers = msgspec.json.encode(replay), header_block.join(*lines)
        new = sequence == 0
        ack = await self._jetstream.publish(self._subject(replay.name), body, headers=headers, new_stream=new)
        return Entry(replay, ack.sequence, self._jetstream.connection.clock.now())

    async def find(self, name: str) -> Entry | None:
        """Return the replay of a name; None if there is none.

        Raises:
            CodecError: Its entry cannot be read.
        """
        stored = await self._jetstream.find_last(f"KV_{self._bucket}", self._subject(name))
        return _entry(stored) if stored is not None and stored.payload else None

    async def read(self) -> AsyncIterator[Entry | CodecError]:
        """Iterate over all replays, the one that was stored last at the end. In place of an unreadable entry comes the error."""
        if await self._jetstream.find_stream(f"KV_{self._bucket}") is None:
            return
        async for stored in self._jetstream.read(f"KV_{self._bucket}", f"$KV.{self._bucket}.>"):
            if not stored.payload:
                continue  # the marker of an entry that somebody has deleted
            try:
                yield _entry(stored)
            except CodecError as error:
                yield error

    def _subject(self, name: str) -> str:
        return f"$KV.{self._bucket}.{name}"


def _entry(stored: StoredMessage) -> Entry:
    """Return the entry of a message. Raises `CodecError`."""
    try:
        replay = msgspec.json.decode(stored.payload, type=Replay)
    except UNDECODABLE as error:
        raise CodecError(f"{stored.subject}: the replay is unreadable: {error}") from None
    return Entry(replay, stored.sequence, stored.time)
