"""HTTP endpoints on the loopback: one that answers as the test says, and one of plain sockets that breaks the rules of HTTP."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiohttp import web


class Received(NamedTuple):
    """A request as it arrived."""

    method: str
    path: str
    """The path and the query, as they were sent."""
    headers: dict[str, str]
    """The headers, with names in lower case."""
    body: bytes


Answer = Callable[[Received], Awaitable[web.Response]]
"""Returns the answer to a request."""


class Endpoint:
    """A server that notes its requests."""

    def __init__(self) -> None:
        self.url = ""
        self.received: list[Received] = []
        self.answers: list[web.Response | Answer] = []
        """The next answers; after the last one, each is 200 without a body."""

    async def answer(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        received = Received(request.method, request.raw_path, headers, await request.read())
        self.received.append(received)
        answer = self.answers.pop(0) if self.answers else web.Response()
        return answer if isinstance(answer, web.Response) else await answer(received)


@asynccontextmanager
async def endpoint(context: ssl.SSLContext | None = None) -> AsyncGenerator[Endpoint]:
    """Run an endpoint on a free port of 127.0.0.1 for the duration of the block."""
    served = Endpoint()
    server = web.Server(served.answer)  # type: ignore[arg-type]
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    served.url = f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield served
    finally:
        await runner.cleanup()


@asynccontextmanager
async def sockets(
    answer: Callable[[asyncio.StreamWriter, int], Awaitable[None]],
) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """Run a server that reads the head of each request, and leaves the rest to `answer`.

    `answer` gets the connection and the number of the request, from 1. The connection is closed after it.

    Yields:
        The URL, and the heads of the requests so far.
    """
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            await answer(writer, len(heads))
        except (OSError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()
