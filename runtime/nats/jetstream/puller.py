"""A continuous pull on a durable consumer: messages go to a function, and a limit bounds those in hand."""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from runtime.errors import ActorError, ConfigurationError, PublishError
from runtime.nats.connection import Subscription
from runtime.nats.jetstream.api import API
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND
from runtime.nats.jetstream.credit import Credit
from runtime.nats.jetstream.delivery import Delivery, ack_fields
from runtime.nats.jetstream.errors import ApiError
from runtime.nats.jetstream.heartbeats import Heartbeats
from runtime.nats.jetstream.in_hand import InHand
from runtime.nats.jetstream.parked import Parked
from runtime.nats.jetstream.progress import Progress
from runtime.nats.jetstream.recovery import Recovery
from runtime.nats.jetstream.responses import ApiErrorBody, ConsumerInfo
from runtime.nats.jetstream.statuses import EXPIRED, HEARTBEAT
from runtime.wire import header_block

_GAP: Final = -1
"""In place of the consumer's count of deliveries: no delivery is the next one in order."""


class Puller:
    """Pulls from the durable consumer `durable` of `stream` and calls `deliver` with each `Delivery`.

    `deliver` is called from the read loop, in the order of the stream, and must not block. At most `limit` deliveries
    are in hand (delivered and not finished). A delivery that is in hand for longer than a third of the consumer's
    `ack_wait` is reported to the server as in progress. If the consumer is deleted, its leader changes, or the server
    restarts or falls silent, the puller tries again with growing pauses.

    **Exclusive pull.** A consumer of a keyed actor has one owner, which needs its messages in the order of the stream.
    The server does not provide this by itself. Messages that an earlier owner or a broken connection had in hand are
    pending there for up to `ack_wait`, and newer messages are delivered before them. With `exclusive`, each start
    therefore first resets the consumer to its ack floor (nats-server 2.14 or later): the server then delivers
    everything above the floor at once and in order. The reset has two consequences, which `InHand` deals with. Messages
    in hand here are delivered by the server again, but not to `deliver`. And the server ignores an acknowledgement of a
    message that it has not delivered since the reset.

    The reset does not end the requests of an earlier owner or connection: the server may still send a message to one of
    these, and it would be missing here. The consumer numbers its deliveries, so such a message leaves a gap in the
    numbers. The puller delivers nothing after a gap, and starts again with another reset.

    Args:
        jetstream: The client; its connection carries requests and acknowledgements.
        stream: The name of the stream.
        durable: The name of the consumer.
        deliver: Called with each new delivery. If it raises, the message is given back for a second.
        limit: The upper limit for the deliveries in hand.
        max_parked: The upper limit for parked deliveries (`Delivery.park`), which do not count against `limit`; 64 MiB
            is the limit for their bytes.
        exclusive: No other process pulls from this consumer.
        expires: Seconds after which a request expires on the server. Choose less than the time of a lease: the last
            request of a paused owner is then over before another process takes over.
        heartbeat: Seconds between the server's heartbeats; at most half of `expires`.
        on_error: Called once for each reason of a failure. The default logs a warning.
        on_scarce: Called at each heartbeat at which `limit` deliveries are in hand.
        on_full: Called when `max_parked` is reached.
    """

    def __init__(
        self,
        jetstream: JetStream,
        stream: str,
        durable: str,
        deliver: Callable[[Delivery], None],
        *,
        limit: int = 256,
        max_parked: int = 0,
        exclusive: bool = False,
        expires: float = 3.0,
        heartbeat: float = 1.0,
        on_error: Callable[[ActorError], None] | None = None,
        on_scarce: Callable[[], None] = lambda: None,
        on_full: Callable[[], None] = lambda: None,
    ) -> None:
        if limit < 1 or heartbeat * 2 > expires:
            raise ConfigurationError(f"puller of {stream}/{durable}: limit {limit}, heartbeat {heartbeat}/{expires} s")
        self.stream = stream
        self.durable = durable
        self._jetstream = jetstream
        self._connection = jetstream.connection
        self._deliver = deliver
        self._exclusive = exclusive
        self._on_scarce = on_scarce
        self._next_subject = f"{API}CONSUMER.MSG.NEXT.{stream}.{durable}".encode()
        self._times = {"expires": int(expires * SECOND), "idle_heartbeat": int(heartbeat * SECOND)}
        self._inbox = b""
        self._subscription: Subscription | None = None
        self._running = False
        self._count = 0
        """The consumer's number of the last delivery that arrived here, or `_GAP`."""
        self._in_hand = InHand()
        self._parked = Parked(max_parked, on_full)
        self._credit = credit = Credit(limit, self._in_hand.deliveries, self._send_request)
        self._progress = Progress(self._in_hand.deliveries, self._acknowledge)
        self._recovery = Recovery(f"pull on {stream}/{durable}", self._recover, credit.request, on_error)
        self._heartbeats = Heartbeats(heartbeat, self._on_check, self._recovery.succeeded, self._on_silence)

    @property
    def in_hand(self) -> int:
        """The number of deliveries that are not finished."""
        return len(self._in_hand.deliveries)

    async def start(self) -> None:
        """Start pulling.

        Raises:
            ApiError: The consumer does not exist.
            ConfigurationError: The pull is exclusive and the server is older than 2.14.
        """
        self._running = True
        self._connection.on_reconnect.append(self._restart)
        try:
            await self._begin()
        except BaseException:
            self._end()
            raise
        self._credit.request()
        self._heartbeats.start()
        self._progress.start()

    async def reset(self) -> ConsumerInfo:
        """Reset the consumer to its ack floor if messages are pending; return its position.

        An exclusive puller does this on each start.

        Raises:
            ConfigurationError: The server is older than 2.14.
        """
        info = await self._info()
        if info.num_ack_pending == 0:
            return info
        return await self._jetstream.reset_consumer(self.stream, self.durable, found=info)

    async def stop(self) -> None:
        """Stop pulling; messages that arrive from now on are given back to the server.

        Deliveries in hand stay in hand and are reported as in progress until the caller finishes them: see `wait_idle`.
        """
        self._end()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.drain()

    async def wait_idle(self) -> None:
        """Wait until no delivery is in hand. The caller bounds the wait."""
        await self._in_hand.wait_empty()

    def finish(self, delivery: Delivery, payload: bytes) -> None:
        """Take `delivery` out of hand and acknowledge it with `payload`; nothing happens if it was finished before."""
        if not self._in_hand.remove(delivery.stream_sequence, payload):
            return
        if self._parked.remove(delivery.stream_sequence):
            self._credit.limit -= 1
        self._acknowledge(delivery.reply, payload)
        self._credit.request_after_finish()

    def park(self, delivery: Delivery) -> bool:
        """Park `delivery` if room is scarce; return whether it is parked."""
        sequence = delivery.stream_sequence
        self._in_hand.wake_watcher(sequence)
        if sequence in self._parked:
            return True
        if sequence not in self._in_hand.deliveries or not self._credit.is_scarce:
            return False
        if not self._parked.add(sequence, len(delivery.payload) + len(delivery.headers or b"")):
            return False
        self._credit.limit += 1
        self._credit.request_soon()
        return True

    def has(self, delivery: Delivery) -> bool:
        """Return whether `delivery` is in hand."""
        return delivery.stream_sequence in self._in_hand.deliveries

    def watch(self, delivery: Delivery) -> asyncio.Future[None]:
        """Return a future that is done when `delivery` is finished, or `park` is called for it."""
        return self._in_hand.watch(delivery.stream_sequence)

    def _receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if not reply.startswith(b"$JS.ACK."):
            self._receive_status(headers)
            return
        self._heartbeats.heard = True
        self._credit.requested -= 1
        delivered, stream_sequence, count, _, _ = ack_fields(reply)
        if self._exclusive:
            if int(count) != self._count + 1:
                self._on_gap(int(count) - 1)
                return
            self._count += 1
        sequence = int(stream_sequence)
        if self._in_hand.is_known(sequence):
            acknowledgement = self._in_hand.redelivered(sequence, reply)
            if acknowledgement is not None:
                self._acknowledge(reply, acknowledgement)
            self._credit.request_if_due()
            return
        period = self._progress.period
        delivery = Delivery(self, period, subject, reply, headers, payload, sequence, int(delivered))
        self._in_hand.deliveries[sequence] = delivery
        if not self._running:
            delivery.nak()
            return
        try:
            self._deliver(delivery)
        except BaseException:
            # Otherwise it would stay in hand, and in progress, for ever.
            delivery.nak(1.0)
            raise
        if self._credit.requested <= 0:
            self._credit.request_soon()

    def _receive_status(self, headers: bytes | None) -> None:
        status = header_block.status(headers)
        if not self._running or not status:
            return
        if status == HEARTBEAT:
            self._heartbeats.heard = True
            last = header_block.get(headers, b"Nats-Last-Consumer")
            if self._exclusive and last is not None and int(last) != self._count:
                self._on_gap(int(last))
        elif status in EXPIRED:
            self._heartbeats.heard = True
            unserved = header_block.get(headers, b"Nats-Pending-Messages")
            self._credit.requested -= int(unserved) if unserved else self._credit.requested
            self._credit.request_if_due()
        else:
            # 409: deleted, push based, leader changed, server stops. 503: no responders. 400: bad request.
            body = ApiErrorBody(status, 0, header_block.description(headers) or "no responders")
            self._recovery.report(ApiError(self._recovery.name, body))
            self._restart()

    def _on_gap(self, count: int) -> None:
        if not self._recovery.active:
            lost = f"{self._recovery.name}: delivery {self._count + 1} of {count}"
            self._recovery.report(ActorError(f"{lost} was sent to another request; starting again"))
            self._restart()
        # A consumer that another process reset numbers its deliveries from one, and so reaches our count again.
        self._count = _GAP

    def _send_request(self, batch: int) -> bool:
        if not self._running or self._recovery.active or not self._connection.is_connected:
            return False
        body = msgspec.json.encode({"batch": batch, **self._times})
        try:
            self._connection.publish(self._next_subject, body, reply=self._inbox)
        except PublishError as error:
            self._recovery.report(error)
            self._restart()
            return False
        return True

    def _acknowledge(self, reply: bytes, payload: bytes) -> None:
        try:
            self._connection.respond(reply, payload)
        except PublishError as error:
            self._recovery.report(error)

    async def _begin(self) -> None:
        """Drop all requests, find the consumer's position, and subscribe to a new inbox, which old requests cannot reach."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.drain()
        self._credit.requested = 0
        info = await (self.reset() if self._exclusive else self._info())
        self._progress.seconds = info.config.get("ack_wait", 30 * SECOND) / SECOND / 3
        self._count = info.delivered.consumer_seq
        self._in_hand.repositioned(info.delivered.stream_seq, info.ack_floor.stream_seq)
        inbox = f"{self._connection.options.inbox_prefix}.{secrets.token_hex(11)}"
        self._inbox = inbox.encode()
        self._subscription = await self._connection.subscribe(inbox, self._receive)
        self._heartbeats.reset()

    async def _info(self) -> ConsumerInfo:
        return await self._jetstream.consumer_info(self.stream, self.durable)

    def _restart(self) -> None:
        if self._running:
            self._recovery.start()

    async def _recover(self) -> None:
        await self._connection.wait_connected(self._jetstream.timeout)
        await self._begin()

    def _end(self) -> None:
        if self._running:
            self._running = False
            self._connection.on_reconnect.remove(self._restart)
        self._heartbeats.stop()
        self._progress.stop()
        self._recovery.stop()

    def _on_check(self) -> bool:
        if self._credit.is_exhausted:
            self._on_scarce()
        return self._credit.requested > 0 and not self._recovery.active and self._connection.is_connected

    def _on_silence(self) -> None:
        self._recovery.report(ActorError(f"{self._recovery.name}: no heartbeat; starting again"))
        self._restart()
