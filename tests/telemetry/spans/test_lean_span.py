"""Lean spans implement the OpenTelemetry API: calls of user code are recorded, nest, and follow the specification."""

import asyncio
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.status import Status

from runtime.telemetry import LeanSpan, Tracing, attached, finish, semconv
from runtime.telemetry.spans.limits import SpanLimits


@pytest.fixture
def tracing() -> Tracing:
    tracing = Tracing(in_memory=True)
    tracing.install()
    return tracing


def test_every_call_of_the_span_api_is_recorded_until_the_end(tracing: Tracing) -> None:
    other = tracing.service("a").template("other").start()
    span = tracing.service("orders").template("place", attributes={"fixed": 1, "both": "template"}).start()
    span.set_attribute("key", "value")
    span.set_attributes({"list": [1, 2], "both": "span"})
    span.add_event("seen", {"n": 1}, 123)
    span.add_link(other.get_span_context(), {"why": "test"})
    span.update_name("renamed")
    span.set_status(StatusCode.ERROR, "no")
    assert span.is_recording()
    span.end(10**18)
    span.end(5)
    for after in ("name", "set"):
        span.update_name(after)
        span.set_attribute(after, after)
        span.add_event(after)
        span.set_status(StatusCode.OK)
    assert not span.is_recording()
    (record,) = tracing.finished()
    assert (record.service, record.name, record.kind, record.end) == ("orders", "renamed", SpanKind.INTERNAL, 10**18)
    assert record.attributes == {"fixed": 1, "both": "span", "key": "value", "list": (1, 2)}
    assert record.events == ((123, "seen", {"n": 1}),)
    context = other.get_span_context()
    assert record.links == ((f"{context.trace_id:032x}", f"{context.span_id:016x}"),)
    assert (record.status, record.description) == ("ERROR", "no")


def test_ok_is_final_and_unset_is_ignored(tracing: Tracing) -> None:
    span = tracing.service("a").template("b").start()
    assert isinstance(span, LeanSpan)
    span.set_status(Status(StatusCode.ERROR, "first"))
    span.set_status(StatusCode.UNSET)
    assert span.detail().status is StatusCode.ERROR
    span.set_status(StatusCode.OK)
    span.set_status(StatusCode.ERROR)
    assert (span.detail().status, span.detail().description) == (StatusCode.OK, None)


def test_a_span_has_limits_and_counts_the_dropped_items(tracing: Tracing) -> None:
    span = tracing.service("a").template("b").start()
    assert isinstance(span, LeanSpan)
    for index in range(200):
        span.set_attribute(str(index), index)
        span.add_event("e")
        span.add_link(span.get_span_context())
    details = span.detail()
    limits = SpanLimits()
    assert len(span.attributes) == limits.attributes
    assert (len(details.events), len(details.links)) == (limits.events, limits.links)
    assert (details.dropped_attributes, details.dropped_events, details.dropped_links) == (72, 72, 72)


def test_an_exception_in_a_with_block_is_recorded(tracing: Tracing) -> None:
    with pytest.raises(ValueError, match="broken"), tracing.service("a").template("b").start():
        raise ValueError("broken")
    (record,) = tracing.finished()
    ((_, name, attributes),) = record.events
    assert (name, attributes["exception.type"], attributes["exception.message"]) == (
        "exception",
        "ValueError",
        "broken",
    )
    assert "test_lean_span.py" in str(attributes["exception.stacktrace"])
    assert (record.status, record.description) == ("ERROR", "ValueError: broken")


async def test_user_spans_nest_in_spans_of_the_runtime_and_belong_to_its_service(tracing: Tracing) -> None:
    tracer = trace.get_tracer("shop", "1.0")

    @tracer.start_as_current_span("decorated")
    async def work() -> None:
        await asyncio.sleep(0)
        trace.get_current_span().set_attribute("inside", True)

    async def handle(service: str) -> None:
        with attached(tracing.service(service).template(f"{service}/handle", SpanKind.SERVER).receive(None)) as span:
            with tracer.start_as_current_span("outer", attributes={"a": 1}):
                await work()
            span.end()

    await asyncio.gather(handle("orders"), handle("payment"))
    with tracer.start_as_current_span("outside"):
        trace.get_current_span().add_event("x")
    spans = tracing.finished()
    for service in ("orders", "payment"):
        mine = {span.name: span for span in spans if span.service == service}
        assert set(mine) == {f"{service}/handle", "outer", "decorated"}
        assert mine["decorated"].parent_id == mine["outer"].span_id
        assert mine["outer"].parent_id == mine[f"{service}/handle"].span_id
        assert mine["decorated"].attributes == {"inside": True}
    (outside,) = [span for span in spans if span.service == "actorloom"]
    assert (outside.name, outside.parent_id) == ("outside", None)


def test_user_spans_under_an_unsampled_span_are_not_recorded(tracing: Tracing) -> None:
    received = b"NATS/1.0\r\ntraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00\r\n\r\n"
    with attached(tracing.service("a").template("b").receive(received), received):
        with trace.get_tracer("shop").start_as_current_span("inner") as inner:
            assert not inner.is_recording()
            assert inner.get_span_context().trace_id == 0x4BF92F3577B34DA6A3CE929D0E0E4736
    assert tracing.finished() == []


def test_an_exception_of_user_code_is_recorded_on_its_span(tracing: Tracing) -> None:
    tracer = trace.get_tracer("shop")
    with pytest.raises(KeyError), tracer.start_as_current_span("fails"):
        raise KeyError("x")
    (record,) = tracing.finished()
    assert (record.status, len(record.events)) == ("ERROR", 1)


def test_a_user_span_may_have_a_start_time_a_context_and_links(tracing: Tracing) -> None:
    tracer = trace.get_tracer("shop")
    parent = tracing.service("orders").template("p").start()
    link = trace.Link(parent.get_span_context())
    tracer.start_span("c", trace.set_span_in_context(parent), SpanKind.CLIENT, {"k": 1}, [link], 77).end(88)
    (record,) = tracing.finished()
    assert (record.service, record.kind, record.start, record.end) == ("orders", SpanKind.CLIENT, 77, 88)
    assert len(record.links) == 1


@pytest.mark.parametrize(
    ("kind", "code", "status"),
    [
        (SpanKind.SERVER, None, "UNSET"),
        (SpanKind.SERVER, 404, "UNSET"),
        (SpanKind.SERVER, 409, "UNSET"),
        (SpanKind.SERVER, 500, "ERROR"),
        (SpanKind.CLIENT, 409, "ERROR"),
        (SpanKind.CONSUMER, 500, "ERROR"),
    ],
)
def test_the_status_of_an_outcome_follows_the_conventions(
    tracing: Tracing, kind: SpanKind, code: int | None, status: str
) -> None:
    finish(tracing.service("a").template("b", kind).start(), code, None if code is None else "OutOfStock", "none left")
    (record,) = tracing.finished()
    assert record.status == status
    assert record.attributes.get(semconv.ERROR_TYPE) == (None if code is None else str(code))
    assert record.attributes.get(semconv.ERROR_KIND) == (None if code is None else "OutOfStock")
    rpc = kind is not SpanKind.CONSUMER and code is not None
    assert record.attributes.get(semconv.RPC_RESPONSE_STATUS_CODE) == (str(code) if rpc else None)


def test_an_event_span_has_a_parent_and_a_link_or_a_trace_of_its_own(tracing: Tracing) -> None:
    trace_id, span_id = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    received = f"NATS/1.0\r\ntraceparent: 00-{trace_id}-{span_id}-01\r\n\r\n".encode()
    service = tracing.service("a")
    service.template("both", SpanKind.CONSUMER).receive(received).end()
    service.template("alone", SpanKind.CONSUMER, parent_mode="link").receive(received).end()
    service.template("sync", SpanKind.SERVER).receive(received).end()
    both, alone, sync = tracing.finished()
    assert (both.trace_id, both.parent_id, both.links) == (trace_id, span_id, ((trace_id, span_id),))
    assert (alone.parent_id, alone.links) == (None, ((trace_id, span_id),))
    assert alone.trace_id != trace_id
    assert (sync.parent_id, sync.links) == (span_id, ())


class TestProcessors:
    """Span processors and providers of the SDK that the user sets."""

    @pytest.fixture
    def exporter(self) -> InMemorySpanExporter:
        return InMemorySpanExporter()

    @pytest.fixture
    def own_provider(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[TracerProvider]:
        provider = TracerProvider(shutdown_on_exit=False)
        monkeypatch.setattr(trace, "_TRACER_PROVIDER", provider)
        yield provider
        provider.shutdown()

    def test_a_processor_gets_readable_spans(self, tracing: Tracing, exporter: InMemorySpanExporter) -> None:
        tracing.add_span_processor(SimpleSpanProcessor(exporter))
        service = tracing.service("orders", version="2", namespace="shop")
        span = service.template("x", SpanKind.SERVER, {"a": 1}).start()
        span.add_event("e")
        finish(span, 500, "Boom", "it broke")
        (seen,) = exporter.get_finished_spans()
        assert seen.resource.attributes["service.name"] == "orders"
        assert seen.resource.attributes["service.version"] == "2"
        assert seen.resource.attributes["service.namespace"] == "shop"
        assert (seen.name, seen.kind, seen.status.description) == ("x", SpanKind.SERVER, "it broke")
        assert dict(seen.attributes or {}) == {
            "a": 1,
            "rpc.response.status_code": "500",
            "error.type": "500",
            "actorloom.error.kind": "Boom",
        }
        assert seen.get_span_context() == span.get_span_context()
        assert tracing.flush()
        assert tracing.shutdown()

    def test_a_provider_that_the_user_set_stays_and_gets_the_spans_of_the_runtime(
        self, own_provider: TracerProvider, exporter: InMemorySpanExporter
    ) -> None:
        own_provider.add_span_processor(SimpleSpanProcessor(exporter))
        tracing = Tracing()
        tracing.install()
        with attached(tracing.service("orders").template("ours", SpanKind.SERVER).receive(None)) as span:
            with trace.get_tracer("shop").start_as_current_span("theirs"):
                client = tracing.service("orders").template("call", SpanKind.CLIENT).child()
                client.end()
            span.end()
        seen = {span.name: span for span in exporter.get_finished_spans()}
        assert set(seen) == {"ours", "theirs", "call"}
        theirs, call = seen["theirs"].parent, seen["call"].parent
        assert theirs == seen["ours"].get_span_context()
        assert call is not None
        assert call.span_id == seen["theirs"].get_span_context().span_id  # pyright: ignore[reportOptionalMemberAccess]
