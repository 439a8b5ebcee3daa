"""Actors that run in the process of a test, on a real nats-server."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Annotated, Any, TypeVar, overload

import msgspec

from runtime.actor.base import Actor
from runtime.actor.message import Command, Event
from runtime.bounds import Replicas, SecondsOrNone, check
from runtime.client.bus import Bus
from runtime.client.tap import ends_of
from runtime.client.tapped import TappedEvent
from runtime.host.process import Runner, shut_down
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.options import Options
from runtime.storage.replays import Mode
from runtime.storage.streams import events_config
from runtime.telemetry import SpanRecord, Tracing
from runtime.testing.due import DueTimers
from runtime.testing.letters import DeadLetter, Letters
from runtime.testing.process import Process
from runtime.testing.seen import SeenEvents
from runtime.wire.buckets import WHOLE
from runtime.wire.subjects import Names

E = TypeVar("E", bound=Event)

_POLL = 0.01
"""Seconds between two checks of a condition."""
_TIMEOUT = 20.0
"""Seconds for which `System.skip` and `System.fire` wait for one command, and `System.redrive` and `System.replay` for all messages."""

_Skipped = Annotated[float, msgspec.Meta(ge=0, le=3_153_600_000)]
"""Up to a hundred years, as timers have them."""
_UnixSeconds = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
"""A time until the end of the year 9999."""


class System:
    """Actors that run in this process for one test."""

    def __init__(
        self,
        runner: Runner,
        bus: Bus,
        tracing: Tracing,
        processes: Sequence[Process] = (),
        ends: Mapping[str, int] | None = None,
    ) -> None:
        """Wrap running actors; `running` does this. `ends` has the last event of each stream before the start."""
        self._runner = runner
        self._processes = processes
        self.bus = bus
        """A bus in the namespace of the actors, which goes on when they crash."""
        self.tracing = tracing
        """The spans of the actors and of `bus`."""
        jetstream = JetStream(bus.connection)
        self._due = DueTimers(jetstream, bus.connection.clock, self._names, self._settle, self._is_served)
        self._letters = Letters(jetstream, self._is_served)
        self._seen = SeenEvents(jetstream, bus.namespace, ends or {})

    @property
    def runner(self) -> Runner:
        """Serves the actors; `runner.stop()` drains them. If they run apart, this is the runner of the first one."""
        return self._processes[0].runner if self._processes else self._runner

    @property
    def connection(self) -> Connection:
        """The connection of the actors."""
        return self.runner.connection

    async def skip(self, seconds: float) -> int:
        """Move the time on, and fire the timers and schedules that are due by then, in the order of their times.

        `Actor.now` of each handler is the time of its timer, and the timers that it sets are fired as well if they are due. The
        call returns when all these commands are handled, or are dead letters. Reactions to their events run in the background.
        If the actors have crashed, the timers fire, and their commands run after the restart.

        Only the time that handlers see moves: `now`, `deadline` and `due`. Pauses before retries, leases, the times for which ids
        are remembered, and `asyncio.sleep` in a handler take as long as ever.

        Args:
            seconds: From 0 to a hundred years. Each firing of a schedule takes some milliseconds.

        Returns:
            The number of timers that have fired.

        Raises:
            TimeoutError: A command was not handled within 20 s.
        """
        check("seconds", seconds, _Skipped)
        return await self._due.skip(seconds, _TIMEOUT)

    async def fire(self, message: Command[Any]) -> None:
        """Fire the timer or schedule that sends `message`, and return when the command is handled, or is a dead letter.

        A timer has fired by this, and a schedule stays. The time does not move.

        Args:
            message: The command, as `Actor.remind` or `Actor.schedule` got it; of a recurring command, one with its defaults.

        Raises:
            LookupError: No timer and no schedule waits that sends it.
            TimeoutError: The command was not handled within 20 s.
        """
        await self._due.fire(message, _TIMEOUT)

    async def dead_letters(self, actor: str) -> list[DeadLetter]:
        """Return the dead letters of an actor, oldest first.

        A message becomes one in the background: ``await system.until(lambda: system.dead_letters("orders"))`` waits for the
        first one, and returns the list.

        Args:
            actor: The name of an actor that the test runs.

        Raises:
            ValueError: No actor has this name.
        """
        return await self._letters.read(self._names_of(actor))

    async def redrive(self, actor: str, letter: DeadLetter | None = None) -> int:
        """Send dead letters again to the handlers that failed, as `actorloom dlq redrive` does.

        The call returns when all are handled, or are dead letters again: those have new ids. If the actor has crashed, it
        returns at once, and the messages are handled after the restart.

        Args:
            actor: The name of an actor that the test runs.
            letter: One of `dead_letters`; by default all.

        Returns:
            The number of letters.

        Raises:
            ValueError: No actor has this name.
            LookupError: The letter does not exist any more, or is of another actor.
            TimeoutError: A message was not handled within 20 s.
        """
        return await self._letters.redrive(self._names_of(actor), letter, _TIMEOUT)

    async def replay(self, reaction: str, *, since: float = 0.0, key: str | None = None, mode: Mode = "missing") -> int:
        """Send stored events to one reaction again, as `actorloom replay start` does.

        The call returns when all are handled, or are dead letters. All actors must run.

        Args:
            reaction: An actor and a reaction of it: ``orders.on_paid``.
            since: A time of the server in Unix seconds. Earlier events are left out.
            key: The key of the events; None for those of all keys.
            mode: ``missing``: the actor ignores events that it remembers as handled. ``again``: it handles all.

        Returns:
            The number of events that were sent, those that the actor ignores among them.

        Raises:
            ValueError: No actor has this name, or `reaction` names no reaction.
            ActorError: The actor has no such reaction, does not run, or there is no event to send.
            TimeoutError: An event was not handled within 20 s.
        """
        actor, _, name = reaction.partition(".")
        if not name:
            raise ValueError(f"{reaction!r}: write actor.reaction, for example orders.on_paid")
        check("since", since, _UnixSeconds)
        check("mode", mode, Mode)
        names = self._names_of(actor)
        await self._settle()
        return await self._letters.replay(names, name, since, key, mode, _TIMEOUT)

    async def crash(self, name: str = "") -> None:
        """End the actors as SIGKILL ends their process. Messages to them wait or fail until `restart`, as they do then.

        Nothing leaves the actors after the call, and their leases are not given back: another process takes over when they have
        expired. A handler that runs is cancelled, since it cannot be killed. `on_stop` does not run.

        Args:
            name: The name of an actor, whose process alone ends; by default, those of all actors.

        Raises:
            ValueError: No actor has this name, other actors run in its process (see `running`), or requests skip NATS.
        """
        if self.bus.connection is self.connection:
            raise ValueError("actors with loopback=True cannot crash: the bus has their connection")
        for process in self._of(name):
            await process.crash(self.bus.connection)

    async def restart(self) -> None:
        """Start the actors that have crashed, and return when they are served. Their former leases expire at once.

        Raises:
            ActorError, TimeoutError: As `running`.
        """
        for process in self._processes:
            if not process.alive:
                await process.restart(JetStream(self.bus.connection))

    async def stop_timers(self) -> None:
        """Fire no more timers; `running` does this at its end."""
        await self._due.stop()

    async def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Call `condition`, which may be async, until it returns a true value, and return that value.

        Args:
            condition: Called every 10 ms.
            timeout: Seconds.

        Raises:
            TimeoutError: The condition has not become true in time.
        """
        check("timeout", timeout, SecondsOrNone)
        async with asyncio.timeout(timeout):
            while True:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(_POLL)

    @overload
    async def event(
        self, event: type[E], *, where: Mapping[str, Any] | None = None, trace: str = "", timeout: float = 20.0
    ) -> E: ...
    @overload
    async def event(
        self, event: str, *, where: Mapping[str, Any] | None = None, trace: str = "", timeout: float = 20.0
    ) -> TappedEvent: ...
    async def event(
        self,
        event: type[E] | str,
        *,
        where: Mapping[str, Any] | None = None,
        trace: str = "",
        timeout: float = 20.0,
    ) -> E | TappedEvent:
        """Wait for an event of any actor, and return it. Its actor need not run in the test.

        The events are those since the start of the system, so one that was emitted before this call is not missed. Each is
        returned once: a second call returns the next one.

        Args:
            event: The class of the event; or a subject without the namespace, such as ``orders.event.*``, or a type, as for `Bus.tap`.
            where: A pattern of the body, as in `runtime.actor.patterns`.
            trace: The id of the trace: 32 hex digits.
            timeout: Seconds.

        Returns:
            The event; for a subject or a type in text, a `TappedEvent`.

        Raises:
            DeclarationError: An argument is invalid.
            ConfigurationError: `timeout` is invalid.
            CodecError: The event does not fit its class.
            TimeoutError: No such event was emitted in time. The text has the types of those that were, with their numbers.

        Example:
            await system.bus.command(CreateOrder("1"))
            shipped = await system.event(OrderShipped, where={"orderId": ["1"]})
        """
        check("timeout", timeout, SecondsOrNone)
        return await self._seen.wait(event, where, trace, timeout)

    def trace_of(self, trace_id: str | None = None, *, root: str | None = None) -> list[SpanRecord]:
        """Return the ended spans of one trace, oldest first.

        Args:
            trace_id: The id of the trace. None: the trace of the last span that ended.
            root: The name of the first span of the trace, such as ``orders/create_order``. Of several traces that begin with
                it, the newest is returned.
        """
        spans = self.tracing.finished()
        if trace_id is None:
            candidates = [span for span in spans if root is None or (span.name == root and span.parent_id is None)]
            trace_id = candidates[-1].trace_id if candidates else ""
        return [span for span in spans if span.trace_id == trace_id]

    def _names(self) -> list[Names]:
        return [owner.served.names for runner in self._runners() for host in runner.hosts for owner in host.owners]

    def _names_of(self, actor: str) -> Names:
        """Return the names of an actor, as one whole. Raises `ValueError` if it does not run here."""
        for names in self._names():
            if names.actor == actor:
                return names.of(WHOLE)
        raise ValueError(f"no actor {actor!r} runs here")

    def _runners(self) -> list[Runner]:
        return [process.runner for process in self._processes] or [self._runner]

    def _is_served(self, names: Names) -> bool:
        """Return whether the actor of some names runs."""
        alive = [process.runner for process in self._processes if process.alive] if self._processes else [self._runner]
        return any(host.name == names.actor for runner in alive for host in runner.hosts)

    async def _settle(self) -> None:
        """Wait until the outboxes of the actors are published."""
        for runner in self._runners():
            for host in runner.hosts:
                for serving in host.serving:
                    await serving.relay.wait_idle()

    def _of(self, name: str) -> list[Process]:
        """Return the processes that end with the actor of a name."""
        if not name:
            return list(self._processes)
        for process in self._processes:
            names = [actor.name for actor in process.actors]
            if names == [name]:
                return [process]
            if name in names:
                others = ", ".join(each for each in names if each != name)
                raise ValueError(f"{name} runs in one process with {others}: run them with apart=True")
        raise ValueError(f"no actor {name!r} runs here")


Actors = Callable[..., AbstractAsyncContextManager[System]]
"""The type of the fixture `actors`: a function with the arguments of `running`."""


@asynccontextmanager
async def running(
    *actors: type[Actor[Any]],
    url: str,
    namespace: str = "",
    options: Mapping[str, Options] | None = None,
    tracing: Tracing | None = None,
    lease_ttl: float = 4.0,
    loopback: bool = False,
    sources: Iterable[str] = (),
    replicas: Replicas = 1,
    apart: bool = False,
    allow_breaking: bool = False,
) -> AsyncGenerator[System]:
    """Run actors against a server until the block ends, then drain them.

    Args:
        actors: The classes of the actors.
        url: The URL of the nats-server.
        namespace: The first token of all subjects and streams. Tests that share a server need one each.
        options: Options by the name of an actor.
        tracing: The destination of spans; in memory by default.
        lease_ttl: Seconds after which the lease of a lost owner expires.
        loopback: Whether requests between the actors, and from the bus to them, skip NATS.
        sources: The names of actors that do not run. The test creates their events streams, as they would, so that it
            can emit their events for the reactions of the other actors.
        replicas: The number of replicas of each stream, on a cluster.
        apart: Whether each actor has a connection and leases of its own, as in a process of its own, so that `System.crash` can end
            one of them.
        allow_breaking: Whether an actor starts although its contract has changed in a way that breaks others.

    Raises:
        ActorError: The actors cannot be served.
        TimeoutError: The actors are not ready within 120 s.
    """
    traces = tracing or Tracing(in_memory=True)
    address = ConnectionOptions(url=url, loopback=loopback)
    settings: dict[str, Any] = {
        "namespace": namespace, "options": options, "lease_ttl": lease_ttl, "replicas": replicas,
        "allow_breaking": allow_breaking,
    }  # fmt: skip
    client = await Connection.connect(address, name="test")
    try:
        ends = await ends_of(JetStream(client), namespace)
        for source in sources:
            await JetStream(client).ensure_stream(events_config(Names(source, namespace), replicas))
        groups = [[actor] for actor in actors] if apart and actors else [list(actors)]
        async with AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(Process(group, address, traces, settings, client.clock))
                for group in groups
            ]
            runner = processes[0].runner
            bus = Bus(runner.connection if loopback else client, traces.service("test"), namespace=namespace)
            system = System(runner, bus, traces, processes, ends)
            stack.push_async_callback(system.stop_timers)
            yield system
    finally:
        await client.close()
        await shut_down(traces, 1.0)
