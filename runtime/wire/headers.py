"""NATS header blocks: names, reading one value, writing a block.

A block is the bytes between the frame line and the payload: ``NATS/1.0[ status]\\r\\n(name: value\\r\\n)*\\r\\n``.
The hot path asks for one or two names and never parses the rest. Source: NATS ADR-4.
"""

from collections.abc import Iterable

from runtime.errors import CodecError

TRACEPARENT = b"traceparent"
TRACESTATE = b"tracestate"
BAGGAGE = b"baggage"
TRACERESPONSE = b"traceresponse"
IDEMPOTENCY_KEY = b"Idempotency-Key"
DEADLINE = b"Deadline"
CALL_CHAIN = b"Call-Chain"
CONTENT_TYPE = b"Content-Type"
SERVICE_ERROR = b"Nats-Service-Error"
SERVICE_ERROR_CODE = b"Nats-Service-Error-Code"
MESSAGE_ID = b"Nats-Msg-Id"
EXPECTED_SEQUENCE = b"Nats-Expected-Last-Subject-Sequence"
TTL = b"Nats-TTL"

VERSION = b"NATS/1.0"
START = b"NATS/1.0\r\n"
END = b"\r\n"


def encode(pairs: Iterable[tuple[str, str]]) -> bytes:
    """Return a header block with `pairs` in order.

    Raises `CodecError` where a name or value would break out of its line.
    """
    lines = [START]
    for name, value in pairs:
        line = f"{name}: {value}"
        if "\r" in line or "\n" in line or ":" in name or not name:
            raise CodecError(f"header {name!r} has a value that cannot stand in a header line")
        try:
            lines.append(line.encode() + END)
        except UnicodeEncodeError:
            raise CodecError(f"header {name!r} has a value that cannot stand in a header line") from None
    lines.append(END)
    return b"".join(lines)


def get(block: bytes | None, name: bytes) -> str | None:
    """Return the first value of `name` (any case) in `block`, or None. Never raises on a malformed block."""
    if block is None:
        return None
    at = block.find(b"\n" + name + b":")
    if at < 0:
        # The exact spelling is by far the most common; only a miss pays for the other cases.
        at = block.lower().find(b"\n" + name.lower() + b":")
        if at < 0:
            return None
    start = at + len(name) + 2
    end = block.find(b"\r\n", start)
    return block[start : end if end >= 0 else len(block)].strip().decode("utf-8", "replace")


def event_id(block: bytes | None) -> bytes:
    """Return ``ce-id``, or b"" where there is none: `get` for every event, in the spelling in which it is written here."""
    if block is None:
        return b""
    at = block.find(b"\nce-id:")
    if at < 0:
        return (get(block, b"ce-id") or "").encode()
    return block[at + 7 : block.find(b"\r", at)].strip()


def request_fields(block: bytes) -> tuple[float, str, str, str | None]:
    """Return what a request's headers say beside its trace: deadline (unix seconds, 0: none), call chain, id, content type.

    One pass in lower case for all four: a header that is absent, as most are, must cost next to nothing.
    """
    lower = block.lower()
    deadline, chain, command_id, content_type = 0.0, "", "", None
    if (at := lower.find(b"\ndeadline:")) >= 0:
        text = block[at + 10 : block.find(b"\r", at)].strip()
        # Not a number is no deadline; a caller that cannot count has not given up.
        deadline = int(text) / 1000 if text.isdigit() and len(text) < 16 else 0.0
    if (at := lower.find(b"\nidempotency-key:")) >= 0:
        command_id = block[at + 17 : block.find(b"\r", at)].strip().decode("utf-8", "replace")
    if (at := lower.find(b"\ncall-chain:")) >= 0:
        chain = block[at + 12 : block.find(b"\r", at)].strip().decode("utf-8", "replace")
    if (at := lower.find(b"\ncontent-type:")) >= 0:
        content_type = block[at + 14 : block.find(b"\r", at)].strip().decode("utf-8", "replace")
    return deadline, chain, command_id, content_type


def parse(block: bytes | None) -> dict[str, str]:
    """Return all headers of `block`, first value of each name; malformed lines are left out."""
    found: dict[str, str] = {}
    if block is None:
        return found
    for line in block.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon and name:
            found.setdefault(name.decode("utf-8", "replace"), value.strip().decode("utf-8", "replace"))
    return found


def status(block: bytes | None) -> int:
    """Return the inline status of `block` (`503` in ``NATS/1.0 503 No Responders``), or 0 where it has none."""
    if block is None or len(block) < 12 or block[8:9] != b" ":
        return 0
    digits = block[9:12]
    return int(digits) if digits.isdigit() else 0


def description(block: bytes | None) -> str:
    """Return the text after the inline status of `block`, or an empty string."""
    if not status(block):
        return ""
    assert block is not None
    return block[12 : max(block.find(b"\r\n"), 12)].strip().decode("utf-8", "replace")
