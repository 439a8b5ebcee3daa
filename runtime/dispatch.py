"""Dispatch: a request in, an answer out. The hot path of queries and commands (architecture.md §3, steps 1, 2 and 7).

All that does not vary from message to message is prepared per endpoint; a request costs a decode, a span, a hop through
the mailbox and an encode.
"""

import logging
import time
from collections.abc import Callable
from copy import copy
from typing import Any

import msgspec
from opentelemetry.trace import Span, SpanKind

from . import headers
from .actor import Actor, view
from .answer import error_body, error_reply, invalid, is_internal
from .call import Call, Lists, Requests, Timer
from .codec import encode, encode_msgpack, is_msgpack
from .errors import (
    CallCycle,
    CodecError,
    DeadlineExceeded,
    InvalidMessage,
    NotDelivered,
    Overloaded,
    PublishError,
    RequestError,
)
from .handler import Handler
from .ids import key_for, new_id
from .mailbox import Workers
from .message import Accepted, NewKey
from .nats.connection import Connection
from .nats.service import EndpointStats
from .options import Options
from .record import is_null
from .subject import Names, key_token
from .tracing import ServiceTracer, attach, detach, finish, response_line
from .tracing import conventions as semconv
from .turn import Turns, Work

log = logging.getLogger("actorloom.dispatch")

INBOXES = (b"_INBOX", b"_R_.", b"_GR_.")
"""What a reply subject begins with (a client's inbox, or what a gateway or an imported service makes of it). A reply to
anything else would let a caller publish with our permissions, into a stream or to the JetStream API."""

MAX_CHAIN = 32
"""Calls within calls; more is a recursion that no key's lane can see."""

_MAX_ID = 256


class Query:
    """A query on its way: from the read loop to a worker."""

    __slots__ = ("begun", "block", "chain", "deadline", "endpoint", "message", "msgpack", "reply", "span")

    def __init__(self, endpoint: "QueryEndpoint", reply: bytes, block: bytes | None, span: Span) -> None:
        self.endpoint = endpoint
        self.reply = reply
        self.block = block
        self.span = span
        self.begun = time.perf_counter_ns()
        self.message: Any = None
        self.deadline = 0.0
        self.chain = ""
        self.msgpack = False


class Endpoint:
    """What queries and commands share: the prepared handler, its subject, and how answers and errors leave."""

    def __init__(self, dispatcher: "Dispatcher", handler: Handler) -> None:
        names = dispatcher.names
        self.dispatcher = dispatcher
        self.handler = handler
        self.op = handler.contract.op
        self.subject = names.request(self.op, handler.contract.name)
        self.stats = EndpointStats()
        method = f"{names.actor}/{handler.contract.name}"
        host, port = dispatcher.connection.server_address
        attributes = {**semconv.rpc_attributes(method), semconv.SERVER_ADDRESS: host, semconv.SERVER_PORT: port}
        self.template = dispatcher.tracer.template(method, SpanKind.SERVER, attributes)
        self._respond = dispatcher.connection.respond
        self._durations = dispatcher.tracer.durations(semconv.RPC_SERVER_CALL_DURATION, attributes)

    def answer(self, span: Span, reply: bytes, begun: int, value: Any, msgpack: bool) -> None:
        """Send the reply of a handler that returned `value`."""
        line = response_line(span)
        try:
            if msgpack:
                block = b"NATS/1.0\r\nContent-Type: application/msgpack\r\n" + line + b"\r\n"
                self._respond(reply, encode_msgpack(value), block)
            elif value is None:
                self._respond(reply, b"", b"NATS/1.0\r\n" + line + b"\r\n" if line else None)
            else:
                self._respond(reply, encode(value), b"NATS/1.0\r\n" + line + b"\r\n" if line else None)
        except NotDelivered:
            raise
        except PublishError as error:
            log.error("%s: the reply could not be sent: %s", self.subject, error)
            self.refuse(span, reply, begun, RequestError(f"{self.subject}: the reply could not be sent"), msgpack)
            return
        span.end()
        taken = time.perf_counter_ns() - begun
        stats = self.stats
        stats.requests += 1
        stats.processing_ns += taken
        self._durations.record(taken / 1e9)

    def refuse(self, span: Span, reply: bytes, begun: int, error: BaseException, msgpack: bool) -> None:
        """Send an error reply. What is the actor's own failure is logged in full here and said in short there."""
        body = error_body(error, self.subject)
        if is_internal(error):
            span.record_exception(error)
            log.error("%s failed", self.subject, exc_info=error)
        elif body.code >= 500:
            log.warning("%s: %s", self.subject, error)
        block, payload = error_reply(body, response_line(span), msgpack)
        kind = type(error).__name__ if body.code == 500 else body.kind
        finish(span, body.code, kind, body.message)
        taken = time.perf_counter_ns() - begun
        stats = self.stats
        stats.requests += 1
        stats.errors += 1
        stats.processing_ns += taken
        stats.last_error = body.message
        self._durations.record_error(taken / 1e9, body.code, kind)
        try:
            self._respond(reply, payload, block)
        except PublishError as unsent:
            # The caller learns by its deadline; there is no other way to it.
            log.warning("%s: an error reply could not be sent: %s", self.subject, unsent)

    def unanswerable(self, reply: bytes) -> bool:
        """Whether a request has no reply subject, or one that is no inbox: it is not handled, and nothing is sent."""
        if reply.startswith(INBOXES) or reply.startswith(self.dispatcher.inbox):
            return False
        self.stats.errors += 1
        self.stats.last_error = "no reply subject" if not reply else "the reply subject is no inbox"
        log.warning("%s: a request was dropped: %s", self.subject, self.stats.last_error)
        return True


class QueryEndpoint(Endpoint):
    """Receives the queries of one subject."""

    def __init__(self, dispatcher: "Dispatcher", handler: Handler) -> None:
        super().__init__(dispatcher, handler)
        self.keyed = dispatcher.turns is not None and handler.key_of is not None

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Decode a query and put it into the mailbox. Called from the read loop; never raises."""
        if self.unanswerable(reply):
            return
        span = self.template.receive(block)
        query = Query(self, reply, block, span)
        try:
            content_type = None
            if block is not None:
                query.deadline, query.chain, _, content_type = headers.request_fields(block)
                query.msgpack = content_type is not None and is_msgpack(content_type)
            query.message = self.handler.codec.decode(payload, content_type)
            dispatcher = self.dispatcher
            if dispatcher.draining:
                raise NotDelivered(f"{self.subject}: draining")
            if len(dispatcher.workers) >= dispatcher.options.mailbox:
                raise Overloaded(f"{self.subject}: the mailbox is full", dispatcher.retry_after())
            dispatcher.workers.put(query)
        except CodecError as error:
            self.refuse(span, reply, query.begun, invalid(self.subject, str(error)), query.msgpack)
        except RequestError as error:
            self.refuse(span, reply, query.begun, error, query.msgpack)

    async def run(self, query: Query) -> None:
        """Run the handler and answer. Never raises."""
        dispatcher = self.dispatcher
        span = query.span
        token = attach(span, query.block)
        try:
            if query.deadline and time.time() > query.deadline:
                raise DeadlineExceeded(f"{self.subject}: the deadline has passed", executed=False)
            call = Call(
                dispatcher.names.actor,
                dispatcher.requests,
                writable=False,
                source=f"query.{self.handler.name}",
                deadline=query.deadline,
                chain=query.chain,
                lists=dispatcher.lists,
            )
            if self.keyed:
                result = await self._run_keyed(call, query.message)
            else:
                result = await self.handler.function(view(dispatcher.actor, call), query.message)
            self.answer(span, query.reply, query.begun, result, query.msgpack)
        except Exception as error:  # noqa: BLE001 - where a query's handler is called: its failure is answered
            self.refuse(span, query.reply, query.begun, _unavailable(error), query.msgpack)
        finally:
            detach(token)

    async def _run_keyed(self, call: Call, message: Any) -> Any:
        turns = self.dispatcher.turns
        assert turns is not None and self.handler.key_of is not None
        entry = turns.key(self.handler.key_of(message))
        entry.queries += 1
        try:
            if not entry.loaded:
                await turns.loaded(entry)
            call.key = entry.key
            call.state = entry.state
            return await self.handler.function(view(self.dispatcher.actor, call), message)
        finally:
            entry.queries -= 1


class CommandWork(Work):
    """A command on its way through a turn; its end is a reply."""

    __slots__ = ("begun", "endpoint", "msgpack", "reply")

    def __init__(self, endpoint: "CommandEndpoint", reply: bytes, block: bytes | None, span: Span) -> None:
        super().__init__(endpoint.running, None, span, block)
        self.endpoint = endpoint
        self.reply = reply
        self.begun = time.perf_counter_ns()
        self.msgpack = False

    def succeeded(self, reply: Any, raw: msgspec.Raw, repeated: bool) -> None:
        """Answer with the handler's value, or with the stored one."""
        if repeated:
            if self.span.is_recording():
                self.span.add_event("turn.repeated", {"actorloom.message.id": self.id})
            reply = None if is_null(raw) else msgspec.json.decode(raw) if self.msgpack else raw
        self.endpoint.answer(self.span, self.reply, self.begun, reply, self.msgpack)

    async def failed(self, error: BaseException) -> None:
        """Answer with the error."""
        self.endpoint.refuse(self.span, self.reply, self.begun, error, self.msgpack)

    def abandon(self) -> None:
        """Answer that it was not executed."""
        stopping = NotDelivered(f"{self.endpoint.subject}: the service is stopping")
        self.endpoint.refuse(self.span, self.reply, self.begun, stopping, self.msgpack)


class CommandEndpoint(Endpoint):
    """Receives the commands of one subject."""

    def __init__(self, dispatcher: "Dispatcher", handler: Handler) -> None:
        super().__init__(dispatcher, handler)
        self.running = accepting(handler) if handler.accept else handler

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Decode a command and put it into its key's lane. Called from the read loop; never raises."""
        if self.unanswerable(reply):
            return
        span = self.template.receive(block)
        work = CommandWork(self, reply, block, span)
        try:
            content_type = None
            if block is not None:
                work.deadline, work.chain, work.id, content_type = headers.request_fields(block)
                work.msgpack = content_type is not None and is_msgpack(content_type)
            if not work.id:
                work.id = new_id()
                work.remembered = False
            elif len(work.id) > _MAX_ID or not work.id.isprintable():
                raise InvalidMessage(f"{self.subject}: Idempotency-Key: at most {_MAX_ID} printable characters")
            work.message = self.handler.codec.decode(payload, content_type)
            self._admit(work)
        except CodecError as error:
            self.refuse(span, reply, work.begun, invalid(self.subject, str(error)), work.msgpack)
        except RequestError as error:
            self.refuse(span, reply, work.begun, error, work.msgpack)

    def _admit(self, work: CommandWork) -> None:
        dispatcher = self.dispatcher
        if dispatcher.draining:
            raise NotDelivered(f"{self.subject}: draining")
        turns = dispatcher.work
        handler = self.handler
        if isinstance(handler.contract.key, NewKey):
            work.key = key_for(work.id)
        elif handler.key_of is not None:
            work.key = handler.key_of(work.message)
        if work.chain:
            self._check_chain(work)
        turns.admit(work)

    def _check_chain(self, work: CommandWork) -> None:
        path = work.chain.split(",")
        here = f"{self.dispatcher.names.actor}/{key_token(work.key)}"
        if len(path) > MAX_CHAIN:
            raise CallCycle(f"{self.subject}: {len(path)} calls within calls: {' > '.join(path[:4])} > …")
        turns = self.dispatcher.turns
        if turns is not None and here in path and (entry := turns.keys.get(key_token(work.key))) and entry.active:
            raise CallCycle(
                f"{self.subject}: the call comes back to a key that waits for it: {' > '.join([*path, here])}"
            )


def accepting(handler: Handler) -> Handler:
    """Return the handler that stores a long job and replies `Accepted`; the job runs later, as a timer that is due."""
    stored = copy(handler)

    async def accept(actor: Any, message: Any) -> Accepted:
        call: Call = actor._running
        call.remind(Timer(call.message_id, message))
        return Accepted(call.message_id)

    stored.function = accept
    return stored


def _unavailable(error: Exception) -> Exception:
    """Return what a query that could not read its key answers: try again, rather than a failure of the handler."""
    if isinstance(error, TimeoutError | PublishError) and not isinstance(error, RequestError):
        unavailable = NotDelivered("the state of this key cannot be read now")
        unavailable.__cause__ = error
        return unavailable
    return error


class Dispatcher:
    """The endpoints of one actor type, and what they share."""

    def __init__(
        self,
        actor: Actor[Any],
        names: Names,
        connection: Connection,
        requests: Requests,
        turns: Turns,
        options: Options,
        tracer: ServiceTracer,
        lists: Lists | None,
        crashed: Callable[[BaseException], None],
    ) -> None:
        self.actor = actor
        self.names = names
        self.connection = connection
        self.requests = requests
        self.work = turns
        self.turns = turns if actor.state_type is not None else None
        self.options = options
        self.tracer = tracer
        self.lists = lists
        self.draining = False
        self.inbox = connection.options.inbox_prefix.encode() + b"."
        self.workers: Workers[Query] = Workers(_run_query, options.concurrency, crashed)
        handlers = actor.handlers
        self.endpoints: list[QueryEndpoint | CommandEndpoint] = [
            *(QueryEndpoint(self, handler) for handler in handlers.queries.values()),
            *(CommandEndpoint(self, handler) for handler in handlers.commands.values()),
        ]

    def retry_after(self) -> float:
        """Return the seconds after which an overloaded caller may try again."""
        return round(min(0.05 + len(self.workers) / 5000, 2.0), 3)


async def _run_query(query: Query) -> None:
    await query.endpoint.run(query)
