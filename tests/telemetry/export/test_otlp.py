"""The OTLP encoder gives the same result as the SDK's encoder."""

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.span import SpanContext, TraceState

from runtime.telemetry import LeanSpan, Tracing, semconv
from runtime.telemetry.export.otlp import encode
from runtime.telemetry.export.sdk import readable

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
SCALAR = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.binary(max_size=200),
)
VALUE = st.one_of(SCALAR, st.lists(TEXT, max_size=3), st.lists(st.integers(-5, 500), max_size=3))
ATTRIBUTES = st.dictionaries(TEXT, VALUE, max_size=4)
TIME = st.integers(1, 2**63)
CONTEXT = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    trace_state=st.sampled_from([TraceState(), TraceState([("a", "b")])]),
)
PARENT = b"NATS/1.0\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n"
BLOCK = st.sampled_from([None, PARENT + b"\r\n", PARENT + b"tracestate: v=1,w=2\r\n\r\n", PARENT + b"X: =\r\n\r\n"])


@st.composite
def ended(draw: st.DrawFn, tracing: Tracing) -> LeanSpan:
    service = tracing.service(draw(st.sampled_from(["orders", "payment", "päckchen"])), version="1")
    template = service.template(draw(TEXT), draw(st.sampled_from(SpanKind)), draw(ATTRIBUTES))
    span = template.receive(draw(BLOCK))
    if draw(st.booleans()):
        span = template.start(span)
    assert isinstance(span, LeanSpan)
    span.started = draw(TIME)
    actions: list[Callable[[], Any]] = [
        lambda: span.set_attributes(draw(ATTRIBUTES)),
        lambda: span.add_event(draw(TEXT), draw(ATTRIBUTES), draw(TIME)),
        lambda: span.add_link(draw(CONTEXT), draw(ATTRIBUTES)),
        lambda: span.set_status(draw(st.sampled_from(StatusCode)), draw(TEXT)),
        lambda: span.update_name(draw(TEXT.filter(bool))),
    ]
    for action in draw(st.lists(st.sampled_from(actions), max_size=4)):
        action()
    span.end(draw(TIME))
    return span


def normal(request: ExportTraceServiceRequest) -> ExportTraceServiceRequest:
    """Return the same request with equal forms of empty fields, and sorted if the order has no meaning."""
    services: dict[bytes, dict[tuple[bytes, str], list[Any]]] = {}
    for resource in request.resource_spans:
        assert resource.schema_url == semconv.SCHEMA_URL
        scopes = services.setdefault(resource.resource.SerializeToString(deterministic=True), {})
        for scope in resource.scope_spans:
            for span in scope.spans:
                span.status.SetInParent()
                # The SDK omits the tracestate of a link, for which the protocol has a field.
                for link in span.links:
                    link.trace_state = ""
                span.attributes.sort(key=lambda pair: pair.key)
            key = scope.scope.SerializeToString(deterministic=True), scope.schema_url
            scopes.setdefault(key, []).extend(scope.spans)
    result = ExportTraceServiceRequest()
    for resource, scopes in sorted(services.items()):
        resource_spans = result.resource_spans.add()
        resource_spans.resource.ParseFromString(resource)
        for (scope, schema_url), spans in sorted(scopes.items()):
            scope_spans = resource_spans.scope_spans.add(
                spans=sorted(spans, key=lambda span: span.span_id), schema_url=schema_url
            )
            scope_spans.scope.ParseFromString(scope)
    return result


@settings(max_examples=150)
@given(st.data())
def test_the_encoder_agrees_with_that_of_the_sdk(data: st.DataObject) -> None:
    tracing = Tracing(in_memory=True)
    spans = data.draw(st.lists(ended(tracing), max_size=5))
    ours = ExportTraceServiceRequest.FromString(encode(spans))
    theirs = encode_spans([readable(span) for span in spans])
    assert normal(ours) == normal(theirs)


def test_texts_are_encoded_at_each_length_around_that_of_one_byte() -> None:
    for length in (1, 40, 110):
        span = Tracing(in_memory=True).service("a").template("b").start()
        assert isinstance(span, LeanSpan)
        texts = {
            f"{size:03}{'k' * length}": "v" * size for size in range(105 - length if length < 100 else 0, 140 - length)
        }
        for key, text in texts.items():
            span.set_attribute(key, text)
        span.end()
        sent = ExportTraceServiceRequest.FromString(encode([span])).resource_spans[0].scope_spans[0].spans[0]
        assert {pair.key: pair.value.string_value for pair in sent.attributes} == texts


def test_the_counts_of_dropped_items_are_sent() -> None:
    span = Tracing(in_memory=True).service("a").template("b").start()
    assert isinstance(span, LeanSpan)
    for index in range(130):
        span.set_attribute(str(index), index)
        span.add_event("e")
        span.add_link(span.get_span_context())
    span.end()
    sent = ExportTraceServiceRequest.FromString(encode([span])).resource_spans[0].scope_spans[0].spans[0]
    counts = (sent.dropped_attributes_count, sent.dropped_events_count, sent.dropped_links_count)
    assert counts == (2, 2, 2)


def test_a_value_that_cannot_be_encoded_costs_only_its_own_span(caplog: Any) -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise ValueError("no")

    endless: list[Any] = []
    endless.append(endless)
    tracing = Tracing(in_memory=True)
    template = tracing.service("a").template("b")
    odd: dict[str, Any] = {"int": 2**70, "none": None, "self": endless, "map": {1: 2.5}, "object": SpanKind.CLIENT}
    bad: dict[str, Any] = {"bad": Unprintable()}
    spans = [template.start(attributes=odd), template.start(attributes=bad), template.start()]
    for span in spans:
        span.end()
    lean = [span for span in spans if isinstance(span, LeanSpan)]
    sent = ExportTraceServiceRequest.FromString(encode(lean)).resource_spans[0].scope_spans[0].spans
    assert [span.span_id.hex().encode() for span in sent] == [lean[0].id, lean[2].id]
    values = {pair.key: pair.value for pair in sent[0].attributes}
    assert values["int"].string_value == str(2**70)
    assert values["map"].kvlist_value.values[0].value.double_value == 2.5
    assert values["object"].string_value == "SpanKind.CLIENT"
    assert "cannot be encoded and is not exported" in caplog.text
