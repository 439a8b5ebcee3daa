"""The standard samplers, by name and as SDK objects, take the same decisions as the SDK."""

import pytest
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    Decision,
    ParentBasedTraceIdRatio,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanKind, set_span_in_context
from opentelemetry.trace.span import SpanContext, TraceFlags, TraceState

from runtime.telemetry import LeanSpan, Tracing, inject
from runtime.telemetry.spans.sampling import Sampling

SAMPLERS: dict[str, Sampler] = {
    "always_on": ALWAYS_ON,
    "always_off": ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased(0.3),
    "parentbased_always_on": DEFAULT_ON,
    "parentbased_always_off": DEFAULT_OFF,
    "parentbased_traceidratio": ParentBasedTraceIdRatio(0.3),
}


def header(trace: int, span: int, flag: int) -> bytes:
    return b"NATS/1.0\r\ntraceparent: 00-%032x-%016x-0%d\r\n\r\n" % (trace, span, flag)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("flag", [0, 1])
@pytest.mark.parametrize("own", ["by name", "as an object"])
def test_a_received_span_is_sampled_as_by_the_sdk(name: str, flag: int, own: str) -> None:
    env = {"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.3"}
    tracing = Tracing(sampler=Sampling.from_env(env) if own == "by name" else SAMPLERS[name], in_memory=True)
    template = tracing.service("a").template("b", SpanKind.SERVER)
    for index in range(1, 60):
        trace = index * 0x0123456789ABCDEF_FEDCBA9876543211 % 2**128
        parent = NonRecordingSpan(SpanContext(trace, 5, True, TraceFlags(flag)))
        expected = SAMPLERS[name].should_sample(set_span_in_context(parent), trace, "b").decision.is_sampled()
        received = template.receive(header(trace, 5, flag))
        assert received.is_recording() == expected
        assert template.start(parent).is_recording() == expected
        assert received.get_span_context().trace_id == trace
        assert inject(received).endswith(b"-01\r\n" if expected else b"-00\r\n")


@pytest.mark.parametrize(("name", "least", "most"), [("always_on", 400, 400), ("parentbased_traceidratio", 60, 190)])
def test_root_spans_are_sampled_as_configured(name: str, least: int, most: int) -> None:
    sampling = Sampling.from_env({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": "0.3"})
    template = Tracing(sampler=sampling, in_memory=True).service("a").template("b")
    spans = [*(template.receive(None) for _ in range(200)), *(template.start() for _ in range(200))]
    assert least <= sum(span.is_recording() for span in spans) <= most
    assert len({span.get_span_context().trace_id for span in spans}) == 400


def test_a_sampler_may_add_attributes_and_a_tracestate() -> None:
    class Marking(Sampler):
        def should_sample(self, *args: object, **kwargs: object) -> SamplingResult:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, {"marked": True}, TraceState([("s", "1")]))

        def get_description(self) -> str:
            return "marking"

    span = Tracing(sampler=Marking(), in_memory=True).service("a").template("b").start(attributes={"own": 1})
    assert isinstance(span, LeanSpan)
    assert span.attributes == {"own": 1, "marked": True}
    assert inject(span).endswith(b"\r\ntracestate: s=1\r\n")


def test_an_invalid_setting_causes_a_warning_and_the_default_applies(caplog: pytest.LogCaptureFixture) -> None:
    for env in (
        {"OTEL_TRACES_SAMPLER": "nonesuch"},
        {"OTEL_TRACES_SAMPLER_ARG": "2", "OTEL_TRACES_SAMPLER": "traceidratio"},
    ):
        template = Tracing(sampler=Sampling.from_env(env), in_memory=True).service("a").template("b")
        assert template.start().is_recording()
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
