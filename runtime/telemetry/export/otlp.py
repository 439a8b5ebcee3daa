"""The OTLP encoder: ended spans as the bytes of an `ExportTraceServiceRequest`.

Every recorded span passes through this module, in a thread that could run handlers instead, so encoding must cost
little. The SDK's encoder builds a protobuf object for each part of each span. But most spans of an operation differ in
their ids and times only: name, kind and attributes are the same. A `SpanEncoding` therefore holds the constant part of
a template's spans as encoded bytes, and every other field has a fixed position. Encoding such a span takes two calls of
C functions: `unhexlify` for the ids and `struct.pack` for the whole span. A span with attributes, events, links or a
status of its own gets them appended as further fields, since protobuf allows fields in any order.

Field numbers are those of opentelemetry-proto 1.x (trace.proto, common.proto, trace_service.proto). A test compares the
result with that of the SDK's encoder.
"""

import logging
import struct
from binascii import hexlify, unhexlify
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.status import StatusCode

from runtime.telemetry import semconv
from runtime.telemetry.export.protobuf import FIXED32, FIXED64, LENGTH_DELIMITED, VARINT, field, tag, text, varint
from runtime.telemetry.spans.context import tracestate
from runtime.telemetry.spans.lean_span import Details, LeanSpan, SpanSpec
from runtime.telemetry.spans.scope import Scope
from runtime.telemetry.spans.template import Template

logger = logging.getLogger("actorloom.telemetry")

_TRACE_ID_LENGTH, _SPAN_ID_LENGTH = 16, 8
"""Bytes of an id."""

_REQUEST_RESOURCE_SPANS = 1
"""Field of `ExportTraceServiceRequest`."""
_RESOURCE, _SCOPE_SPANS = 1, 2
"""Fields of `ResourceSpans`."""
_SCOPE, _SPANS = 1, 2
"""Fields of `ScopeSpans`."""

_SCHEMA_URL = 3
"""Field of `ResourceSpans` and of `ScopeSpans`."""
_RESOURCE_SCHEMA = text(_SCHEMA_URL, semconv.SCHEMA_URL)

_TRACE_ID = tag(1, LENGTH_DELIMITED) + varint(_TRACE_ID_LENGTH)
_SPAN_ID = tag(2, LENGTH_DELIMITED) + varint(_SPAN_ID_LENGTH)
_TRACE_STATE = 3
_PARENT_SPAN_ID = tag(4, LENGTH_DELIMITED) + varint(_SPAN_ID_LENGTH)
_NAME = 5
_KIND = tag(6, VARINT)
_START_TIME = tag(7, FIXED64)
_END_TIME = tag(8, FIXED64)
_ATTRIBUTES = 9
_DROPPED_ATTRIBUTES = tag(10, VARINT)
_EVENTS = 11
_DROPPED_EVENTS = tag(12, VARINT)
_LINKS = 13
_DROPPED_LINKS = tag(14, VARINT)
_STATUS = 15
_FLAGS = tag(16, FIXED32)
"""Fields of `Span`: the tag of a scalar, with the length of an id; the number of any other field."""

_LINK_TRACE_STATE, _LINK_ATTRIBUTES, _LINK_FLAGS = 3, 4, tag(6, FIXED32)
"""Fields of `Span.Link`; its ids have the tags of the span's ids."""
_EVENT_TIME, _EVENT_NAME, _EVENT_ATTRIBUTES = tag(1, FIXED64), 2, 3
"""Fields of `Span.Event`."""
_STATUS_MESSAGE, _STATUS_CODE = 2, tag(3, VARINT)
"""Fields of `Status`."""
_RESOURCE_ATTRIBUTES, _SCOPE_NAME, _SCOPE_VERSION = 1, 1, 2
"""Fields of `Resource` and `InstrumentationScope`."""
_KEY, _VALUE = 1, 2
"""Fields of `KeyValue`."""
_STRING_VALUE, _BOOL_VALUE, _INT_VALUE, _DOUBLE_VALUE = 1, tag(2, VARINT), tag(3, VARINT), tag(4, FIXED64)
_ARRAY_VALUE, _MAP_VALUE, _BYTES_VALUE = 5, 6, 7
"""Fields of `AnyValue`."""
_ITEMS = 1
"""Field of `ArrayValue` and `KeyValueList`."""

_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
"""Bits of `SpanFlags`: whether the parent is remote is known, and it is remote."""
_LOCAL = struct.pack("<I", _HAS_IS_REMOTE)
_REMOTE = struct.pack("<I", _HAS_IS_REMOTE | _IS_REMOTE)
"""The flags of a span or link whose parent or target belongs to this process, and to another one."""
_LOCAL_FIELD, _REMOTE_FIELD = _FLAGS + _LOCAL, _FLAGS + _REMOTE

_TRACE_ID_HEX, _SPAN_ID_HEX, _PARENT_SPAN_ID_HEX = hexlify(_TRACE_ID), hexlify(_SPAN_ID), hexlify(_PARENT_SPAN_ID)
"""Tags of the ids as hex digits. Spans hold their ids as hex digits too, so one `unhexlify` converts all of them."""
_ROOT_IDS_SIZE = len(_TRACE_ID) + _TRACE_ID_LENGTH + len(_SPAN_ID) + _SPAN_ID_LENGTH
_CHILD_IDS_SIZE = _ROOT_IDS_SIZE + len(_PARENT_SPAN_ID) + _SPAN_ID_LENGTH
"""Bytes of the id fields of a span without and with a parent."""
_END_TIME_BYTE = _END_TIME[0]
"""The tag of the end time as the integer that `struct.pack` takes."""

_KINDS = {SpanKind.INTERNAL: 1, SpanKind.SERVER: 2, SpanKind.CLIENT: 3, SpanKind.PRODUCER: 4, SpanKind.CONSUMER: 5}
_UNENCODABLE = (TypeError, ValueError, ArithmeticError, RuntimeError, AttributeError, struct.error)
"""Errors that the value of a user's attribute may raise when it is encoded."""
_MAX_DEPTH = 8
"""Levels of nested attribute values that are encoded as such; deeper ones are encoded as text."""


def encode(spans: Sequence[LeanSpan]) -> bytes:
    """Return the request that exports `spans`, grouped by service and scope.

    A span that cannot be encoded because of its user's attributes is omitted with a warning.
    """
    scopes: dict[Scope, list[bytes]] = {}
    for spec, encoded in _encode_by_spec(spans):
        scopes.setdefault(_template(spec).scope, []).extend(encoded)
    services: dict[bytes, list[bytes]] = {}
    for scope, encoded in scopes.items():
        resource, head, schema = _encode_scope(scope)
        services.setdefault(resource, []).append(field(_SCOPE_SPANS, head + b"".join(encoded) + schema))
    return b"".join(
        field(_REQUEST_RESOURCE_SPANS, resource + b"".join(scope_spans) + _RESOURCE_SCHEMA)
        for resource, scope_spans in services.items()
    )


class SpanEncoding:
    """The encoded constant part of a template's spans, and packers that put the ids and times of one span around it.

    `child` packs a span with a parent and `root` one without. Both take `child_head` or `root_head`, the id fields,
    `constant`, the start time, `_END_TIME_BYTE`, the end time and the flags field, and return the whole span as a field
    of `ScopeSpans`.
    """

    __slots__ = ("child", "child_head", "complete", "constant", "root", "root_head")

    def __init__(self, name: str, kind: SpanKind, attributes: Mapping[str, Any], complete: bool) -> None:
        encoded_kind = _KIND + varint(_KINDS[kind])
        self.constant = text(_NAME, name) + encoded_kind + _attributes(_ATTRIBUTES, attributes) + _START_TIME
        """The constant fields; the tag of the start time is the last of them, so that the packed time follows it."""
        self.complete = complete
        """Whether a span without details and attributes of its own has no other fields than these."""
        self.child_head, self.child = _packer(_CHILD_IDS_SIZE, len(self.constant))
        self.root_head, self.root = _packer(_ROOT_IDS_SIZE, len(self.constant))


def _encode_by_spec(spans: Sequence[LeanSpan]) -> list[tuple[SpanSpec, list[bytes]]]:
    """Return each spec with its encoded spans."""
    groups: dict[SpanSpec, tuple[Callable[[bytes], None], SpanEncoding, list[bytes]]] = {}
    for span in spans:
        group = groups.get(span.spec)
        if group is None:
            encoded: list[bytes] = []
            group = groups[span.spec] = encoded.append, _encoding_of(span.spec), encoded
        add, encoding, _ = group
        try:
            if span.details or span.extra or span.state_block:
                add(_encode_span(span, encoding))
            # The two common cases, written out here: a function for each takes a third more instructions.
            elif not (parent := span.parent):
                head, constant = encoding.root_head, encoding.constant
                ids = unhexlify(b"".join((_TRACE_ID_HEX, span.trace, _SPAN_ID_HEX, span.id)))
                add(encoding.root(head, ids, constant, span.started, _END_TIME_BYTE, span.ended, _LOCAL_FIELD))
            elif encoding.complete:
                head, constant = encoding.child_head, encoding.constant
                digits = (_TRACE_ID_HEX, span.trace, _SPAN_ID_HEX, span.id, _PARENT_SPAN_ID_HEX, parent)
                flags = _REMOTE_FIELD if span.remote else _LOCAL_FIELD
                add(
                    encoding.child(
                        head, unhexlify(b"".join(digits)), constant, span.started, _END_TIME_BYTE, span.ended, flags
                    )
                )
            else:
                add(_encode_span(span, encoding))
        except _UNENCODABLE as error:
            logger.warning("span %r cannot be encoded and is not exported: %r", span.spec.name, error)
    return [(spec, encoded) for spec, (_, _, encoded) in groups.items()]


def _packer(ids_size: int, constant_size: int) -> tuple[bytes, Callable[..., bytes]]:
    """Return the head of a span's field (its tag and length), and the function that packs the field."""
    start_time = end_time = "Q"
    end_time_tag = "B"
    fields = f"{ids_size}s{constant_size}s{start_time}{end_time_tag}{end_time}{len(_LOCAL_FIELD)}s"
    head = tag(_SPANS, LENGTH_DELIMITED) + varint(struct.calcsize(f"<{fields}"))
    return head, struct.Struct(f"<{len(head)}s{fields}").pack


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
        # The span has another name, or another value for an attribute of its template.
        attributes = {key: value for key, value in template.attributes.items() if not extra or key not in extra}
        encoding = SpanEncoding(span.name, template.kind, attributes, False)
    ids = _TRACE_ID_HEX + span.trace + _SPAN_ID_HEX + span.id
    times = (span.started, _END_TIME_BYTE, span.ended)
    if span.parent is not None:
        head, flags = encoding.child_head, _REMOTE_FIELD if span.remote else _LOCAL_FIELD
        ids = unhexlify(ids + _PARENT_SPAN_ID_HEX + span.parent)
        packed = encoding.child(head, ids, encoding.constant, *times, flags)
    else:
        head = encoding.root_head
        packed = encoding.root(head, unhexlify(ids), encoding.constant, *times, _LOCAL_FIELD)
    variable = _variable_fields(span, template)
    return field(_SPANS, packed[len(head) :] + variable) if variable else packed


def _variable_fields(span: LeanSpan, template: Template) -> bytes:
    parts: list[bytes] = []
    if span.state_block is not None and (state := tracestate(span.state_block)):
        parts.append(text(_TRACE_STATE, state))
    if span.extra:
        parts.append(_attributes(_ATTRIBUTES, span.extra))
    if template.linked and span.remote and span.parent is not None:
        ids = _TRACE_ID + unhexlify(span.trace) + _SPAN_ID + unhexlify(span.parent)
        parts.append(field(_LINKS, ids + _LINK_FLAGS + _REMOTE))
    if span.details is not None:
        parts.append(_details(span.details))
    return b"".join(parts)


def _details(details: Details) -> bytes:
    parts: list[bytes] = []
    for time, name, attributes in details.events:
        encoded_time = _EVENT_TIME + struct.pack("<Q", time)
        parts.append(
            field(_EVENTS, encoded_time + text(_EVENT_NAME, name) + _attributes(_EVENT_ATTRIBUTES, attributes))
        )
    parts.extend(_link(link) for link in details.links)
    for count_tag, dropped in (
        (_DROPPED_ATTRIBUTES, details.dropped_attributes),
        (_DROPPED_EVENTS, details.dropped_events),
        (_DROPPED_LINKS, details.dropped_links),
    ):
        if dropped:
            parts.append(count_tag + varint(dropped))
    if details.status is not StatusCode.UNSET:
        message = text(_STATUS_MESSAGE, details.description) if details.description else b""
        parts.append(field(_STATUS, message + _STATUS_CODE + varint(details.status.value)))
    return b"".join(parts)


def _link(link: Link) -> bytes:
    context = link.context
    trace_id = context.trace_id.to_bytes(_TRACE_ID_LENGTH, "big")
    span_id = context.span_id.to_bytes(_SPAN_ID_LENGTH, "big")
    state = context.trace_state.to_header()
    parts = (
        _TRACE_ID + trace_id + _SPAN_ID + span_id,
        text(_LINK_TRACE_STATE, state) if state else b"",
        _attributes(_LINK_ATTRIBUTES, link.attributes or {}),
        _LINK_FLAGS + (_REMOTE if context.is_remote else _LOCAL),
    )
    return field(_LINKS, b"".join(parts))


def _encode_scope(scope: Scope) -> tuple[bytes, bytes, bytes]:
    """Return the encoded resource, scope and schema, which are kept on the scope."""
    if scope.encoded is None:
        resource = _attributes(_RESOURCE_ATTRIBUTES, scope.service.resource)
        name = text(_SCOPE_NAME, scope.name) + (text(_SCOPE_VERSION, scope.version) if scope.version else b"")
        schema = text(_SCHEMA_URL, scope.schema_url) if scope.schema_url else b""
        scope.encoded = field(_RESOURCE, resource), field(_SCOPE, name), schema
    return scope.encoded


def _attributes(number: int, attributes: Mapping[str, Any]) -> bytes:
    return b"".join([_pair(number, key, value, _MAX_DEPTH) for key, value in attributes.items()])


def _pair(number: int, key: str, value: Any, depth: int) -> bytes:
    name = _encode_key(key)
    if type(value) is str:
        encoded = value.encode("utf-8", "replace")
        size = len(encoded)
        if len(name) + size < _MAX_SHORT:
            return _SHORT_PAIR % (number << 3 | LENGTH_DELIMITED, len(name) + size + 4, name, size + 2, size, encoded)
    return field(number, name + field(_VALUE, _value(value, depth)))


_encode_key = lru_cache(maxsize=256)(partial(text, _KEY))
"""Return the field of an attribute's key. The keys of an application are few."""

_MAX_SHORT = 0x80 - 4
"""Bytes of key and text from which on a length in their pair has more than one byte."""

_SHORT_PAIR = b"%c%c%b" + tag(_VALUE, LENGTH_DELIMITED) + b"%c" + tag(_STRING_VALUE, LENGTH_DELIMITED) + b"%c%b"
"""A short text with its key, as most attributes are: the nested fields of `_pair` in one step.

The calls for each of them were 4 % of the instructions of a traced turn."""


def _value(value: Any, depth: int) -> bytes:
    """Return an `AnyValue`. A value that OTLP has no type for is sent as text, which is better than losing the span."""
    if isinstance(value, str):
        return text(_STRING_VALUE, value)
    if isinstance(value, bool):
        return _BOOL_VALUE + varint(value)
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return _INT_VALUE + varint(value & 0xFFFFFFFFFFFFFFFF)
    if isinstance(value, float):
        return _DOUBLE_VALUE + struct.pack("<d", value)
    if isinstance(value, bytes):
        return field(_BYTES_VALUE, value)
    if isinstance(value, Mapping) and depth:
        pairs = [_pair(_ITEMS, str(key), item, depth - 1) for key, item in value.items()]
        return field(_MAP_VALUE, b"".join(pairs))
    if isinstance(value, Sequence) and depth:
        return field(_ARRAY_VALUE, b"".join([field(_ITEMS, _value(item, depth - 1)) for item in value]))
    return b"" if value is None else text(_STRING_VALUE, str(value))
