"""The way of a replayed event to its receivers: that to a reaction stands here."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from runtime.admin.replay.reading import Found, id_of
from runtime.nats.jetstream.client import JetStream
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.replays import Replay
from runtime.wire.ids import derived_id
from runtime.wire.subjects import REDRIVE, Names


class Way(Protocol):
    """Sends the events of one replay to their receivers."""

    namespace: str
    """The namespace of the replay."""

    def sending(self, replay: Replay, found: Found) -> Callable[[], Awaitable[None]] | None:
        """Return a function that sends an event, and returns when it is stored; None for an event that nobody is to get."""
        ...

    async def count_waiting(self) -> int:
        """Return the messages on their way to the receivers that are not handled."""
        ...


class ToReaction:
    """Sends events to one reaction of one actor.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
    """

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self.namespace = names.namespace
        self._jetstream = jetstream
        self._names = names
        self._letters = DeadLetters(jetstream, names)

    def sending(self, replay: Replay, found: Found) -> Callable[[], Awaitable[None]]:
        """Return a function that sends an event."""
        return lambda: self._send(replay, found)

    async def count_waiting(self) -> int:
        """Return the messages on the way to reactions of the actor that are not handled."""
        consumers = await self._jetstream.consumers(self._names.dead_stream)
        own = [each for each in consumers if each.name.partition("@")[0] == REDRIVE]
        return sum(each.num_pending + each.num_ack_pending for each in own)

    async def _send(self, replay: Replay, found: Found) -> None:
        part, stored = found.part, found.stored
        source = replay.sources[found.source]
        event_id = id_of(source, stored)
        if replay.mode == "again":
            # No handler uses the ordinal 0. The id has the time of the event, so that it is looked up among those of its time.
            event_id = derived_id(event_id, 0, replay.actor, f"replay:{replay.name}", "")
        await self._letters.replay(source.stream, stored, replay.name, part.reaction, f"{event_id}.{part.method}")
