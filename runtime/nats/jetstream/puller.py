"""An endless pull on a durable consumer: deliveries to a function, never more in hand than the limit."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from runtime.errors import ActorError, ConfigurationError, PublishError
from runtime.nats.connection import Subscription
from runtime.nats.jetstream.api import API
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND
from runtime.nats.jetstream.delivery import Delivery, ack_fields
from runtime.nats.jetstream.errors import ApiError
from runtime.nats.jetstream.parked import Parked
from runtime.nats.jetstream.recovery import Recovery
from runtime.nats.jetstream.responses import ApiErrorBody, ConsumerInfo
from runtime.wire import headers as header_block

__all__ = ["Delivery", "Puller"]

logger = logging.getLogger("actorloom.nats")

# Heartbeats that may be missing in a row before the requests are given up and made anew.
_MISSES: Final = 3

_EXPIRED: Final = (404, 408)
_HEARTBEAT: Final = 100

# In place of a consumer's count: no delivery follows on it.
_GAP: Final = -1


class Puller:
    """Pulls from the durable consumer `durable` of `stream` and calls `deliver` with each `Delivery`.

    `deliver` is called from the read loop, in the order of the stream; it must not block. At most `limit` deliveries are
    in hand (delivered and not finished) at any time; whatever is in hand for longer than a third of the consumer's
    `ack_wait` is reported to be in progress. A deleted consumer, a lost leader, a server that restarts or falls silent:
    the pull begins anew, ever slower, and `on_error` is told once for each reason.

    `exclusive` says that nobody else pulls from this consumer. Then each begin first resets it to its ack floor
    (nats-server 2.14): what an earlier owner or a broken connection had in hand comes at once and in order, rather than
    after `ack_wait` behind newer messages. What is still in hand here is not delivered twice. Where the consumer's count of
    deliveries has a gap, one went to a request of before that nobody reads any more (a connection that vanished, an owner
    that was paused): what follows is not delivered out of order, and the pull begins anew.

    What waits behind something that fails can be *set aside* (`Delivery.park`): it stays in hand, but the limit grows by
    it, so that others are delivered. At most `max_parked` are, and 64 MiB of them; `on_full` is told when that is reached.
    `on_scarce` is told at each heartbeat at which there is no room.

    A request expires on the server after `expires` seconds. Shorter than a lease: a paused owner has no open request
    left when another takes over.
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
        self.connection = jetstream.connection
        self.stream = stream
        self.durable = durable
        self._jetstream = jetstream
        self._deliver = deliver
        self._limit = limit
        self._half = (limit + 1) // 2
        self._on_scarce = on_scarce
        self._exclusive = exclusive
        self._heartbeat = heartbeat
        self._times = {"expires": int(expires * SECOND), "idle_heartbeat": int(heartbeat * SECOND)}
        self._loop = asyncio.get_running_loop()
        self._next = f"{API}CONSUMER.MSG.NEXT.{stream}.{durable}".encode()
        self._inbox = b""
        self._subscription: Subscription | None = None
        self._in_hand: dict[int, Delivery] = {}
        # After a reset, or a kill that made it forget, the server heeds no acknowledgement of what it has not delivered
        # again: what is in hand of these, and how it was finished since, to be said again when it comes.
        self._stale: set[int] = set()
        self._finished: dict[int, bytes] = {}
        self._parked = Parked(max_parked, on_full)
        self._watched: dict[int, asyncio.Future[None]] = {}
        self._asked = 0
        self._count = 0
        """The consumer's count of deliveries at the last one that came here, or `_GAP`."""
        self._topping_up = False
        self._heard = False
        self._misses = 0
        self._running = False
        self._recovery = Recovery(
            f"pull on {stream}/{durable}", self._recover, self._request, on_error or self._log_error
        )
        self._beats = 0
        self._beat_every = 10.0
        self._watch_timer: asyncio.TimerHandle | None = None
        self._beat_timer: asyncio.TimerHandle | None = None
        self._idle: asyncio.Future[None] | None = None

    @property
    def in_hand(self) -> int:
        """How many deliveries are not finished."""
        return len(self._in_hand)

    async def start(self) -> None:
        """Begin to pull.

        Raises `ApiError` where there is no such consumer, and what `reset` raises where `exclusive`.
        """
        self._running = True
        self.connection.on_reconnect.append(self._begin_anew)
        try:
            await self._begin()
        except BaseException:
            self._end_timers_and_recovery()
            raise
        self._request()
        self._watch_timer = self._loop.call_later(self._heartbeat, self._watch)
        self._beat_timer = self._loop.call_later(self._beat_every, self._beat)

    async def reset(self) -> ConsumerInfo:
        """Let the consumer deliver again from its ack floor; nothing happens where nothing is outstanding.

        For a new owner of the consumer; with `exclusive` it is part of each begin. Raises `ConfigurationError` where
        the server is older than 2.14.
        """
        info = await self._info()
        if info.num_ack_pending == 0:
            return info
        return await self._jetstream.reset_consumer(self.stream, self.durable)

    async def stop(self) -> None:
        """End pulling at once; what arrives from now on is given back to the server.

        What is in hand stays in hand, and reported in progress, until the caller finishes it: see `wait_idle`.
        """
        self._end_timers_and_recovery()
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.drain()

    async def wait_idle(self) -> None:
        """Wait until nothing is in hand. The caller bounds the wait."""
        while self._in_hand:
            if self._idle is None:
                self._idle = self._loop.create_future()
            await asyncio.shield(self._idle)

    def finish(self, delivery: Delivery, payload: bytes) -> None:
        """Take `delivery` out of hand and send `payload` on its ack subject; for `Delivery` only."""
        in_hand, sequence = self._in_hand, delivery.stream_sequence
        if in_hand.pop(sequence, None) is None:
            return
        if sequence in self._stale:
            self._stale.discard(sequence)
            self._finished[sequence] = payload
        if self._parked.sizes or self._watched:
            self._let_go(sequence)
        try:  # `send`, without a call: one in fifty of a reaction's instructions
            self.connection.respond(delivery.reply, payload)
        except PublishError as error:
            self._recovery.report(error)
        if self._running:
            asked = self._asked
            # Half of the room at once, or what there is once nothing is asked for: few requests, and no free place idle.
            if self._limit - len(in_hand) - asked >= self._half:
                self._request()
            elif asked <= 0:
                self._top_up_soon()
        if not in_hand and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None

    def park(self, delivery: Delivery) -> bool:
        """Let the limit grow by `delivery` where room is scarce; return whether it did. For `Delivery` only."""
        sequence = delivery.stream_sequence
        self._tell(sequence)
        if sequence in self._parked.sizes:
            return True
        if sequence not in self._in_hand or self._limit - len(self._in_hand) >= self._half:
            return False
        if not self._parked.add(sequence, len(delivery.payload) + len(delivery.headers or b"")):
            return False
        self._limit += 1
        self._top_up_soon()
        return True

    def has(self, delivery: Delivery) -> bool:
        """Whether `delivery` is in hand; for `Delivery` only."""
        return delivery.stream_sequence in self._in_hand

    def watch(self, delivery: Delivery) -> asyncio.Future[None]:
        """Return a future that ends when `delivery` is finished or would be set aside; for `Delivery` only."""
        future = self._watched[delivery.stream_sequence] = self._loop.create_future()
        return future

    def _tell(self, sequence: int) -> None:
        watcher = self._watched.pop(sequence, None)
        if watcher is not None and not watcher.done():
            watcher.set_result(None)

    def _let_go(self, sequence: int) -> None:
        self._tell(sequence)
        if self._parked.remove(sequence):
            self._limit -= 1

    def send(self, reply: bytes, payload: bytes) -> None:
        """Send `payload` on the ack subject `reply`; for `Delivery` only."""
        try:
            self.connection.respond(reply, payload)
        except PublishError as error:
            self._recovery.report(error)

    async def _info(self) -> ConsumerInfo:
        return await self._jetstream.consumer_info(self.stream, self.durable)

    def _receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if not reply.startswith(b"$JS.ACK."):
            self._receive_status(headers)
            return
        self._heard = True
        self._asked -= 1
        delivered, stream_sequence, count, _, _ = ack_fields(reply)
        if self._exclusive:
            if int(count) != self._count + 1:
                self._missed(int(count) - 1)
                return
            self._count += 1
        sequence, in_hand = int(stream_sequence), self._in_hand
        if sequence in in_hand or sequence in self._finished:
            self._receive_again(sequence, reply, in_hand.get(sequence))
            return
        delivery = in_hand[sequence] = Delivery(
            self, self._beats, subject, reply, headers, payload, sequence, int(delivered)
        )
        if not self._running:
            delivery.nak()
            return
        try:
            self._deliver(delivery)
        except BaseException:
            # Unfinished it would be kept alive for ever.
            delivery.nak(1.0)
            raise
        if self._asked <= 0:
            self._top_up_soon()

    def _receive_again(self, stream_sequence: int, reply: bytes, known: Delivery | None) -> None:
        """Take a delivery of what is in hand, or was finished while the server would not hear of it."""
        if known is not None:
            # The newest ack subject is the valid one.
            known.reply = reply
            self._stale.discard(stream_sequence)
        else:
            self.send(reply, self._finished.pop(stream_sequence))
        self._top_up()

    def _receive_status(self, headers: bytes | None) -> None:
        status = header_block.status(headers)
        if not self._running or not status:
            return
        if status == _HEARTBEAT:
            self._heard = True
            last = header_block.get(headers, b"Nats-Last-Consumer")
            if self._exclusive and last is not None and int(last) != self._count:
                self._missed(int(last))
        elif status in _EXPIRED:
            self._heard = True
            unserved = header_block.get(headers, b"Nats-Pending-Messages")
            self._asked -= int(unserved) if unserved else self._asked
            self._top_up()
        else:
            # 409 deleted, push based, leader changed, server stops; 503 nobody there; 400 not understood.
            fault = ApiErrorBody(status, 0, header_block.description(headers) or "no responders")
            self._recovery.report(ApiError(self._recovery.name, fault))
            self._begin_anew()

    def _missed(self, count: int) -> None:
        if not self._recovery.active:
            where = f"{self._recovery.name}: delivery {self._count + 1} of {count}"
            self._recovery.report(ActorError(f"{where} went elsewhere, asking anew"))
            self._begin_anew()
        # A consumer that somebody else reset counts up to ours again: nothing is in order any more before the new begin.
        self._count = _GAP

    def _top_up_soon(self) -> None:
        # At the end of this turn of the loop: what finishes together is asked for together.
        if not self._topping_up:
            self._topping_up = True
            self._loop.call_soon(self._top_up)

    def _top_up(self) -> None:
        self._topping_up = False
        if self._running and (self._asked <= 0 or self._limit - len(self._in_hand) - self._asked >= self._half):
            self._request()

    def _request(self) -> None:
        room = self._limit - len(self._in_hand) - self._asked
        if room <= 0 or self._recovery.active or not self.connection.is_connected:
            return
        self._asked += room
        try:
            self.connection.publish(self._next, msgspec.json.encode({"batch": room, **self._times}), reply=self._inbox)
        except PublishError as error:
            self._recovery.report(error)
            self._begin_anew()

    async def _begin(self) -> None:
        """Give up all requests, and make one under a new inbox, which nothing of before can reach."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.drain()
        self._asked = 0
        info = await (self.reset() if self._exclusive else self._info())
        self._beat_every = info.config.get("ack_wait", 30 * SECOND) / SECOND / 3
        self._count = info.delivered.consumer_seq
        delivered, floor = info.delivered.stream_seq, info.ack_floor.stream_seq
        self._stale = {sequence for sequence in self._in_hand if sequence > delivered}
        self._finished = {sequence: how for sequence, how in self._finished.items() if sequence > floor}
        inbox = f"{self.connection.options.inbox_prefix}.{secrets.token_hex(11)}"
        self._inbox = inbox.encode()
        self._subscription = await self.connection.subscribe(inbox, self._receive)
        self._misses = 0

    def _begin_anew(self) -> None:
        if self._running:
            self._recovery.begin()

    async def _recover(self) -> None:
        await self.connection.wait_connected(self._jetstream.timeout)
        await self._begin()

    def _watch(self) -> None:
        self._watch_timer = self._loop.call_later(self._heartbeat, self._watch)
        if len(self._in_hand) >= self._limit:
            self._on_scarce()
        if self._heard:
            self._heard = False
            self._misses = 0
            self._recovery.well()
        elif self._asked > 0 and not self._recovery.active and self.connection.is_connected:
            self._misses += 1
            if self._misses >= _MISSES:
                self._recovery.report(ActorError(f"{self._recovery.name}: no heartbeat, asking anew"))
                self._begin_anew()

    def _beat(self) -> None:
        self._beats += 1
        for delivery in self._in_hand.values():
            # In hand for a whole period at least: a short one costs nothing.
            if self._beats - delivery.born > 1:
                delivery.in_progress()
        if self._running or self._in_hand:
            self._beat_timer = self._loop.call_later(self._beat_every, self._beat)

    def _end_timers_and_recovery(self) -> None:
        if self._running:
            self._running = False
            self.connection.on_reconnect.remove(self._begin_anew)
        if self._watch_timer is not None:
            self._watch_timer.cancel()
        self._recovery.end()

    def _log_error(self, error: ActorError) -> None:
        logger.warning("%s", error)
