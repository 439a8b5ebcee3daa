"""The sender: sends one query or command and reads its reply, with further attempts if no process serves it.

**Further attempts.** An actor that changes owners is unavailable for a moment, typically much less than a second. Requests
that arrive in this moment meet no subscriber, and the server reports that at once. The sender repeats such a request for up
to `RESEND_PERIOD` seconds, so that callers do not notice the change. It repeats only requests that certainly were not
executed: with any other failure, the outcome may be unknown, and only the caller knows whether a repetition is harmful.

**Handlers.** A service that is stopping, or cannot store a turn, refuses requests with code 503. That refusal, too, means that
nothing was executed. The sender repeats such a request if a handler has sent it, because a failed request is a failure of the
whole handler. A plain program gets the error, and may use `Bus.retry`.

**Budget.** Retries draw on a budget, so that they cannot multiply the load of a service in trouble. An attempt that met no
subscriber, or an open circuit, is free: the nearest server or this process has refused it, so it has cost the service
nothing. When an actor changes owners, all of its callers repeat their requests at the same time, far more than the budget
allows.
"""

import asyncio
import itertools
import time
from typing import Any

from opentelemetry.trace import Span

from runtime.actor.call import Call
from runtime.actor.message import Message
from runtime.backoff import Backoff
from runtime.client.breaker import Breaker, RetryBudget
from runtime.client.no_reply import no_reply_error
from runtime.client.route import Route
from runtime.clocks import elapsed
from runtime.errors import CircuitOpen, NotDelivered, PublishError, RequestError
from runtime.faults import error_text
from runtime.nats.connection import Connection, NoResponders, NotConnected, PermissionDenied
from runtime.telemetry import NO_SPAN, LeanSpan, ServiceTracer, finish, get_context, inject, semconv
from runtime.wire.envelope import write

_now = time.time_ns

RESEND_PERIOD = 1.0
"""Seconds for which a request is repeated while no process serves its subject; the pauses alone count."""

UNSERVED = (NoResponders,)
"""The failures after which the request of a plain program is repeated."""

UNSERVED_OR_REFUSED = (NoResponders, NotDelivered)
"""The failures after which the request of a handler is repeated."""

_BACKOFF = Backoff(first=0.01, longest=0.1)
"""The pauses between attempts."""


def keep_outcome(error: RequestError, earlier: bool | None) -> bool | None:
    """Make the outcome in `error`, of the last attempt at a command, that of all its attempts, and return it.

    Args:
        error: The error, which knows of its own attempt only.
        earlier: The outcome of the attempts before, as in `RequestError.executed`; False if there were none.
    """
    if earlier or (earlier is None and error.executed is False):
        error.executed = earlier
    return error.executed


class Sender:
    """Sends the requests of a bus.

    Args:
        connection: The connection.
        tracer: The tracer of the sending service. Each attempt is one CLIENT span.
    """

    def __init__(self, connection: Connection, tracer: ServiceTracer) -> None:
        self.budget = RetryBudget()
        self.retries = tracer.counter(semconv.CLIENT_RETRIES, {})
        self._circuits = tracer.counter(semconv.CIRCUITS_OPENED, {})
        self._traced = tracer.tracing.records
        self._connection = connection
        self._request = connection.request_nowait
        self._clock = connection.clock
        self._time = asyncio.get_running_loop().time

    async def send(
        self,
        route: Route,
        message: Message,
        timeout: float,
        command_id: str | None,
        call: Call | None,
        retryable: tuple[type[Exception], ...] = UNSERVED,
        to_owner: bool = True,
    ) -> Any:
        """Send a request and return the value of its reply.

        Args:
            route: The route of the message.
            message: The query or command.
            timeout: Seconds until the deadline of the request, its further attempts included.
            command_id: The id of a command; None for a query.
            call: The call of the handler that sends the request; None for a plain program.
            retryable: The exact types of the failures after which the request is repeated.
            to_owner: Whether it goes to the owner of the key itself, if the actor is known to have several. If not, any
                process of the actor passes it on.

        Raises:
            RequestError: The service has replied with an error, or there is no reply.
            CodecError: The message or the id cannot be encoded.
        """
        breaker, subject = route.breaker, route.subject
        span, trace = NO_SPAN, b""
        if self._traced or get_context():
            span = route.template.child()
            trace = inject(span)
        started = span.started if type(span) is LeanSpan else _now()
        try:
            if route.owners.partitions > 1:
                owner, breaker = route.to_owner(message, command_id)
                subject = owner if to_owner else subject
            if breaker.failures:
                if not breaker.allows():
                    reason = breaker.reason
                    raise CircuitOpen(
                        f"{route.subject_text}: the circuit is open after failures in a row; the last one: {reason}"
                    ) from reason
                if breaker.is_open:  # This is a probe, and the number of partitions may have changed.
                    subject, to_owner = route.subject, False
            chain = "" if call is None else call.nested_chain()
            deadline = int((elapsed() + self._clock.offset + timeout) * 1000)
            block = write(trace, deadline, command_id, chain)
            payload, expires_at = route.encode(message, route.op), self._time() + timeout
            try:
                reply = self._request(subject, payload, block, expires_at)
            except NotConnected:
                await self._connection.wait_connected(timeout)
                reply = self._request(subject, payload, block, expires_at)
            response = await reply
            if not to_owner:
                route.owners.learn(response.headers)
            value = route.read(response)
            if breaker.failures:
                breaker.record_reply()
        except (NoResponders, TimeoutError, PublishError, RequestError) as raised:
            error: Exception = raised
            if subject is not route.subject and isinstance(raised, PermissionDenied):
                route.owners.refuse()
                error = NoResponders(str(raised))
            failure = self._record_failure(route, breaker, span, started, error)
            if type(error) not in retryable:
                if failure is error:
                    raise
                raise failure from error
        except BaseException as raised:
            finish(span, None, type(raised).__name__)
            raise
        else:
            ended = _now()
            span.end(ended)
            route.durations.record(ended - started)
            return value
        expires_at = self._time() + timeout - (_now() - started) / 1e9
        by_owner = subject is not route.subject
        return await self._resend(route, message, expires_at, command_id, call, retryable, failure, by_owner)

    def may_retry(self, error: RequestError) -> bool:
        """Return whether the budget allows another attempt after `error`, and charge it. The module's docstring has the rule."""
        return (isinstance(error, NotDelivered) and not error.remote) or self.budget.spend()

    async def _resend(
        self,
        route: Route,
        message: Message,
        expires_at: float,
        command_id: str | None,
        call: Call | None,
        retryable: tuple[type[Exception], ...],
        failure: RequestError,
        by_owner: bool,
    ) -> Any:
        """Repeat a request that failed with `failure`, after growing pauses, for up to `RESEND_PERIOD` seconds.

        If it went to the owner of its key itself (`by_owner`), it is sent to the plain subject at once: who owns the key, or the
        number of partitions, may have changed.
        """
        outcome = failure.executed
        for pause in itertools.chain([0.0] if by_owner else [], _BACKOFF.pauses(RESEND_PERIOD)):
            # An attempt shortly before the deadline may leave no time for the reply. Its outcome would then be unknown, while
            # so far the request certainly was not executed.
            too_late = pause > 0 and self._time() + pause + _BACKOFF.longest >= expires_at
            if too_late or not self.may_retry(failure):
                break
            self.retries.value += 1
            if pause:
                await asyncio.sleep(pause)
            try:
                return await self.send(route, message, expires_at - self._time(), command_id, call, (), False)
            except RequestError as error:
                outcome = keep_outcome(error, outcome)
                if not isinstance(error, NotDelivered) or isinstance(error, CircuitOpen):
                    raise
                if error.remote and NotDelivered not in retryable:
                    raise
                failure = error
        raise failure

    def _record_failure(
        self, route: Route, breaker: Breaker, span: Span, started: int, error: Exception
    ) -> RequestError:
        """Record a failed attempt in its circuit breaker, span and histogram, and return the error for the caller."""
        if isinstance(error, RequestError):
            failure = error
            if not isinstance(error, CircuitOpen):
                breaker.record_reply()
        else:
            failure = no_reply_error(route.subject_text, error)
            if breaker.record_failure(failure):
                self._circuits.value += 1
                span.add_event("circuit.opened")
        kind = type(failure).__name__
        finish(span, failure.code, kind, error_text(failure))
        route.durations.record_error(_now() - started, failure.code, kind)
        return failure
