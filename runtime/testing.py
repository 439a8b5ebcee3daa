"""The test kit: handlers called directly with a recording bus, and actors run against a real server.

orders = worker(Orders, key="1", state=Order(...), replies={GetPrice: Price(5)})
await orders.create_order(CreateOrder(...))
assert orders.emitted == [OrderCreated(...)]

async with running(Orders, Payment, url=server.url, namespace=namespace) as system:
    await system.bus.command(CreateOrder(...))
    await system.until(lambda: ...)
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, cast

from runtime.actor.base import Actor, Page, maker, view
from runtime.actor.call import ActorCall, Call
from runtime.actor.message import Event, Message
from runtime.client.bus import Bus
from runtime.errors import NotDelivered
from runtime.host.process import Runner, serving
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.options import Options
from runtime.telemetry import SpanRecord, Tracing
from runtime.wire.ids import new_id

A = TypeVar("A", bound=Actor[Any])

Reply = Any | BaseException | Callable[[Any], Any]


class RecordingBus:
    """Answers requests from `replies`: a value, an exception to raise, or a function of the message, by message type."""

    def __init__(self, replies: Mapping[type[Message], Reply]) -> None:
        self.replies = replies
        self.sent: list[Message] = []
        self.ids: list[str | None] = []

    async def request(self, message: Message, *, command_id: str | None, timeout: float | None, call: Call) -> Any:
        """Record the message and return its reply; one without is `NotDelivered`, as when nobody serves it."""
        self.sent.append(message)
        self.ids.append(command_id)
        if type(message) not in self.replies:
            raise NotDelivered(f"the test has no reply to {type(message).__name__}")
        reply = self.replies[type(message)]
        if callable(reply) and not isinstance(reply, type):
            reply = reply(message)
            if isinstance(reply, Awaitable):
                reply = await reply
        if isinstance(reply, BaseException):
            raise reply
        return reply


class RecordingLists:
    """Answers list queries from a fixed list of states; filters by equality, one page."""

    def __init__(self, states: list[Any]) -> None:
        self.states = states

    async def page(self, filters: dict[str, Any], order: str | None, limit: int, after: str | None) -> Page[Any]:
        """Return the states that match."""
        found = [state for state in self.states if all(getattr(state, k) == v for k, v in filters.items())]
        if order:
            found.sort(key=lambda state: getattr(state, order.lstrip("-")), reverse=order.startswith("-"))
        return Page(found[:limit])


class Recorded(Generic[A]):
    """What an actor under test has done: mixed into the actor that `worker` returns."""

    emitted: list[Event]
    """Events, in order."""
    sent: list[Message]
    """Queries and commands, in order."""


def worker(
    actor: type[A],
    *,
    key: str = "",
    state: Any = None,
    replies: Mapping[type[Message], Reply] | None = None,
    message_id: str | None = None,
    now: float | None = None,
    attempt: int = 1,
    attempts: int = 8,
    states: list[Any] | None = None,
    writable: bool = True,
) -> Any:
    """Return an actor whose handlers can be called directly, as in one turn of `key` with `state`.

    Besides the actor's own methods it has ``emitted``, ``sent``, ``sent_ids``, ``timers`` and ``commit()`` (runs the
    `on_commit` callbacks). Nothing is on the network.
    """
    bus = RecordingBus(replies or {})
    recorded = type(
        f"{actor.__name__}UnderTest", (actor,), {**_VIEWS, "__module__": actor.__module__, "name": actor.name}
    )
    call = ActorCall(actor.name, bus, writable=writable, source="test")
    call.key, call.state, call.message_id = key, state, message_id or new_id()
    call.lists = RecordingLists(states or [])
    call.attempt, call.attempts = attempt, attempts
    if now is not None:
        call.started = now
    return cast(Any, view(maker(recorded), recorded().__dict__, call))


def _commit(self: Any) -> None:
    for callback in self._running.callbacks:
        callback()


_VIEWS: dict[str, Any] = {
    "emitted": property(lambda self: [event for _, event in self._running.emitted]),
    "sent": property(lambda self: self._running.requests.sent),
    "sent_ids": property(lambda self: self._running.requests.ids),
    "timers": property(lambda self: [timer for _, timer in self._running.timers]),
    "commit": _commit,
}


class System:
    """Actors that run in this process for one test."""

    def __init__(self, runner: Runner, bus: Bus, tracing: Tracing) -> None:
        self.runner = runner
        self.bus = bus
        self.tracing = tracing
        self.connection = runner.connection

    async def until(self, condition: Callable[[], Any], timeout: float = 20.0) -> Any:
        """Return what `condition` returns as soon as it is true; it may be async. Raises `TimeoutError`."""
        async with asyncio.timeout(timeout):
            while True:
                found = condition()
                if isinstance(found, Awaitable):
                    found = await found
                if found:
                    return found
                await asyncio.sleep(0.01)

    def trace_of(self, trace_id: str | None = None) -> list[SpanRecord]:
        """Return the spans of one trace that have ended, oldest first; without an id those of the newest trace."""
        spans = self.tracing.finished()
        if trace_id is None:
            trace_id = spans[-1].trace_id if spans else ""
        return [span for span in spans if span.trace_id == trace_id]


@asynccontextmanager
async def running(
    *actors: type[Actor[Any]],
    url: str,
    namespace: str = "",
    options: Mapping[str, Options] | None = None,
    tracing: Tracing | None = None,
    lease_ttl: float = 4.0,
    loopback: bool = False,
) -> AsyncGenerator[System]:
    """Run actors against the server at `url` until the block ends, then drain them. Spans are kept in memory."""
    traces = tracing or Tracing(in_memory=True)
    connection = await Connection.connect(ConnectionOptions(url=url, loopback=loopback), name="test")
    try:
        async with serving(
            actors, connection, traces, namespace=namespace, options=options, lease_ttl=lease_ttl
        ) as runner:
            yield System(runner, Bus(connection, traces.service("test"), namespace=namespace), traces)
    finally:
        await connection.close()
        await asyncio.to_thread(traces.shutdown, 1.0)
