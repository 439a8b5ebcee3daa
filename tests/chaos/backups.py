"""A backup of a stream, made and restored over the API of JetStream, as ``nats stream backup`` and ``restore`` do."""

import asyncio
from typing import Any

import msgspec

from runtime.nats.connection import Connection
from runtime.wire.ids import new_id

_CHUNK = 65_536


class Backup:
    """The content of a stream at one moment."""

    def __init__(self, config: dict[str, Any], state: dict[str, Any], data: bytes) -> None:
        self._config = config
        self._state = state
        self._data = data

    @classmethod
    async def make(cls, connection: Connection, stream: str) -> "Backup":
        """Return a backup of a stream, without its consumers."""
        chunks: asyncio.Queue[bytes] = asyncio.Queue()

        def receive(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            if reply:
                connection.publish(reply.decode(), b"")  # the server sends some chunks, and waits for these answers
            chunks.put_nowait(payload)

        inbox = f"_INBOX.{new_id()}"
        subscription = await connection.subscribe(inbox, receive)
        try:
            wanted = {"deliver_subject": inbox, "no_consumers": True, "chunk_size": _CHUNK}
            begun = await _call(connection, f"STREAM.SNAPSHOT.{stream}", wanted)
            data = b""
            async with asyncio.timeout(30):
                while chunk := await chunks.get():
                    data += chunk
        finally:
            subscription.unsubscribe()
        return cls(begun["config"], begun["state"], data)

    async def restore(self, connection: Connection) -> None:
        """Create the stream again as it was. It must not exist."""
        name = self._config["name"]
        begun = await _call(connection, f"STREAM.RESTORE.{name}", {"config": self._config, "state": self._state})
        target = begun["deliver_subject"]
        for first in range(0, len(self._data), _CHUNK):
            await connection.request(target, self._data[first : first + _CHUNK], timeout=10)
        reply = await connection.request(target, b"", timeout=30)
        _raise_error(name, msgspec.json.decode(reply.payload))


async def _call(connection: Connection, subject: str, body: dict[str, Any]) -> dict[str, Any]:
    reply = await connection.request(f"$JS.API.{subject}", msgspec.json.encode(body), timeout=10)
    answer: dict[str, Any] = msgspec.json.decode(reply.payload)
    _raise_error(subject, answer)
    return answer


def _raise_error(subject: str, answer: dict[str, Any]) -> None:
    if "error" in answer:
        raise RuntimeError(f"{subject}: {answer['error']}")
