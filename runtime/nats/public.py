"""Messages in and out by nats-py's public API alone: the slow, safe transport (ACTORLOOM_NATS_PUBLIC_API=1)."""

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

# Bytes that may wait to be written. More than that is a producer that does not await `drained`.
MAX_OUTBOUND = 64 * 1024 * 1024
HIGH_WATER = 1024 * 1024

# A PONG must never meet a cancelled future (that ends nats-py's reading), so nobody but a disconnect ends this wait.
_NO_DEADLINE = 1_000_000_000

_Step = Callable[[], Coroutine[Any, Any, object]]


class PublicTransport:
    """Publishes and subscribes through one `nats.aio.client.Client`; one task writes, in order."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._steps: deque[tuple[_Step, int]] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._barriers: set[asyncio.Task[None]] = set()
        self._draining: set[asyncio.Task[None]] = set()
        self._writer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to write; called once, when connected."""
        self._writer = asyncio.get_running_loop().create_task(self._write(), name="actorloom nats writer")

    def publish(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Queue one message. Raises `PublishError` if it cannot go out."""
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

    def respond(self, subject: bytes, payload: bytes, headers: bytes | None = None) -> None:
        """Publish to the reply subject of a received message."""
        self.publish(subject, b"", headers, payload)

    async def subscribe(self, subject: str, queue: str, receiver: Receiver) -> Callable[[bool], None]:
        """Subscribe; return what ends it (see `Transport`). nats-py restores it on reconnect."""
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
        """Return a future that ends when the server has seen all that was published before."""
        return self._track(self._barrier())

    async def drained(self) -> None:
        """Wait until there is room to write more."""
        await self._room.wait()

    def disconnected(self) -> None:
        """End the waits that the old connection would have answered."""
        for task in self._barriers:
            task.cancel()

    def reconnected(self) -> None:
        """Nothing to do: nats-py restores its subscriptions."""

    async def stop(self) -> None:
        """Write what is queued, then end the tasks."""
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
        if self._size > HIGH_WATER:
            self._room.clear()
        self._wake.set()

    async def _write(self) -> None:
        while True:
            while self._steps:
                step, size = self._steps.popleft()
                try:
                    await step()
                except nats.errors.Error as error:
                    # Went down since it was queued: lost, as bytes already in the socket are; requests are failed.
                    logger.debug("not sent: %s", error)
                self._size -= size
                if self._client.pending_data_size > HIGH_WATER and self._client.is_connected:
                    await asyncio.wait({self._track(self._round_trips())})
            self._room.set()
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
        # nats-py writes a PING ahead of what its flusher still holds: only the second one comes after it.
        await self._client.rtt(_NO_DEADLINE)
        await self._client.rtt(_NO_DEADLINE)


async def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _block(fields: dict[str, str] | None) -> bytes | None:
    if fields is None:
        return None
    rest = dict(fields)
    status, description = rest.pop("Status", ""), rest.pop("Description", "")
    first = f"NATS/1.0 {status} {description}".strip()
    lines = [first, *(f"{name}: {value}" for name, value in rest.items())]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"
