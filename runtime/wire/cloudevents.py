"""Events as CloudEvents 1.0, in the binary mode of NATS: each attribute is a header, and the body is the data."""

from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote

from runtime.wire import header_block
from runtime.wire.ids import accept_id
from runtime.wire.subjects import NO_KEY, token_key

_CE_SAFE = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""Characters that the CloudEvents binding leaves as they are in a header value."""


def event_headers(actor: str, type_name: str, event_id: str, token: str, time: float, trace: bytes = b"") -> bytes:
    """Return the header block of an event: the attributes of CloudEvents, and the id for deduplication by JetStream.

    Args:
        actor: The actor that emits the event.
        type_name: The class name of the event.
        event_id: The id of the event.
        token: The key of the event as a subject token.
        time: The time of the emit, in unix seconds.
        trace: The header lines of the trace. They come first, where `Template.receive` reads them fastest.
    """
    # A key that needs no encoding in a subject needs none in a header.
    key = token if "%" not in token else quote(token_key(token), safe=_CE_SAFE, errors="surrogatepass")
    subject = b"ce-subject: %b\r\n" % key.encode() if key and token != NO_KEY else b""
    ident = event_id.encode()
    return _form(actor, type_name) % (trace, ident, ident, rfc3339(time).encode(), subject)


def received_id(block: bytes | None) -> str | None:
    """Return the id of a received event, or None if it has none that can serve as one.

    It is `ce-id`. A publisher without CloudEvents has `Nats-Msg-Id`, under which the stream drops a repetition within its
    duplicate window; the same id recognizes a later one.
    """
    found = accept_id(header_block.event_id(block).decode("utf-8", "replace"))
    return found or accept_id(header_block.get(block, header_block.MESSAGE_ID) or "")


@lru_cache(maxsize=4096)  # the arguments name the events of actors, which are few
def _form(actor: str, type_name: str) -> bytes:
    lines = (
        header_block.line(header_block.MESSAGE_ID, b"%b"),
        header_block.line(b"ce-specversion", b"1.0"),
        header_block.line(header_block.EVENT_ID, b"%b"),
        header_block.line(b"ce-source", f"/{actor}".encode()),
        header_block.line(b"ce-type", f"{actor}.{type_name}".encode()),
        header_block.line(b"ce-time", b"%b"),
        header_block.line(b"ce-datacontenttype", b"application/json"),
    )
    return header_block.join(b"%b", *lines, b"%b")


@lru_cache(maxsize=8)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(seconds: float) -> str:
    """Return unix seconds as RFC 3339 in UTC, to a microsecond, ending in Z."""
    second, micros = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{_second(second)}.{micros:06d}Z"
