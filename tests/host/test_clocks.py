"""Machines whose clocks differ: each request is served, each expired one refused, and each timer is on time."""

import asyncio
import json
import re
import time
from contextlib import AsyncExitStack
from typing import Any

import pytest

from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.telemetry.metrics import prometheus
from runtime.testing import running
from runtime.wire.ids import id_time
from runtime.wire.subjects import Names
from tests.support.machines import machine
from tests.support.skewed import AFTER, Clockwork

SKEWS = (-60, -10, 0, 30)
"""Seconds by which the clock of a process is ahead of the server's."""
LATE = 3.0
"""Seconds that a busy machine may add to the duration of a message or a timer; far less than the skews."""


async def test_processes_with_wrong_clocks_serve_each_other(nats_server: EmbeddedServer, namespace: str) -> None:
    names = {skew: f"{namespace}-{number}" for number, skew in enumerate(SKEWS)}
    async with AsyncExitStack() as stack:
        machines = {
            skew: await stack.enter_async_context(machine(skew, nats_server.url, names[skew])) for skew in SKEWS
        }
        for skew, one in machines.items():
            report = await one.read()
            assert abs(report["skew"] - skew) < 0.5 and report["bound"] < 0.5, (skew, report)
            assert bool(report["fault"]) == bool(skew), (skew, report)
        connection = await stack.enter_async_context(await Connection.connect(ConnectionOptions(url=nats_server.url)))
        began = connection.clock.now()
        seen = await asyncio.gather(*(one.call(list(names.values())) for one in machines.values()))
        ended = connection.clock.now()
        for caller, by_namespace in zip(SKEWS, seen, strict=True):
            for actor in SKEWS:
                check_calls(by_namespace[names[actor]], began, ended, f"{caller} calls {actor}")
        for actor in SKEWS:
            events = await stored_events(JetStream(connection), Names("clockwork", names[actor]))
            check_timers(events, began, f"actor {actor}")


@pytest.mark.parametrize("skew", [0.0, -30.0])
async def test_a_wrong_clock_is_reported(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)
    async with running(Clockwork, url=nats_server.url, namespace=namespace) as system:
        warnings = system.runner.warnings()
        text = prometheus.render(system.tracing.metrics.collect())
        monkeypatch.setattr(system.connection.clock, "known", False)
        unknown = prometheus.render(system.tracing.metrics.collect())
    expected = ["clockwork: the wall clock is 30.0 s behind the NATS server"] if skew else []
    assert warnings == expected
    value = re.compile(r'(?m)^actorloom_clock_offset_seconds\{service_name="clockwork"\} (\S+)$')
    assert [float(each) for each in value.findall(text)] == [pytest.approx(skew, abs=0.5)]
    assert value.findall(unknown) == []


def check_calls(seen: dict[str, Any], began: float, ended: float, label: str) -> None:
    """Check the view of one process when it called another one."""
    assert isinstance(seen["query"], list), (label, seen)
    now, deadline = seen["query"]
    assert began - 0.5 < now < ended + 0.5 and 4.0 < deadline - now < 5.5, (label, seen)
    assert isinstance(seen["command"], float) and began - 0.5 < seen["command"] < ended + 0.5, (label, seen)
    for op in ("query", "command"):
        assert (seen[f"{op} without"], seen[f"{op} in time"], seen[f"{op} late"]) == (200, 200, 408), (label, seen)


async def stored_events(jetstream: JetStream, names: Names) -> list[StoredMessage]:
    """Return the events of an actor once each timer that was set has fired."""
    async with asyncio.timeout(20):
        while True:
            events = [each async for each in jetstream.read(names.events_stream, ">")]
            stopped = sum(".clock_stopped." in each.subject for each in events)
            if stopped == len(events) - stopped == 3 * len(SKEWS):
                return events
            await asyncio.sleep(0.05)


def check_timers(events: list[StoredMessage], began: float, label: str) -> None:
    """Check by the time of the server at which each event was stored, that no timer was early or late."""
    started = {each.subject.rpartition(".")[2]: each for each in events if ".clock_started." in each.subject}
    stopped = {each.subject.rpartition(".")[2]: each for each in events if ".clock_stopped." in each.subject}
    assert started.keys() == stopped.keys() and not any(key.endswith("-late") for key in started), label
    for key, event in started.items():
        body = json.loads(event.payload)
        created = id_time(body["message_id"])
        assert created is not None and abs(event.time - created) < LATE, (label, key, created)
        assert -0.5 < event.time - body["at"] < LATE, (label, key, body)
        assert AFTER - 0.1 < stopped[key].time - body["at"] < AFTER + LATE, (label, key, stopped[key].time - body["at"])
