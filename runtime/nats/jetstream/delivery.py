"""One message of a durable consumer in hand: its content, and the ways to acknowledge it."""

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


class Delivery(msgspec.Struct, eq=False):
    """One message in hand. The first call of `ack`, `nak` or `term` finishes it; later calls do nothing.

    An acknowledgement is sent without waiting for the server. If it is lost, the server delivers the message again, as
    after a crash. If it cannot be sent, the puller's `on_error` is called as well.
    """

    owner: DeliveryOwner
    period: int
    """The number of the progress period in which the delivery arrived (see `Progress`)."""
    subject: bytes
    reply: bytes
    """The ack subject. The server's next delivery of the same message replaces it."""
    headers: bytes | None
    payload: bytes
    stream_sequence: int
    delivered: int
    """The number of deliveries of the message, this one included. A reset of the consumer starts the count again."""

    @property
    def time(self) -> float:
        """The time at which the server stored the message, in Unix seconds."""
        return int(ack_fields(self.reply)[3]) / SECOND

    def ack(self) -> None:
        """Acknowledge the message as handled."""
        self.owner.finish(self, b"+ACK")

    def nak(self, delay: float = 0.0) -> None:
        """Give the message back; the server delivers it again after `delay` seconds."""
        self.owner.finish(self, b'-NAK {"delay":%d}' % (delay * SECOND) if delay > 0 else b"-NAK")

    def term(self, reason: str = "") -> None:
        """Terminate the message: the server never delivers it again. Its advisory contains `reason`."""
        self.owner.finish(self, f"+TERM {reason}".encode() if reason else b"+TERM")

    def park(self) -> bool:
        """Let another message be delivered in the place of this one, which waits behind a failing message.

        Returns:
            Whether the delivery is parked. It is not if there is room for other messages anyway, or if the limit for
            parked deliveries is reached.
        """
        return self.owner.park(self)

    @property
    def in_hand(self) -> bool:
        """Whether the delivery is not finished."""
        return self.owner.has(self)

    def watch(self) -> asyncio.Future[None]:
        """Return a future that is done when the delivery is finished, or waits for another attempt."""
        return self.owner.watch(self)
