"""A receiver of OTLP/HTTP that accepts every request and stores nothing."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Sink:
    """The receiver, which listens on `port` of 127.0.0.1."""

    def __init__(self) -> None:
        self.port = 0

    async def address(self) -> str:
        """Return the URL for exporters."""
        return f"http://127.0.0.1:{self.port}"

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the exporter closes it."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                unread = int(length[1]) if length else 0
                while unread:
                    unread -= len(await reader.read(min(unread, 1 << 18)))
                writer.write(_ACCEPTED)
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """Listen on a free port of 127.0.0.1."""
    receiver = Sink()
    server = await asyncio.start_server(receiver.receive, "127.0.0.1", 0, limit=1 << 20)
    receiver.port = server.sockets[0].getsockname()[1]
    yield receiver
    server.close()
