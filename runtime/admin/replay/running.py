"""The run of a replay: it sends the events, and stores how far it is."""

import asyncio
from collections.abc import Callable
from typing import Final

import msgspec

from runtime import clocks
from runtime.admin.replay.reading import read_events
from runtime.admin.replay.refusal import NotFound, Refused, taken
from runtime.admin.replay.sending import Way
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.storage.replays import Entry, Replay, Replays, Status
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names

_EVERY: Final = 1.0
"""Seconds after which the position is stored at the latest, also while nothing is sent."""
_SENT: Final = 500
"""Events after which the position is stored at the latest."""
_MOST_WAITING: Final = 1_000
"""Events that the receivers have not handled, at which no more are sent."""
_LOOK: Final = 0.1
"""Seconds between two looks at them."""
_SLEEP: Final = 0.005
"""Seconds: the shortest pause. Shorter ones are made up together."""


async def begin(jetstream: JetStream, names: Names, replay: Replay) -> Entry:
    """Store a new replay, for a `Runner`.

    Raises:
        Refused: There is a replay of this name.
        NotFound: The actor has no stream for the events to send.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    info = await jetstream.find_stream(names.dead_stream)
    if info is None:
        raise NotFound(f"there is no stream {names.dead_stream}: {names.actor} has never run here")
    started = msgspec.structs.replace(replay, runner=new_id())
    try:
        return await Replays(jetstream, names.namespace).create(started, info.config.get("num_replicas", 1))
    except WrongSequence:
        raise taken(replay.name) from None


async def take_over(jetstream: JetStream, namespace: str, name: str) -> Entry:
    """Return a replay that was interrupted, for a `Runner`. If another command runs it, that one ends.

    Raises:
        NotFound: There is no such replay.
        Refused: It is done or cancelled.
        CodecError: Its entry cannot be read.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    replays = Replays(jetstream, namespace)
    while (entry := await replays.find(name)) is not None:
        if entry.replay.status != "running":
            raise Refused(f"the replay {name} is {entry.replay.status}: it does not go on")
        try:
            return await replays.store(msgspec.structs.replace(entry.replay, runner=new_id()), entry.sequence)
        except WrongSequence:
            continue  # The command that runs it has stored its position just now.
    raise NotFound(f"there is no replay {name}")


class Runner:
    """Sends the events of one replay.

    Args:
        jetstream: The client.
        way: Sends an event, to a reaction or to targets.
        entry: The replay, from `begin` or `take_over`.
        report: Called with the replay and the events that its receivers have not handled, whenever the position is stored.
    """

    def __init__(
        self, jetstream: JetStream, way: Way, entry: Entry, report: Callable[[Replay, int], None] = lambda *_: None
    ) -> None:
        self._jetstream = jetstream
        self._way = way
        self._replays = Replays(jetstream, way.namespace)
        self._report = report
        self._replay = entry.replay
        self._sequence = entry.sequence
        self._sent = entry.replay.sent
        self._done = [source.done for source in entry.replay.sources]
        """The sequence of the last event that is sent, for each source."""
        self._waiting = 0
        """The messages on their way that were not handled at the last look."""
        self._stored_at = clocks.elapsed()
        self._due = clocks.elapsed()
        """The time by `clocks.elapsed` at which the next event may be sent."""

    async def run(self) -> Replay:
        """Send all events, and return the replay as it ended: ``done``, or ``cancelled``.

        If it is cancelled as a task, or fails, the replay may go on later.

        Raises:
            Refused: It goes on in another process.
            ActorError, TimeoutError: The server does not answer, or refuses it.
        """
        try:
            await self._store()
            async for found in read_events(self._jetstream, self._replay.sources):
                send = self._way.sending(self._replay, found)
                if send is not None:
                    await self._wait()
                elif clocks.elapsed() - self._stored_at >= _EVERY:
                    await self._store()
                if self._replay.status != "running":
                    return self._replay
                if send is not None:
                    await send()
                    self._sent += 1
                self._done[found.source] = found.stored.sequence
            await self._store("done")
        except asyncio.CancelledError:
            if self._replay.status == "running":
                await self._store()
            raise
        return self._replay

    async def _wait(self) -> None:
        """Return when the next event may be sent, or the replay does not run any more."""
        now = clocks.elapsed()
        self._due = max(self._due, now - _SLEEP)
        pause = self._due - now
        self._due += 1 / self._replay.rate
        if pause > _SLEEP:
            await self._pause(pause)
        if self._replay.status != "running":
            return
        if self._sent - self._replay.sent >= _SENT or clocks.elapsed() - self._stored_at >= _EVERY:
            await self._store()
        # The pause may have stored the position, and looked, as well.
        while self._waiting >= _MOST_WAITING and self._replay.status == "running":
            await self._pause(_LOOK)
            self._waiting = await self._way.count_waiting()

    async def _pause(self, seconds: float) -> None:
        """Wait, and store the position in time: another command sees by it that this one lives."""
        until = clocks.elapsed() + seconds
        while (left := until - clocks.elapsed()) > 0 and self._replay.status == "running":
            await asyncio.sleep(min(left, _EVERY))
            if clocks.elapsed() - self._stored_at >= _EVERY:
                await self._store()

    async def _store(self, status: Status = "running") -> None:
        """Store the position. If the replay was cancelled meanwhile, its status is ``cancelled`` after that."""
        sources = self._replay.sources
        done = tuple(msgspec.structs.replace(each, done=at) for each, at in zip(sources, self._done, strict=True))
        replay = msgspec.structs.replace(self._replay, sources=done, sent=self._sent, status=status)
        while True:
            try:
                self._replay, self._sequence, _ = await self._replays.store(replay, self._sequence)
                break
            except WrongSequence:
                replay = await self._superseded(replay)
        self._stored_at = clocks.elapsed()
        self._waiting = await self._way.count_waiting()
        self._report(self._replay, self._waiting)

    async def _superseded(self, replay: Replay) -> Replay:
        """Return the replay to store in the place of `replay`, since somebody has stored another entry."""
        entry = await self._replays.find(replay.name)
        if entry is None or entry.replay.runner != replay.runner:
            raise Refused(f"the replay {replay.name} goes on in another process, or was deleted")
        self._sequence = entry.sequence
        if entry.replay.status == "running":
            return replay  # This command has stored it, and was interrupted before the answer came.
        if entry.replay.status == "done":
            return entry.replay  # As above.
        return msgspec.structs.replace(replay, status="cancelled", taken_back=entry.replay.taken_back)
