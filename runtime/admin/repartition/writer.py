"""Publishes of a copy: many are under way at a time, and the first refusal ends it."""

import asyncio
from collections.abc import Callable
from typing import Final

from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream

_MOST: Final = 256
"""Messages that are under way at most."""
_MOST_BYTES: Final = 8 * 1024 * 1024
"""Bytes that are under way at most."""


class Writer:
    """Publishes messages without waiting for each acknowledgement.

    Args:
        jetstream: The client.
        require: Called before each publish; raises if the lease of the caller is lost.
    """

    def __init__(self, jetstream: JetStream, require: Callable[[], None]) -> None:
        self._jetstream = jetstream
        self._require = require
        self._messages = 0
        self._bytes = 0
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    async def put(self, subject: str, payload: bytes, headers: bytes) -> None:
        """Send a message as soon as there is room for it. Raises the error of an earlier one."""
        while self._messages >= _MOST or (self._messages and self._bytes + len(payload) > _MOST_BYTES):
            await self._wait()
        self._raise()
        size = len(payload)

        def on_reply(sequence: int, error: Exception | None) -> None:
            self._messages -= 1
            self._bytes -= size
            self._error = self._error or error
            self._changed.set()

        self._require()
        self._jetstream.publish_callback(subject, payload, headers, on_reply)
        self._messages += 1
        self._bytes += size

    async def settle(self) -> None:
        """Return when all messages are stored.

        Raises:
            ActorError, TimeoutError: One of them is not, or nobody knows.
        """
        while self._messages:
            await self._wait()
        self._raise()

    async def _wait(self) -> None:
        self._changed.clear()
        await self._changed.wait()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            if isinstance(self._error, (ActorError, TimeoutError)):
                raise self._error
            raise ActorError(str(self._error)) from self._error
