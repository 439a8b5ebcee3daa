"""Health over HTTP, for orchestrators and Prometheus. GET and HEAD only, one request a connection.

- ``/livez``: 200 with the lag of the event loop in the last ten seconds, 503 if it was 5 s or more. A blocked loop does
  not answer at all.
- ``/readyz``: 200 if the process is ready, or 503 with the reasons why it is not. Both name the reactions that wait for
  the stream of another actor as ``warnings``.
- ``/metrics``: Prometheus text.
"""

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, NamedTuple, Protocol, Self

import msgspec

from runtime.errors import ConfigurationError
from runtime.forks import close_in_children

logger = logging.getLogger("actorloom.host")

MAX_LAG = 5.0
"""Seconds of lag from which on the process counts as dead."""

_TICK = 0.5
"""Seconds between measurements of the lag."""
_TICKS = 20
"""Measurements that ``/livez`` looks at."""
_DEADLINE = 5.0
"""Seconds that a client has to send its request and receive the answer."""
_MAX_HEAD = 8192
"""Bytes of a request's head."""
_MAX_CONNECTIONS = 128
"""Connections that are open at once. A further one takes the place of the oldest, which has had the longest time to send its
request. So idle connections, however many, do not keep a probe of an orchestrator from its answer."""
_JSON = "application/json"


class Answer(NamedTuple):
    """The answer to one request."""

    status: int
    content_type: str
    body: bytes


class Answering(Protocol):
    """The source of the answers of a `HealthServer`."""

    async def answer(self, path: str) -> Answer:
        """Return the answer for a path. An unknown path has the status 404."""
        ...


class Health:
    """The health of this process. It measures the lag of the event loop for the duration of its ``async with`` block.

    Args:
        reasons: Returns the reasons why the process is not ready; an empty list if it is.
        warnings: Returns what does not work although the process may be ready.
        metrics: Returns the content type and the text of the metrics.
    """

    def __init__(
        self,
        *,
        reasons: Callable[[], list[str]],
        warnings: Callable[[], list[str]] = list,
        metrics: Callable[[], tuple[str, str]],
    ) -> None:
        self._reasons = reasons
        self._warnings = warnings
        self._metrics = metrics
        self._lags: deque[float] = deque(maxlen=_TICKS)
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._ticking = asyncio.create_task(self._tick(), name="actorloom health")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._ticking is not None
        self._ticking.cancel()
        await asyncio.wait({self._ticking})

    @property
    def lag(self) -> float:
        """The largest lag of the event loop in the last ten seconds, in seconds."""
        return max(self._lags, default=0.0)

    async def answer(self, path: str) -> Answer:
        """Return the answer for a path. An unknown path has the status 404."""
        match path:
            case "/livez":
                lag = self.lag
                return answer_json(lag < MAX_LAG, {"lag": round(lag, 4)})
            case "/readyz":
                reasons, warnings = self._reasons(), self._warnings()
                return answer_json(not reasons, {"reasons": reasons, **({"warnings": warnings} if warnings else {})})
            case "/metrics":
                content_type, text = self._metrics()
                return Answer(HTTPStatus.OK, content_type, text.encode())
            case _:
                return _error(HTTPStatus.NOT_FOUND, "not found: use /livez, /readyz or /metrics")

    async def _tick(self) -> None:
        """Measure by how much the event loop is late."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK
            await asyncio.sleep(_TICK)
            self._lags.append(max(loop.time() - due, 0.0))


class HealthServer:
    """An HTTP server that runs for the duration of its ``async with`` block.

    Args:
        host: The address to listen on.
        port: The port; 0 takes any free one. The attribute `port` is the real one, once the block has begun.
        health: Has the answers.

    Raises:
        ConfigurationError: The port is taken, or the address is not one of this machine.
    """

    def __init__(self, host: str, port: int, health: Answering) -> None:
        self.host = host
        self.port = port
        self._health = health
        self._open: dict[asyncio.StreamWriter, None] = {}
        """The open connections, oldest first."""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        close_in_children(self)
        try:
            self._server = await asyncio.start_server(self._connected, self.host, self.port, limit=_MAX_HEAD)
        except (OSError, OverflowError) as error:
            taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "the port is taken; choose another one, or 0 for any" if taken else str(error)
            raise ConfigurationError(f"health port {self.port} of {self.host}: {reason}") from None
        self.port = self._server.sockets[0].getsockname()[1]
        logger.info("health on http://%s:%d (/livez, /readyz, /metrics)", self.host, self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._open:
            writer.transport.abort()

    def descriptors(self) -> Iterator[int]:
        """Return the descriptors of the listening sockets."""
        for listening in self._server.sockets if self._server is not None else ():
            yield listening.fileno()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= _MAX_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        self._open[writer] = None
        try:
            async with asyncio.timeout(_DEADLINE):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(await self._response(head))
                await writer.drain()
        except (OSError, EOFError, asyncio.LimitOverrunError, TimeoutError) as error:
            logger.debug("a health request was cut short: %r", error)
        finally:
            self._open.pop(writer, None)
            writer.close()

    async def _response(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        allowed = method in ("GET", "HEAD")
        answer = await self._health.answer(path) if allowed else _error(HTTPStatus.METHOD_NOT_ALLOWED, _METHODS)
        lines = (
            f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\nContent-Type: {answer.content_type}\r\n"
            f"Content-Length: {len(answer.body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"
        )
        return lines.encode() + (b"" if method == "HEAD" else answer.body)


_METHODS = "only GET and HEAD"


def answer_json(good: bool, more: dict[str, Any]) -> Answer:
    """Return the answer of a process that is, or is not, alive or ready."""
    status = HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE
    return Answer(status, _JSON, msgspec.json.encode({"status": "ok" if good else "unavailable", **more}))


def _error(status: HTTPStatus, text: str) -> Answer:
    return Answer(status, _JSON, msgspec.json.encode({"error": text}))
