"""Tests that one order of the demo, run as a user runs it, is one trace in a real Jaeger."""

import os
import re
import subprocess
import sys
import time
from typing import Any

import pytest

from tests.jaeger.conftest import Jaeger

pytestmark = pytest.mark.jaeger

SERVICES = {"orders", "products", "delivery", "warehouse", "payment", "payment-3p"}

DEPENDENCIES = {
    ("orders", "delivery"),  # the query for the price, and the reaction that delivers a packed order
    ("orders", "payment"),
    ("orders", "products"),
    ("orders", "warehouse"),
    ("payment", "payment-3p"),
    ("warehouse", "orders"),
    ("warehouse", "delivery"),
    ("delivery", "orders"),
    ("delivery", "payment"),
}
"""Pairs of services of which the first queries or commands the second, or causes a reaction of it, in a complete order."""


def test_one_order_is_one_trace_over_six_services(jaeger: Jaeger) -> None:
    demo = subprocess.run(
        [sys.executable, "-m", "runtime", "demo", "--exit", "--port", "0"],
        env={**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": jaeger.otlp_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert demo.returncode == 0, demo.stderr
    shown = re.search(r"trace ([0-9a-f]{32}): (\d+) spans", demo.stdout)
    assert shown is not None, demo.stdout
    trace = wait_for_trace(jaeger, shown[1], int(shown[2]))

    names = {process["serviceName"] for process in trace["processes"].values()}
    assert names >= SERVICES
    spans = {span["spanID"]: span for span in trace["spans"]}
    roots = [span for span in trace["spans"] if not span["references"]]
    assert len(roots) == 1, "all spans belong to one root"
    for span in trace["spans"]:
        assert all(reference["spanID"] in spans for reference in span["references"])
    # Jaeger expects no skew between the clocks of one host, so it warns of none.
    assert not [warning for span in trace["spans"] for warning in span.get("warnings") or ()]
    received = [span for span in trace["spans"] if tag(span, "span.kind") == "consumer"]
    assert len(received) >= 6
    for span in received:
        # Jaeger shows only the link of a parent that is also linked to. Its graph below counts the parent.
        [reference] = span["references"]
        assert reference["refType"] == "FOLLOWS_FROM"
        assert tag(spans[reference["spanID"]], "span.kind") == "producer"
    edges = {edge for edge in jaeger.dependencies() if set(edge) <= SERVICES and edge[0] != edge[1]}
    assert edges == DEPENDENCIES


def wait_for_trace(jaeger: Jaeger, trace_id: str, spans: int) -> dict[str, Any]:
    """Return the trace once Jaeger has all its spans."""
    deadline = time.monotonic() + 20
    while True:
        trace = jaeger.trace(trace_id)
        if trace is not None and len(trace["spans"]) >= spans:
            return trace
        assert time.monotonic() < deadline, f"{len(trace['spans']) if trace else 0} of {spans} spans"
        time.sleep(0.05)


def tag(span: dict[str, Any], key: str) -> Any:
    """Return the value of a span's tag, or None."""
    return next((each["value"] for each in span["tags"] if each["key"] == key), None)
