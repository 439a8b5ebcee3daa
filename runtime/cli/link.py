"""The link of a worker of `run --workers` to the process that has started it."""

import asyncio
import logging
import os
import select
import signal
import socket
import threading
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

from runtime.cli.channel import ORPHANED, ActorStatus, Begun, Channel, Failed, Question, Ready, Reply, encoded
from runtime.forks import close_in_children
from runtime.host.health import Health
from runtime.host.process import Runner

logger = logging.getLogger("actorloom.cli")

_ORPHANED: Final = 25.0
"""Seconds that a drain may take after the parent has ended. Nobody else would end a handler that does not return."""
_SEND: Final = 1.0
"""Seconds for the last message to the parent."""


class Link:
    """A worker's end of the channel to its parent.

    Args:
        number: The number of the worker, from 0 on.
        descriptor: The open descriptor of a socket.
    """

    def __init__(self, number: int, descriptor: int) -> None:
        self.number = number
        self._socket = socket.socket(fileno=descriptor)
        self._socket.set_inheritable(False)
        self._channel_socket = self._socket.dup()
        self._channel: Channel | None = None
        close_in_children(self)

    def descriptors(self) -> Iterator[int]:
        """Return the descriptors of the socket."""
        yield from (self._socket.fileno(), self._channel_socket.fileno())

    @asynccontextmanager
    async def reporting(self, runner: Runner, health: Health) -> AsyncGenerator[None]:
        """Answer the parent for the duration of the block, and drain if it has ended."""
        signal.signal(ORPHANED, lambda number, frame: None)  # the channel tells it from here on
        self._channel = await Channel.open(self._channel_socket)
        self._channel.send(Begun())
        threading.Thread(target=self._end_after_parent, name="actorloom parent", daemon=True).start()
        answering = asyncio.ensure_future(self._answer(self._channel, runner, health))
        try:
            yield
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    def ready(self, runner: Runner) -> None:
        """Say that the actors are ready."""
        host, port = runner.connection.server_address
        actors = [
            ActorStatus(each.name, each.served.keyed, each.served.options.partitions, each.standby)
            for each in runner.hosts
        ]
        assert self._channel is not None
        self._channel.send(Ready(f"nats://{host}:{port}", actors))

    def fail(self, text: str) -> None:
        """Say why this process ends. No event loop needs to run."""
        self._socket.settimeout(_SEND)
        with suppress(OSError):  # The parent has ended.
            self._socket.sendall(encoded(Failed(text)))

    async def _answer(self, channel: Channel, runner: Runner, health: Health) -> None:
        while (message := await channel.receive()) is not None:
            if isinstance(message, Question):
                status, content_type, body = await health.answer(message.path)
                channel.send(Reply(message.number, status, content_type, body))
        logger.warning("the parent of this worker has ended: draining")
        runner.stop()

    def _end_after_parent(self) -> None:
        """Wait for the end of the parent, and end this process if it then does not drain. A thread runs this.

        The event loop cannot do so: a handler may block it.
        """
        parent = select.poll()
        parent.register(self._socket, 0)  # the end of the other side is reported in any case
        parent.poll()
        time.sleep(_ORPHANED)
        logger.error("the actors did not drain within %g s after the parent has ended: this worker ends", _ORPHANED)
        os._exit(1)
