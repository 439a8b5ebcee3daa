"""The bus: sends queries, commands and events, for handlers and for plain programs.

A request carries its trace, deadline and call chain, and a command its id; the answer is a value, or one error of
`runtime.errors` that says whether it was executed.
"""

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from . import headers
from .answer import read_error
from .breaker import Breaker, BreakerPolicy, RetryBudget
from .call import Call
from .codec import MSGPACK, Codec, encode
from .errors import (
    CircuitOpen,
    CodecError,
    DeadlineExceeded,
    DeclarationError,
    HandlerFailed,
    NotDelivered,
    Overloaded,
    PublishError,
    RequestError,
)
from .ids import new_id
from .message import Command, Contract, Event, Message, Query, contract_of
from .nats.connection import Connection, ConnectionOptions, NoResponders, NotConnected, Response
from .nats.errors import ConnectionLost
from .nats.jetstream import JetStream
from .options import RetryPolicy
from .subject import NO_KEY, Names, key_token
from .tracing import Durations, ServiceTracer, Template, Tracing, finish, inject
from .tracing import conventions as semconv

R = TypeVar("R")

DEFAULT_TIMEOUT = 5.0
"""Seconds that a request may take where nothing else is said."""

PATIENCE = 1.0
"""Seconds for which a handler's request is sent again while nobody serves its subject."""


class Route:
    """What sending one message type needs, prepared at its first use."""

    __slots__ = ("breaker", "contract", "decode", "durations", "subject", "subject_text", "template")

    def __init__(
        self, contract: Contract, subject: str, template: Template, durations: Durations, policy: BreakerPolicy
    ) -> None:
        self.contract = contract
        self.subject = subject.encode()
        self.subject_text = subject
        self.template = template
        self.durations = durations
        self.breaker = Breaker(policy)
        self.decode: Codec[Any] | None = Codec(contract.reply) if contract.reply not in (None, type(None)) else None


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
        self._loop = asyncio.get_running_loop()
        self._routes: dict[type, Route] = {}
        self._policy = breaker
        self._budget = RetryBudget()
        self._retries = tracer.counter("actorloom.client.retries", {})

    async def query(self, message: Query[R], *, timeout: float | None = None) -> R:
        """Ask, and return the reply. `timeout` in seconds.

        Raises a `RequestError`: `NotFound`, `InvalidMessage`, `NotDelivered` (nobody serves it), `DeadlineExceeded` …
        """
        if contract_of(message).op != "query":
            raise DeclarationError(f"{type(message).__name__} is no query")
        return await self.request(message, command_id=None, timeout=timeout, call=None)

    async def command(self, message: Command[R], *, id: str | None = None, timeout: float | None = None) -> R:
        """Tell, and return the reply once it is done and durable. `timeout` in seconds.

        `id` makes it safe to send again: the same id takes effect once and gets the same reply. Without one it is given a
        new one; an error's ``executed`` of None then means *unknown*, which `retry` avoids. Raises a `RequestError`.
        """
        if contract_of(message).op != "command":
            raise DeclarationError(f"{type(message).__name__} is no command")
        return await self.request(message, command_id=id or new_id(), timeout=timeout, call=None)

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
        for attempt in range(1, policy.attempts + 1):
            try:
                return await self.command(message, id=command_id, timeout=timeout)
            except (NotDelivered, Overloaded, DeadlineExceeded, HandlerFailed) as error:
                if attempt == policy.attempts or not self._budget.spend():
                    raise
                self._retries.value += 1
                pause = policy.delay(attempt, random.random())
                await asyncio.sleep(max(pause, error.retry_after) if isinstance(error, Overloaded) else pause)
        raise AssertionError("unreachable: a policy has at least one attempt")

    async def emit(self, event: Event, *, id: str | None = None) -> str:
        """Publish an event from outside its actor, and return its id once it is stored (for tools and bridges).

        Raises `PublishError` where it is not acknowledged, `TimeoutError` where that is unknown (safe to repeat under `id`).
        """
        contract = contract_of(event)
        if contract.op != "event":
            raise DeclarationError(f"{type(event).__name__} is no event")
        from .relay import event_headers

        names = Names(contract.actor, self.namespace)
        event_id = id or new_id()
        token = key_token(contract.key_of(event)) if contract.key_of is not None else NO_KEY
        subject = names.event(contract.name, token)
        template = self._route(contract).template
        span = template.child({semconv.MESSAGING_MESSAGE_ID: event_id})
        block = (
            event_headers(contract.actor, contract.type.__name__, event_id, token, time.time()) + inject(span) + b"\r\n"
        )
        try:
            await self._jetstream.publish(subject, encode(event), headers=block, timeout=self.timeout)
        except (PublishError, TimeoutError) as error:
            finish(span, None, type(error).__name__, str(error))
            raise
        finish(span)
        return event_id

    async def request(
        self, message: Message, *, command_id: str | None, timeout: float | None, call: Call | None
    ) -> Any:
        """Send a query or command for `call` (None: a plain program); `Actor.query` and `Actor.command` come here."""
        route = self._routes.get(type(message)) or self._route(contract_of(message))
        now = time.time()
        deadline = now + (timeout if timeout is not None else self.timeout)
        if call is not None and call.deadline and call.deadline < deadline:
            deadline = call.deadline
            if deadline <= now:
                raise DeadlineExceeded(f"{route.subject_text}: the caller's deadline has passed", executed=False)
        self._budget.earn()
        if call is None:
            return await self._attempt(route, message, deadline, command_id, None)
        patience = min(now + PATIENCE, deadline)
        pause = 0.01
        while True:
            try:
                return await self._attempt(route, message, deadline, command_id, call)
            except NotDelivered as error:
                # A handler is not failed by the moment in which an actor changes hands; plain programs are told at once.
                if isinstance(error, CircuitOpen) or time.time() + pause > patience or not self._budget.spend():
                    raise
            self._retries.value += 1
            await asyncio.sleep(pause * (0.5 + random.random() / 2))
            pause *= 2

    async def _attempt(
        self, route: Route, message: Message, deadline: float, command_id: str | None, call: Call | None
    ) -> Any:
        """Send a request once; one attempt is one CLIENT span."""
        breaker = route.breaker
        span = route.template.child()
        begun = time.perf_counter()
        try:
            if not breaker.allows():
                raise CircuitOpen(f"{route.subject_text}: the circuit is open after failures in a row")
            block = self._headers(span, deadline, command_id, call)
            response = await self._send(route, message, block, deadline - time.time())
            breaker.answered()
            value = self._read(route, response)
        except RequestError as error:
            if isinstance(error, NotDelivered | DeadlineExceeded) and not error.remote:
                if not isinstance(error, CircuitOpen):
                    breaker.failed()
            else:
                breaker.answered()
            finish(span, error.code, type(error).__name__, str(error))
            route.durations.record_error(time.perf_counter() - begun, error.code, type(error).__name__)
            raise
        except BaseException as error:
            breaker.released()
            finish(span, None, type(error).__name__)
            raise
        span.end()
        route.durations.record(time.perf_counter() - begun)
        return value

    async def _send(self, route: Route, message: Message, block: bytes, timeout: float) -> Response:
        subject = route.subject_text
        try:
            if not self.connection.is_connected:
                await self.connection.wait_connected(timeout)
            expires_at = self._loop.time() + timeout
            return await self.connection.request_nowait(route.subject, encode(message), block, expires_at)
        except NoResponders:
            raise NotDelivered(f"{subject}: nobody serves it") from None
        except ConnectionLost as error:
            raise DeadlineExceeded(f"{subject}: the connection was lost before the reply") from error
        except (NotConnected, PublishError) as error:
            raise NotDelivered(f"{subject}: {error}") from error
        except TimeoutError:
            raise DeadlineExceeded(f"{subject}: no reply within {timeout:.3g} s") from None

    def _headers(self, span: Any, deadline: float, command_id: str | None, call: Call | None) -> bytes:
        block = b"NATS/1.0\r\n%bDeadline: %d\r\n" % (inject(span), deadline * 1000)
        if command_id is not None:
            if "\r" in command_id or "\n" in command_id:
                raise CodecError("a command's id cannot contain a line break")
            block += b"Idempotency-Key: " + command_id.encode() + b"\r\n"
        if call is not None:
            here = f"{call.actor}/{key_token(call.key)}" if call.key else call.actor
            block += (
                f"Call-Chain: {call.chain},{here}\r\n".encode() if call.chain else f"Call-Chain: {here}\r\n".encode()
            )
        return block + b"\r\n"

    def _read(self, route: Route, response: Response) -> Any:
        block = response.headers
        content_type = None
        if block is not None:
            if headers.SERVICE_ERROR_CODE in block:
                raise read_error(block, response.payload)
            content_type = MSGPACK if b"application/msgpack" in block else None
        if route.decode is None:
            return None
        try:
            return route.decode.decode(response.payload, content_type)
        except CodecError as error:
            failed = HandlerFailed(f"{route.subject_text}: the reply does not fit {route.contract.reply}: {error}")
            failed.executed = True
            raise failed from error

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
    import os

    chosen = options or ConnectionOptions.from_env(os.environ, **({"url": url} if url else {}))
    tracing = Tracing.from_env()
    connection = await Connection.connect(chosen, name=service)
    try:
        yield Bus(connection, tracing.service(service), namespace=namespace, timeout=timeout)
    finally:
        await connection.close()
        await asyncio.to_thread(tracing.shutdown)
