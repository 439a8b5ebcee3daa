"""The time of a test: moved on by the kit, which fires the timers that are due by then.

nats-server keeps the time of timers, and its clock cannot be moved. So the kit moves the time that handlers see
(`ServerClock.ahead`), and fires the timers itself, as the scheduler of the server would.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import NamedTuple

from runtime.actor.message import Message, contract_of, encode_message
from runtime.actor.schedules import next_time
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.firing import ONCE, fire
from runtime.wire import header_block
from runtime.wire.server_clock import ServerClock
from runtime.wire.subjects import Names

_LATE = 0.02
"""Seconds by which a timer fires late, as those of the server do: never before its time."""
_TICK = 0.05
"""Seconds between two looks for timers that are due, once the time has been moved."""
_POLL = 0.005
"""Seconds between two looks whether a command is handled."""


class Waiting(NamedTuple):
    """A timer or schedule that waits."""

    due: float
    """Its next time, in Unix seconds of the time that handlers see."""
    names: Names
    stored: StoredMessage
    once: bool


class DueTimers:
    """Moves the time of a system.

    Args:
        jetstream: A client that is not that of the actors.
        clock: The clock that the actors share.
        names: Returns the names of each partition of each actor.
        settle: Waits until the outboxes of the actors are published.
        is_served: Returns whether the actor of some names runs.
    """

    def __init__(
        self,
        jetstream: JetStream,
        clock: ServerClock,
        names: Callable[[], Iterable[Names]],
        settle: Callable[[], Awaitable[None]],
        is_served: Callable[[Names], bool],
    ) -> None:
        self._jetstream = jetstream
        self._clock = clock
        self._names = names
        self._settle = settle
        self._is_served = is_served
        self._next: dict[tuple[str, int], float] = {}
        """The next time of each schedule, by its subject and its sequence."""
        self._lock = asyncio.Lock()
        self._following: asyncio.Task[None] | None = None

    @property
    def now(self) -> float:
        """The time that handlers see."""
        return self._clock.now() + self._clock.ahead

    async def skip(self, seconds: float, timeout: float) -> int:
        """Move the time on, and return the number of timers that have fired. See `System.skip`."""
        async with self._lock:
            await self._settle()
            end, fired = self.now + seconds, 0
            while due := [each for each in await self._waiting() if each.due <= end]:
                first = min(due, key=lambda each: (each.due, each.stored.sequence))
                self._move(first.due + _LATE)
                fired += await self._fire(first, timeout, on_time=True)
                await self._settle()
            self._move(end)
        if self._following is None:
            self._following = asyncio.get_running_loop().create_task(self._follow())
        return fired

    async def fire(self, message: Message, timeout: float) -> None:
        """Fire the timer or schedule that sends `message`. See `System.fire`."""
        actor, wanted = contract_of(message).actor, (type(message).__name__, encode_message(message))
        async with self._lock:
            await self._settle()
            for each in await self._waiting():
                command = header_block.get(each.stored.headers, header_block.TIMER_COMMAND)
                is_wanted = each.names.actor == actor and (command, each.stored.payload) == wanted
                if is_wanted and await self._fire(each, timeout, on_time=False):
                    return
        raise LookupError(f"no timer and no schedule waits that sends {message!r}")

    async def stop(self) -> None:
        """Fire nothing more."""
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    def _move(self, time: float) -> None:
        """Move the time on to `time`, unless it is later already."""
        self._clock.ahead += max(time - self.now, 0.0)

    async def _follow(self) -> None:
        """Fire the timers that become due: for nats-server, they have times that are ahead."""
        while True:
            await asyncio.sleep(_TICK)
            async with self._lock:
                try:
                    for each in await self._waiting():
                        if each.once and each.due <= self.now:
                            await fire(self._jetstream, each.stored, on_time=True)
                except (ActorError, TimeoutError):
                    continue  # A test may stop the server.

    async def _waiting(self) -> list[Waiting]:
        """Return the timers and schedules that have a next time."""
        found: list[Waiting] = []
        for names in self._names():
            async for stored in self._jetstream.read(names.turns_stream, names.schedule("*", "*")):
                pattern = header_block.get(stored.headers, b"Nats-Schedule") or ""
                once = pattern.startswith(ONCE)
                due = datetime.fromisoformat(pattern.removeprefix(ONCE)).timestamp() if once else self._due(stored)
                if due is not None:
                    found.append(Waiting(due, names, stored, once))
        return found

    def _due(self, stored: StoredMessage) -> float | None:
        """Return the next time of a schedule. That of an interval counts from the time at which it was stored."""
        known = (stored.subject, stored.sequence)
        due = self._next.get(known)
        if due is None:
            due = self._following_time(stored, stored.time + self._clock.ahead)
            while due is not None and due <= self.now:
                due = self._following_time(stored, due)
            if due is not None:
                self._next[known] = due
        return due

    def _following_time(self, stored: StoredMessage, after: float) -> float | None:
        pattern = header_block.get(stored.headers, b"Nats-Schedule") or ""
        return next_time(pattern, header_block.get(stored.headers, b"Nats-Schedule-Time-Zone") or "", after)

    async def _fire(self, waiting: Waiting, timeout: float, *, on_time: bool) -> bool:
        """Fire a timer, and wait until its command is handled if its actor runs. Return False if it waits no more."""
        stored, stream = waiting.stored, waiting.names.turns_stream
        if on_time and not waiting.once:
            after = self._following_time(stored, waiting.due)
            if after is not None:
                self._next[(stored.subject, stored.sequence)] = after
        ack = await fire(self._jetstream, stored, on_time=on_time)
        if ack is None:
            return False
        try:
            async with asyncio.timeout(timeout):
                while self._is_served(waiting.names) and await self._jetstream.get(stream, ack.sequence) is not None:
                    await asyncio.sleep(_POLL)
        except TimeoutError:
            raise TimeoutError(f"{stored.subject}: its command was not handled within {timeout:g} s") from None
        return True
