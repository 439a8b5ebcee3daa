"""The tap: an iterator over the events of many actors and types as they are stored, which loses none without a report.

Each stream of events has a consumer of its own, as `Bus.events` has it: the messages come by their sequences, and a slow reader
makes the tap pull less, not the server drop more. A subscription without storage would lose events to a slow reader. The tap
looks for further streams once a second, and reads those that appear from their beginning.
"""

import asyncio
import itertools
import logging
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple, Self

from runtime.actor.call import in_handler
from runtime.actor.patterns import Predicate, compile_pattern
from runtime.actor.since import NEW, read_since
from runtime.client.event_subjects import ALL, EventSubject, filters_of, read_event_subject, subject_of
from runtime.client.place import Place, follow
from runtime.client.tapped import TappedEvent, read_tapped
from runtime.client.time_order import TimeOrder
from runtime.errors import ActorError, ConfigurationError, DeclarationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import is_passing
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire.subjects import Names, valid_name

logger = logging.getLogger("actorloom.client")

_AHEAD: Final = 64
"""Events that are read and not taken yet, besides those that each stream has pulled ahead."""
_LOOK: Final = 1.0
"""Seconds between two looks for further streams."""
_COMPARE: Final = 5
"""Looks between two comparisons with the beginnings of the streams."""

_TRACE = re.compile(r"[0-9a-f]{32}").fullmatch
_LABEL: Final = "Bus.tap"


class Wanted(NamedTuple):
    """The events that a tap shows."""

    subjects: tuple[EventSubject, ...] = (ALL,)
    matches: Predicate | None = None
    """Of the body; None for all bodies."""
    trace: str = ""
    """The id of their trace; empty for all."""

    def has(self, event: TappedEvent) -> bool:
        """Return whether an event is to be shown. One that cannot be read matches no pattern."""
        subject = subject_of(event.subject)
        return (
            self.trace in ("", event.trace)
            and any(each.covers(subject) for each in self.subjects)
            and (self.matches is None or (not event.fault and self.matches(event.body)))
        )


class Tap:
    """The events of the chosen subjects. `Bus.tap` returns it.

    It begins with the first call of `anext`, or as an asynchronous context manager with its block. The events of one stream come
    in their order, each once. Those of several streams come in the order of their times as far as they are stored at the start, and
    as they arrive after that. `aclose`, the end of the block, or the end of the object deletes the consumers. A cancelled `anext`
    loses nothing: the next one goes on.

    Args:
        jetstream: The client.
        namespace: The namespace of the actors.
        wanted: The events.
        since: The start, as `read_since` returns it; or the sequence in each stream after which it begins, which is 0 for a
            stream that is not named.
        report: Called with a line about events that may be missing, come again, or wait. The default logs a warning.
    """

    def __init__(
        self,
        jetstream: JetStream,
        namespace: str,
        wanted: Wanted,
        since: str | Mapping[str, int],
        report: Callable[[str], object] = logger.warning,
    ) -> None:
        self._wanted = wanted
        self._streams = _Streams(jetstream, namespace, wanted.subjects, since, report)
        self._starting = asyncio.Lock()
        self._started = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TappedEvent:
        """Wait for the next event and return it.

        Raises:
            ActorError, TimeoutError: The server refuses to serve the events of a stream, or did not answer at the start.
            StopAsyncIteration: `aclose` was called.
        """
        await self._start()
        while (taken := await self._streams.take()) is not None:
            names, stored = taken
            event = read_tapped(stored, names)
            if self._wanted.has(event):
                return event
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        """Find the places of the first events. Raises the errors of the first `anext`."""
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the iteration and delete the consumers. A task that waits for an event gets the end. Further calls do nothing."""
        await self._streams.close()

    def __del__(self) -> None:
        self._streams.cancel()

    async def _start(self) -> None:
        async with self._starting:
            if not self._started:
                await self._streams.start()
                self._started = True


class _Streams:
    """The followers of the streams. It does not refer to its tap, so that the end of that object ends the followers."""

    def __init__(
        self,
        jetstream: JetStream,
        namespace: str,
        subjects: Sequence[EventSubject],
        since: str | Mapping[str, int],
        report: Callable[[str], object],
    ) -> None:
        self._jetstream = jetstream
        self._namespace = namespace
        self._subjects = subjects
        self._since = since
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[tuple[Names, StoredMessage] | Exception | None] = asyncio.Queue(_AHEAD)
        """Events, errors, and at the end None."""
        self._places: dict[str, Place] = {}
        """The place in each stream, by its name."""
        self._order = TimeOrder(self._is_caught_up)
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self) -> None:
        """Find the streams, take a place in each, and begin to read. Raises the errors of JetStream."""
        found = await self._find(self._since)
        if not self._closed:
            if self._since != NEW:
                for place in found:
                    self._order.add(place.stream)
                self._spawn(self._order.run())
            self._begin(found)
            self._spawn(self._look())

    async def take(self) -> tuple[Names, StoredMessage] | None:
        """Wait for the next event; None after `close`. Raises the errors of the followers."""
        if self._closed:
            return None
        event = await self._events.get()
        if event is None:
            self._events.put_nowait(None)  # for the next task that waits
        if isinstance(event, Exception):
            raise event
        return event

    async def close(self) -> None:
        """End the followers and delete their consumers."""
        self._closed = True
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while not self._events.empty():
            self._events.get_nowait()
        self._events.put_nowait(None)

    def cancel(self) -> None:
        """End the followers soon."""
        if not self._loop.is_closed():
            for task in self._tasks:
                task.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _begin(self, places: Iterable[Place]) -> None:
        for place in places:
            self._places[place.stream] = place
            self._spawn(self._follow(place))

    async def _find(self, since: str | Mapping[str, int]) -> list[Place]:
        """Return a place in each stream that has none yet."""
        found: list[Place] = []
        for actor in await self._actors():
            names = Names(actor, self._namespace)
            stream, filters = names.events_stream, filters_of(self._subjects, names)
            if filters and stream not in self._places:
                start = since if isinstance(since, str) else since.get(stream, 0)
                place = Place(self._jetstream, names, filters, start, self._report)
                try:
                    if await place.find():
                        found.append(place)
                except ConfigurationError as error:  # a stream of an earlier version
                    self._report(str(error))
                    self._places[stream] = place
        return found

    async def _actors(self) -> list[str]:
        """Return the actors whose events are chosen, and which may have a stream."""
        chosen = {each.actor for each in self._subjects}
        return sorted(chosen) if "*" not in chosen else await event_sources(self._jetstream, self._namespace)

    async def _follow(self, place: Place) -> None:
        try:
            async with aclosing(follow(place)) as messages:
                async for stored in messages:
                    await self._order.wait(place.stream, stored.time)
                    await self._events.put((place.names, stored))
                    self._order.done(place.stream)
        except ConfigurationError as error:  # The stream was deleted. If it is created again, the look finds it.
            self._report(str(error))
            self._places.pop(place.stream, None)
        except Exception as error:  # noqa: BLE001 - the reader of the tap gets it
            await self._events.put(error)
        finally:
            self._order.end(place.stream)

    def _is_caught_up(self, stream: str) -> bool:
        place = self._places.get(stream)
        return place is None or (place.following is not None and place.following.is_caught_up)

    async def _look(self) -> None:
        """Find streams that appear, and compare the places with the streams, again and again."""
        failing = False
        for count in itertools.count(1):
            await asyncio.sleep(_LOOK)
            try:
                # A stream that appears is read from its beginning: all of its events are new.
                self._begin(await self._find({} if self._since == NEW else self._since))
                if count % _COMPARE == 0:
                    await self._compare()
                failing = False
            except (ActorError, TimeoutError) as error:
                if self._jetstream.connection.is_closed or not is_passing(error):
                    await self._events.put(error)
                    return
                if not failing:
                    self._report(f"the tap cannot look for further streams: {error}; trying again")
                failing = True

    async def _compare(self) -> None:
        for place in list(self._places.values()):
            info = await self._jetstream.find_stream(place.stream)
            if info is not None and info.created == place.created:
                place.compare(info)


async def event_sources(jetstream: JetStream, namespace: str) -> list[str]:
    """Return the names of the actors in a namespace that have a stream of events. Raises the errors of JetStream."""
    prefix = Names("", namespace)
    streams = await jetstream.stream_names(f"{prefix.prefix}*.event.>")
    actors = [stream.removeprefix(prefix.stream_prefix).removesuffix("-events") for stream in streams]
    return [
        actor
        for actor, stream in zip(actors, streams, strict=True)
        if valid_name(actor) and Names(actor, namespace).events_stream == stream
    ]


async def ends_of(jetstream: JetStream, namespace: str) -> dict[str, int]:
    """Return the last sequence of each stream of events in a namespace. Raises the errors of JetStream."""
    ends: dict[str, int] = {}
    for actor in await event_sources(jetstream, namespace):
        info = await jetstream.find_stream(stream := Names(actor, namespace).events_stream)
        if info is not None:
            ends[stream] = info.state.last_seq
    return ends


def read_wanted(subjects: Iterable[object], where: object, trace: object, label: str = _LABEL) -> Wanted:
    """Return the events that the arguments of `Bus.tap` name. Raises `DeclarationError` for an argument that is wrong."""
    chosen = tuple(read_event_subject(each, label) for each in subjects)
    if not isinstance(trace, str) or (trace and _TRACE(trace) is None):
        raise DeclarationError(f"{label}: trace={trace!r}: write the 32 hex digits of a trace id, in lower case")
    return Wanted(chosen or (ALL,), None if where is None else compile_pattern(where), trace)


def make_tap(
    jetstream: JetStream,
    namespace: str,
    subjects: Iterable[object],
    where: object,
    trace: object,
    since: object,
    report: Callable[[str], object] | None,
    label: str = _LABEL,
) -> Tap:
    """Return the iterator of `Bus.tap`, which describes the arguments and the errors. `label` begins their texts."""
    if in_handler.get():
        raise DeclarationError(f"{label}: a handler cannot wait for events: declare a reaction, by @react")
    start = read_since(since, label)
    return Tap(jetstream, namespace, read_wanted(subjects, where, trace, label), start, report or logger.warning)
