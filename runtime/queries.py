"""Queries: from the read loop to the handler and its answer. The hottest path of the runtime."""

import asyncio
import time
from typing import TYPE_CHECKING, Any

from opentelemetry.trace import Span

from . import headers
from .actor import view
from .answer import invalid
from .call import Call, Lists, Requests, check_depth
from .codec import UNDECODABLE, encode, explain, is_msgpack
from .endpoint import Endpoint
from .errors import CodecError, DeadlineExceeded, NotDelivered, Overloaded, PublishError, RequestError
from .handler import Handler
from .mailbox import stray
from .tracing import attach, detach
from .tracing.carried import NOTHING

if TYPE_CHECKING:
    from .dispatch import Dispatcher

_now = time.perf_counter_ns


class QueryCall(Call):
    """A query on its way, and the call that its handler sees: one object from the read loop to the reply."""

    def __init__(self, endpoint: "QueryEndpoint", reply: bytes, block: bytes | None, span: Span) -> None:
        self.endpoint = endpoint
        self.reply = reply
        self.block = block
        self.span = span
        self.begun = _now()

    message: Any
    msgpack = False

    # What `Call` has as attributes comes from the endpoint: a query pays for it only where a handler asks.

    @property
    def actor(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The actor's name."""
        return self.endpoint.dispatcher.names.actor

    @property
    def requests(self) -> Requests:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The bus."""
        return self.endpoint.dispatcher.requests

    @property
    def lists(self) -> Lists | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The indexes."""
        return self.endpoint.dispatcher.lists

    @property
    def source(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The operation."""
        return f"query.{self.endpoint.handler.name}"

    async def run(self) -> None:
        """Run the handler and answer. Never raises."""
        endpoint = self.endpoint
        span = self.span
        # Without a trace or baggage (it has an "=") there is nothing to make current: a worker's own context is empty.
        block = self.block
        token = attach(span, block) if span is not NOTHING or (block is not None and 61 in block) else None
        try:
            if self.deadline and time.time() > self.deadline:
                raise DeadlineExceeded(f"{endpoint.subject}: the deadline has passed", executed=False)
            if endpoint.keyed:
                result = await self._run_keyed()
            else:
                result = await endpoint.function(view(endpoint.kind, endpoint.attributes, self), self.message)
            if span is NOTHING and not self.msgpack:
                # What `answer` does, less what an untraced reply has no use for.
                try:
                    endpoint.respond(self.reply, b"" if result is None else encode(result), None)
                except PublishError as error:
                    endpoint.unsent(span, self.reply, self.begun, error, False)
                else:
                    endpoint.durations.record((_now() - self.begun) / 1e9)
            else:
                endpoint.answer(span, self.reply, self.begun, result, self.msgpack)
        except asyncio.CancelledError as error:
            if (failure := stray(error)) is None:
                self.abandon()
                raise
            endpoint.refuse(span, self.reply, self.begun, failure, self.msgpack)
        except Exception as error:  # noqa: BLE001 - where a query's handler is called: its failure is answered
            endpoint.refuse(span, self.reply, self.begun, error, self.msgpack)
        finally:
            if token is not None:
                detach(token)

    def abandon(self) -> None:
        """Answer that this process stops."""
        stopping = NotDelivered(f"{self.endpoint.subject}: the service is stopping")
        self.endpoint.refuse(self.span, self.reply, self.begun, stopping, self.msgpack)

    async def _run_keyed(self) -> Any:
        """Run on the last committed state of the key, beside whatever command runs there."""
        endpoint = self.endpoint
        turns, key_of = endpoint.dispatcher.work, endpoint.handler.key_of
        assert key_of is not None
        try:
            entry = turns.key(key_of(self.message))
        except CodecError as error:
            raise invalid(endpoint.subject, str(error)) from None
        entry.queries += 1
        try:
            if not entry.loaded:
                await turns.loaded(entry)
            self.key = entry.key
            self.state = entry.state
            return await endpoint.function(view(endpoint.kind, endpoint.attributes, self), self.message)
        finally:
            entry.queries -= 1


class QueryEndpoint(Endpoint):
    """Receives the queries of one subject."""

    def __init__(self, dispatcher: "Dispatcher", handler: Handler) -> None:
        super().__init__(dispatcher, handler)
        self.kind = type(dispatcher.actor)
        self.attributes = dispatcher.actor.__dict__
        self.keyed = dispatcher.keyed and handler.key_of is not None
        self.function = handler.function
        self._decode = handler.codec.decode
        self._decode_json = handler.codec.decode_json
        self._receive = self.template.receive
        self._traced = self.template.records
        self._put = dispatcher.workers.put
        self._waiting = dispatcher.workers.waiting
        self._mailbox = dispatcher.options.mailbox

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Decode a query and put it into the mailbox. Called from the read loop; never raises."""
        if not reply.startswith(self._inboxes):
            self.drop(reply)
            return
        if block is None or len(block) == 37:  # no room for a trace
            span = self._receive(None) if self._traced else NOTHING
        else:
            span = self._receive(block)
        call = QueryCall(self, reply, block, span)
        try:
            if block is None:
                call.message = self._decode_json(payload or b"{}")
            elif (
                block[-28:-17] == b"\nDeadline: "
                and (len(block) == 37 or (len(block) == 107 and block[10:23] == b"traceparent: "))
                and (digits := block[-17:-4]).isdigit()
            ):
                # As our own bus sends it: at most a trace, and the deadline (13 digits until the year 2286).
                call.deadline = int(digits) / 1000
                call.message = self._decode_json(payload or b"{}")
            else:
                call.deadline, call.chain, _, content_type = headers.request_fields(block)
                call.msgpack = content_type is not None and is_msgpack(content_type)
                call.message = self._decode(payload, content_type)
                if call.chain:
                    check_depth(self.subject, call.chain)
            if len(self._waiting) >= self._mailbox:
                raise Overloaded(f"{self.subject}: the mailbox is full", self.dispatcher.retry_after())
            self._put(call)
        except (CodecError, *UNDECODABLE) as error:
            self.refuse(span, reply, call.begun, invalid(self.subject, explain(error)), call.msgpack)
        except RequestError as error:
            self.refuse(span, reply, call.begun, error, call.msgpack)
