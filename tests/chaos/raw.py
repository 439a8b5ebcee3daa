"""A NATS client for raw bytes: it sends frames unchecked, valid or not, and passes on the messages that it receives."""

import asyncio
import re
from collections.abc import Callable

Receiver = Callable[[bytes, bytes, bytes], None]
"""Called with subject, header block and payload of each message."""

_CONNECT = (
    b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1,"name":"raw"}\r\n'
)


class RawClient:
    """A client with one socket, which the server closes after a frame that it cannot parse."""

    def __init__(self, receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.closed = False
        self.refusals: list[bytes] = []
        """The server's -ERR lines."""
        self._receiver = receiver
        self._reader = reader
        self._writer = writer
        self._pongs: list[asyncio.Future[bool]] = []
        self._reading = asyncio.get_running_loop().create_task(self._read())

    @classmethod
    async def connect(cls, host: str, port: int, subscriptions: list[bytes], receiver: Receiver) -> "RawClient":
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        client = cls(receiver, reader, writer)
        client.send(_CONNECT + b"".join(b"SUB %b %d\r\n" % (subject, n) for n, subject in enumerate(subscriptions, 1)))
        return client

    def send(self, data: bytes) -> None:
        """Write bytes, or do nothing if the socket is closed."""
        if not self.closed and not self._writer.is_closing():
            self._writer.write(data)

    async def barrier(self, timeout: float = 30.0) -> bool:
        """Return True once the server has read all sent bytes, or False if it closed the socket.

        Raises:
            TimeoutError: Neither happened within `timeout` seconds.
        """
        pong: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if self.closed:
            return False
        self._pongs.append(pong)
        self.send(b"PING\r\n")
        async with asyncio.timeout(timeout):
            return await pong

    async def close(self) -> None:
        self._writer.close()
        async with asyncio.timeout(5):
            await self._reading

    async def _read(self) -> None:
        try:
            while await self._frame():
                pass
        except (ConnectionError, asyncio.IncompleteReadError, ValueError):
            self._writer.close()
        finally:
            self.closed = True
            for pong in self._pongs:
                if not pong.done():
                    pong.set_result(False)

    async def _frame(self) -> bool:
        line = await self._reader.readuntil(b"\r\n")
        words = re.split(rb"[ \t]+", line.rstrip(b"\r\n"))
        match words[0]:
            case b"MSG" | b"HMSG":
                size, head = int(words[-1]), int(words[-2]) if words[0] == b"HMSG" else 0
                body = await self._reader.readexactly(size + 2)
                self._receiver(words[1], body[:head], body[head:-2])
            case b"PING":
                self.send(b"PONG\r\n")
            case b"PONG" if self._pongs:
                pong = self._pongs.pop(0)
                if not pong.done():
                    pong.set_result(True)
            case b"-ERR":
                self.refusals.append(line)
        return True
