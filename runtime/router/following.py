"""Following: a copy in memory of what another actor keeps, which stays up to date by the events of its changes."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
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
        self._confirmed = -1
        """The number of the connection for which the copy was last confirmed."""
        self._connects = 0
        bus.connection.on_reconnect.append(self._reconnected)

    @property
    def doubtful(self) -> bool:
        """Whether changes may be missing: the copy was not confirmed since the connection to the server was made."""
        return self._confirmed != self._connects

    async def start(self) -> None:
        """Return when the copy is complete, and follow the changes from then on."""
        loaded = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._follow(loaded), name=f"actorloom {self._event.__name__}")
        await loaded

    async def stop(self) -> None:
        """Follow no more."""
        self._bus.connection.on_reconnect.remove(self._reconnected)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def confirm(self) -> None:
        """Return when the copy has all changes that are emitted by now. Raises the errors of a list."""
        number = self._connects
        await self._load()
        if number == self._connects:
            self._confirmed = number

    def _reconnected(self) -> None:
        self._connects += 1

    async def _follow(self, loaded: asyncio.Future[None]) -> None:
        while True:
            try:
                async with self._bus.events(self._event) as changes:
                    await self.confirm()
                    if not loaded.done():
                        loaded.set_result(None)
                    async for change in changes:
                        self._apply(change)
            except (ActorError, TimeoutError) as error:
                level = logging.DEBUG if not loaded.done() else logging.WARNING
                logger.log(level, "the changes of %s cannot be followed now: %s", self._stream, error)
            self._confirmed = -1
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
