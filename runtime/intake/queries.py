"""Queries: from the read loop to the handler and its reply. This is the hottest path of the runtime."""

import asyncio
import time
from typing import Any

import msgspec
from opentelemetry.trace import Span

from runtime.actor.base import maker, set_call, view
from runtime.actor.call import Call, Lists, Requests, check_depth
from runtime.actor.handler import Handler
from runtime.errors import CodecError, DeadlineExceeded, Overloaded, PublishError, RequestError
from runtime.intake.context import Context
from runtime.intake.endpoint import Endpoint
from runtime.telemetry import NO_SPAN, LeanSpan, attach, attach_context, detach
from runtime.turns.workers import foreign_cancellation
from runtime.wire.codec import UNDECODABLE, encode, explain, is_msgpack
from runtime.wire.envelope import EQUALS_SIGN, NO_ROOM_FOR_TRACE, read, read_plain
from runtime.wire.replies import invalid

_now = time.time_ns


class QueryCall(Call, msgspec.Struct, gc=False, eq=False):
    """A query on its way, and the call that its handler sees: one object from the read loop to the reply."""

    endpoint: "QueryEndpoint"
    reply: bytes
    block: bytes | None
    span: Span
    begun: int
    """When it came, in unix nanoseconds."""
    message: Any = None
    msgpack: bool = False
    deadline: float = 0.0
    chain: str = ""
    key: str = ""
    state: Any = None
    ordinal: int = 0
    started: float = 0.0

    # What `Call` has as attributes comes from the endpoint: a query pays for it only where a handler asks.

    @property
    def actor(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The actor's name."""
        return self.endpoint.context.served.names.actor

    @property
    def requests(self) -> Requests:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The bus."""
        return self.endpoint.context.requests

    @property
    def lists(self) -> Lists | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The indexes."""
        return self.endpoint.context.lists

    @property
    def source(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The operation."""
        return f"query.{self.endpoint.handler.name}"

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
            if self.deadline and time.time() > self.deadline:
                raise DeadlineExceeded(f"{endpoint.subject}: the deadline has passed", executed=False)
            if endpoint.keyed:
                result = await self._run_keyed()
            else:
                # What `view` does, without a call.
                seen = endpoint.make()
                if endpoint.attributes:
                    seen.__dict__.update(endpoint.attributes)
                set_call(seen, self)
                result = await endpoint.function(seen, self.message)
            if span is NO_SPAN and not self.msgpack:
                # What `answer` does, less what an untraced reply has no use for.
                try:
                    endpoint.respond(self.reply, b"" if result is None else encode(result), None)
                except PublishError as error:
                    endpoint.answer_unsendable(span, self.reply, self.begun, error, False)
                else:
                    endpoint.durations.record(_now() - self.begun)
            else:
                endpoint.answer(span, self.reply, self.begun, result, self.msgpack)
        except asyncio.CancelledError as error:
            if (failure := foreign_cancellation(error)) is None:
                self.abandon()
                raise
            endpoint.answer_error(span, self.reply, self.begun, failure, self.msgpack)
        except Exception as error:  # noqa: BLE001 - where a query's handler is called: its failure is answered
            endpoint.answer_error(span, self.reply, self.begun, error, self.msgpack)
        finally:
            if token is not None:
                detach(token)

    def abandon(self) -> None:
        """Answer that this process stops."""
        self.endpoint.answer_error(self.span, self.reply, self.begun, self.endpoint.stopping_error(), self.msgpack)

    async def _run_keyed(self) -> Any:
        """Run the handler on the last committed state of its key, or of all keys, even while a command of the key runs."""
        endpoint = self.endpoint
        turns, key_of = endpoint.context.turns, endpoint.handler.key_of
        if not turns.owns():
            raise endpoint.stopping_error()
        if key_of is None:
            return await endpoint.function(view(endpoint.make, endpoint.attributes, self), self.message)
        try:
            entry = turns.keys.use(key_of(self.message))
        except CodecError as error:
            raise invalid(endpoint.subject, str(error)) from None
        entry.queries += 1
        try:
            if not entry.loaded:
                await turns.keys.ensure_loaded(entry)
            self.key = entry.key
            self.state = entry.state
            return await endpoint.function(view(endpoint.make, endpoint.attributes, self), self.message)
        finally:
            entry.queries -= 1


class QueryEndpoint(Endpoint):
    """Receives the queries of one subject."""

    def __init__(self, context: Context, handler: Handler) -> None:
        super().__init__(context, handler)
        actor = context.served.actor
        self.make = maker(type(actor))
        self.attributes = actor.__dict__
        self.keyed = context.served.keyed
        self.function = handler.function
        self._decode = handler.codec.decode
        self._decode_json = handler.codec.decode_json
        self._receive = self.template.receive
        self._traced = self.template.records
        self._workers = context.workers
        self._mailbox = context.served.options.mailbox

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Decode a query and put it into the mailbox. Called from the read loop; never raises."""
        # These two comparisons test for the prefix "_INBOX." in a third of the time of `startswith`.
        if not b"_INBOX." <= reply < b"_INBOX/" and not reply.startswith(self._inboxes):
            self.drop(reply)
            return
        if block is None or len(block) <= NO_ROOM_FOR_TRACE:
            span = self._receive(None) if self._traced else NO_SPAN
        else:
            span = self._receive(block)
        call = QueryCall(self, reply, block, span, span.started if type(span) is LeanSpan else _now())
        try:
            if block is None:
                call.message = self._decode_json(payload or b"{}")
            elif (deadline := read_plain(block, type(span) is LeanSpan and span.remote)) is not None:
                call.deadline = deadline
                call.message = self._decode_json(payload or b"{}")
            else:
                call.deadline, call.chain, _, content_type = read(block)
                call.msgpack = content_type is not None and is_msgpack(content_type)
                call.message = self._decode(payload, content_type)
                if call.chain:
                    check_depth(self.subject, call.chain)
            if len(self._workers) >= self._mailbox:
                raise Overloaded(f"{self.subject}: the mailbox is full", self.context.retry_after())
            self._workers.put(call)
        except (CodecError, *UNDECODABLE) as error:
            self.answer_error(span, reply, call.begun, invalid(self.subject, explain(error)), call.msgpack)
        except RequestError as error:
            self.answer_error(span, reply, call.begun, error, call.msgpack)
