"""An endpoint: the subject of one query or command, and how its answers and errors leave.

All that does not vary from message to message is prepared here once; the hot paths are in `queries` and `commands`.
"""

import logging
import time
from typing import Any

from opentelemetry.trace import Span, SpanKind

from runtime.actor.handler import Handler
from runtime.errors import HandlerFailed, NotDelivered, PublishError
from runtime.intake.context import Context
from runtime.telemetry import Durations, LeanSpan, PropagatedSpan, UnsampledSpan, finish, response_line, semconv
from runtime.wire.codec import encode, encode_msgpack
from runtime.wire.replies import error_body, error_reply, is_internal

logger = logging.getLogger("actorloom.intake")

INBOXES = (b"_INBOX.", b"_R_.", b"_GR_.")
"""What a reply subject begins with (a client's inbox, or what a gateway or an imported service makes of it). A reply to
anything else would let a caller publish with our permissions, into a stream or to the JetStream API."""


_now = time.time_ns
_SILENT = frozenset((PropagatedSpan, UnsampledSpan))
"""Spans that are not recorded: there is nothing to tell the caller of."""


class RequestStats:
    """What discovery tells of an endpoint: requests that ended well are counted once, where metrics count them."""

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._served_before = sum(durations.counts)
        self._seconds_before = durations.sum
        self._refused = 0
        self._refused_ns = 0
        self.errors = 0
        self.last_error = ""

    @property
    def requests(self) -> int:
        """Requests that were answered, well or with an error."""
        return sum(self._durations.counts) - self._served_before + self._refused

    @property
    def processing_ns(self) -> int:
        """Nanoseconds from receiving them to answering them."""
        return int((self._durations.sum - self._seconds_before) * 1e9) + self._refused_ns

    def add_error(self, taken: int, text: str) -> None:
        """Count one that was answered with an error, after `taken` nanoseconds."""
        self._refused += 1
        self._refused_ns += taken
        self.errors += 1
        self.last_error = text


class Endpoint:
    """What queries and commands share. Its methods are called for each message; none of them raises."""

    def __init__(self, context: Context, handler: Handler) -> None:
        served = context.served
        names = served.names
        self.context = context
        self.handler = handler
        self.op = handler.contract.op
        self.subject = names.request(self.op, handler.contract.name)
        method = f"{names.actor}/{handler.contract.name}"
        host, port = served.connection.server_address
        attributes = {**semconv.rpc_attributes(method), semconv.SERVER_ADDRESS: host, semconv.SERVER_PORT: port}
        self.template = served.tracer.template(method, SpanKind.SERVER, attributes)
        self.durations = served.tracer.durations(semconv.RPC_SERVER_CALL_DURATION, attributes)
        self.stats = RequestStats(self.durations)
        self.respond = served.connection.respond
        self._inboxes = (*INBOXES, served.connection.options.inbox_prefix.encode() + b".")

    def answer(self, span: Span, reply: bytes, received_ns: int, value: Any, msgpack: bool) -> None:
        """Send the reply of a handler that returned `value`; `received_ns` is in unix nanoseconds."""
        # Exact types: `isinstance` of an abstract class costs four times the encoding.
        try:
            if msgpack:
                block = b"NATS/1.0\r\nContent-Type: application/msgpack\r\n" + response_line(span) + b"\r\n"
                self.respond(reply, encode_msgpack(value), block)
            elif type(span) in _SILENT:
                self.respond(reply, b"" if value is None else encode(value), None)
            else:
                if type(span) is LeanSpan:  # what `response_line` gives for it
                    block = b"".join((b"NATS/1.0\r\ntraceresponse: 00-", span.trace, b"-", span.id, b"-01\r\n\r\n"))
                else:
                    block = b"NATS/1.0\r\n%b\r\n" % response_line(span)
                self.respond(reply, b"" if value is None else encode(value), block)
        except (PublishError, OverflowError) as error:  # too large for a message, or an integer for MessagePack
            self.answer_unsendable(span, reply, received_ns, error, msgpack)
            return
        now = _now()
        span.end(now)
        self.durations.record(now - received_ns)

    def answer_unsendable(self, span: Span, reply: bytes, received_ns: int, error: Exception, msgpack: bool) -> None:
        """Answer that there is a reply which cannot be sent (it is too large, say)."""
        logger.error("%s: the reply could not be sent: %s", self.subject, error)
        unsent = HandlerFailed(f"{self.subject}: the reply could not be sent")
        unsent.executed = True  # a command has committed before it is answered
        self.answer_error(span, reply, received_ns, unsent, msgpack)

    def answer_error(self, span: Span, reply: bytes, received_ns: int, error: BaseException, msgpack: bool) -> None:
        """Send an error reply. What is the actor's own failure is logged in full here, and said in short there."""
        body = error_body(error, self.subject)
        if is_internal(error):
            span.record_exception(error)
            logger.error("%s failed", self.subject, exc_info=error)
        elif body.code >= 500:
            logger.warning("%s: %s", self.subject, error)
        block, payload = error_reply(body, response_line(span), msgpack)
        kind = type(error).__name__ if body.code == 500 else body.kind
        finish(span, body.code, kind, body.message)
        taken = _now() - received_ns
        self.stats.add_error(taken, body.message)
        self.durations.record_error(taken, body.code, kind)
        try:
            self.respond(reply, payload, block)
        except PublishError as unsent:
            # The caller learns by its deadline; there is no other way to it.
            logger.warning("%s: an error reply could not be sent: %s", self.subject, unsent)

    def stopping_error(self) -> NotDelivered:
        """Return what callers are told of a request that this process does not run any more."""
        return NotDelivered(f"{self.subject}: the service is stopping")

    def drop(self, reply: bytes) -> None:
        """Take note of a request without a reply subject, or with one that is no inbox: nothing is run, nothing sent."""
        self.stats.errors += 1
        self.stats.last_error = "the reply subject is no inbox" if reply else "no reply subject"
        logger.warning("%s: a request was dropped: %s", self.subject, self.stats.last_error)
