"""Spans and metrics of running actors have the names, attributes and units of the semantic conventions 1.44."""

from typing import Any

import pytest
from opentelemetry.trace import SpanKind

from runtime.nats.server import EmbeddedServer
from runtime.telemetry import LeanSpan, SpanRecord, Tracing, semconv
from tests.support.counting import Add, Added, AddLater, Counter, GetCount, GetSeen, Watcher
from tests.support.probe import Probe, running

RPC = {"rpc.system.name", "rpc.method", "rpc.response.status_code", "error.type", "server.address", "server.port"}
MESSAGING = {
    "messaging.system", "messaging.operation.name", "messaging.operation.type", "messaging.destination.name",
    "messaging.destination.template", "messaging.message.id", "error.type", "server.address", "server.port",
}  # fmt: skip
CONSUMER = {"messaging.consumer.group.name", "messaging.destination.subscription.name"}
SPAN_ATTRIBUTES = {
    SpanKind.CLIENT: RPC | {"network.protocol.name"},
    SpanKind.SERVER: RPC | {"network.protocol.name"},
    SpanKind.PRODUCER: MESSAGING,
    SpanKind.CONSUMER: MESSAGING | CONSUMER,
    SpanKind.INTERNAL: set[str](),
}
"""The attributes that the conventions have for each kind of span. Others begin with "actorloom."."""

SENT = {
    "messaging.system", "messaging.operation.name", "messaging.destination.template", "error.type", "server.address",
    "server.port",
}  # fmt: skip
METRICS = {
    "rpc.client.call.duration": (RPC, "s"),
    "rpc.server.call.duration": (RPC - {"server.address", "server.port"}, "s"),  # the server's are opt-in
    "messaging.client.operation.duration": (SENT | {"messaging.operation.type"}, "s"),
    "messaging.client.sent.messages": (SENT, "{message}"),
    "messaging.client.consumed.messages": (SENT | CONSUMER, "{message}"),
    "messaging.process.duration": (SENT | CONSUMER, "s"),
}
"""The attributes and the unit of each metric."""


async def work(system: Probe) -> None:
    """Send a command that emits, an event from outside, a timer and a failing query, and wait for the reactions."""
    bus = system.bus
    await bus.command(Add("a", 1))
    await bus.emit(Added("a", 2))
    await bus.command(AddLater("a", 4))
    with pytest.raises(Exception, match="no counter"):
        await bus.query(GetCount("none"))

    async def seen() -> bool:
        return (await bus.query(GetSeen("a"))).total == 7

    await system.until(seen, timeout=10)
    await system.wait_published("counter")


async def test_spans_follow_the_conventions(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Watcher, url=nats_server.url, namespace=namespace) as system:
        await work(system)
        spans = system.tracing.finished()
        prefix, server = f"{namespace}.counter", ("127.0.0.1", nats_server.port)
        for span in spans:
            own = {name for name in span.attributes if not name.startswith("actorloom.")}
            assert own <= SPAN_ATTRIBUTES[span.kind], span
            if span.kind in (SpanKind.PRODUCER, SpanKind.CONSUMER):
                check_destination(span)
            if span.kind is not SpanKind.INTERNAL:
                assert (span.attributes["server.address"], span.attributes["server.port"]) == server
        published = {span.name for span in spans if span.kind is SpanKind.PRODUCER}
        assert {f"publish {prefix}.event.added.{{key}}", f"publish {prefix}.timer.{{key}}.{{name}}"} <= published
        [failed] = [span for span in spans if span.kind is SpanKind.SERVER and "error.type" in span.attributes]
        assert (failed.attributes["error.type"], failed.attributes["actorloom.error.kind"]) == ("404", "NotFound")


def check_destination(span: SpanRecord) -> None:
    """Check that the span is named by its template, and that the destination fits the template."""
    template, name = (
        str(span.attributes["messaging.destination.template"]),
        span.attributes["messaging.destination.name"],
    )
    assert span.name == f"{span.attributes['messaging.operation.name']} {template}"
    assert isinstance(name, str) and "{" not in name
    for expected, token in zip(template.split("."), name.split("."), strict=True):
        assert expected == token or expected in ("{key}", "{name}")


async def test_the_parent_of_a_publish_is_remote_only_in_another_process(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    tracing = Tracing(in_memory=True)
    async with running(Counter, url=nats_server.url, namespace=namespace, tracing=tracing) as system:
        await system.bus.command(Add("a", 1))
        await system.wait_published("counter")
        [own] = producers(tracing)
        assert own.parent is not None and not own.remote
        stored = await system.stored_turn("counter", "a")
        assert stored is not None
        system.adopt_outbox("counter", stored)
        await system.wait_published("counter")
        [_, recovered] = producers(tracing)
        assert recovered.parent == own.parent and recovered.remote


def producers(tracing: Tracing) -> list[LeanSpan]:
    return [span for span in tracing.recorder.memory or () if span.spec.kind is SpanKind.PRODUCER]


async def test_metrics_follow_the_conventions(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Watcher, url=nats_server.url, namespace=namespace) as system:
        await work(system)
        await system.until(lambda: count(system.tracing, "messaging.process.duration", "added") == 3)
        data = system.tracing.metrics.collect()
        for resource in data.resource_metrics:
            assert resource.schema_url == semconv.SCHEMA_URL
            for scope in resource.scope_metrics:
                assert scope.schema_url == semconv.SCHEMA_URL
                for metric in scope.metrics:
                    assert metric.description and metric.unit, metric.name
                    if metric.name.startswith("actorloom."):
                        continue
                    allowed, unit = METRICS[metric.name]
                    assert metric.unit == unit
                    for point in metric.data.data_points:
                        assert set(point.attributes or {}) <= allowed, metric.name
        for name in ("messaging.client.operation.duration", "messaging.client.sent.messages"):
            assert count(system.tracing, name, "event.added.{key}") == 3  # two turns, and one event from outside
            assert count(system.tracing, name, "timer.{key}.{name}") == 1
        assert count(system.tracing, "messaging.client.consumed.messages", "event.added.{key}") == 3
        assert count(system.tracing, "messaging.client.consumed.messages", "timer.{key}.{name}") == 1


async def test_a_failed_publish_is_counted_with_its_error(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await system.jetstream.delete_stream(f"{namespace}-counter-events")
        with pytest.raises(Exception, match="event"):
            await system.bus.emit(Added("a", 1))
        [series] = [
            point.attributes
            for metric in metrics(system.tracing)
            for point in metric.data.data_points
            if metric.name == "messaging.client.sent.messages" and "error.type" in point.attributes
        ]
        assert series["error.type"] in ("NoStream", "TimeoutError")


def metrics(tracing: Tracing) -> list[Any]:
    data = tracing.metrics.collect()
    return [metric for each in data.resource_metrics for scope in each.scope_metrics for metric in scope.metrics]


def count(tracing: Tracing, name: str, template: str) -> int:
    """Return the number of recorded values of a metric whose destination template contains `template`."""
    points = [point for metric in metrics(tracing) if metric.name == name for point in metric.data.data_points]
    found = [each for each in points if template in each.attributes.get("messaging.destination.template", "")]
    return sum(each.count if hasattr(each, "count") else each.value for each in found)
