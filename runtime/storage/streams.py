"""The streams of an actor: which it has, how they are set, and whether they still stand as this process found them.

State that somebody deleted is never made anew, empty, under a running actor, nor under one that comes back: that is
`StateLost`. What can be put back without giving up anything (a setting, a stream of events) is put back, and said.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from runtime.errors import ConfigurationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, StreamConfig, widen_stream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.nats.jetstream.responses import StreamInfo
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

DAY = 86_400.0
EVENTS_MAX_AGE = 30 * DAY
"""Seconds for which events are kept."""
TIMERS = "timers"
"""The consumer of timers that fired, on the stream of records."""
REDRIVE = "redrive"
"""The consumer of dead letters that are sent again, on the stream of dead letters."""
DUPLICATE_WINDOW = 120.0
"""Seconds for which the server itself drops a message of a known id; later repetitions are the receivers' to notice."""
RECORDS_KEPT = 1
"""Records kept of each key, and timers of each name: only the newest. One before it would come back to life when the newest
expires (the state of a key that was deleted), or when the server restarts (a schedule that was replaced)."""


_DOUBTS = (0.2, 0.5, 1.0)
"""Seconds between looks at what is said to be gone: a server that has just become leader may not know all yet."""

T = TypeVar("T")


class StreamChanged(ConfigurationError):
    """A stream or consumer was deleted or changed while an actor worked on it; it is put back as the actor begins anew."""


class StateLost(ConfigurationError):
    """The stream with the state of an actor was deleted, or replaced by another: people decide what to do."""


def turns_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the stream of the records, without a limit.

    To make room it would drop states: with schedules, the server does not let it refuse instead. The account's limit does.
    """
    own = f"{names.prefix}{names.actor}"
    return StreamConfig(
        name=names.turns_stream,
        subjects=tuple(f"{own}.{kind}.>" for kind in ("turn", "dedup", "relay", "positions", "timer", "schedule")),
        max_age=0,
        max_bytes=-1,
        max_msgs=-1,
        max_msgs_per_subject=RECORDS_KEPT,
        duplicate_window=int(DUPLICATE_WINDOW * SECOND),
        allow_msg_ttl=True,
        allow_msg_schedules=True,
        replicas=replicas,
    )


def events_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the stream of the events. Where somebody bounds it and it is full, it refuses, and the events wait in the records."""
    return StreamConfig(
        name=names.events_stream,
        subjects=(f"{names.prefix}{names.actor}.event.>",),
        max_age=int(EVENTS_MAX_AGE * SECOND),
        discard="new",
        duplicate_window=int(DUPLICATE_WINDOW * SECOND),
        replicas=replicas,
    )


def dead_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the stream of the dead letters, and of those on their way back."""
    own = f"{names.prefix}{names.actor}"
    return StreamConfig(
        name=names.dead_stream, subjects=(f"{own}.dead.>", f"{own}.redrive.>"), discard="new", replicas=replicas
    )


class Streams:
    """The streams that one host works on: its own three, and the events of the actors that it reacts to (`sources`)."""

    def __init__(self, jetstream: JetStream, names: Names, sources: Iterable[Names], replicas: int = 1) -> None:
        self._jetstream = jetstream
        self._turns, self._dead = turns_config(names, replicas), dead_config(names, replicas)
        # The order matters: dead letters have a stream only where the records had one before.
        self._configs = [self._turns, self._dead, *(events_config(source, replicas) for source in sources)]
        self._created: dict[str, str] = {}

    async def ensure(self) -> None:
        """Create what is missing, and widen what is too narrow. Called whenever the host begins.

        Raises `StateLost`, `StreamConflict` where a stream stands that cannot be widened, `ApiError` and `TimeoutError`.
        """
        await self._refuse_lost_state()
        for config in self._configs:
            await self._jetstream.ensure_stream(config)
            # Asked for: who creates at the same time as another may be told the time of the asking.
            info = await self._jetstream.stream_info(config.name)
            known = self._created.get(config.name, info.created)
            if known != info.created:
                logger.error("stream %s was deleted, and is made anew: what it held is gone", config.name)
            self._created[config.name] = info.created

    async def check(self) -> None:
        """Look whether all stands as it was found, and raise `StreamChanged` where it does not; `ensure` then decides."""
        for config in self._configs:
            info = await self._info(config.name)
            if info is None or info.created != self._created[config.name]:
                raise StreamChanged(f"stream {config.name} was deleted")
            changes = widen_stream(config, info.config)
            if changes is not None:
                fields = {key: value for key, value in info.config.items() if changes[key] != value}
                raise StreamChanged(f"stream {config.name} was changed: it has {fields}")

    def created(self, stream: str) -> str:
        """Return when `stream` was created: one of the same name that somebody made later is another."""
        return self._created.get(stream, "")

    async def _refuse_lost_state(self) -> None:
        name = self._turns.name
        if name in self._created:
            info = await self._info(name)
            if info is None or info.created != self._created[name]:
                raise StateLost(
                    f"stream {name} was deleted while its actor ran: its state is gone. Nothing is made anew; restore it"
                )
        # The stream made later is asked for first: another process may be making both right now.
        elif await self._stands(self._dead.name) and await self._info(name) is None:
            raise StateLost(
                f"stream {name} is missing, but {self._dead.name} says that this actor has run here: its state was "
                f"deleted, or is not restored yet. Restore it; to begin with no state, delete {self._dead.name} too"
            )

    async def _info(self, stream: str) -> StreamInfo | None:
        return await unless_gone(lambda: self._jetstream.stream_info(stream))

    async def _stands(self, stream: str) -> bool:
        try:
            await self._jetstream.stream_info(stream)
        except ApiError as error:
            if error.err_code == ErrorCode.STREAM_NOT_FOUND:
                return False
            raise
        return True


async def unless_gone(ask: Callable[[], Awaitable[T]]) -> T | None:
    """Return what `ask` does, or None where it is said again and again that the stream or consumer is not there."""
    for pause in (*_DOUBTS, None):
        try:
            return await ask()
        except ApiError as error:
            if error.err_code not in (ErrorCode.STREAM_NOT_FOUND, ErrorCode.CONSUMER_NOT_FOUND):
                raise
        if pause is not None:
            await asyncio.sleep(pause)
    return None
