"""A TCP listener that greets as a nats-server does and records every byte that it gets."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

GREETING = (
    b'INFO {"server_id":"listener","version":"2.15.1","headers":true,"max_payload":1048576,"auth_required":true}\r\n'
)


class Listener:
    """A listener, and the bytes that it got over all connections."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.received = b""

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def listening(greeting: bytes = GREETING, *, port: int = 0) -> AsyncGenerator[Listener]:
    """Listen on `port` (0: a free one) for the duration of the block; send `greeting` to each client, then only read."""
    listener = Listener()
    writers: list[asyncio.StreamWriter] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        writers.append(writer)
        writer.write(greeting)
        with suppress(ConnectionError):
            while data := await reader.read(4096):
                listener.received += data
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    listener.port = server.sockets[0].getsockname()[1]
    try:
        yield listener
    finally:
        server.close()
        for writer in writers:
            writer.close()
