"""An endpoint: the subject of one query or command, and the ways to answer its requests.

An endpoint prepares everything that is the same for all its requests. The path of a request is in `queries` or
`commands`.
"""

import logging
import time
from typing import Protocol

from opentelemetry.trace import Span, SpanKind

from runtime.actor.handler import Handler
from runtime.errors import HandlerFailed, NotDelivered, Overloaded, PublishError, TooLarge
from runtime.faults import error_text, log_fault
from runtime.intake.context import Context
from runtime.nats.connection import Connection
from runtime.options import Options
from runtime.storage.record import Unreadable
from runtime.telemetry import NO_SPAN, Durations, finish, response_block, response_line, semconv
from runtime.telemetry.bursts import Bursts
from runtime.turns.elsewhere import Elsewhere
from runtime.turns.failures import failure_of
from runtime.wire import header_block
from runtime.wire.codec import JSON, Format
from runtime.wire.header_block import END, START
from runtime.wire.replies import error_body, error_reply, is_internal

logger = logging.getLogger("actorloom.intake")

INBOXES = (b"_INBOX.", b"_R_.", b"_GR_.")
"""The prefixes of reply subjects: inboxes of clients, and the forms that a gateway or an imported service gives them.

A request with another reply subject is dropped. Its reply would let the caller publish with the permissions of this
process, for example into a stream or to the JetStream API (ADR 009).
"""


def inboxes(connection: Connection) -> tuple[bytes, ...]:
    """Return the prefixes of reply subjects that a process accepts: its own inboxes may have another prefix."""
    return (*INBOXES, connection.options.inbox_prefix.encode() + b".")


_now = time.time_ns


class RequestStats:
    """The statistics of an endpoint for discovery (ADR-32).

    Successful requests are counted only once, by the metrics: the histogram of durations. This class reads their number
    there, and adds the requests that were answered with an error.
    """

    def __init__(self, durations: Durations) -> None:
        self.durations = durations
        self._count_before = sum(durations.counts)
        self._seconds_before = durations.sum
        self._failed = 0
        self._failed_ns = 0
        self.errors = 0
        self.last_error = ""

    @property
    def requests(self) -> int:
        """The number of answered requests, with or without an error."""
        return sum(self.durations.counts) - self._count_before + self._failed

    @property
    def processing_ns(self) -> int:
        """The nanoseconds from receipt to answer, of all requests."""
        return int((self.durations.sum - self._seconds_before) * 1e9) + self._failed_ns

    def add_error(self, taken: int, text: str) -> None:
        """Count a request that was answered with the error `text`, after `taken` nanoseconds."""
        self._failed += 1
        self._failed_ns += taken
        self.errors += 1
        self.last_error = text


class Request(Protocol):
    """A query or command that an endpoint has received, from its receipt to its reply."""

    span: Span
    reply: bytes
    """The reply subject."""
    received_ns: int
    """Unix nanoseconds at which it was received."""
    format: Format
    """The format of its reply."""

    @property
    def executed(self) -> bool | None:
        """Whether it has taken effect; as in `RequestError`."""
        ...


class Endpoint:
    """The subject of one query or command. Its methods are called for each request, and never raise."""

    announced = True
    """Whether discovery lists it."""

    def __init__(self, context: Context, handler: Handler, op: str = "") -> None:
        served = context.served
        names = served.names
        self.context = context
        self.handler = handler
        op, name = op or handler.contract.op, handler.contract.name
        self.subject = names.request(op, name)
        """The subject on which anybody sends its requests; of a partitioned actor, the `Router` receives these."""
        self.own_subject = names.owner(op, name)
        """The subject on which it receives requests."""
        method = f"{names.actor}/{name}" if op == handler.contract.op else f"{names.actor}/{op}_{name}"
        attributes = semconv.rpc_attributes(method, served.connection.server_address)
        self.template = served.tracer.template(method, SpanKind.SERVER, attributes)
        self.durations = served.tracer.durations(semconv.RPC_SERVER_CALL_DURATION, attributes)
        self.stats = RequestStats(self.durations)
        self.respond = served.connection.respond
        self.silent = handler.contract.reply in (None, type(None))
        """Whether the reply is empty: that of a ``Command[None]`` or a ``Query[None]``."""
        self._inboxes = inboxes(served.connection)

    def receive(self, subject: bytes, reply: bytes, block: bytes | None, payload: bytes) -> None:
        """Receive a request. Called from the read loop; never raises."""
        raise NotImplementedError

    def answer(self, request: Request, payload: bytes) -> None:
        """Send the body of a reply, which is in the format of the request, end the span and record the duration."""
        span = request.span
        try:
            if request.format is JSON:
                block = None if span is NO_SPAN else response_block(span)
                self.respond(request.reply, b"" if self.silent else payload, block)
            else:
                block = b"".join((START, request.format.header_line, response_line(span), END))
                self.respond(request.reply, payload, block)
        except PublishError as error:
            self.answer_unsendable(request, error)
            return
        now = _now()
        if span is not NO_SPAN:
            span.end(now)
        self.durations.record(now - request.received_ns)

    def answer_unsendable(self, request: Request, error: Exception) -> None:
        """Send an error for a reply that cannot be sent, for example because it is too large."""
        text = f"the reply could not be sent: {error_text(error)}"
        self._log(logging.ERROR, type(error).__name__, text, "replies could not be sent")
        unsent = HandlerFailed(f"{self.subject}: the reply could not be sent")
        unsent.executed = request.executed
        self.answer_error(request, unsent)

    def answer_error(self, request: Request, error: BaseException) -> None:
        """Send an error reply, end the span and record the duration.

        An unexpected exception is logged with its traceback. Its text is not sent: the caller receives `HandlerFailed`.
        """
        span = request.span
        body = error_body(error, self.subject)
        if request.executed or (body.executed is False and request.executed is None):
            body.executed = request.executed  # The error speaks of one run, of a nested command perhaps.
        if body.code >= 500 and is_internal(error):
            span.record_exception(error)
            log_fault(logger, "%s failed", self.subject, error=error)
        elif isinstance(error, Overloaded | TooLarge) or (body.code >= 500 and not isinstance(error, Unreadable)):
            # The journal logs an unreadable record, once.
            self._log(logging.WARNING, body.kind, error_text(error), "requests were refused")
        lines = response_line(span)
        if isinstance(error, Elsewhere) and body.executed is False:
            body.kind, lines = NotDelivered.__name__, lines + elsewhere_lines(error.owning, self.context.served.options)
        block, payload = error_reply(body, lines, request.format)
        kind = type(error).__name__ if body.code == 500 else body.kind
        finish(span, body.code, kind, body.message)
        taken = _now() - request.received_ns
        self.stats.add_error(taken, body.message)
        self.durations.record_error(taken, body.code, kind)
        try:
            self.respond(request.reply, payload, block)
        except PublishError as unsent:
            # The caller waits until its deadline: this was the only way to reach it.
            text = f"an error reply could not be sent: {unsent}"
            self._log(logging.WARNING, type(unsent).__name__, text, "error replies could not be sent")

    def fail(self, request: Request, error: BaseException) -> None:
        """Answer a request that raised an exception of the application before its handler: its `__post_init__`, say."""
        self.answer_error(request, failure_of(error, self.context.served.exit) or error)

    def stopping_error(self) -> NotDelivered:
        """Return the error for a request that this process received and no longer runs."""
        return NotDelivered(f"{self.subject}: the service is stopping")

    def drop(self, reply: bytes) -> None:
        """Count and log a request without a reply subject, or with one that is no inbox. It is not run or answered."""
        drop(self.stats, self.context.served.bursts, self.subject, reply)

    def _log(self, level: int, kind: str, text: str, what: str) -> None:
        """Log a request that failed; see `Bursts.log`. A burst of them is one line."""
        self.context.served.bursts.log(logger, level, self.subject, kind, text, what)


def drop(stats: RequestStats, bursts: Bursts, subject: str, reply: bytes) -> None:
    """Count and log a request with a reply subject that is no inbox, as `Endpoint.drop` does."""
    stats.errors += 1
    stats.last_error = "the reply subject is no inbox" if reply else "no reply subject"
    text = f"a request was dropped: {stats.last_error}"
    bursts.log(logger, logging.WARNING, subject, stats.last_error, text, "requests were dropped")


def elsewhere_lines(number: int, options: Options) -> bytes:
    """Return the header lines of an error for a request that certainly reached no owner of its partition.

    They let the caller send it again, to the right owner.
    """
    partitions = header_block.line(header_block.PARTITIONS, b"%d" % options.partitions)
    return partitions + header_block.line(header_block.UNSERVED, b"%d" % number)
