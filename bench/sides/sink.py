"""A receiver of OTLP/HTTP that takes everything, keeps nothing and counts bytes."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TAKEN = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


class Sink:
    """What came in so far."""

    def __init__(self) -> None:
        self.port = 0
        self.bytes = 0
        self.posts = 0

    async def address(self) -> str:
        """Where to export to."""
        return f"http://127.0.0.1:{self.port}"

    async def taken(self) -> dict[str, int]:
        """Return how many posts and bytes came in."""
        return {"posts": self.posts, "bytes": self.bytes}

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one kept connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = _LENGTH.search(head)
                left = int(length[1]) if length else 0
                self.posts += 1
                self.bytes += left
                while left:
                    left -= len(await reader.read(min(left, 1 << 18)))
                writer.write(_TAKEN)
        except asyncio.IncompleteReadError:
            writer.close()


@asynccontextmanager
async def sink() -> AsyncIterator[Sink]:
    """Listen on a free port of 127.0.0.1."""
    receiving = Sink()
    server = await asyncio.start_server(receiving.receive, "127.0.0.1", 0, limit=1 << 20)
    receiving.port = server.sockets[0].getsockname()[1]
    yield receiving
    server.close()
