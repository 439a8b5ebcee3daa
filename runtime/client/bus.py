"""The bus: sends queries, commands and events, for handlers and for plain programs.

A request carries its deadline, its trace and the chain of calls that wait for it; a command also carries an id. The result is
the value of the reply, or an error from `runtime.errors` that states whether the request was executed.
"""

import asyncio
import logging
import os
import random
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from weakref import WeakKeyDictionary

from runtime.actor.base import Actor
from runtime.actor.call import Call
from runtime.actor.message import Accepted, Command, Contract, Event, Message, Query, contract_of, token_by
from runtime.actor.since import NEW
from runtime.bounds import check_timeout
from runtime.client.breaker import BreakerPolicy
from runtime.client.events import Events, make_events
from runtime.client.route import Owners, Route, make_route
from runtime.client.sender import UNSERVED_OR_REFUSED, Sender, keep_outcome
from runtime.client.tap import Tap, make_tap
from runtime.client.tells import Tells
from runtime.clocks import YEAR, elapsed, is_duration
from runtime.errors import (
    DeadlineExceeded,
    DeclarationError,
    HandlerFailed,
    NotDelivered,
    Overloaded,
    PublishError,
    Rejected,
    RequestError,
)
from runtime.nats.connection import Connection, ConnectionOptions, NoResponders, NotConnected
from runtime.nats.jetstream.acks import decode_ack
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import DuplicateInProcess
from runtime.nats.options import DATA_DIRECTORY, DEFAULT_URL, environment
from runtime.options import RetryPolicy
from runtime.telemetry import NO_SPAN, LeanSpan, ServiceTracer, Tracing, finish, get_context, inject, semconv
from runtime.wire.cloudevents import event_headers
from runtime.wire.ids import check_id, new_id
from runtime.wire.subjects import check_namespace
from runtime.wire.tokens import NO_KEY

logger = logging.getLogger("actorloom.client")

R = TypeVar("R")
E = TypeVar("E", bound=Event)

_now = time.time_ns

_MAKERS: WeakKeyDictionary[Actor[Any], Callable[[], "Bus"]] = WeakKeyDictionary()
"""Makes the bus of each actor that a process of this package serves."""

DEFAULT_TIMEOUT = 5.0
"""Seconds that a request may take by default."""

_RETRIED = (NotDelivered, Overloaded, DeadlineExceeded, HandlerFailed)
"""The errors after which `Bus.retry` sends a command again."""

_LONGEST_PAUSE: Final = 60.0
"""Seconds of `retry_after` that `Bus.retry` waits at most. Any process may answer with any number."""


class Bus:
    """Sends messages over one connection. Plain programs get a bus from `connect`.

    A bus is used from the event loop in which it was created. It may send any number of messages at the same time.

    Args:
        connection: The connection, which the caller closes.
        tracer: The tracer of the sending service.
        namespace: The namespace of the actors; empty if they have none.
        timeout: Seconds that a request may take by default.
        breaker: The limits of the circuit breakers, of which each operation has one.
    """

    def __init__(
        self,
        connection: Connection,
        tracer: ServiceTracer,
        *,
        namespace: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        breaker: BreakerPolicy = BreakerPolicy(),
    ) -> None:
        check_namespace(namespace)
        self.connection = connection
        self.namespace = namespace
        check_timeout(timeout)
        self.timeout = timeout
        """Seconds that a request may take by default."""
        self._tracer = tracer
        self._traced = tracer.tracing.records
        self._jetstream = JetStream(connection)
        self._request = connection.request_nowait
        self._time = asyncio.get_running_loop().time
        self._breaker_policy = breaker
        self._routes: dict[type, Route] = {}
        self._named: dict[Contract, Route] = {}
        """The routes of commands that are sent by their names."""
        self._cancels: dict[type, Route] = {}
        """The routes of cancellations, by the commands of the jobs."""
        self._owners: dict[str, Owners] = {}
        """Where the owners of each actor's keys receive requests."""
        self._clock = connection.clock
        self._tells = Tells(self._jetstream, tracer, namespace)
        self._sender = Sender(connection, tracer)
        self._send = self._sender.send

    @staticmethod
    def of(actor: Actor[Any]) -> "Bus":
        """Return a bus for the tasks that an actor starts in `on_start`: over its connection, and in its namespace.

        A handler sends by the methods of its actor instead, whose messages belong to its turn.

        Args:
            actor: The actor itself, ``self`` in `on_start`.

        Raises:
            RuntimeError: It is not the actor itself, or no host serves it.

        Example:
            async def on_start(self) -> None:
                self.bus = Bus.of(self)
        """
        make = _MAKERS.get(actor)
        if make is None:
            raise RuntimeError(f"{type(actor).__name__}: Bus.of works in on_start of an actor that a host serves")
        return make()

    @staticmethod
    def provide(actor: Actor[Any], make: Callable[[], "Bus"]) -> None:
        """Have `of` call `make` for an actor. Its host does this."""
        _MAKERS[actor] = make

    def query(self, message: Query[R], *, timeout: float | None = None) -> Coroutine[Any, Any, R]:
        """Send a query and return its reply.

        While no process serves the query, for example because the actor changes owners, it is sent again for up to a second.

        Args:
            message: The query.
            timeout: Seconds until the deadline; by default the timeout of the bus.

        Returns:
            A coroutine to await. The query is sent when it starts to run.

        Raises:
            DeclarationError: The message is not a query.
            NotFound: The thing does not exist.
            InvalidMessage: The actor refuses the message.
            NotDelivered: No process serves the query, or there is no connection.
            DeadlineExceeded: No reply came in time.
            RequestError: The query failed for another reason.

        Example:
            order = await bus.query(GetOrder("1"), timeout=2)
        """
        route = self._routes.get(type(message)) or self._route(message)
        if route.op != "query":
            raise DeclarationError(f"{type(message).__name__} is not a query: use Bus.{_method(route)}")
        return self._send(route, message, self.timeout if timeout is None else _checked(timeout), None, None)

    def command(
        self, message: Command[R], *, id: str | None = None, timeout: float | None = None
    ) -> Coroutine[Any, Any, R]:
        """Send a command and return its reply, which comes when the effects of the command are stored.

        While no process serves the command, it is sent again as a query is, each time under the same id.

        Args:
            message: The command.
            id: The id of the command, a new one by default. The same command with the same id takes effect once, and gets the
                same reply. An application that may send a command again gives it an id of its own, and sends equal fields.
            timeout: Seconds until the deadline; by default the timeout of the bus.

        Returns:
            A coroutine to await. The command is sent when it starts to run.

        Raises:
            DeclarationError: The message is not a command.
            Rejected: The actor refuses the command.
            IdReused: The actor has handled another command, or another body, under this id.
            NotDelivered: No process serves the command, or there is no connection.
            Overloaded: The mailbox of the actor, or the lane of the key, is full.
            DeadlineExceeded: No reply came in time.
            RequestError: The command failed for another reason. If its ``executed`` is None, the outcome is unknown; `retry`
                sends commands until it is known.
            CodecError: The id is empty, longer than 256 bytes, or not printable, or the message does not fit its own type (`InvalidValue`).

        Example:
            await bus.command(CreateOrder("1"), id="order-1")
        """
        route = self._routes.get(type(message)) or self._route(message)
        if route.op != "command":
            raise DeclarationError(f"{type(message).__name__} is not a command: use Bus.{_method(route)}")
        return self._send(
            route,
            message,
            self.timeout if timeout is None else _checked(timeout),
            new_id(self._clock.now()) if id is None else id,
            None,
        )

    def cancel(self, message: Command[Accepted], *, id: str, timeout: float | None = None) -> Coroutine[Any, Any, bool]:
        """Cancel a long job, and return whether this has ended it; False if it had ended before, or is not known.

        A job that waits does not run. The handler of one that runs gets `asyncio.CancelledError` where it awaits. If it lets the error
        pass, nothing since its last checkpoint is kept. If it catches the error and returns, its changes are stored. The
        reply comes when the end of the job is stored.

        Args:
            message: The command of the job. Only its type and its key count.
            id: The id under which the job was accepted, or told.
            timeout: Seconds until the deadline; by default the timeout of the bus.

        Returns:
            A coroutine to await. The request is sent when it starts to run.

        Raises:
            DeclarationError: The message is not the command of a long job.
            NotFound: The actor has no state, or an earlier version has no such request.
            Rejected: The job was told with `after`, and is not due.
            DeadlineExceeded: The job has not ended in time; it ends later.
            RequestError: The request failed for another reason.

        Example:
            await bus.cancel(MakeReport("q3"), id="report-q3")
        """
        contract = contract_of(message)
        if contract.reply is not Accepted:
            raise DeclarationError(
                f"{type(message).__name__} is not the command of a long job: its reply is not Accepted"
            )
        route = self._cancels.get(contract.type)
        if route is None:
            route = self._cancels[contract.type] = self._make_route(contract, cancel=True)
        return self._send(route, message, self.timeout if timeout is None else _checked(timeout), id, None)

    async def retry(
        self,
        message: Command[R],
        *,
        id: str | None = None,
        policy: RetryPolicy = RetryPolicy(),
        timeout: float | None = None,
    ) -> R:
        """Send a command until its outcome is known, each time under the same id, and return the reply.

        A command is repeated if it was not delivered, met a full mailbox or lane, had no reply in time, or failed in the
        handler. It is not repeated if the actor has rejected it without a time to retry. That time, or the one of a full actor, is
        waited for, a minute at most.

        Args:
            message: The command.
            id: The id of the command, a new one by default.
            policy: The number of attempts, and the pauses between them.
            timeout: Seconds of one attempt; by default the timeout of the bus.

        Raises:
            DeclarationError: The message is not a command.
            RequestError: The error of the last attempt, with the outcome of all of them. The budget of the bus may end the attempts early: it allows one retry
                for five requests, and saves up to 50. An attempt that met no process costs nothing.
        """
        command_id = new_id(self._clock.now()) if id is None else id
        sender = self._sender
        sender.budget.earn()
        outcome: bool | None = False
        for attempt in range(1, policy.attempts + 1):
            try:
                return await self.command(message, id=command_id, timeout=timeout)
            except RequestError as error:
                outcome = keep_outcome(error, outcome)
                after = error.retry_after if isinstance(error, Overloaded | Rejected) else None
                if (
                    not (isinstance(error, _RETRIED) or after is not None)
                    or attempt == policy.attempts
                    or not sender.may_retry(error)
                ):
                    raise
                sender.retries.value += 1
                pause = policy.delay(attempt, random.random())
                if after is not None:
                    pause = max(pause, min(after, _LONGEST_PAUSE))
                await asyncio.sleep(pause)
        raise AssertionError("unreachable: a policy has at least one attempt")

    async def tell(self, message: Command[Any], *, id: str | None = None, after: float = 0.0) -> str:
        """Tell an actor to do something, and return the id of the command as soon as it is stored.

        The actor runs the command once in effect, with its `RetryPolicy`, and keeps it as a dead letter if it fails for good. If
        the actor is down, the command waits for it. Nobody gets its reply. The commands that one task tells a key run in their
        order, and those with `after` in the order of their times.

        Args:
            message: The command.
            id: The id of the command, a new one by default. The same command with the same id takes effect once.
            after: Seconds from now before which it does not run, up to a hundred years.

        Raises:
            DeclarationError: The message is not a command, or `after` is invalid.
            CodecError: The id is invalid, the key is too long, or the message does not fit its own type (`InvalidValue`).
            PublishError: The command is not stored: the actor has never run, for example.
            TimeoutError: It is unknown whether the command is stored. Tell it again under the same id.

        Example:
            await bus.tell(SendReminder("1"), after=3600)
        """
        return await self._tells.tell(message, id, after, self.timeout)

    def emit(self, event: Event, *, id: str | None = None) -> Coroutine[Any, Any, str]:
        """Publish an event from outside its actor, and return its id when the event is stored.

        This is meant for tools and bridges. A handler emits events by `Actor.emit`, which stores them with its turn.

        Args:
            event: The event.
            id: The id of the event, a new one by default. Events with the same id take effect once.

        Returns:
            A coroutine to await. The event is sent when it starts to run.

        Raises:
            DeclarationError: The message is not an event.
            InvalidValue: The event does not fit its own type.
            PublishError: The event is not stored.
            TimeoutError: It is unknown whether the event is stored. Publish it again under the same id.
        """
        route = self._routes.get(type(event)) or self._route(event)
        if route.op != "event":
            raise DeclarationError(f"{type(event).__name__} is not an event: use Bus.{_method(route)}")
        return self._publish(route, event, id)

    def events(self, event: type[E], *, key: str | None = None, since: str = NEW) -> Events[E]:
        """Follow the events of one type, in the order of their stream, each once. The iteration has no end.

        The events come from a short-lived consumer of this iterator alone, so any number of programs may follow the same ones.
        At most 64 are pulled ahead. After a reconnect, a restart of the server or the loss of the consumer it goes on with the
        next event. Bound a wait by `asyncio.timeout`. An actor follows events by `react` instead, and not by this method.

        Args:
            event: The class of the events.
            key: The key of the events, as a text; by default those of all keys.
            since: "first" for all events that the stream has (30 days), a time in ISO 8601 with a zone
                ("2026-01-01T00:00:00Z"), or "new" for those that are stored after the iteration has begun. To cause an event and
                wait for it, begin with `async with`: then they are those that are stored after the beginning of the block.

        Returns:
            An asynchronous iterator. `break` or a cancellation ends it and deletes the consumer, and so does its method
            `aclose`. One that is left behind is deleted after 30 seconds.

        Raises:
            DeclarationError: `event` is not the class of an event, `key` is given for events without one, `since` is invalid,
                or a handler calls this.
            CodecError: The key is too long. The iterator raises it for an event that does not fit its class, and then goes on.
            ConfigurationError: Raised by the iterator: the actor has never run, so that its stream is missing.
            ActorError, TimeoutError: Raised by the iterator: the server refuses, or does not answer at the start.

        Example:
            async with asyncio.timeout(60):
                async with bus.events(ReportMade, key="q3") as reports:
                    await bus.command(MakeReport("q3", pages=3))
                    made = await anext(reports)
        """
        return make_events(self._jetstream, self.namespace, event, key, since)

    def tap(
        self,
        *subjects: str | type[Event],
        where: Mapping[str, Any] | str | None = None,
        trace: str = "",
        since: str = NEW,
        report: Callable[[str], object] | None = None,
    ) -> Tap:
        """Follow the events of several types and actors, whatever their types are. The iteration has no end.

        The events of one stream come in their order, each once. Stored events of several streams come in the order of their times,
        and later ones as they arrive. Streams that appear later are read from their beginning. Nothing is lost to a slow reader: it
        makes the tap read ahead less. Events that a stream has removed before they were read, by its limits or a purge, are
        reported.

        Args:
            subjects: Subjects without the namespace, with the wildcards of NATS (``orders.event.*``, ``*.event.*.7``, ``>``), types
                (``orders.OrderCreated``) or classes; by default all events of the namespace. The key at the end may be left out.
            where: A pattern of the body, as in `runtime.actor.patterns`: a dictionary, or its JSON text.
            trace: Only events of this trace: 32 hex digits.
            since: As for `events`. With "new", streams that exist are read from their end on.
            report: Called with a line about events that may be missing, come again, or wait. The default logs a warning.

        Returns:
            An asynchronous iterator of `TappedEvent`. It may be used by ``async with``, as that of `events`. A cancelled `anext`
            loses nothing. `aclose` ends it and deletes its consumers; so does the end of the object.

        Raises:
            DeclarationError: An argument is invalid, or a handler calls this.
            ActorError, TimeoutError: Raised by the iterator: the server refuses, or does not answer at the start.

        Example:
            async with bus.tap("orders.event.*", where={"total": [{"numeric": [">", 100]}]}) as events:
                async for event in events:
                    print(event.type, event.key, event.body)
        """
        return make_tap(self._jetstream, self.namespace, subjects, where, trace, since, report)

    async def _publish(self, route: Route, event: Event, id: str | None) -> str:
        contract, now = route.contract, self._clock.now()
        event_id = new_id(now) if id is None else check_id(id)
        body, token = route.encode(event, "event"), token_by(contract, event) or NO_KEY
        subject = f"{route.subject_text}.{token}"
        span, trace = NO_SPAN, b""
        if self._traced or get_context():
            span = route.template.child(
                {semconv.MESSAGING_MESSAGE_ID: event_id, semconv.MESSAGING_DESTINATION_NAME: subject}
            )
            trace = inject(span)
        started = span.started if type(span) is LeanSpan else _now()
        block = event_headers(contract.actor, contract.type.__name__, event_id, token, now, trace)
        try:
            try:
                reply = self._request(subject.encode(), body, block, self._time() + self.timeout)
                decode_ack(await reply, subject, self.connection.domain)
            except (NotConnected, NoResponders, DuplicateInProcess):
                # The client of JetStream waits, for the connection or for its replicas, or names the missing stream. To
                # ask it only now saves a coroutine for each event.
                await self._jetstream.publish(subject, body, headers=block, timeout=self.timeout)
        except (PublishError, TimeoutError) as error:
            finish(span, None, type(error).__name__, str(error))
            route.durations.record_error(_now() - started, None, type(error).__name__)
            raise
        ended = _now()
        span.end(ended)
        route.durations.record(ended - started)
        return event_id

    async def request(self, message: Message, *, command_id: str | None, timeout: float | None, call: Call) -> Any:
        """Send a query or command for a handler, and return its reply. `Actor.query` and `Actor.command` call this.

        The request is sent again also if the service refuses it with 503: a handler should not fail because another service
        is being restarted.

        Args:
            message: The query or command.
            command_id: The id of a command; None for a query.
            timeout: Seconds until the deadline, which is never later than that of the call; by default the timeout of the bus.
            call: The call of the handler.

        Raises:
            DeclarationError: The message is of another kind.
            RequestError: The request failed.
        """
        route = self._routes.get(type(message)) or self._route(message)
        if route.op != ("query" if command_id is None else "command"):
            raise DeclarationError(f"{type(message).__name__} is a {route.op}: use self.{_method(route)}")
        seconds = self.timeout if timeout is None else _checked(timeout)
        if call.deadline:
            seconds = min(seconds, call.deadline - elapsed())
            if seconds <= 0:
                raise DeadlineExceeded(f"{route.subject_text}: the caller's deadline has passed", executed=False)
        self._sender.budget.earn()
        return await self._send(route, message, seconds, command_id, call, UNSERVED_OR_REFUSED)

    def _route(self, message: object) -> Route:
        """Return the route of a message, which is made for the first message of its type."""
        contract = contract_of(message)
        if contract.encode is not None:
            return self._named.get(contract) or self._named.setdefault(contract, self._make_route(contract))
        return self._routes.get(contract.type) or self._routes.setdefault(contract.type, self._make_route(contract))

    def _make_route(self, contract: Contract, *, cancel: bool = False) -> Route:
        owners = self._owners.setdefault(contract.actor, Owners())
        return make_route(
            contract, self.namespace, self.connection, self._tracer, self._breaker_policy, owners, cancel=cancel
        )


def _checked(timeout: float) -> float:
    """Return a timeout in seconds. One that has passed already is allowed; its request fails at once.

    Raises:
        DeclarationError: It is no number, or longer than a year.
    """
    if not (type(timeout) is float and -YEAR <= timeout <= YEAR) and not is_duration(timeout, -YEAR):
        raise DeclarationError(f"timeout = {timeout!r} is not a number of seconds, a year at most")
    return timeout


def _method(route: Route) -> str:
    """Return the name of the method that sends the messages of a route."""
    return "emit" if route.op == "event" else route.op


def _server_of_working_directory() -> str | None:
    """Return the URL of the server that `actorloom run` has started here; None if the environment names a server."""
    if "url" in environment(os.environ) or not os.path.isdir(DATA_DIRECTORY):
        return None
    from runtime.nats.server import running_url

    url = running_url(DATA_DIRECTORY)
    if url is not None and url != DEFAULT_URL:
        logger.info("the server is that of %s, at %s", os.path.abspath(DATA_DIRECTORY), url)
    return url


@asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    namespace: str = "",
    timeout: float = DEFAULT_TIMEOUT,
    service: str | None = None,
    options: ConnectionOptions | None = None,
) -> AsyncGenerator[Bus]:
    """Connect a plain program to NATS for the duration of the block.

    Spans and metrics are exported as the variables of OpenTelemetry (``OTEL_…``) request.

    Args:
        url: The URL of the server. If neither `url` nor `options` is given, the variables of natscli name the server
            (``NATS_URL``, ``NATS_CREDS``, ``NATS_CONTEXT`` …); without any, it is the server that `actorloom run` has started in
            the working directory, or else ``nats://127.0.0.1:4222``.
        namespace: The namespace of the actors; empty if they have none.
        timeout: Seconds that a request may take by default.
        service: The name of the program in traces, and of its connection; by default ``OTEL_SERVICE_NAME``, or "client".
        options: All options of the connection, in place of `url` and the variables.

    Raises:
        ActorError: There is no connection to the server, or the options are invalid.

    Example:
        async with connect() as bus:
            order = await bus.query(GetOrder("1"))
    """
    chosen = options or ConnectionOptions.from_env(os.environ, url=url or _server_of_working_directory())
    tracing = Tracing.from_env()
    service = service or os.environ.get("OTEL_SERVICE_NAME") or "client"
    connection = await Connection.connect(chosen, name=service)
    try:
        yield Bus(connection, tracing.service(service), namespace=namespace, timeout=timeout)
    finally:
        await connection.close()
        await asyncio.to_thread(tracing.shutdown)
