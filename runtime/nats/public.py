"""The public transport: messages through nats-py's public API alone, slow and safe (ACTORLOOM_NATS_PUBLIC_API=1)."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from runtime.errors import PublishError
from runtime.nats.errors import NotConnected
from runtime.nats.receive import Receiver, deliver
from runtime.wire import header_block

logger = logging.getLogger("actorloom.nats")

MAX_OUTBOUND = 64 * 1024 * 1024
"""Bytes of queued messages above which a publish is refused."""
HIGH_WATER = 1024 * 1024
"""Bytes in nats-py's buffer above which the writer waits for the server."""

_NO_DEADLINE = 1_000_000_000
"""The timeout of a PING, in seconds. A timeout would cancel the future, and a PONG for a cancelled future ends nats-py's
read loop; only a disconnect may end this wait."""

_Step = Callable[[], Coroutine[Any, Any, object]]


class PublicTransport:
    """Publishes and subscribes through one nats-py client. One task writes, in order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._steps: deque[tuple[_Step, int]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._barriers: set[asyncio.Task[None]] = set()
        self._draining: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start writing; called once, when the client is connected."""
        self._writer = asyncio.get_running_loop().create_task(self._write(), name="actorloom nats writer")

    def publish(self, subject: bytes, payload: bytes, headers: bytes | None = None, reply: bytes = b"") -> None:
        """Queue one message.

        Raises:
            PublishError: The connection is down or too much is queued, or nats-py cannot send the message.
        """
        if not self._client.is_connected:
            raise NotConnected(f"not connected to NATS: {subject.decode('utf-8', 'backslashreplace')} was not sent")
        size = len(payload) + (len(headers) if headers is not None else 0)
        if size > self._client.max_payload:
            raise PublishError(
                f"{size} bytes (headers included) to {subject.decode('utf-8', 'backslashreplace')}: the server takes {self._client.max_payload}"
            )
        if self._size + size > MAX_OUTBOUND:
            raise PublishError(
                f"{self._size} bytes wait to be written: {subject.decode('utf-8', 'backslashreplace')} was not sent"
            )
        fields = None if headers is None else header_block.parse(headers)
        try:
            publish = partial(self._client.publish, subject.decode(), payload, reply.decode(), fields)
        except UnicodeDecodeError:
            raise PublishError(f"{subject!r} (reply {reply!r}): nats-py sends to subjects in UTF-8 only") from None
        self._add(publish, size)

    async def subscribe(self, subject: str, queue: str, receiver: Receiver) -> Callable[[bool], None]:
        """Subscribe, and return a function that ends the subscription (see `Transport`). nats-py restores it."""
        active = wanted = True

        async def on_message(message: Msg) -> None:
            if active:
                block = _block(message.headers)
                deliver(receiver, message.subject.encode(), message.reply.encode(), block, message.data)

        subscription = await self._client.subscribe(subject, queue=queue, cb=on_message)

        def unsubscribe(keep: bool) -> None:
            nonlocal active, wanted
            if wanted:
                self._add(partial(self._begin_drain, subscription) if keep else subscription.unsubscribe, 0)
            active, wanted = keep, False

        return unsubscribe

    def barrier(self) -> asyncio.Future[None]:
        """Return a future that is done when the server has processed everything published before."""
        return self._track(self._barrier())

    def disconnected(self) -> None:
        """Cancel the barriers of the lost connection."""
        for task in self._barriers:
            task.cancel()

    def reconnected(self) -> None:
        """Do nothing: nats-py restores its subscriptions."""

    async def stop(self) -> None:
        """Write the queued messages, then end the tasks."""
        self.disconnected()
        if self._writer is not None:
            if self._client.is_connected and not self._writer.done():
                written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._add(partial(_resolve, written), 0)
                await asyncio.wait({written}, timeout=1.0)
            self._writer.cancel()
            await asyncio.wait({self._writer, *self._barriers}, timeout=1.0)

    def _add(self, step: _Step, size: int) -> None:
        self._steps.append((step, size))
        self._size += size
        self._wake.set()

    async def _write(self) -> None:
        while True:
            while self._steps:
                step, size = self._steps.popleft()
                try:
                    await step()
                except nats.errors.Error as error:
                    # The connection went down after the step was queued. The message is lost, like bytes in a socket.
                    logger.debug("not sent: %s", error)
                self._size -= size
                if self._client.pending_data_size > HIGH_WATER and self._client.is_connected:
                    await asyncio.wait({self._track(self._round_trips())})
            self._wake.clear()
            await self._wake.wait()

    def _track(self, waiting: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(waiting, name="actorloom nats barrier")
        self._barriers.add(task)
        task.add_done_callback(self._barriers.discard)
        return task

    async def _begin_drain(self, subscription: Subscription) -> None:
        draining = self._track(self._drain(subscription))
        self._draining.add(draining)
        draining.add_done_callback(self._draining.discard)

    async def _drain(self, subscription: Subscription) -> None:
        try:
            await subscription.drain()
        except nats.errors.Error as error:
            logger.debug("not drained: %s", error)

    async def _barrier(self) -> None:
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(partial(_resolve, written), 0)
        await written
        await self._round_trips()
        if self._draining:
            await asyncio.wait(self._draining)

    async def _round_trips(self) -> None:
        # nats-py writes the first PING ahead of the bytes that its flusher holds; only the second one follows them.
        await self._client.rtt(_NO_DEADLINE)
        await self._client.rtt(_NO_DEADLINE)


async def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _block(fields: dict[str, str] | None) -> bytes | None:
    if fields is None:
        return None
    named = dict(fields)
    status, description = named.pop("Status", ""), named.pop("Description", "")
    first = f"NATS/1.0 {status} {description}".strip()
    lines = [first, *(f"{name}: {value}" for name, value in named.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
