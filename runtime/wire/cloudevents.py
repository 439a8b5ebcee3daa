"""Events as CloudEvents 1.0. They are written in the binary mode of NATS: each attribute is a header, the body is the data.

Both modes are read. In structured mode, the body is a JSON object with the attributes and the data.
"""

import base64
import binascii
import re
from datetime import UTC, datetime
from functools import lru_cache
from urllib.parse import quote, unquote

import msgspec

from runtime.errors import CodecError
from runtime.wire import header_block
from runtime.wire.codec import UNDECODABLE
from runtime.wire.ids import accept_id
from runtime.wire.tokens import NO_KEY, token_key

_CE_SAFE = "!#$&'()*+,-./:;<=>?@[\\]^_`{|}~"
"""Characters that the CloudEvents binding leaves as they are in a header value."""

_PLAIN = re.compile(r"[!#$&-~]+\Z").match
"""Match a text that needs no encoding in a header value."""

_INVALID = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]").search
"""Find a character that no string of CloudEvents may contain."""

_STRUCTURED = "application/cloudevents"
"""The beginning of the content types of structured mode."""

_STRUCTURED_BYTES = _STRUCTURED.encode()


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
    ident = event_id.encode()
    # Digits, letters and hyphens, as in an id of this package, are found in a third of the time of the expression.
    plain = ident.replace(b"-", b"").isalnum() or _PLAIN(event_id) is not None
    attribute = ident if plain else encode_attribute(event_id).encode()
    second, micros = divmod(int(time * 1_000_000), 1_000_000)
    form, keyless = _forms(actor, type_name)
    if token == NO_KEY or not token:
        return keyless % (trace, ident, attribute, _second(second), micros)
    # A key that needs no encoding in a subject needs none in a header.
    key = token if "%" not in token else _subject(token)
    return form % (trace, ident, attribute, _second(second), micros, key.encode())


def _subject(token: str) -> str:
    """Return the header value of the subject for a key that needs encoding.

    A subject cannot contain control characters, surrogates or noncharacters. It is the token of a key that does.
    """
    key = token_key(token)
    return encode_attribute(token if _INVALID(key) else key)


def encode_attribute(text: str) -> str:
    """Return an attribute as the value of a header: spaces, quotes, ``%`` and what is not ASCII are encoded as UTF-8 and ``%XX``.

    The bindings of CloudEvents to NATS and to HTTP have the same rule.
    """
    return quote(text, safe=_CE_SAFE)


def received_id(block: bytes | None, event: "Structured | None" = None) -> str | None:
    """Return the id of a received event, or None if it has none that can serve as one.

    It is that of `event` in structured mode, and `ce-id` in binary mode. A publisher without CloudEvents has `Nats-Msg-Id`, under which the stream drops a repetition within its
    duplicate window; the same id recognizes a later one.
    """
    if event is not None and (own := accept_id(event.id)) is not None:
        return own
    text = header_block.event_id(block).decode("utf-8", "replace")
    found = accept_id(unquote(text) if "%" in text else text)
    return found or accept_id(header_block.get(block, header_block.MESSAGE_ID) or "")


class Structured(msgspec.Struct, frozen=True):
    """An event that was received in structured mode. The fields are the attributes of CloudEvents, and the data."""

    specversion: str
    id: str
    source: str
    type: str
    datacontenttype: str | None = None
    time: str | None = None
    data: msgspec.Raw = msgspec.Raw()
    data_base64: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None

    def payload(self) -> bytes:
        """Return the data as JSON, an empty object if there is none. Raises `CodecError` if it has another format."""
        content_type = (self.datacontenttype or "application/json").partition(";")[0].strip().lower()
        if not content_type.endswith(("/json", "+json")):
            raise CodecError(f"datacontenttype {content_type[:80]!r} is not supported: send application/json")
        if self.data_base64 is None:
            return bytes(self.data) or b"{}"
        if bytes(self.data):
            raise CodecError("the event has both data and data_base64")
        try:
            return base64.b64decode(self.data_base64, validate=True)
        except (binascii.Error, ValueError):
            raise CodecError("data_base64 is not base64") from None

    def block(self, received: bytes | None) -> bytes | None:
        """Return the header block of the event: the received one, with the trace of the attributes if it has none."""
        if self.traceparent is None or header_block.get(received, header_block.TRACEPARENT) is not None:
            return received
        pairs = [("traceparent", self.traceparent), ("tracestate", self.tracestate or "")]
        rest = received[len(header_block.START) :] if received is not None else header_block.END
        try:
            return header_block.START + header_block.encode_lines(pairs) + rest
        except CodecError:
            return received


_DECODE = msgspec.json.Decoder(Structured).decode


def is_structured(block: bytes | None) -> bool:
    """Return whether a message is an event in structured mode, or a batch of events, by its content type."""
    if block is None or _STRUCTURED_BYTES not in block.lower():
        return False  # as almost every event
    found = header_block.get(block, header_block.CONTENT_TYPE)
    return found is not None and found.lower().startswith(_STRUCTURED)


def read_structured(block: bytes | None, body: bytes) -> Structured:
    """Return the event of a message for which `is_structured` is true.

    Raises:
        CodecError: The message is a batch, has another format than JSON, or is not an event of CloudEvents 1.0.
    """
    content_type = header_block.get(block, header_block.CONTENT_TYPE) or ""
    bare = content_type.partition(";")[0].strip().lower()
    if bare.startswith(f"{_STRUCTURED}-batch"):
        raise CodecError(
            f"a batch of events ({bare[:80]}) is not supported: publish each event as a message of its own"
        )
    if bare != f"{_STRUCTURED}+json":
        raise CodecError(f"the event format {bare[:80]!r} is not supported: send {_STRUCTURED}+json, or binary mode")
    try:
        event = _DECODE(body)
    except UNDECODABLE as error:
        raise CodecError(f"the body is not an event in JSON: {error}") from None
    if event.specversion != "1.0":
        raise CodecError(f"specversion {event.specversion[:40]!r} is not supported: send 1.0")
    if not (event.id and event.source and event.type):
        raise CodecError("id, source and type of an event cannot be empty")
    return event


_YEARS = range(1000, 9999)
"""The years of four digits, without the last one: a float may round its end up to the year 10000."""

_STANDARD = frozenset(
    "specversion id source type subject time datacontenttype dataschema data data_base64 traceparent tracestate".split()
)
_ATTRIBUTES = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_ATTRIBUTE = msgspec.json.Decoder(str | int | bool).decode


def extensions(block: bytes | None, body: bytes) -> dict[str, str]:
    """Return the extension attributes of an event as texts, and ``dataschema``. Those that are no texts, numbers or booleans are left out."""
    found: dict[str, str] = {}
    if is_structured(block):
        for name, raw in _ATTRIBUTES(body).items():
            if name not in _STANDARD or name == "dataschema":
                try:
                    value = _ATTRIBUTE(raw)
                except msgspec.DecodeError:
                    continue
                found[name] = value if isinstance(value, str) else bytes(raw).decode()
        return found
    for name, value in header_block.parse(block).items():
        if (name := name.lower()).startswith("ce-") and (name[3:] not in _STANDARD or name == "ce-dataschema"):
            found[name[3:]] = unquote(value)
    return found


def opened(block: bytes | None, body: bytes) -> tuple[Structured | None, bytes, Exception | None]:
    """Return the event of a message in structured mode, else None; the data of the event; and an error if it is unreadable."""
    if not is_structured(block):
        return None, body, None
    try:
        event = read_structured(block, body)
        return event, event.payload(), None
    except CodecError as error:
        return None, b"", error


@lru_cache(maxsize=4096)  # the arguments name the events of actors, which are few
def _forms(actor: str, type_name: str) -> tuple[bytes, bytes]:
    """Return the forms of the blocks of an event with and without a key, for the operator ``%``."""
    lines = (
        header_block.line(header_block.MESSAGE_ID, b"%b"),
        header_block.line(b"ce-specversion", b"1.0"),
        header_block.line(header_block.EVENT_ID, b"%b"),
        header_block.line(b"ce-source", f"/{actor}".encode()),
        header_block.line(b"ce-type", f"{actor}.{type_name}".encode()),
        header_block.line(b"ce-time", b"%b.%06dZ"),
        header_block.line(b"ce-datacontenttype", b"application/json"),
    )
    subject = header_block.line(b"ce-subject", b"%b")
    return header_block.join(b"%b", *lines, subject), header_block.join(b"%b", *lines)


@lru_cache(maxsize=8)
def _second(second: int) -> bytes:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()


def unix_time(text: str) -> float | None:
    """Return a time of RFC 3339 as Unix seconds; None if it has another form, no offset, or a year that `rfc3339` cannot write."""
    try:
        time = datetime.fromisoformat(text)
        known = time.tzinfo is not None and time.astimezone(UTC).year in _YEARS
    except (ValueError, OverflowError):
        return None
    return time.timestamp() if known else None


def rfc3339(seconds: float) -> str:
    """Return unix seconds as RFC 3339 in UTC, to a microsecond, ending in Z."""
    second, micros = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{_second(second).decode()}.{micros:06d}Z"
