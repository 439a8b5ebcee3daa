"""Queries: from the read loop to the handler and its reply. This is the hottest path of the runtime."""

import time
from typing import Any

from msgspec import ValidationError
from opentelemetry.trace import Span

from runtime.actor.call import Call, CallScope, check_depth
from runtime.actor.handler import Handler
from runtime.actor.invoke import make_invoke
from runtime.clocks import elapsed
from runtime.errors import CodecError, DeadlineExceeded, Overloaded, PublishError, RequestError
from runtime.intake.context import Context
from runtime.intake.endpoint import Endpoint
from runtime.telemetry import NO_SPAN, LeanSpan, attach, attach_context, detach
from runtime.turns.failures import failure_of
from runtime.wire.codec import JSON, UNDECODABLE, Format, encode, explain, format_of
from runtime.wire.envelope import EQUALS_SIGN, NO_ROOM_FOR_TRACE, read_plain, read_query
from runtime.wire.replies import invalid_message

_now = time.time_ns


class QueryCall(Call, gc=False, eq=False):
    """A query from its receipt to its reply, and the call of its handler: one object for both, which costs less than two."""

    endpoint: "QueryEndpoint"
    reply: bytes
    """The reply subject."""
    block: bytes | None
    """The header block."""
    span: Span
    received_ns: int
    """Unix nanoseconds at which the query was received."""
    message: Any = None
    format: Format = JSON
    """The format of the reply."""

    async def run(self) -> None:
        """Run the handler and answer. Never raises."""
        endpoint = self.endpoint
        span = self.span
        block = self.block
        if block is not None and EQUALS_SIGN in block:
            token = attach(span, block)
        else:
            # The block has no tracestate and no baggage. Without a span, the empty context of the worker is right.
            token = attach_context(span) if span is not NO_SPAN else None
        try:
            if self.deadline and elapsed() > self.deadline:
                raise DeadlineExceeded(
                    f"{endpoint.subject}: the deadline has passed, by the clock of the NATS server", executed=False
                )
            if endpoint.keyed:
                result = await self._run_keyed()
            else:
                # Here and below, a function that is an attribute is read first and then called: the call in one step
                # looks for a method of that name first.
                invoke = endpoint.invoke
                result = await invoke(endpoint.handler, self, self.message)
            if self.ended:
                return
            payload: bytes | None = None
            if endpoint.returns_state and result is self.state and result is not None:
                payload = encode(result)
            elif type(result) is endpoint.plain_type:
                # `encode_result` in place: its calls cost 4 % of a query.
                try:
                    check = endpoint.check_json
                    payload = encode(result)
                    check(payload)
                except Exception:  # noqa: BLE001 - `encode_result` fails as well, and its error names the field
                    payload = None
            if payload is None:
                payload = endpoint.encode_result(result, "reply")
            if span is not NO_SPAN or self.format is not JSON or endpoint.silent:
                if self.format is not JSON:
                    payload = endpoint.handler.result.encode_in(self.format, result)
                endpoint.answer(self, payload)
                return
            # The untraced part of `answer`, in place: the call costs 2.3 % of a query (`bench instructions`).
            try:
                respond = endpoint.respond
                respond(self.reply, payload)
            except PublishError as error:
                endpoint.answer_unsendable(self, error)
            else:
                endpoint.durations.record(_now() - self.received_ns)
        except BaseException as error:
            if self.ended:
                return
            context = endpoint.context
            failure = self.cut or failure_of(error, context.served.exit, context.workers.survives_cancellation)
            if failure is None:
                self.abandon()
                raise
            if endpoint.keyed and not context.turns.owns():
                failure = endpoint.stopping_error()  # The handler may have failed on a state that is out of date.
            endpoint.answer_error(self, failure)
        finally:
            self.ended = True
            if token is not None:
                detach(token)

    @property
    def executed(self) -> bool:
        """Whether it took effect: a query never does."""
        return False

    @property
    def running(self) -> Call:
        """Its call: a query runs until it is answered."""
        return self

    @property
    def awaited(self) -> bool:
        """Whether somebody may wait for its reply."""
        return True

    @property
    def handler(self) -> Handler:
        """Its handler."""
        return self.endpoint.handler

    @property
    def behind(self) -> int:
        """How many queries of the actor wait for a worker."""
        return len(self.endpoint.context.workers)

    def overrun(self, reason: str) -> Exception:
        """Return the answer if the handler is cut."""
        return DeadlineExceeded(f"{self.endpoint.subject}: the handler was cut at {reason}", executed=False)

    def mark_cut(self, reason: str) -> None:
        """Add the cut of its handler to the span."""
        if self.span.is_recording():
            self.span.add_event("handler.cut", {"actorloom.cut.reason": reason})

    def release(self, error: Exception) -> None:
        """Answer with `error`, though the handler has not ended."""
        self.endpoint.answer_error(self, error)

    def abandon(self) -> None:
        """Answer that this process stops."""
        self.endpoint.answer_error(self, self.endpoint.stopping_error())

    async def _run_keyed(self) -> Any:
        """Run the handler on the last committed state of its key, or of all keys, even while a command of the key runs.

        The check that the keys are owned is at the end: a lease that is held then was held when the state was read.
        """
        endpoint = self.endpoint
        turns, key_of = endpoint.context.turns, endpoint.handler.key_of
        if key_of is None:
            result = await endpoint.invoke(endpoint.handler, self, self.message)
            if not turns.owns():
                raise endpoint.stopping_error()
            return result
        try:
            entry = turns.keys.use(key_of(self.message))
        except CodecError as error:
            raise invalid_message(endpoint.subject, str(error)) from None
        entry.queries += 1
        try:
            state = entry.state if entry.readable else await turns.keys.read(entry)
            self.key = entry.key
            states = endpoint.states
            self.state = state if states is None or not states.mutable else states.copy(state)
            result = await endpoint.invoke(endpoint.handler, self, self.message)
            if not turns.owns():
                raise endpoint.stopping_error()
            return result
        finally:
            entry.queries -= 1
            if not entry.sequence:
                turns.keys.release(entry)


class QueryEndpoint(Endpoint):
    """Receives the queries of one subject."""

    def __init__(self, context: Context, handler: Handler) -> None:
        super().__init__(context, handler)
        served = context.served
        self.invoke = make_invoke(served.actor)
        self.keyed = served.keyed
        self.scope = CallScope(
            served.name, context.requests, context.lists, handler.source, context.served.connection.clock
        )
        self.encode_result = handler.result.encode
        self.plain_type, self.check_json = handler.result.plain_type, handler.result.decode_first
        self.states = states = served.actor.state_codec
        self.returns_state = states is not None and states.type is handler.result.type and not states.mutable
        """Whether the state itself may be the reply. It was read back when it was stored, so it is not checked again."""
        self._decode = handler.codec.decode
        self._decode_first = handler.codec.decode_first
        self._receive = self.template.receive
        self._traced = self.template.records
        self._workers = context.workers
        self._clock = served.connection.clock
        self._mailbox = served.options.mailbox

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Decode a query and put it into the mailbox. Called from the read loop; never raises."""
        # These two comparisons test for the prefix "_INBOX." in a third of the time of `startswith`.
        if not b"_INBOX." <= reply < b"_INBOX/" and not reply.startswith(self._inboxes):
            self.drop(reply)
            return
        receive, decode = self._receive, self._decode_first
        if block is None or len(block) <= NO_ROOM_FOR_TRACE:
            span = receive(None) if self._traced else NO_SPAN
        else:
            span = receive(block)
        received_ns = span.started if type(span) is LeanSpan else _now()
        body_format = JSON
        try:
            # The call is made last: assigning an attribute of a struct costs more than an argument.
            deadline = 0.0 if block is None else read_plain(block, type(span) is LeanSpan and span.remote)
            if deadline is not None:
                if deadline:
                    deadline -= self._clock.offset
                try:
                    message = decode(payload or b"{}")
                except ValidationError:
                    message = self._decode(payload)
                call = QueryCall(self, reply, block, span, received_ns, message, scope=self.scope, deadline=deadline)
            else:
                assert block is not None
                deadline, chain, content_type = read_query(block)
                if deadline:
                    deadline -= self._clock.offset
                if content_type is not None:
                    body_format = format_of(content_type)
                message = self._decode(payload, body_format)
                if chain:
                    check_depth(self.subject, chain)
                call = QueryCall(
                    self, reply, block, span, received_ns, message, body_format,
                    scope=self.scope, deadline=deadline, chain=chain,
                )  # fmt: skip
            if not self._workers.put(call, self._mailbox):
                raise Overloaded(f"{self.subject}: the mailbox is full", self.context.retry_after())
        except BaseException as error:  # noqa: BLE001 - the types of a message may run code of the application
            self._refuse(QueryCall(self, reply, block, span, received_ns, None, body_format, scope=self.scope), error)

    def _refuse(self, call: QueryCall, error: BaseException) -> None:
        """Answer a query that does not get into the mailbox."""
        if isinstance(error, (CodecError, *UNDECODABLE)):
            self.answer_error(call, invalid_message(self.subject, explain(error)))
        elif isinstance(error, RequestError):
            self.answer_error(call, error)
        else:
            self.fail(call, error)
