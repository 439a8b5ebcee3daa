"""The body of a dead letter that has no room beside the headers: it is stored in parts, ahead of the letter.

An event may be as large as NATS allows, and a dead letter has more headers than its original. Without this, such an event
could never leave its key. The parts are messages on ``<actor>.dead.<event or command>.part`` in the dead-letter stream. The
letter itself has an empty body and names their sequences in the header ``Dead-Parts``.
"""

from typing import Final

from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.subjects import Names

PARTS: Final = b"Dead-Parts"
"""The sequences of the parts in the dead-letter stream, in order, separated by spaces."""

_HEADER_ROOM: Final = 1024
"""Bytes of a part that are kept free for its headers."""
_MOST: Final = 1000
"""Parts that are read at most. Anybody may write a header."""


class DeadParts:
    """The parts of the dead letters of one actor. All methods raise the errors of `JetStream`.

    Args:
        jetstream: The client.
        names: The names of the actor.
    """

    def __init__(self, jetstream: JetStream, names: Names) -> None:
        self._jetstream = jetstream
        self._names = names

    def needed(self, headers: bytes, payload: bytes) -> bool:
        """Return whether a message is too large, so that its body must be stored in parts."""
        return len(headers) + len(payload) > self._jetstream.connection.max_payload

    async def store(self, name: str, message_id: str, payload: bytes) -> tuple[str, str]:
        """Store a body, and return the header of its letter.

        Args:
            name: The event, or the command of a timer, in its form in subjects.
            message_id: The id of the letter. A repetition within the duplicate window stores nothing twice.
            payload: The body.
        """
        size = self._jetstream.connection.max_payload - _HEADER_ROOM
        sequences: list[int] = []
        for number, start in enumerate(range(0, len(payload), size)):
            line = header_block.line(header_block.MESSAGE_ID, f"{message_id}:{number}".encode())
            part = payload[start : start + size]
            ack = await self._jetstream.publish(self._names.dead_part(name), part, headers=header_block.join(line))
            sequences.append(ack.sequence)
        return PARTS.decode(), " ".join(map(str, sequences))

    async def load(self, headers: bytes | None, payload: bytes) -> bytes:
        """Return the body of a letter that has `headers` and `payload`.

        Raises:
            CodecError: A part is missing.
        """
        parts = _sequences(headers)
        if not parts:
            return payload
        found: list[bytes] = []
        for sequence in parts:
            stored = await self._jetstream.get(self._names.dead_stream, sequence)
            if stored is None or not self._is_part(stored.subject):
                raise CodecError(f"{self._names.dead_stream}: part {sequence} of a dead letter is missing")
            found.append(stored.payload)
        return b"".join(found)

    async def delete(self, headers: bytes | None) -> None:
        """Delete the parts of a letter that has `headers`."""
        for sequence in _sequences(headers):
            stored = await self._jetstream.get(self._names.dead_stream, sequence)
            if stored is not None and self._is_part(stored.subject):
                await self._jetstream.delete_message(self._names.dead_stream, sequence)

    def _is_part(self, subject: str) -> bool:
        name = subject.removeprefix(self._names.dead("")).removesuffix(".part")
        return subject == self._names.dead_part(name)


def _sequences(headers: bytes | None) -> list[int]:
    words = (header_block.get(headers, PARTS) or "").split()[:_MOST]
    return [number for word in words if (number := header_block.number(word)) is not None]
