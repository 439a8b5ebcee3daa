"""A TCP proxy that can stop forwarding, or hold data back: connections stay open without FIN or RST, but no data passes.

``python -m tests.chaos.proxy PORT PATH`` forwards connections to 127.0.0.1:PORT to the Unix socket PATH, out of a network
namespace for example.
"""

import asyncio
import sys
from types import TracebackType


class Proxy:
    """Forwards connections from the loopback interface, or from a Unix socket, to a server.

    Args:
        target: The port of the server, or the path of its Unix socket.
        listen: The port to listen on, or the path of a Unix socket; by default a free port.
    """

    def __init__(self, target: int | str, listen: int | str = 0) -> None:
        self._target = target
        self._listen = listen
        self._server: asyncio.Server | None = None
        self._passing = asyncio.Event()
        self._sending = asyncio.Event()
        self._sending.set()
        self._held: list[asyncio.Event] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        """Stop forwarding on all open connections, in both directions and for good. New connections are forwarded."""
        self._passing = asyncio.Event()

    def hold(self, *, new: bool = True) -> None:
        """Hold back the packets of clients on all connections; unless `new`, on those only that are open now.

        The packets of the server are forwarded.
        """
        self._sending.clear()
        self._held.append(self._sending)
        if not new:
            self._sending = asyncio.Event()
            self._sending.set()

    def release(self) -> None:
        """Forward the packets that were held back, and those that follow."""
        while self._held:
            self._held.pop().set()

    async def __aenter__(self) -> "Proxy":
        if isinstance(self._listen, str):
            self._server = await asyncio.start_unix_server(self._connected, self._listen)
        else:
            self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._listen)
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
        generation, sending = self._passing, self._sending
        try:
            if isinstance(self._target, str):
                target_reader, target_writer = await asyncio.open_unix_connection(self._target)
            else:
                target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        for source, sink, held in ((reader, target_writer, sending), (target_reader, writer, None)):
            task = asyncio.get_running_loop().create_task(self._pass(source, sink, generation, held))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        generation: asyncio.Event,
        held: asyncio.Event | None,
    ) -> None:
        received: asyncio.Queue[bytes] = asyncio.Queue()
        reading = asyncio.get_running_loop().create_task(_read(source, received))
        try:
            while data := await received.get():
                if self._passing is not generation:
                    reading.cancel()
                    await asyncio.Event().wait()  # frozen until the proxy ends
                if held is not None:
                    await held.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            sink.transport.abort()
        finally:
            reading.cancel()
            if self._passing is generation:
                sink.close()


async def _read(source: asyncio.StreamReader, received: asyncio.Queue[bytes]) -> None:
    """Read packets as soon as they arrive, also while they are held: a client that gives up may reset its connection."""
    try:
        while data := await source.read(65536):
            received.put_nowait(data)
    except OSError:
        pass
    received.put_nowait(b"")


async def _serve(port: int, path: str) -> None:
    async with Proxy(path, port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
