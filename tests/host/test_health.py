"""The health port, over real HTTP."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest

from runtime.errors import ConfigurationError
from runtime.host import health
from runtime.host.health import Health, HealthServer


@asynccontextmanager
async def served(*reasons: str) -> AsyncIterator[HealthServer]:
    async with (
        Health(reasons=lambda: list(reasons), metrics=lambda: ("text/plain", "up 1\n")) as asked,
        HealthServer("127.0.0.1", 0, asked) as server,
    ):
        yield server


async def ask(server: HealthServer, request: str) -> tuple[int, dict[str, str], str]:
    """Send a request line, and return the status, headers and body of the answer."""
    async with asyncio.timeout(30):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"{request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head, _, body = (await reader.read()).decode().partition("\r\n\r\n")
        writer.close()
        await writer.wait_closed()
    status, *lines = head.split("\r\n")
    return int(status.split(" ")[1]), dict(line.split(": ", 1) for line in lines), body


async def test_a_ready_process_answers_200() -> None:
    async with served() as server:
        status, headers, body = await ask(server, "GET /readyz?verbose")
        assert (status, body) == (200, '{"status":"ok","reasons":[]}')
        assert headers["Content-Type"] == "application/json"
        assert headers["Content-Length"] == str(len(body))


async def test_a_process_that_is_not_ready_answers_503_with_the_reasons() -> None:
    async with served("orders is starting") as server:
        status, _, body = await ask(server, "GET /readyz")
        assert (status, body) == (503, '{"status":"unavailable","reasons":["orders is starting"]}')
        assert (await ask(server, "GET /livez"))[0] == 200


async def test_warnings_do_not_make_a_process_unready() -> None:
    asked = Health(reasons=list, warnings=lambda: ["orders: on_paid waits"], metrics=lambda: ("text/plain", ""))
    async with HealthServer("127.0.0.1", 0, asked) as server:
        status, _, body = await ask(server, "GET /readyz")
        assert (status, body) == (200, '{"status":"ok","reasons":[],"warnings":["orders: on_paid waits"]}')


async def test_metrics_are_sent_unchanged() -> None:
    async with served() as server:
        assert (await ask(server, "GET /metrics"))[2] == "up 1\n"
        assert (await ask(server, "HEAD /metrics"))[2] == ""


async def test_a_blocked_loop_shows_in_the_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_TICK", 0.01)
    monkeypatch.setattr(health, "MAX_LAG", 0.1)
    async with served() as server:

        async def lag() -> float:
            return msgspec.json.decode((await ask(server, "GET /livez"))[2])["lag"]

        await lag()
        time.sleep(0.3)  # noqa: ASYNC251 - a handler that blocks the loop
        async with asyncio.timeout(30):
            while await lag() < 0.1:
                await asyncio.sleep(0.001)
        assert (await ask(server, "GET /livez"))[0] == 503


@pytest.mark.parametrize(("request_line", "status"), [("POST /livez", 405), ("GET /", 404), ("nonsense", 405)])
async def test_other_requests_are_refused(request_line: str, status: int) -> None:
    async with served() as server:
        assert (await ask(server, request_line))[0] == status


async def test_a_request_without_an_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "_DEADLINE", 0.05)
    async with served() as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /livez HT")
        async with asyncio.timeout(30):
            assert await reader.read() == b""
        writer.write(b"x" * 100_000)
        writer.close()
        assert (await ask(server, "GET /readyz"))[0] == 200


async def test_a_taken_port_is_an_error() -> None:
    async with served() as server:
        with pytest.raises(ConfigurationError, match="the port is taken"):
            async with HealthServer("127.0.0.1", server.port, Health(reasons=list, metrics=lambda: ("", ""))):
                pass


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nX: "], ids=["silent", "half a request"])
async def test_idle_connections_keep_no_probe_from_its_answer(sent: bytes) -> None:
    async with served() as server:
        idle: list[asyncio.StreamWriter] = []
        for _ in range(4):
            for _ in range(health._MAX_CONNECTIONS):
                _, writer = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(sent)
                idle.append(writer)
            for path in ("/livez", "/readyz", "/metrics"):
                assert (await ask(server, f"GET {path}"))[0] == 200
        assert len(server._open) <= health._MAX_CONNECTIONS
        for writer in idle:
            writer.transport.abort()


async def test_a_client_that_reads_nothing_keeps_no_probe_from_its_answer() -> None:
    large = "x" * 10_000_000
    async with HealthServer("127.0.0.1", 0, Health(reasons=list, metrics=lambda: ("text/plain", large))) as server:
        clients = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(health._MAX_CONNECTIONS)]
        for reader, writer in clients[:8]:
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
        assert (await ask(server, "GET /livez"))[0] == 200
        for _, writer in clients:
            writer.transport.abort()


async def test_a_request_after_many_connections_at_once_is_answered() -> None:
    async with served() as server:
        answers = await asyncio.gather(*(ask(server, "GET /livez") for _ in range(100)))
        assert {status for status, _, _ in answers} == {200}
