"""NATS header blocks: the names of the headers, and the functions that read and write a block.

A block is the part of a message between the frame line and the payload:
``NATS/1.0[ status]\\r\\n(name: value\\r\\n)*\\r\\n``. The functions look for single names and do not parse the rest of the
block, except for `parse`. Only CRLF ends a line. A value with a CR, LF or NUL in it is never written, and counts as absent when
it is read: another reader might take its rest for a header. Source: NATS ADR-4.
"""

import re
from collections.abc import Iterable

from runtime.errors import CodecError

START = b"NATS/1.0\r\n"
"""The first line of a block without an inline status."""

END = b"\r\n"
"""The end of each line. An empty line ends the block."""

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
BAGGAGE = b"baggage"
TRACERESPONSE = b"traceresponse"
"""W3C trace context: the parent span of a message, and in a reply the span that served the request."""

IDEMPOTENCY_KEY = b"Idempotency-Key"
"""The id of a command or timer."""

DEADLINE = b"Deadline"
"""Unix milliseconds after which the caller has given up."""

CALL_CHAIN = b"Call-Chain"
"""The calls that wait for this request: comma-separated ``actor/key``."""

CONTENT_TYPE = b"Content-Type"
"""The format of the payload; JSON if absent."""

SERVICE_ERROR = b"Nats-Service-Error"
SERVICE_ERROR_CODE = b"Nats-Service-Error-Code"
"""The text and code of an error reply (NATS micro, ADR-32)."""

EVENT_ID = b"ce-id"
"""The id of an event (CloudEvents)."""

PARTITIONS = b"Actorloom-Partitions"
"""In a reply that one process of an actor relays from another one, or to a request that reached the owner of other keys: the
number of partitions of the actor's keys."""

UNSERVED = b"Actorloom-Unserved"
"""In a reply with code 503: the partition of the key, whose owner the request has not reached. Nothing was executed."""

TIMER_COMMAND = b"Actorloom-Command"
TIMER_RECURRING = b"Actorloom-Recurring"
TIMER_TURN = b"Actorloom-Turn"
"""Of a timer: the class name of its command, whether it fires more than once, and the sequence of the record that set it.

Of two timers of one name, the one with the higher sequence is the later one.
"""

DUE = b"Actorloom-Due"
"""Of a command by `tell`: the time before which it does not run, in Unix seconds with a fraction; absent if it runs at once."""
REPLAY = b"Actorloom-Replay"
"""Of an event that is replayed: the name of the replay."""

MESSAGE_ID = b"Nats-Msg-Id"
"""JetStream drops a message if it has stored one with the same id within the duplicate window."""

EXPECTED_SEQUENCE = b"Nats-Expected-Last-Subject-Sequence"
"""JetStream stores a message only if the last message of its subject has this sequence (0: there is none)."""

EXPECTED_SUBJECT = b"Nats-Expected-Last-Subject-Sequence-Subject"
"""The subject that `EXPECTED_SEQUENCE` is about, if it is another one than that of the message."""

TTL = b"Nats-TTL"
"""The lifetime of a stored message: seconds followed by ``s``."""


def line(name: bytes, value: bytes) -> bytes:
    """Return one header line. The value is not checked."""
    return b"%b: %b\r\n" % (name, value)


def ttl(seconds: float) -> bytes:
    """Return the header line that limits the lifetime of a stored message to whole seconds."""
    return line(TTL, b"%ds" % seconds)


def join(*lines: bytes) -> bytes:
    """Return the block of some lines, each with its line end. The lines are not checked."""
    return b"".join((START, *lines, END))


def encode(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return the block of some headers.

    Args:
        pairs: Name and value of each header, in order.

    Raises:
        CodecError: A name is not a token of ASCII, a value contains a line break or NUL, or cannot be encoded as UTF-8.
    """
    return join(encode_lines(pairs))


def encode_lines(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return the lines of some headers, each with its line end. Arguments and errors are those of `encode`."""
    lines: list[bytes] = []
    for name, value in pairs:
        if _NAME(name) is None or _UNSAFE(value.encode("utf-8", "replace")):
            raise CodecError(f"header {name!r} has a value that cannot be part of a header line")
        try:
            lines.append(line(name.encode(), value.encode()))
        except UnicodeEncodeError:
            raise CodecError(f"header {name!r} has a value that cannot be part of a header line") from None
    return b"".join(lines)


_NAME = re.compile(r"[!-9;-~]+").fullmatch
"""Match a name: printable ASCII without the colon."""

_UNSAFE = re.compile(rb"[\r\n\0]").search
"""Find a character that no value may have."""


def get(block: bytes | None, name: bytes) -> str | None:
    """Return the first value of the header `name` in any case, or None if there is none. A malformed block raises nothing."""
    if block is None:
        return None
    at = block.find(END + name + b":")
    if at < 0:
        # Almost every sender uses the exact spelling, so only a miss pays for the other cases.
        at = block.lower().find(END + name.lower() + b":")
        if at < 0:
            return None
    value = value_at(block, at + len(END) + len(name) + 1)
    return None if _UNSAFE(value) else value.decode("utf-8", "replace")


def values(block: bytes | None, name: bytes) -> list[bytes]:
    """Return all values of the header `name` in any case, in their order."""
    found: list[bytes] = []
    if block is None:
        return found
    lower, start = block.lower(), b"\n" + name.lower() + b":"
    at = lower.find(start)
    while at >= 0:
        found.append(value_at(block, at + len(start)))
        at = lower.find(start, at + len(start))
    return found


def value_at(block: bytes, start: int) -> bytes:
    """Return the rest of the line of a block from the offset `start`, without surrounding spaces."""
    end = block.find(END, start)
    return block[start : end if end >= 0 else len(block)].strip()


def number(text: bytes | str | None) -> int | None:
    """Return the decimal number that a stored text is, or None if it is none. Python refuses more than 4300 digits."""
    if not text or len(text) > _MAX_DIGITS or not text.isdigit() or not text.isascii():
        return None
    return int(text)


def event_id(block: bytes | None) -> bytes:
    """Return the ``ce-id`` of an event, or ``b""`` if it has none. Faster than `get`, for every event has one."""
    if block is None:
        return b""
    at = block.find(_EVENT_ID_LINE)
    if at < 0:
        return (get(block, EVENT_ID) or "").encode()
    return value_at(block, at + len(_EVENT_ID_LINE))


def trace_id(block: bytes | None) -> str | None:
    """Return the id of the trace of a message: 32 hex digits. None if it has none."""
    found = _TRACE(get(block, TRACEPARENT) or "")
    return None if found is None else found[1]


_TRACE = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-").match

_MAX_DIGITS = 19
"""Digits of the numbers that are read, which are sequences and counts. Anybody may write a longer text."""

_EVENT_ID_LINE = END + EVENT_ID + b":"


def parse(block: bytes | None) -> dict[str, str]:
    """Return all headers of a block: the first value of each name. Malformed lines are left out."""
    found: dict[str, str] = {}
    if block is None:
        return found
    for each in block.split(END)[1:]:
        name, colon, value = each.partition(b":")
        if colon and _UNSAFE(each) is None and _NAME(name.decode("utf-8", "replace")):
            found.setdefault(name.decode("utf-8", "replace"), value.strip().decode("utf-8", "replace"))
    return found


def status(block: bytes | None) -> int:
    """Return the inline status of a block (503 in ``NATS/1.0 503 No Responders``), or 0 if it has none."""
    if block is None or len(block) < 12 or block[8:9] != b" ":
        return 0
    digits = block[9:12]
    return int(digits) if digits.isdigit() else 0


def description(block: bytes | None) -> str:
    """Return the text after the inline status of a block, or an empty string."""
    if not status(block):
        return ""
    assert block is not None
    return block[12 : max(block.find(END), 12)].strip().decode("utf-8", "replace")
