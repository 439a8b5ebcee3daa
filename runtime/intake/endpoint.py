"""An endpoint: the subject of one query or command, and the ways to answer its requests.

An endpoint prepares everything that is the same for all its requests. The path of a request is in `queries` or
`commands`.
"""

import logging
import time
from typing import Any

from opentelemetry.trace import Span, SpanKind

from runtime.actor.handler import Handler
from runtime.errors import HandlerFailed, NotDelivered, PublishError
from runtime.intake.context import Context
from runtime.telemetry import Durations, PropagatedSpan, UnsampledSpan, finish, response_line, semconv
from runtime.wire.codec import JSON, Format, encode
from runtime.wire.header_block import END, START
from runtime.wire.replies import error_body, error_reply, is_internal

logger = logging.getLogger("actorloom.intake")

INBOXES = (b"_INBOX.", b"_R_.", b"_GR_.")
"""The prefixes of reply subjects: inboxes of clients, and the forms that a gateway or an imported service gives them.

A request with another reply subject is dropped. Its reply would let the caller publish with the permissions of this
process, for example into a stream or to the JetStream API (ADR 009).
"""

_now = time.time_ns
_SILENT = frozenset((PropagatedSpan, UnsampledSpan))
"""The types of spans that are not recorded. Their replies need no `traceresponse` header."""


class RequestStats:
    """The statistics of an endpoint for discovery (ADR-32).

    Successful requests are counted only once, by the metrics: the histogram of durations. This class reads their number
    there, and adds the requests that were answered with an error.
    """

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._count_before = sum(durations.counts)
        self._seconds_before = durations.sum
        self._failed = 0
        self._failed_ns = 0
        self.errors = 0
        self.last_error = ""

    @property
    def requests(self) -> int:
        """The number of answered requests, with or without an error."""
        return sum(self._durations.counts) - self._count_before + self._failed

    @property
    def processing_ns(self) -> int:
        """The nanoseconds from receipt to answer, of all requests."""
        return int((self._durations.sum - self._seconds_before) * 1e9) + self._failed_ns

    def add_error(self, taken: int, text: str) -> None:
        """Count a request that was answered with the error `text`, after `taken` nanoseconds."""
        self._failed += 1
        self._failed_ns += taken
        self.errors += 1
        self.last_error = text


class Endpoint:
    """The subject of one query or command. Its methods are called for each request, and never raise."""

    def __init__(self, context: Context, handler: Handler) -> None:
        served = context.served
        names = served.names
        self.context = context
        self.handler = handler
        self.subject = names.request(handler.contract.op, handler.contract.name)
        method = f"{names.actor}/{handler.contract.name}"
        host, port = served.connection.server_address
        attributes = {**semconv.rpc_attributes(method), semconv.SERVER_ADDRESS: host, semconv.SERVER_PORT: port}
        self.template = served.tracer.template(method, SpanKind.SERVER, attributes)
        self.durations = served.tracer.durations(semconv.RPC_SERVER_CALL_DURATION, attributes)
        self.stats = RequestStats(self.durations)
        self.respond = served.connection.respond
        self._inboxes = (*INBOXES, served.connection.options.inbox_prefix.encode() + b".")

    def answer(self, span: Span, reply: bytes, received_ns: int, value: Any, format: Format) -> None:
        """Send a reply, end the span and record the duration.

        Args:
            span: The span of the request.
            reply: The reply subject.
            received_ns: Unix nanoseconds at which the request was received.
            value: The value that the handler returned.
            format: The format of the reply.
        """
        # Spans are compared by exact type: `isinstance` with an abstract class costs four times the encoding.
        silent = type(span) in _SILENT
        try:
            if format is JSON:
                payload = encode(value) if value is not None else b""
                self.respond(reply, payload, None if silent else START + response_line(span) + END)
            else:
                block = b"".join((START, format.header_line, response_line(span), END))
                self.respond(reply, format.encode(value), block)
        except (PublishError, OverflowError) as error:  # The reply, or an integer in MessagePack, is too large.
            self.answer_unsendable(span, reply, received_ns, error, format)
            return
        now = _now()
        if not silent:
            span.end(now)
        self.durations.record(now - received_ns)

    def answer_unsendable(self, span: Span, reply: bytes, received_ns: int, error: Exception, format: Format) -> None:
        """Send an error for a reply that cannot be sent, for example because it is too large."""
        logger.error("%s: the reply could not be sent: %s", self.subject, error)
        unsent = HandlerFailed(f"{self.subject}: the reply could not be sent")
        unsent.executed = True  # A command is answered after its commit.
        self.answer_error(span, reply, received_ns, unsent, format)

    def answer_error(self, span: Span, reply: bytes, received_ns: int, error: BaseException, format: Format) -> None:
        """Send an error reply, end the span and record the duration.

        An unexpected exception is logged with its traceback. Its text is not sent: the caller receives `HandlerFailed`.
        """
        body = error_body(error, self.subject)
        if is_internal(error):
            span.record_exception(error)
            logger.error("%s failed", self.subject, exc_info=error)
        elif body.code >= 500:
            logger.warning("%s: %s", self.subject, error)
        block, payload = error_reply(body, response_line(span), format)
        kind = type(error).__name__ if body.code == 500 else body.kind
        finish(span, body.code, kind, body.message)
        taken = _now() - received_ns
        self.stats.add_error(taken, body.message)
        self.durations.record_error(taken, body.code, kind)
        try:
            self.respond(reply, payload, block)
        except PublishError as unsent:
            # The caller waits until its deadline: this was the only way to reach it.
            logger.warning("%s: an error reply could not be sent: %s", self.subject, unsent)

    def stopping_error(self) -> NotDelivered:
        """Return the error for a request that this process received and no longer runs."""
        return NotDelivered(f"{self.subject}: the service is stopping")

    def drop(self, reply: bytes) -> None:
        """Count and log a request without a reply subject, or with one that is no inbox. It is not run or answered."""
        self.stats.errors += 1
        self.stats.last_error = "the reply subject is no inbox" if reply else "no reply subject"
        logger.warning("%s: a request was dropped: %s", self.subject, self.stats.last_error)
