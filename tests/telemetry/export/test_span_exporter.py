"""Spans reach an OTLP receiver in the background. A slow or unavailable receiver costs neither memory nor time."""

import logging
import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from runtime.telemetry import Tracing, finish
from tests.support.receiver import Receiver, receiving

FAST = {"OTEL_BSP_SCHEDULE_DELAY": "10"}


@contextmanager
def exporting(receiver: Receiver, **env: str) -> Generator[Tracing]:
    tracing = Tracing.from_env({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, **FAST, **env})
    try:
        yield tracing
    finally:
        tracing.shutdown(5)


def spans(tracing: Tracing, count: int, name: str = "s") -> None:
    template = tracing.service("orders").template(name)
    for _ in range(count):
        finish(template.start())


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def test_spans_are_exported_in_batches_without_a_flush(receiver: Receiver) -> None:
    with exporting(receiver, OTEL_BSP_MAX_EXPORT_BATCH_SIZE="50") as tracing:
        spans(tracing, 180)
        assert receiver.wait(lambda: len(receiver.names()) == 180)
        assert len(receiver.taken) >= 4
        assert {path for path, _ in receiver.requests} == {"/v1/traces"}
        assert receiver.requests[0][1]["content-type"] == "application/x-protobuf"


def test_a_full_batch_does_not_wait_for_the_delay(receiver: Receiver) -> None:
    with exporting(receiver, OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_BSP_MAX_EXPORT_BATCH_SIZE="10") as tracing:
        spans(tracing, 11)
        assert receiver.wait(lambda: len(receiver.names()) >= 10)


def test_flush_and_shutdown_send_the_remaining_spans(receiver: Receiver) -> None:
    with exporting(receiver, OTEL_BSP_SCHEDULE_DELAY="600000") as tracing:
        spans(tracing, 3)
        assert tracing.flush(10)
        assert len(receiver.names()) == 3
        spans(tracing, 2)
        assert tracing.shutdown(10)
        assert len(receiver.names()) == 5
        assert tracing.shutdown(10)


def test_encoded_slices_are_sent_in_one_request(receiver: Receiver) -> None:
    with exporting(receiver, OTEL_BSP_SCHEDULE_DELAY="600000") as tracing:
        spans(tracing, 100, "first")
        tracing.service("payment").template("other").start().end()
        spans(tracing, 100, "second")
        assert tracing.flush(10)
    assert sorted(receiver.names()) == ["first"] * 100 + ["other"] + ["second"] * 100
    assert len(receiver.taken) == 1


def test_headers_gzip_and_the_endpoint_of_the_signal_are_used(receiver: Receiver) -> None:
    env = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.url + "/own/path?x=1",
        "OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20token,x-a=b",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=overridden",
    }
    with exporting(receiver, **env) as tracing:
        spans(tracing, 1, "zipped")
        assert tracing.flush(10)
    path, headers = receiver.requests[0]
    assert path == "/own/path?x=1"
    assert (headers["authorization"], headers["x-a"], headers["content-encoding"]) == ("Bearer token", "b", "gzip")
    assert receiver.names() == ["zipped"]
    assert b"deployment.environment.name" in receiver.taken[0]
    assert b"overridden" not in receiver.taken[0]


def test_a_busy_receiver_gets_another_attempt_after_its_retry_after(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(503, {"retry-after": "0"}), (429, {})]
    with exporting(receiver) as tracing:
        spans(tracing, 5)
        assert receiver.wait(lambda: len(receiver.names()) == 5)
        assert tracing.flush(10)
    assert [f"HTTP {code}" in warnings(caplog)[0] for code in (503,)] == [True]
    assert len(warnings(caplog)) == 2
    assert warnings(caplog)[1].endswith("works again; 0 spans were dropped")


def test_spans_that_the_receiver_rejects_for_good_are_not_sent_again(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers = [(400, {})]
    with exporting(receiver, OTEL_BSP_SCHEDULE_DELAY="600000") as tracing:
        spans(tracing, 5, "rejected")
        assert not tracing.flush(10)
        spans(tracing, 1, "accepted")
        assert tracing.flush(10)
        assert tracing.exporter is not None
        assert (tracing.exporter.exported, tracing.exporter.rejected) == (1, 5)
    assert receiver.names() == ["accepted"]
    assert len(warnings(caplog)) == 2


def test_a_receiver_that_recovers_gets_the_kept_spans(caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as first:
        port = first.port
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", **FAST, "OTEL_BSP_MAX_QUEUE_SIZE": "10"}
    tracing = Tracing.from_env(env)
    try:
        spans(tracing, 4)
        assert not tracing.flush(10)
        spans(tracing, 30)
        assert not tracing.flush(10)
        assert tracing.recorder.dropped == 24
        with receiving(port) as second:
            assert tracing.flush(10)
            assert len(second.names()) == 10
    finally:
        tracing.shutdown(5)
    first_warning, second_warning = warnings(caplog)
    assert first_warning.startswith("cannot export spans")
    assert second_warning.endswith("works again; 24 spans were dropped")


def test_a_receiver_that_hangs_does_not_block_the_caller(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.gate.clear()
    env = {"OTEL_BSP_MAX_QUEUE_SIZE": "20", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10", "OTEL_EXPORTER_OTLP_TIMEOUT": "0.2"}
    with exporting(receiver, **env) as tracing:
        spans(tracing, 500)
        assert not tracing.flush(0.05)
        assert tracing.recorder.dropped >= 500 - 30
        receiver.gate.set()
        assert receiver.wait(lambda: len(receiver.names()) >= 10)
        assert tracing.flush(10)


@pytest.mark.parametrize("how", ["connection", "x-hang-up"])
def test_a_connection_that_the_receiver_closed_is_opened_again(
    receiver: Receiver, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    with exporting(receiver, OTEL_BSP_SCHEDULE_DELAY="600000") as tracing:
        for index in range(3):
            spans(tracing, 1)
            receiver.answers = [(200, {how: "close"})] if index == 0 else []
            assert tracing.flush(10)
    assert len(receiver.names()) == 3
    assert warnings(caplog) == []


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
)
def test_nothing_is_recorded_without_an_exporter(env: dict[str, str]) -> None:
    tracing = Tracing.from_env(env)
    assert tracing.exporter is None
    assert not tracing.recorder.active
    assert not tracing.service("a").template("b").start().is_recording()
    assert tracing.flush(1)
    assert tracing.shutdown(1)


def test_other_exporters_are_those_of_the_sdk() -> None:
    program = """
from runtime.telemetry import Tracing
tracing = Tracing.from_env()
tracing.service("orders").template("shown").start().end()
assert tracing.shutdown(5)
"""
    env = {**os.environ, "OTEL_TRACES_EXPORTER": "console,nonesuch"}
    done = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=30, check=True
    )
    assert '"name": "shown"' in done.stdout
    assert done.stderr.strip() == "unknown exporter OTEL_TRACES_EXPORTER=nonesuch is ignored"


def test_a_program_that_ends_without_a_shutdown_still_exports(receiver: Receiver) -> None:
    program = """
from runtime.telemetry import Tracing
Tracing.from_env().service("orders").template("last").start().end()
"""
    env = {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}
    subprocess.run([sys.executable, "-c", program], env=env, timeout=30, check=True)
    assert receiver.names() == ["last"]
