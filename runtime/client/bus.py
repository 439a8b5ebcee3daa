"""The bus: sends queries, commands and events, for handlers and for plain programs.

A request carries its trace, deadline and call chain, and a command its id; the answer is a value, or one error of
`runtime.errors` that says whether it was executed.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from opentelemetry.trace import Span, SpanKind
from opentelemetry.util.types import AttributeValue

from runtime.actor.call import Call
from runtime.actor.message import Command, Contract, Event, Message, Query, contract_of
from runtime.backoff import Backoff
from runtime.client.breaker import BreakerPolicy, RetryBudget
from runtime.client.no_reply import no_reply_error
from runtime.client.route import Route
from runtime.errors import (
    CircuitOpen,
    DeadlineExceeded,
    DeclarationError,
    HandlerFailed,
    NotDelivered,
    Overloaded,
    PublishError,
    RequestError,
)
from runtime.nats.connection import Connection, ConnectionOptions, NoResponders, NotConnected, validate_subject
from runtime.nats.jetstream.client import JetStream
from runtime.options import RetryPolicy
from runtime.telemetry import NO_SPAN, LeanSpan, ServiceTracer, Tracing, finish, get_context, inject, semconv
from runtime.wire.cloudevents import event_headers
from runtime.wire.codec import encode
from runtime.wire.envelope import write
from runtime.wire.ids import new_id
from runtime.wire.subjects import NO_KEY, Names, key_token

R = TypeVar("R")

_now = time.time_ns

DEFAULT_TIMEOUT = 5.0
"""Seconds that a request may take where nothing else is said."""

PATIENCE = 1.0
"""Seconds for which a request is sent again while nobody serves its subject: an actor changes hands in less."""

_BACKOFF = Backoff(first=0.01, longest=0.1)
"""The pauses between these attempts."""

_NOBODY = (NoResponders,)
_NOBODY_OR_REFUSED = (NoResponders, NotDelivered)
"""What certainly was not executed, so that it may be sent again by the bus itself: for anybody, and for a handler."""


class Bus:
    """Sends messages over one connection, which its maker closes. Use `connect` in plain programs."""

    def __init__(
        self,
        connection: Connection,
        tracer: ServiceTracer,
        *,
        namespace: str = "",
        timeout: float = DEFAULT_TIMEOUT,
        breaker: BreakerPolicy = BreakerPolicy(),
    ) -> None:
        self.connection = connection
        self.namespace = namespace
        self.timeout = timeout
        self._tracer = tracer
        self._jetstream = JetStream(connection)
        self._time = asyncio.get_running_loop().time
        self._routes: dict[type, Route] = {}
        self._policy = breaker
        self._budget = RetryBudget()
        self._request = connection.request_nowait
        self._traced = tracer.tracing.records
        self._retries = tracer.counter("actorloom.client.retries", {})
        self._circuits = tracer.counter("actorloom.client.circuits.opened", {})

    def query(self, message: Query[R], *, timeout: float | None = None) -> Coroutine[Any, Any, R]:
        """Ask, and return the reply. `timeout` in seconds.

        While nobody serves it, it is sent again for a second (`PATIENCE`) at most: an actor that changes hands fails nobody.
        Raises a `RequestError`: `NotFound`, `InvalidMessage`, `NotDelivered` (nobody serves it), `DeadlineExceeded` …
        """
        route = self._routes.get(type(message)) or self._route(contract_of(message))
        if route.op != "query":
            raise DeclarationError(f"{type(message).__name__} is no query")
        return self._send(route, message, self.timeout if timeout is None else timeout, None, None)

    def command(
        self, message: Command[R], *, id: str | None = None, timeout: float | None = None
    ) -> Coroutine[Any, Any, R]:
        """Tell, and return the reply once it is done and durable. `timeout` in seconds.

        `id` makes it safe to send again: the same id takes effect once and gets the same reply. Without one it is given a
        new one; an error's ``executed`` of None then means *unknown*, which `retry` avoids. While nobody serves it, it is
        sent again as a query is. Raises a `RequestError`.
        """
        route = self._routes.get(type(message)) or self._route(contract_of(message))
        if route.op != "command":
            raise DeclarationError(f"{type(message).__name__} is no command")
        return self._send(route, message, self.timeout if timeout is None else timeout, id or new_id(), None)

    async def retry(
        self,
        message: Command[R],
        *,
        id: str | None = None,
        policy: RetryPolicy = RetryPolicy(),
        timeout: float | None = None,
    ) -> R:
        """Send a command until its outcome is known, each time under the same id; `timeout` is that of one attempt.

        Again: what was not delivered, overloaded, too late or failed. Never: what was rejected or invalid. Raises the last
        attempt's `RequestError`.
        """
        command_id = id or new_id()
        self._budget.earn()
        for attempt in range(1, policy.attempts + 1):
            try:
                return await self.command(message, id=command_id, timeout=timeout)
            except (NotDelivered, Overloaded, DeadlineExceeded, HandlerFailed) as error:
                if attempt == policy.attempts or not self._affords(error):
                    raise
                self._retries.value += 1
                pause = policy.delay(attempt, random.random())
                await asyncio.sleep(max(pause, error.retry_after) if isinstance(error, Overloaded) else pause)
        raise AssertionError("unreachable: a policy has at least one attempt")

    async def emit(self, event: Event, *, id: str | None = None) -> str:
        """Publish an event from outside its actor, and return its id once it is stored (for tools and bridges).

        Raises `PublishError` where it is not acknowledged, `TimeoutError` where that is unknown (safe to repeat under `id`).
        """
        route = self._routes.get(type(event)) or self._route(contract_of(event))
        contract = route.contract
        if contract.op != "event":
            raise DeclarationError(f"{type(event).__name__} is no event")
        event_id = id or new_id()
        token = key_token(contract.key_of(event)) if contract.key_of is not None else NO_KEY
        span = NO_SPAN
        if self._traced or get_context():
            span = route.template.child({semconv.MESSAGING_MESSAGE_ID: event_id})
        begun = span.started if type(span) is LeanSpan else _now()
        trace = b"" if span is NO_SPAN else inject(span)
        block = event_headers(contract.actor, contract.type.__name__, event_id, token, begun / 1e9, trace)
        try:
            await self._jetstream.publish(
                b"%b.%b" % (route.subject, token.encode()), encode(event), headers=block, timeout=self.timeout
            )
        except (PublishError, TimeoutError) as error:
            finish(span, None, type(error).__name__, str(error))
            route.durations.record_error(_now() - begun, None, type(error).__name__)
            raise
        ended = _now()
        span.end(ended)
        route.durations.record(ended - begun)
        return event_id

    async def request(self, message: Message, *, command_id: str | None, timeout: float | None, call: Call) -> Any:
        """Send a query or command for a handler; `Actor.query` and `Actor.command` come here.

        It is sent again as anybody's is, and also where the service answers that it cannot take it now (503).
        """
        route = self._routes.get(type(message)) or self._route(contract_of(message))
        if route.op != ("query" if command_id is None else "command"):
            raise DeclarationError(f"{type(message).__name__} is a {route.op}")
        wanted = self.timeout if timeout is None else timeout
        if call.deadline:
            wanted = min(wanted, call.deadline - time.time())
            if wanted <= 0:
                raise DeadlineExceeded(f"{route.subject_text}: the caller's deadline has passed", executed=False)
        self._budget.earn()
        return await self._send(route, message, wanted, command_id, call, _NOBODY_OR_REFUSED)

    async def _send(
        self,
        route: Route,
        message: Message,
        timeout: float,
        command_id: str | None,
        call: Call | None,
        again: tuple[type[Exception], ...] = _NOBODY,
    ) -> Any:
        """Send a request, and return its reply; what fails with one of `again` is sent again. One attempt is one CLIENT span."""
        breaker = route.breaker
        span, trace = NO_SPAN, b""
        if self._traced or get_context():
            span = route.template.child()
            trace = inject(span)
        begun = span.started if type(span) is LeanSpan else _now()
        try:
            if breaker.failing and not breaker.allows():
                raise CircuitOpen(f"{route.subject_text}: the circuit is open after failures in a row")
            chain = "" if call is None else call.nested_chain()
            block = write(trace, (begun + int(timeout * 1e9)) // 1_000_000, command_id, chain)
            payload, expires_at = encode(message), self._time() + timeout
            try:
                reply = self._request(route.subject, payload, block, expires_at)
            except NotConnected:
                await self.connection.wait_connected(timeout)
                reply = self._request(route.subject, payload, block, expires_at)
            response = await reply
            if breaker.failing:
                breaker.answered()
            value = route.read(response)
        except (NoResponders, TimeoutError, PublishError, RequestError) as error:
            told = self._failed(route, span, begun, error)
            if type(error) not in again:
                if told is error:
                    raise
                raise told from error
        except BaseException as error:
            finish(span, None, type(error).__name__)
            raise
        else:
            ended = _now()
            span.end(ended)
            route.durations.record(ended - begun)
            return value
        left = timeout - (_now() - begun) / 1e9
        return await self._send_again(route, message, self._time() + left, command_id, call, again, told)

    async def _send_again(
        self,
        route: Route,
        message: Message,
        expires_at: float,
        command_id: str | None,
        call: Call | None,
        again: tuple[type[Exception], ...],
        told: RequestError,
    ) -> Any:
        """Send a request that failed with `told` again, until it meets somebody or patience ends. The pauses grow."""
        now = self._time()
        until = now + PATIENCE
        for failures in itertools.count(1):
            # The last attempt is at the end of the patience, however long the pause would be.
            delay = min(_BACKOFF.delay(failures), until - now)
            # One that has no time for an answer would make the outcome unknown, where it is known.
            if delay <= 0 or now + delay + _BACKOFF.longest >= expires_at or not self._affords(told):
                raise told
            self._retries.value += 1
            await asyncio.sleep(delay)
            try:
                return await self._send(route, message, expires_at - self._time(), command_id, call, ())
            except NotDelivered as error:
                if isinstance(error, CircuitOpen) or (error.remote and NotDelivered not in again):
                    raise
                told = error
            now = self._time()
        raise AssertionError("unreachable: the loop has no end")

    def _affords(self, error: RequestError) -> bool:
        """Whether a request that failed so may be sent again: within the budget, unless it has cost nobody anything.

        What met nobody, or an open circuit, was turned away by the nearest server or by ourselves; and while an actor changes
        hands all its callers meet nobody at once.
        """
        return (isinstance(error, NotDelivered) and not error.remote) or self._budget.spend()

    def _failed(self, route: Route, span: Span, begun: int, error: Exception) -> RequestError:
        """Take note of a request that failed, and return what its sender is told."""
        if isinstance(error, RequestError):
            told = error
            if not isinstance(error, CircuitOpen):
                route.breaker.answered()
        else:
            told = no_reply_error(route.subject_text, error)
            if route.breaker.failed():
                self._circuits.value += 1
                span.add_event("circuit.opened")
        kind = type(told).__name__
        finish(span, told.code, kind, str(told))
        route.durations.record_error(_now() - begun, told.code, kind)
        return told

    def _route(self, contract: Contract) -> Route:
        route = self._routes.get(contract.type)
        if route is None:
            names = Names(contract.actor, self.namespace)
            if contract.op == "event":
                subject = f"{names.prefix}{contract.actor}.event.{contract.name}"
                attributes: Mapping[str, AttributeValue] = semconv.send_attributes(subject)
                template = self._tracer.template(f"publish {subject}", SpanKind.PRODUCER, attributes)
                metric = semconv.MESSAGING_CLIENT_OPERATION_DURATION
            else:
                subject = names.request(contract.op, contract.name)
                host, port = self.connection.server_address
                method = f"{contract.actor}/{contract.name}"
                attributes = {**semconv.rpc_attributes(method), semconv.SERVER_ADDRESS: host, semconv.SERVER_PORT: port}
                template = self._tracer.template(method, SpanKind.CLIENT, attributes)
                metric = semconv.RPC_CLIENT_CALL_DURATION
            durations = self._tracer.durations(metric, attributes)
            validate_subject(subject)
            route = self._routes[contract.type] = Route(contract, subject, template, durations, self._policy)
        return route


@asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    namespace: str = "",
    timeout: float = DEFAULT_TIMEOUT,
    service: str = "client",
    options: ConnectionOptions | None = None,
) -> AsyncGenerator[Bus]:
    """Connect a plain program: ``async with connect() as bus: await bus.query(GetOrder("1"))``.

    Without `url` or `options`, natscli's variables say where (`NATS_URL`, `NATS_CREDS`, `NATS_CONTEXT` …), else
    ``nats://127.0.0.1:4222``. `service` names the program in traces. Raises `ActorError` where there is no server.
    """
    chosen = options or ConnectionOptions.from_env(os.environ, **({"url": url} if url else {}))
    tracing = Tracing.from_env()
    connection = await Connection.connect(chosen, name=service)
    try:
        yield Bus(connection, tracing.service(service), namespace=namespace, timeout=timeout)
    finally:
        await connection.close()
        await asyncio.to_thread(tracing.shutdown)
