"""A real Jaeger v2 on free ports of the loopback, with its storage in memory; built by build.sh, never by a test."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
BINARY = CACHE / "actorloom" / "jaeger-1.76.0" / "jaeger"

# Jaeger's built-in all-in-one configuration has its ports fixed; this is what we need of it, with ports of our own.
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
    enable_tracing: false # its own spans would go to port 4317, where somebody else may listen
    http: {{endpoint: "127.0.0.1:{query}"}}
    grpc: {{endpoint: "127.0.0.1:0"}}
  healthcheckv2: {{use_v2: true, http: {{endpoint: "127.0.0.1:{health}"}}, grpc: }}
receivers:
  otlp: {{protocols: {{http: {{endpoint: "127.0.0.1:{otlp}"}}}}}}
exporters:
  jaeger_storage_exporter: {{trace_storage: memory_storage}}
"""


@dataclass(frozen=True)
class Jaeger:
    """Where it listens, and its query API. Its stored spans are shared by all tests of the session."""

    otlp_url: str
    """For OTEL_EXPORTER_OTLP_ENDPOINT."""
    query_url: str

    def trace(self, trace_id: str) -> dict[str, Any] | None:
        """The trace with this id (32 hex digits): `spans` and `processes`; None when nothing of it has arrived."""
        found = self._get(f"/api/traces/{trace_id}")
        return found[0] if found else None

    def services(self) -> set[str]:
        """The service names of all spans seen."""
        return set(self._get("/api/services") or ())

    def dependencies(self) -> set[tuple[str, str]]:
        """Who called whom, by service name, in the last hour.

        Jaeger leaves out a trace with a span that ends after `endTs` (milliseconds), so that lies ahead of us.
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
    """A running Jaeger; skips where it was not built (`make test-jaeger` builds it, with Go)."""
    if not BINARY.exists():
        pytest.skip(f"no built Jaeger at {BINARY}: `make test-jaeger` builds it where Go is installed")
    directory = tmp_path_factory.mktemp("jaeger")
    process, found = started(directory)
    try:
        yield found
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def started(directory: Path) -> tuple[subprocess.Popen[bytes], Jaeger]:
    """Start it; again on other ports when somebody took one between our asking and its binding."""
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
    except OSError:  # it does not listen yet, or answers 503: not yet ready
        return False


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on right now, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
