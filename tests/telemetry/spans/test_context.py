"""W3C trace context is read, passed on and written as the specification requires, for any header block."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, trace
from opentelemetry.trace import NonRecordingSpan, SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.trace.span import SpanContext, TraceFlags, TraceState

from runtime.telemetry import LeanSpan, PropagatedSpan, Template, Tracing, attach, attached, current, detach, inject
from runtime.telemetry.spans.context import extract
from runtime.telemetry.spans.injection import inject_pairs, response_line
from runtime.telemetry.spans.sampling import Sampling
from runtime.wire import header_block

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def block(*pairs: tuple[str, str]) -> bytes:
    return header_block.encode(pairs)


def template(tracing: Tracing, kind: SpanKind = SpanKind.SERVER) -> Template:
    return tracing.service("orders").template("orders/get_order", kind)


@pytest.fixture
def tracing() -> Tracing:
    return Tracing(in_memory=True)


@pytest.mark.parametrize("before", [(), (("Deadline", "1700000000000"),)])
@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_a_sampled_parent_is_continued_from_any_position_in_the_block(
    tracing: Tracing, before: tuple[tuple[str, str], ...], name: str
) -> None:
    span = template(tracing).receive(block(*before, (name, SAMPLED), ("Idempotency-Key", "x")))
    span.end()
    (record,) = tracing.finished()
    assert (record.trace_id, record.parent_id) == (TRACE, SPAN)
    assert record.span_id not in (SPAN, "0" * 16)


@pytest.mark.parametrize("before", [(), (("Deadline", "1700000000000"),)])
def test_an_unsampled_parent_is_passed_on_and_not_recorded(
    tracing: Tracing, before: tuple[tuple[str, str], ...]
) -> None:
    span = template(tracing).receive(block(*before, ("traceparent", UNSAMPLED)))
    child = template(tracing, SpanKind.CLIENT).start(span)
    child.end()
    span.end()
    assert tracing.finished() == []
    assert not span.is_recording()
    assert inject(child) == f"traceparent: {UNSAMPLED}\r\n".encode()


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        SAMPLED[:-1],
        SAMPLED + "0",
        SAMPLED + "-00",
        SAMPLED.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}_{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE[:-1]}é-{SPAN}-01",
    ],
)
def test_an_invalid_parent_starts_a_new_trace(tracing: Tracing, value: str) -> None:
    span = template(tracing).receive(block(("traceparent", value)))
    span.end()
    (record,) = tracing.finished()
    assert record.parent_id is None
    assert record.trace_id != TRACE
    assert re.fullmatch("[0-9a-f]{32}", record.trace_id)


@pytest.mark.parametrize(
    "value", [f"00-{TRACE}-{SPAN}-03", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-further.fields"]
)
def test_other_flags_and_later_versions_are_read(tracing: Tracing, value: str) -> None:
    template(tracing).receive(block(("traceparent", value))).end()
    (record,) = tracing.finished()
    assert (record.trace_id, record.parent_id) == (TRACE, SPAN)


@given(
    st.one_of(
        st.text(st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",)), max_size=80),
        st.from_regex(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-[a-z]{0,3})?", fullmatch=True),
        st.from_regex(r"00-[0-9a-fA-F]{31,33}-[0-9a-f]{15,17}-0[0-3]", fullmatch=True),
    )
)
def test_a_parent_is_read_as_by_the_api(value: str) -> None:
    value = value.strip()
    context_of_api = TraceContextTextMapPropagator().extract({"traceparent": value})
    expected = trace.get_current_span(context_of_api).get_span_context()
    parent = extract(f"NATS/1.0\r\ntraceparent: {value}\r\n\r\n".encode())  # `block` refuses control characters
    if parent is None:
        assert not expected.is_valid
    else:
        assert (int(parent.trace, 16), int(parent.span, 16)) == (expected.trace_id, expected.span_id)
        assert parent.sampled == expected.trace_flags.sampled


@given(st.binary(max_size=200))
def test_malformed_blocks_raise_no_error(tail: bytes) -> None:
    tracing = Tracing(in_memory=True)
    for start in (b"", b"NATS/1.0\r\ntraceparent: 00-", b"NATS/1.0\r\ntraceparent: " + SAMPLED.encode()[:-2]):
        span = template(tracing).receive(start + tail)
        with attached(span, start + tail):
            inject()
        response_line(span)
        span.end()


def test_the_receiver_continues_the_injected_context(tracing: Tracing) -> None:
    client = template(tracing, SpanKind.CLIENT).start()
    server = template(tracing).receive(header_block.START + inject(client) + header_block.END)
    assert isinstance(client, LeanSpan)
    assert isinstance(server, LeanSpan)
    assert (server.trace, server.parent, server.remote) == (client.trace, client.id, True)
    assert response_line(server) == b"traceresponse: 00-%b-%b-01\r\n" % (server.trace, server.id)
    assert header_block.encode(inject_pairs(client)) == header_block.START + inject(client) + header_block.END


def test_the_tracestate_reaches_children_and_the_span_context(tracing: Tracing) -> None:
    received = block(("traceparent", SAMPLED), ("tracestate", "vendor=a:b,other=1"))
    server = template(tracing).receive(received)
    client = template(tracing, SpanKind.CLIENT).start(server)
    assert client.get_span_context().trace_state.to_header() == "vendor=a:b,other=1"
    assert inject(client).endswith(b"\r\ntracestate: vendor=a:b,other=1\r\n")


def test_a_tracestate_that_would_break_a_header_is_dropped(tracing: Tracing) -> None:
    received = b"NATS/1.0\r\ntraceparent: " + SAMPLED.encode() + b"\r\ntracestate: a=b\nSecret: x\r\n\r\n"
    assert b"Secret" not in inject(template(tracing).receive(received))


def test_baggage_reaches_the_handler_and_the_next_message(tracing: Tracing) -> None:
    received = block(("traceparent", SAMPLED), ("baggage", "tenant=a%20b,plan=free"))
    span = template(tracing).receive(received)
    with attached(span, received):
        assert baggage.get_baggage("tenant") == "a b"
        lines = inject()
    assert b"traceparent: 00-" + TRACE.encode() in lines
    assert sorted(header_block.parse(header_block.START + lines + header_block.END)["baggage"].split(",")) == [
        "plan=free",
        "tenant=a+b",
    ]


def test_attach_hides_the_current_span_and_detach_restores_it(tracing: Tracing) -> None:
    outer, inner = template(tracing).receive(None), template(tracing).receive(None)
    assert current() is None
    first = attach(outer)
    second = attach(inner)
    assert trace.get_current_span() is inner is current()
    detach(second)
    assert trace.get_current_span() is outer
    detach(first)
    assert current() is None
    assert inject() == b""


def test_any_span_of_the_api_can_be_a_parent(tracing: Tracing) -> None:
    foreign = NonRecordingSpan(
        SpanContext(int(TRACE, 16), int(SPAN, 16), True, TraceFlags(1), TraceState([("vendor", "x")]))
    )
    span = template(tracing, SpanKind.CLIENT).start(foreign)
    assert isinstance(span, LeanSpan)
    assert (span.trace, span.parent) == (TRACE.encode(), SPAN.encode())
    assert inject(foreign) == f"traceparent: {SAMPLED}\r\ntracestate: vendor=x\r\n".encode()
    assert inject(span).endswith(b"tracestate: vendor=x\r\n")


def test_tracing_that_records_nothing_passes_on_the_context() -> None:
    tracing = Tracing()
    received = block(("traceparent", SAMPLED), ("tracestate", "v=1"))
    span = template(tracing).receive(received)
    assert isinstance(span, PropagatedSpan)
    with attached(span, received):
        child = template(tracing, SpanKind.CLIENT).child()
        assert inject(child) == f"traceparent: {SAMPLED}\r\ntracestate: v=1\r\n".encode()
        assert trace.get_current_span().get_span_context().trace_id == int(TRACE, 16)
    assert response_line(span) == b""
    untraced = template(tracing).receive(None)
    assert inject(untraced) == inject(template(tracing).start()) == b""
    assert inject(template(tracing).receive(block(("Deadline", "1")))) == b""


@pytest.mark.parametrize("value", [None, SAMPLED, UNSAMPLED])
def test_an_unsampled_trace_stays_unsampled_downstream(value: str | None) -> None:
    """The mistake to avoid: a service starts a trace of its own under an unsampled parent."""
    tracing = Tracing(sampler=Sampling.from_env({"OTEL_TRACES_SAMPLER": "always_off"}), in_memory=True)
    span = template(tracing).receive(None if value is None else block(("traceparent", value)))
    line = inject(span)
    assert line.endswith(b"-00\r\n")
    assert inject(span) == line
    assert value is None or TRACE.encode() in line
    receiver = Tracing(in_memory=True)
    template(receiver).receive(header_block.START + line + header_block.END).end()
    assert receiver.finished() == []


def test_a_span_is_the_context_that_contains_only_itself(tracing: Tracing) -> None:
    span = template(tracing).receive(None)
    token = attach(span)
    try:
        here = context.get_current()
        (key,) = here
        assert dict(here) == {key: span} and list(here.items()) == [(key, span)] and len(here) == 1
        assert key in here and "other" not in here and here.get("other", 1) == 1
        with pytest.raises(KeyError):
            _ = here["other"]
        more = baggage.set_baggage("a", "b")
        assert trace.get_current_span(more) is span and dict(baggage.get_all(more)) == {"a": "b"}
        inner = context.attach(more)
        assert inject().endswith(b"baggage: a=b\r\n") and trace.get_current_span() is span
        context.detach(inner)
        assert trace.get_current_span() is span and not baggage.get_all()
    finally:
        detach(token)
    assert not trace.get_current_span().get_span_context().is_valid
