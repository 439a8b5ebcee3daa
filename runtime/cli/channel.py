"""The channel between the parent of `run --workers` and one worker: messages on a pair of sockets.

A worker says that its event loop runs, that its actors are ready, and why it ends. The parent asks it for the answers of the
health port. Neither sends anything else. The end of the channel is the end of the other process.
"""

import asyncio
import signal
import socket
from http import HTTPStatus
from typing import Final, Self

import msgspec

from runtime.host.health import Answer

ORPHANED: Final = signal.SIGHUP
"""The signal of the kernel for a worker whose parent was killed. A worker that is being started ends by it.

It may come several times, so it is not SIGTERM: a second SIGTERM ends a process at once.
"""
_LENGTH: Final = 4
"""Bytes of the length that precedes each message."""


class ActorStatus(msgspec.Struct, frozen=True):
    """An actor of a worker that has become ready."""

    name: str
    keyed: bool
    partitions: int
    standby: bool
    """Whether other processes own all its keys."""


class Begun(msgspec.Struct, frozen=True, tag=True):
    """From a worker: its event loop runs, so it answers."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """From a worker: each of its actors is served by it or in standby."""

    server: str
    """The host and port of the NATS server."""
    actors: list[ActorStatus]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """From a worker: why it ends."""

    text: str


class Question(msgspec.Struct, frozen=True, tag=True):
    """From the parent: a request to the health port."""

    number: int
    path: str


class Reply(msgspec.Struct, frozen=True, tag=True):
    """From a worker: the answer to a question."""

    number: int
    status: int
    content_type: str
    body: bytes

    @property
    def answer(self) -> Answer:
        """The answer of the health port."""
        return Answer(HTTPStatus(self.status), self.content_type, self.body)


Message = Begun | Ready | Failed | Question | Reply

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder[Message](Message).decode


def encoded(message: Message) -> bytes:
    """Return a message with its length."""
    data = _encode(message)
    return len(data).to_bytes(_LENGTH, "big") + data


class Channel:
    """One end of a channel. Use `open` to make one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Self:
        """Return the channel on an end of a pair of sockets. The channel closes it."""
        return cls(*await asyncio.open_unix_connection(sock=end))

    def send(self, message: Message) -> None:
        """Send a message, without waiting for it. Nothing is sent if the other process has ended."""
        if not self._writer.is_closing():
            self._writer.write(encoded(message))

    async def receive(self) -> Message | None:
        """Return the next message, or None if the other process has ended, in the middle of a message or not."""
        try:
            length = int.from_bytes(await self._reader.readexactly(_LENGTH), "big")
            return _decode(await self._reader.readexactly(length))
        except (OSError, EOFError, msgspec.DecodeError):
            return None

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
