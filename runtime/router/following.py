"""Following: a copy in memory of what another actor keeps, which stays up to date by the events of its changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Any, Generic, TypeVar

from runtime.actor.message import Event
from runtime.client.bus import Bus
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.router")

E = TypeVar("E", bound=Event)

_PAUSE = 0.5
"""Seconds before a failed iteration or list is tried again."""


class Following(Generic[E]):
    """Applies the changes that an actor keeps and emits, in their order, from `start` to `stop`.

    Args:
        bus: The bus.
        event: The class of the event that reports a change. It has the newest state, and a version for each key.
        load: Lists all that the actor keeps now, and applies each of it. Called at the start, and after a gap.
        apply: Applies one change. A change that was applied before, or is older, has no effect.
    """

    def __init__(
        self, bus: Bus, event: type[E], load: Callable[[], Awaitable[None]], apply: Callable[[E], None]
    ) -> None:
        self._bus = bus
        self._event = event
        self._load = load
        self._apply = apply
        self._task: asyncio.Task[None] | None = None
        self._jetstream = JetStream(bus.connection)
        contract = event.__contract__
        self._stream = Names(contract.actor, bus.namespace).events_stream
        self._live = False
        """Whether changes arrive: there is a place in their stream."""
        self._doubts = 1
        """How often changes may have been missed."""
        self._confirmed = 0
        """The doubts of the time before the copy was last confirmed."""
        self._confirming: asyncio.Task[None] | None = None
        bus.connection.on_reconnect.append(self.doubt)

    @property
    def doubtful(self) -> bool:
        """Whether changes may be missing: none arrive, or the copy was not confirmed since the last doubt or reconnect."""
        return not self._live or self._confirmed != self._doubts

    def doubt(self) -> None:
        """Take note that changes may be missing."""
        self._doubts += 1

    async def start(self) -> None:
        """Return when the copy is complete, and follow the changes from then on."""
        loaded = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._follow(loaded), name=f"actorloom {self._event.__name__}")
        await loaded

    async def stop(self) -> None:
        """Follow no more."""
        self._bus.connection.on_reconnect.remove(self.doubt)
        tasks = [task for task in (self._task, self._confirming) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def confirm(self) -> None:
        """Return when the copy has all changes of the time before. Callers at the same time share a list, and get its errors."""
        if self._confirming is None or self._confirming.done():
            # In a context of its own: it is no part of the message whose handler comes first.
            self._confirming = asyncio.create_task(self._confirm(), context=Context())
        await asyncio.shield(self._confirming)

    async def _confirm(self) -> None:
        while True:
            number = self._doubts
            await self._load()
            self._confirmed = number
            if number == self._doubts:
                return

    async def _follow(self, loaded: asyncio.Future[None]) -> None:
        while True:
            try:
                async with self._bus.events(self._event) as changes:
                    self._live = True
                    self.doubt()
                    await self.confirm()
                    if not loaded.done():
                        loaded.set_result(None)
                    async for change in changes:
                        self._apply(change)
            except (ActorError, TimeoutError) as error:
                level = logging.DEBUG if not loaded.done() else logging.WARNING
                logger.log(level, "the changes of %s cannot be followed now: %s", self._stream, error)
            self._live = False
            await asyncio.sleep(_PAUSE)


async def all_pages(query: Callable[[str | None], Awaitable[Any]]) -> list[Any]:
    """Return the items of all pages, given a function that returns the page after a token."""
    found: list[Any] = []
    token: str | None = None
    while True:
        page = await query(token)
        found += page.items
        token = page.next
        if token is None:
            return found
