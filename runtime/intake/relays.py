"""The relays of a router: requests that it has passed on to owners elsewhere, until their replies are relayed.

A request goes to ``orders.command.create_order.<partition>`` with an inbox of this process, and its reply from there to the
caller. So the caller is answered at once if no process owns the partition: nothing was executed. (With the reply subject of the
caller, it would get no answer, and a certain outcome would become an unknown one.)

The reply says in how many partitions the keys are. A bus then sends to the subject of the partition itself.
"""

import asyncio
import logging
import time
from typing import Final

from runtime.client.no_reply import no_reply_error
from runtime.errors import DeadlineExceeded, NotDelivered, Overloaded, PublishError, RequestError
from runtime.intake.endpoint import RequestStats
from runtime.nats.connection import NoResponders, ReplyCallback, Response
from runtime.telemetry import semconv
from runtime.turns.admission import TURNS_PER_SECOND, retry_after
from runtime.turns.served import Served
from runtime.wire import header_block
from runtime.wire.replies import error_body, error_reply

logger = logging.getLogger("actorloom.intake")

_LONGEST: Final = 3600.0
"""Seconds for which a reply is awaited at most."""
_PATIENCE: Final = 30.0
"""Seconds after which a request gives its place to another one if its partition has no room.

A client may send no deadline, and a process that is stopped stays in the queue group of its former partitions for a while. Such
requests must not fill a partition that is served.
"""
_GRACE: Final = 1.0
"""Seconds after the deadline of a request for which its reply is awaited: its owner answers that the deadline has passed."""
_DRAIN: Final = 20.0
"""Seconds for which a router that stops waits for replies, as long as an owner drains."""


class _Relay:
    """One request that was passed on."""

    __slots__ = ("block", "expires_at", "inbox", "numbers", "payload", "received_ns", "reply", "stats", "subject")

    def __init__(
        self, subject: str, stats: RequestStats, numbers: list[int], reply: bytes, block: bytes | None, payload: bytes
    ) -> None:
        self.subject = subject
        self.stats = stats
        self.numbers = numbers
        """The partitions whose owners may still be asked, if those before have no owner."""
        self.reply = reply
        self.block = block
        self.payload = payload
        self.expires_at = 0.0
        """The time at which the reply is no longer awaited, by the clock of the event loop."""
        self.inbox = b""
        """The subject on which this process gets the reply."""
        self.received_ns = time.time_ns()


class Relays:
    """The requests in flight to owners elsewhere.

    The number of requests in flight to one partition has the limit of a mailbox and the handlers that run: more than an owner
    takes. So an owner that does not answer cannot fill the memory of the processes that pass requests on.

    Args:
        served: The actor, as one whole.
    """

    def __init__(self, served: Served) -> None:
        options = served.options
        self._served = served
        self._loop = asyncio.get_running_loop()
        self._limit = options.mailbox + options.concurrency
        self._in_flight: list[dict[_Relay, None]] = [{} for _ in range(options.partitions)]
        """The requests to each partition, the oldest first."""
        self._relayed = served.tracer.counter(semconv.REQUESTS_RELAYED, {})
        self._line = header_block.line(header_block.PARTITIONS, b"%d" % options.partitions)
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """Return how many requests are in flight."""
        return sum(map(len, self._in_flight))

    def send(
        self,
        subject: str,
        stats: RequestStats,
        numbers: list[int],
        reply: bytes,
        block: bytes | None,
        payload: bytes,
        deadline: float,
    ) -> None:
        """Send a request on, and relay its reply. Never raises.

        Args:
            subject: The plain subject of the request.
            stats: The counters of the requests that are answered here with an error.
            numbers: The partitions whose owners may answer it. The next one is asked if a partition has no owner, or no room.
            reply: The reply subject of the caller.
            block: The header block.
            payload: The body.
            deadline: Unix seconds; 0.0 for none.
        """
        relay = _Relay(subject, stats, numbers, reply, block, payload)
        wait = max(deadline - self._served.connection.clock.now(), 0.0) + _GRACE if deadline else _LONGEST
        relay.expires_at = self._loop.time() + min(wait, _LONGEST)
        self._relayed.value += 1
        self._ask(relay)

    async def drain(self) -> None:
        """Wait until all requests are answered. Those that are not in time have an unknown outcome."""
        try:
            async with asyncio.timeout(_DRAIN):
                await self._idle.wait()
        except TimeoutError:
            for number in range(len(self._in_flight)):
                self._abandon(number, "the service is stopping")

    def lost(self, number: int) -> None:
        """Answer the requests to a partition whose owner may have died: their outcome is unknown."""
        self._abandon(number, "the owner of its partition may have died")

    def _abandon(self, number: int, reason: str) -> None:
        for relay in list(self._in_flight[number]):
            self._give_up(relay, number, reason)
        self._note_idle()

    def _give_up(self, relay: _Relay, number: int, reason: str) -> None:
        """Answer a request whose reply is awaited no longer."""
        del self._in_flight[number][relay]
        self._served.connection.forget(relay.inbox)
        self._refuse(relay, DeadlineExceeded(f"{relay.subject}: the outcome is unknown: {reason}"))

    def _room(self, numbers: list[int]) -> int | None:
        """Return the first of some partitions to which one more request may be sent; None if there is none.

        If all of them are full, a request to the last one that has waited for long makes room.
        """
        for number in numbers:
            if len(self._in_flight[number]) < self._limit:
                return number
        oldest = next(iter(self._in_flight[number := numbers[-1]]))
        if time.time_ns() - oldest.received_ns < _PATIENCE * 1e9:
            return None
        self._give_up(oldest, number, f"no reply in {_PATIENCE:.0f} s, and many requests wait for partition {number}")
        return number

    def _ask(self, relay: _Relay) -> None:
        """Send a request to the owner of the first of its partitions that has room."""
        numbers = relay.numbers
        number = self._room(numbers)
        if number is None:
            count = len(self._in_flight[numbers[-1]])
            text = f"{relay.subject}: {count} requests wait for the owner of partition {numbers[-1]}"
            self._refuse(relay, Overloaded(text, retry_after(count, TURNS_PER_SECOND)))
            return
        del numbers[: numbers.index(number) + 1]
        payload, block = relay.payload, relay.block
        if not numbers:
            relay.payload, relay.block = b"", None  # It is not sent again.
        waiting = self._in_flight[number]
        waiting[relay] = None
        self._idle.clear()

        def answered(response: Response | None, error: Exception | None) -> None:
            if relay in waiting:
                del waiting[relay]
                self._relay(relay, number, response, error)
                self._note_idle()  # Only now: another partition may have been asked.

        try:
            # Not through the loopback: an owner of this process that drains receives its own requests only.
            subject = f"{relay.subject}.{number}".encode()
            request = self._served.connection.request_callback
            relay.inbox = request(subject, payload, block, relay.expires_at, ReplyCallback(answered))
        except PublishError as error:
            answered(None, error)

    def _note_idle(self) -> None:
        if not any(self._in_flight):
            self._idle.set()

    def _relay(self, relay: _Relay, number: int, response: Response | None, error: Exception | None) -> None:
        """Relay a reply, or answer that there is none."""
        if response is not None:
            self._respond(relay, response.payload, response.headers)
        elif not isinstance(error, NoResponders):
            self._refuse(relay, self._failure(relay, number, error))
        elif relay.numbers:
            self._ask(relay)
        else:
            unserved = header_block.line(header_block.UNSERVED, b"%d" % number)
            self._refuse(relay, NotDelivered(f"{relay.subject}: no process owns partition {number}"), unserved)

    def _failure(self, relay: _Relay, number: int, error: Exception | None) -> RequestError:
        """Return the error for the caller of a request that failed without a reply."""
        if isinstance(error, PublishError):
            text = f"a request was not passed on: {error}"
            self._log(logging.WARNING, relay.subject, type(error).__name__, text, "requests were not passed on")
            return NotDelivered(f"{relay.subject}: the owner of partition {number} cannot be reached")
        assert error is not None
        return no_reply_error(relay.subject, error)

    def _refuse(self, relay: _Relay, error: RequestError, lines: bytes = b"") -> None:
        """Answer a request with an error."""
        body = error_body(error, relay.subject)
        taken = time.time_ns() - relay.received_ns
        relay.stats.add_error(taken, body.message)
        relay.stats.durations.record_error(taken, body.code, body.kind)
        if lines:
            # A partition has no owner for a moment when it moves. The callers try again, so one line an actor is enough.
            self._log(logging.INFO, self._served.name, body.kind, body.message, "requests found no owner")
        else:
            self._log(logging.WARNING, relay.subject, body.kind, body.message, "requests were refused")
        block, payload = error_reply(body, lines)
        self._respond(relay, payload, block)

    def _respond(self, relay: _Relay, payload: bytes, block: bytes | None) -> None:
        head = header_block.START if block is None else block[: -len(header_block.END)]
        respond = self._served.connection.respond
        try:
            try:
                respond(relay.reply, payload, head + self._line + header_block.END)
            except PublishError:
                respond(relay.reply, payload, block)  # The header has made it too large for a message.
        except PublishError as error:
            # The caller waits until its deadline: this was the only way to reach it.
            text = f"a reply could not be relayed: {error}"
            self._log(logging.WARNING, relay.subject, type(error).__name__, text, "replies were lost")

    def _log(self, level: int, about: str, kind: str, text: str, what: str) -> None:
        """Log a request that failed; see `Bursts.log`. A burst of them is one line."""
        self._served.bursts.log(logger, level, about, kind, text, what)
