"""A TCP proxy that can stop forwarding: connections stay open without FIN or RST, but no data passes."""

import asyncio
from types import TracebackType


class Proxy:
    """Forwards connections from a free port of the loopback interface to `port`."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Stop forwarding on all open connections, in both directions and for good. New connections are forwarded."""
        self._passing = asyncio.Event()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        generation = self._passing
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, target_writer), (target_reader, writer)):
            task = asyncio.get_running_loop().create_task(self._pass(source, sink, generation))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, generation: asyncio.Event) -> None:
        try:
            while data := await source.read(65536):
                if self._passing is not generation:
                    await asyncio.Event().wait()  # frozen until the proxy ends
                sink.write(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()
        finally:
            if self._passing is generation:
                sink.close()
