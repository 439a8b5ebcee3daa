"""A real Jaeger v2 on free ports of the loopback interface, with storage in memory. build.sh builds it, not a test."""

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.ports import free_ports

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
BINARY = CACHE / "actorloom" / "jaeger-1.76.0" / "jaeger"

CONFIG = """
service:
  extensions: [jaeger_storage, jaeger_query, healthcheckv2]
  pipelines:
    traces: {{receivers: [otlp], exporters: [jaeger_storage_exporter]}}
  telemetry:
    metrics: {{level: none}}
    logs: {{level: warn}}
extensions:
  jaeger_storage:
    backends: {{memory_storage: {{memory: {{max_traces: 10000}}}}}}
  jaeger_query:
    storage: {{traces: memory_storage}}
    enable_tracing: false # its own spans would go to port 4317, on which another program may listen
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:0"}}
  healthcheckv2: {{use_v2: true, http: {{endpoint: "127.0.0.1:{health}"}}, grpc: }}
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory_storage}}
"""
"""The necessary part of Jaeger's built-in all-in-one configuration, in which ports are fixed, with free ports instead."""


@dataclass(frozen=True)
class Jaeger:
    """A running Jaeger and its query API. All tests of the session share its stored spans."""

    otlp_url: str
    """URL for ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
    query_url: str

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """Return the trace with this id (32 hex digits), with `spans` and `processes`, or None if no span has arrived."""
        found = self._get(f"/api/traces/{trace_id}")
        return found[0] if found else None

    def services(self) -> set[str]:
        """Return the service names of all stored spans."""
        return set(self._get("/api/services") or ())

    def dependencies(self) -> set[tuple[str, str]]:
        """Return the pairs of calling and called service of the last hour.

        Jaeger leaves out a trace with a span that ends after `endTs` (milliseconds), so that time is in the future.
        """
        edges = self._get(f"/api/dependencies?endTs={time.time_ns() // 1_000_000 + 60_000}&lookback=3600000")
        return {(edge["parent"], edge["child"]) for edge in edges or ()}

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.query_url + path, timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            with error:
                if error.code == 404:
                    return None
                raise


@pytest.fixture(scope="session")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    """Run Jaeger for the session. Tests are skipped if it is not built; `make test-jaeger` builds it with Go."""
    if not BINARY.exists():
        pytest.skip(f"there is no Jaeger at {BINARY}: `make test-jaeger` builds it if Go is installed")
    directory = tmp_path_factory.mktemp("jaeger")
    process, running = start(directory)
    try:
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def start(directory: Path) -> tuple[subprocess.Popen[bytes], Jaeger]:
    """Start Jaeger. Try other ports if another program has taken one between the choice of ports and the start."""
    log = directory / "jaeger.log"
    for _ in range(3):
        otlp, query, health = free_ports(3)
        config = directory / "config.yaml"
        config.write_text(CONFIG.format(otlp=otlp, query=query, health=health))
        with log.open("wb") as output:
            process = subprocess.Popen(
                [BINARY, "--config", f"file:{config}"], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        if is_ready(process, f"http://127.0.0.1:{health}/status", seconds=30):
            return process, Jaeger(f"http://127.0.0.1:{otlp}", f"http://127.0.0.1:{query}")
        process.kill()
        process.wait()
        if b"address already in use" not in log.read_bytes():
            break
    pytest.fail(f"Jaeger did not start:\n{log.read_text(errors='replace')[-3000:]}")


def is_ready(process: subprocess.Popen[bytes], status_url: str, seconds: float) -> bool:
    """Return whether the process becomes healthy within `seconds`."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if is_healthy(status_url):
            return True
        time.sleep(0.02)
    return False


def is_healthy(status_url: str) -> bool:
    try:
        with urllib.request.urlopen(status_url, timeout=2) as response:
            return json.load(response)["status"] == "StatusOK"
    except OSError:  # it does not listen yet, or answers 503
        return False
