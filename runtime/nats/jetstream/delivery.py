"""One message of a durable consumer in hand: what it holds, and how it is acknowledged."""

import asyncio
from typing import Protocol

import msgspec

from runtime.nats.jetstream.configs import SECOND


def ack_fields(reply: bytes) -> list[bytes]:
    """Return the five counts in the ack subject of a delivery.

    They are: times delivered, stream sequence, consumer sequence, time stored (Unix nanoseconds), messages pending after
    it. The subject is ``$JS.ACK.<stream>.<consumer>.<the five>``; newer servers put domain and account before the stream.
    Source: ADR-15 of NATS.
    """
    tokens = reply.split(b".")
    return tokens[4:9] if len(tokens) < 11 else tokens[6:11]


class DeliveryOwner(Protocol):
    """The part of `Puller` that its deliveries use."""

    def finish(self, delivery: "Delivery", payload: bytes) -> None: ...
    def park(self, delivery: "Delivery") -> bool: ...
    def has(self, delivery: "Delivery") -> bool: ...
    def watch(self, delivery: "Delivery") -> asyncio.Future[None]: ...
    def send(self, reply: bytes, payload: bytes) -> None: ...


class Delivery(msgspec.Struct, eq=False):
    """One message in hand. It is finished by exactly one of `ack`, `nak` and `term`; the later ones do nothing.

    An acknowledgement is sent and not waited for. One that gets lost makes the server deliver again, as a crash does:
    so does one that cannot be sent, which is told to the puller's `on_error`.
    """

    puller: DeliveryOwner
    born: int
    """The heartbeat of the puller at which it came."""
    subject: bytes
    reply: bytes
    headers: bytes | None
    payload: bytes
    stream_sequence: int
    delivered: int
    """How often it was delivered, this time included; counted anew after a reset of the consumer."""

    @property
    def time(self) -> float:
        """When it was stored, in Unix seconds."""
        return int(ack_fields(self.reply)[3]) / SECOND

    @property
    def pending(self) -> int:
        """How many messages the consumer had after it."""
        return int(ack_fields(self.reply)[4])

    def ack(self) -> None:
        """It is done."""
        self.puller.finish(self, b"+ACK")

    def nak(self, delay: float = 0.0) -> None:
        """It failed: deliver it again after `delay` seconds."""
        self.puller.finish(self, b'-NAK {"delay":%d}' % (delay * SECOND) if delay > 0 else b"-NAK")

    def term(self, reason: str = "") -> None:
        """Never deliver it again. `reason` stands in the server's advisory."""
        self.puller.finish(self, f"+TERM {reason}".encode() if reason else b"+TERM")

    def park(self) -> bool:
        """It waits behind something that fails: let others be delivered beside it. Return whether it is set aside.

        It is not where there is room for others anyway, or where as many as may be are.
        """
        return self.puller.park(self)

    @property
    def in_hand(self) -> bool:
        """Whether it is not finished."""
        return self.puller.has(self)

    def watch(self) -> asyncio.Future[None]:
        """Return a future that ends when it is finished, or waits for another attempt."""
        return self.puller.watch(self)

    def in_progress(self) -> None:
        """It is being worked on: the server's `ack_wait` begins anew. The puller does this by itself."""
        self.puller.send(self.reply, b"+WPI")
