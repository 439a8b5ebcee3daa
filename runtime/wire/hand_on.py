"""Handed-on messages: what one owner of a partitioned actor sends to another about an event of the other's key.

The owner that pulls an event sends it to the owner of the key that the event acts on, and asks until that owner has finished
it. An answer comes when the event is finished, or after a moment at the latest. Both bodies are MessagePack, as arrays.
"""

from enum import IntEnum

import msgspec


class Status(IntEnum):
    """How it is with a message that was handed on."""

    DONE = 0
    """It is handled, and its turn is committed."""
    DEAD = 1
    """It is a dead letter."""
    BUSY = 2
    """It is in hand."""
    READY = 3
    """It is to run. It runs at the next question: whoever asks has then taken note, whatever becomes of this process."""
    BACK = 4
    """It is given back, and is not handled: this owner stops, or could not store a dead letter."""
    LEAVING = 5
    """It is in hand, but this owner stops. The next one knows more."""
    UNKNOWN = 6
    """It is not in hand. Whoever asks sends all of it."""
    REFUSED = 7
    """It is not accepted: this process is configured otherwise, or does not know the handler."""


class Place(msgspec.Struct, frozen=True, array_like=True):
    """Which message it is: one message of a stream, for one of its handlers."""

    stream: str
    sequence: int
    handler: str
    """The name of the method."""


class HandedOn(msgspec.Struct, frozen=True, array_like=True, kw_only=True):
    """A message that is handed on; without `id`, only a question about it."""

    place: Place
    id: str = ""
    """The id under which the actor remembers it."""
    key: str = ""
    """The key that it acts on."""
    fingerprint: str = ""
    durable: str = ""
    """The consumer that has delivered it."""
    subject: bytes = b""
    """The subject under which it is stored."""
    ack: bytes = b""
    """The ack subject of the delivery, which has the time and the number of deliveries in it. It is not used to acknowledge."""
    delivered: int = 1
    id_from_delivery: bool = False
    timer: str = ""
    headers: bytes | None = None
    payload: bytes | None = None
    """The body; None if it does not fit beside the rest, and is to be read from the stream."""
    watched: bool = False
    """Whether it was in hand when a process died."""
    used: int = -1
    """The attempts that deaths have used, if it ran at one of them (ADR 012); else -1."""


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a message that was handed on, or to a question about it."""

    status: Status
    running: bool = False
    """Whether a watched message runs now."""
    used: int = -1
    """The attempts after which its handler has asked for the end of the process; else -1."""
    delay: float = 0.0
    """Seconds after which a message that is given back may be sent again."""
    holder: str = ""
    """The process that answers."""
    ownership: int = 0
    """The number of its ownership."""
    text: str = ""
    """Why it is a dead letter, or is refused."""


encode = msgspec.msgpack.Encoder().encode
read_handed_on = msgspec.msgpack.Decoder(HandedOn).decode
read_answer = msgspec.msgpack.Decoder(Answer).decode
