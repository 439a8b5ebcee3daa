"""The sources of an actor: the events streams of the actors that it reacts to. They are found, and never created here.

Each actor creates its own streams. A stream that its actor has not created yet, or that lies in another namespace or
account, is missing from here. The actor serves without it: the reactions to it wait, `waiting` names them, and the search
goes on until the stream is there. Reactions to `AnyEvent` find the streams of all actors, also those that are created later.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from runtime.actor.handler import Handler
from runtime.backoff import Backoff
from runtime.errors import ActorError, ConfigurationError
from runtime.nats.jetstream.responses import StreamInfo
from runtime.storage.streams import OldStream
from runtime.turns.served import Served
from runtime.wire.subjects import Names, valid_name

logger = logging.getLogger("actorloom.intake")

_BACKOFF = Backoff(first=0.2, longest=2.0)
"""The pauses between two looks for the missing streams."""


Begin = Callable[[StreamInfo, str, list[Handler], float | None], Awaitable[None]]
"""Starts the reactions to the stream of an actor, which have waited for it since a Unix time (None: they have not)."""


class Sources:
    """Starts the reactions of one ownership to each stream, as soon as there is the stream.

    Args:
        served: The actor, its names and clients.
        begin: Starts the reactions to a stream. It is called again if it raises.
    """

    def __init__(self, served: Served, begin: Begin) -> None:
        self.waiting: dict[str, str] = {}
        """For each stream whose reactions wait, the names of the reactions and the reason."""
        self._served = served
        self._begin = begin
        self._waiting_since: dict[str, float] = {}
        """The Unix time at which the reactions to a stream began to wait."""
        self._handlers: dict[str, list[Handler]] = {}
        """The reactions by stream."""
        self._actors: dict[str, str] = {}
        """The name of the actor that creates each stream."""
        self._all: list[Handler] = []
        """The reactions to the events of all actors."""
        self._unlisted = False
        """Whether the last search for further streams failed."""
        for handler in served.actor.handlers.all_reactions():
            if handler.takes_all and handler.sources is None:
                self._all.append(handler)
            for source in (handler.sources or ()) if handler.takes_all else (handler.contract.actor,):
                self._add(source, [handler])
        self._search: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the reactions to the streams that exist, and begin to look for the others.

        Raises:
            ConfigurationError: A consumer cannot be used.
        """
        await self._find_others()
        for stream in tuple(self._handlers):
            await self._try(stream)
        if self.waiting or self._all:
            self._search = asyncio.get_running_loop().create_task(self._look(), name="actorloom sources")
            self._search.add_done_callback(self._ended)

    async def stop(self) -> None:
        """Stop looking. Reactions that have started go on."""
        search, self._search = self._search, None
        if search is not None:
            search.cancel()
            await asyncio.wait({search})

    async def _look(self) -> None:
        attempt = 0
        while self.waiting or self._all:
            attempt += 1
            await asyncio.sleep(_BACKOFF.delay(attempt) if self.waiting else _BACKOFF.longest)
            for stream in (*self.waiting, *await self._find_others()):
                await self._try(stream)

    async def _find_others(self) -> list[str]:
        """Add the reactions to the events of all actors to the streams that exist. Return the streams that are new."""
        if not self._all:
            return []
        own, found = self._served.names, list[str]()
        try:
            names = await self._served.jetstream.stream_names(Names("*", own.namespace).event("*", ">"))
            self._unlisted = False
        except (ActorError, TimeoutError) as error:
            level = logging.DEBUG if self._unlisted else logging.WARNING
            logger.log(level, "%s: the streams of events cannot be listed: %s", self._served.name, error)
            self._unlisted = True
            return []
        for stream in names:
            actor = stream.removeprefix(own.stream_prefix).removesuffix("-events")
            if not valid_name(actor) or Names(actor, own.namespace).events_stream != stream or actor == own.actor:
                continue
            missing = [handler for handler in self._all if handler not in self._handlers.get(stream, ())]
            if missing:
                self._add(actor, missing)
                found.append(stream)
        return found

    def _add(self, source: str, handlers: list[Handler]) -> None:
        stream = Names(source, self._served.namespace).events_stream
        self._handlers.setdefault(stream, []).extend(handlers)
        self._actors[stream] = source

    async def _try(self, stream: str) -> None:
        """Start the reactions to a stream, or note why they wait."""
        try:
            found = await self._served.streams.find(self._actors[stream])
            if found is not None:
                await self._begin(found, self._actors[stream], self._handlers[stream], self._waiting_since.get(stream))
                if self.waiting.pop(stream, None) is not None:
                    logger.info("%s: %s: %s is there", self._served.name, self._names(stream), stream)
                return
            reason = f"there is no stream {stream}, which {self._actors[stream]} creates when it starts"
        except OldStream as error:
            reason = str(error)
        except ConfigurationError:
            raise
        except (ActorError, TimeoutError) as error:
            reason = f"{stream} cannot be used: {error}"
        text = f"{self._names(stream)} {'waits' if len(self._handlers[stream]) == 1 else 'wait'}: {reason}"
        if self.waiting.get(stream) != text:
            logger.warning("%s: %s", self._served.name, text)
        self.waiting[stream] = text
        self._waiting_since.setdefault(stream, self._served.connection.clock.now())

    def _names(self, stream: str) -> str:
        return ", ".join(handler.name for handler in self._handlers[stream])

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._served.crashed(error)
