"""Ended spans as OTLP bytes: `ExportTraceServiceRequest`, written by hand.

A template's name, kind and attributes are encoded once; a span without anything of its own is one `struct.pack` around
them. Field numbers are those of opentelemetry-proto 1.x (trace.proto, common.proto); a test compares the result with
the SDK's own encoder.
"""

import logging
import struct
from binascii import unhexlify
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.status import StatusCode

from runtime.telemetry.spans.context import tracestate
from runtime.telemetry.spans.lean_span import Details, LeanSpan, SpanSpec
from runtime.telemetry.spans.scope import Scope
from runtime.telemetry.spans.template import Template

# The field `flags`, whose bits say whether the parent lives in another process (trace.proto, SpanFlags); in links without its tag.
_LOCAL, _REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
_KIND = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2, SpanKind.CLIENT: 3, SpanKind.PRODUCER: 4, SpanKind.CONSUMER: 5}
_UNFIT = (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, struct.error)
_DEPTH = 8
logger = logging.getLogger("actorloom.telemetry")


def encode(spans: Sequence[LeanSpan]) -> bytes:
    """The request that exports `spans`, grouped by service and scope."""
    groups: dict[SpanSpec, tuple[Callable[[bytes], None], SpanEncoding, list[bytes]]] = {}
    for span in spans:
        group = groups.get(span.spec)
        if group is None:
            parts: list[bytes] = []
            group = groups[span.spec] = parts.append, _encoding_of(span.spec), parts
        add, encoding, _ = group
        try:
            if (
                span.details is None
                and span.extra is None
                and span.state_block is None
                and span.parent
                and encoding.plain
            ):
                # As nearly all are: two calls to C.
                ids = unhexlify(b"".join((b"0a10", span.trace, b"1208", span.id, b"2208", span.parent)))
                flags = _REMOTE if span.remote else _LOCAL
                add(encoding.child(encoding.child_head, ids, encoding.fixed, span.started, 65, span.ended, flags))
            else:
                add(_encode_span(span, encoding))
        except _UNFIT as error:
            # What user code put there cannot be encoded: that span alone is left out.
            logger.warning("a span named %r is left out of the export: %r", span.spec.name, error)
    scopes: dict[Scope, list[bytes]] = {}
    for spec, (_, _, parts) in groups.items():
        scopes.setdefault(_template(spec).scope, []).extend(parts)
    services: dict[bytes, list[bytes]] = {}
    for scope, parts in scopes.items():
        resource, head = _encode_scope(scope)
        services.setdefault(resource, []).append(_field(2, head + b"".join(parts)))
    return b"".join(_field(1, resource + b"".join(group)) for resource, group in services.items())


class SpanEncoding:
    """What is constant in a template's spans, packed around the ids and the clocks: with a parent, and as a root."""

    __slots__ = ("child", "child_head", "fixed", "plain", "root", "root_head")

    def __init__(self, name: str, kind: SpanKind, attributes: Mapping[str, Any], plain: bool) -> None:
        self.fixed = _text(5, name) + b"\x30" + bytes((_KIND[kind],)) + _attributes(9, attributes) + b"9"
        self.plain = plain
        """Whether a span that has nothing of its own needs nothing but this."""
        rest = struct.calcsize(end := f"<{len(self.fixed)}sQBQ6s")
        self.child_head, self.root_head = b"\x12" + _varint(38 + rest), b"\x12" + _varint(28 + rest)
        self.child = struct.Struct(f"<{len(self.child_head)}s38s{end[1:]}").pack
        self.root = struct.Struct(f"<{len(self.root_head)}s28s{end[1:]}").pack


def _template(spec: SpanSpec) -> Template:
    assert isinstance(spec, Template)
    return spec


def _encoding_of(spec: SpanSpec) -> SpanEncoding:
    template = _template(spec)
    if not isinstance(template.encoding, SpanEncoding):
        template.encoding = SpanEncoding(template.name, template.kind, template.attributes, not template.linked)
    return template.encoding


def _encode_span(span: LeanSpan, encoding: SpanEncoding) -> bytes:
    template, extra = _template(span.spec), span.extra
    if (span.details is not None and span.details.name) or (extra and not extra.keys().isdisjoint(template.attributes)):
        fixed = {key: value for key, value in template.attributes.items() if not extra or key not in extra}
        encoding = SpanEncoding(span.name, template.kind, fixed, False)
    ids, times = b"0a10%b1208%b" % (span.trace, span.id), (span.started, 65, span.ended)
    if span.parent is not None:
        flags, head = _REMOTE if span.remote else _LOCAL, encoding.child_head
        packed = encoding.child(head, unhexlify(ids + b"2208" + span.parent), encoding.fixed, *times, flags)
    else:
        head = encoding.root_head
        packed = encoding.root(head, unhexlify(ids), encoding.fixed, *times, _LOCAL)
    more = _rest_of(span, template)
    return _field(2, packed[len(head) :] + more) if more else packed


def _rest_of(span: LeanSpan, template: Template) -> bytes:
    parts: list[bytes] = []
    if span.state_block is not None and (state := tracestate(span.state_block)):
        parts.append(_text(3, state))
    if span.extra:
        parts.append(_attributes(9, span.extra))
    if template.linked and span.remote and span.parent is not None:
        ids = b"\n\x10" + unhexlify(span.trace) + b"\x12\x08" + unhexlify(span.parent)
        parts.append(_field(13, ids + b"\x35" + _REMOTE[2:]))
    if span.details is not None:
        parts.append(_details(span.details))
    return b"".join(parts)


def _details(details: Details) -> bytes:
    parts: list[bytes] = []
    for at, name, attributes in details.events:
        parts.append(_field(11, b"\x09" + struct.pack("<Q", at) + _text(2, name) + _attributes(3, attributes)))
    parts.extend(_link(link) for link in details.links)
    for number, dropped in (
        (10, details.dropped_attributes),
        (12, details.dropped_events),
        (14, details.dropped_links),
    ):
        if dropped:
            parts.append(_varint(number << 3) + _varint(dropped))
    if details.status is not StatusCode.UNSET:
        text = _text(2, details.description) if details.description else b""
        parts.append(_field(15, text + b"\x18" + bytes((details.status.value,))))
    return b"".join(parts)


def _link(link: Link) -> bytes:
    context = link.context
    ids = b"\n\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")
    state = context.trace_state.to_header()
    flags = b"\x35" + (_REMOTE if context.is_remote else _LOCAL)[2:]
    return _field(13, ids + (_text(3, state) if state else b"") + _attributes(4, link.attributes or {}) + flags)


def _encode_scope(scope: Scope) -> tuple[bytes, bytes]:
    if scope.encoded is None:
        name = _text(1, scope.name) + (_text(2, scope.version) if scope.version else b"")
        scope.encoded = _field(1, _attributes(1, scope.service.resource)), _field(1, name)
    return scope.encoded


def _attributes(number: int, attributes: Mapping[str, Any]) -> bytes:
    return b"".join([_field(number, _text(1, key) + _field(2, _value(value))) for key, value in attributes.items()])


def _value(value: Any, depth: int = _DEPTH) -> bytes:
    """An AnyValue. What OTLP has no type for is sent as its text: better than a span without it."""
    if isinstance(value, str):
        return _text(1, value)
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return b"\x18" + _varint(value & 0xFFFFFFFFFFFFFFFF)
    if isinstance(value, float):
        return b"\x21" + struct.pack("<d", value)
    if isinstance(value, bytes):
        return _field(7, value)
    if isinstance(value, Mapping) and depth:
        return _field(
            6, b"".join([_field(1, _text(1, str(k)) + _field(2, _value(v, depth - 1))) for k, v in value.items()])
        )
    if isinstance(value, Sequence) and depth:
        return _field(5, b"".join([_field(1, _value(item, depth - 1)) for item in value]))
    return b"" if value is None else _text(1, str(value))


def _text(number: int, text: str) -> bytes:
    return _field(number, text.encode("utf-8", "replace"))


def _field(number: int, payload: bytes) -> bytes:
    """A length-delimited field; all numbers here are below 16."""
    return bytes((number << 3 | 2,)) + _varint(len(payload)) + payload


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
