"""Messages in and out through nats-py's read loop and socket: the one module that leans on its internals.

What is used of `nats.aio.client.Client`: its parser `_ps` is replaced (ours hands on every frame that is not for one of
our subscriptions, so INFO, PING, -ERR and nats-py's own subscriptions work as ever); `_subs` and `_sid`, so that nats-py
restores our subscriptions on reconnect; `_transport`, to write; `_pongs`, for a barrier; `_reading_task`, to see it
die; `_status`. `unusable` says whether they are all there.
"""

import asyncio
import logging
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.protocol.parser import Parser

from runtime.errors import PublishError
from runtime.nats.errors import NotConnected
from runtime.nats.protocol import FrameScanner
from runtime.nats.receive import Receiver

logger = logging.getLogger("actorloom.nats")

SUPPORTED = ((2, 16), (2, 17))  # from, and below

# Bytes waiting in the socket's buffer: above the first the reading waits, above the second publishing is refused.
HIGH_WATER = 1024 * 1024
MAX_OUTBOUND = 64 * 1024 * 1024

# Within one loop tick, at most so many parts (five to nine a message) or a payload of so many bytes are kept back.
_MAX_PARTS = 7 * 512
_MAX_JOINED = 64 * 1024

_SIZES = [b" %d\r\n" % size for size in range(4096)]
_HEADS = [b" %d" % size for size in range(512)]
_CONNECTED = Client.CONNECTED
_PROBES = ("_ps", "_subs", "_sid", "_transport", "_pongs", "_reading_task", "_status", "_process_pong")


def unusable(client: Client, servers: list[str]) -> str | None:
    """Return why the fast path cannot be used with this nats-py and these servers, or None where it can."""
    installed = version("nats-py")
    numbers = tuple(int(part) for part in installed.split(".")[:2] if part.isdigit())
    if not SUPPORTED[0] <= numbers < SUPPORTED[1]:
        return f"nats-py {installed} is not a version whose internals are known"
    missing = [name for name in _PROBES if not hasattr(client, name)]
    if missing:
        return f"nats-py {installed} lacks {', '.join(missing)}"
    if any(url.startswith(("ws://", "wss://")) for url in servers):
        return "WebSocket carries frames of its own"
    return None


def abandon(client: Client) -> None:
    """Close the socket of a handshake that failed: nats-py leaves it to the garbage collector and opens the next."""
    transport: Any = getattr(client, "_transport", None)
    if client.is_connecting and transport:
        transport.close()


class FastTransport:
    """Publishes and subscribes beside one nats-py client; made before it connects."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client  # its internals have no types to rely on
        self._loop = asyncio.get_running_loop()
        self._receivers: dict[bytes, Receiver] = {}
        self._buffer: list[bytes] = []
        self._barriers: set[asyncio.Future[None]] = set()
        self._healing: asyncio.Task[None] | None = None
        self._full = False
        self._max_payload = 0
        _keep_read_buffers()
        self._client._ps = _Parser(client, FrameScanner(self._receivers), self._after_read)

    def start(self) -> None:
        """Take note of the connection just made."""
        self._max_payload = self._client.max_payload
        self._client._reading_task.add_done_callback(self._on_reader_end)

    def publish(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        """Add one message to what is written at the end of this loop tick; subjects are one word each. Raises `PublishError`."""
        if self._client._status != _CONNECTED or self._full:
            self._refuse(subject)
        size = len(payload) if headers is None else len(payload) + len(headers)
        if size > self._max_payload:
            self._too_large(subject, size)
        buffer = self._buffer
        if not buffer:
            self._loop.call_soon(self._write)
        line = _SIZES[size] if size < 4096 else b" %d\r\n" % size
        if headers is None:
            buffer.extend((b"PUB ", subject, b" ", reply, line, payload, b"\r\n"))
        else:
            head = _HEADS[len(headers)] if len(headers) < 512 else b" %d" % len(headers)
            buffer.extend((b"HPUB ", subject, b" ", reply, head, line, headers, payload, b"\r\n"))
        if size > _MAX_JOINED or len(buffer) > _MAX_PARTS:
            self._write()

    def respond(self, subject: bytes, payload: bytes, headers: bytes | None = None) -> None:
        """The same without a reply subject: for replies and acknowledgements.

        Twice the same lines, since each is called once a message, and a call more is a tenth of what they cost.
        """
        if self._client._status != _CONNECTED or self._full:
            self._refuse(subject)
        size = len(payload) if headers is None else len(payload) + len(headers)
        if size > self._max_payload:
            self._too_large(subject, size)
        buffer = self._buffer
        if not buffer:
            self._loop.call_soon(self._write)
        line = _SIZES[size] if size < 4096 else b" %d\r\n" % size
        if headers is None:
            buffer.extend((b"PUB ", subject, line, payload, b"\r\n"))
        else:
            head = _HEADS[len(headers)] if len(headers) < 512 else b" %d" % len(headers)
            buffer.extend((b"HPUB ", subject, head, line, headers, payload, b"\r\n"))
        if size > _MAX_JOINED or len(buffer) > _MAX_PARTS:
            self._write()

    async def subscribe(self, subject: str, queue: str, receiver: Receiver) -> Callable[[bool], None]:
        """Subscribe; return what ends it (see `Transport`). nats-py restores it on reconnect."""
        words = f"{subject} {queue}".split()
        if words != [word for word in (subject, queue) if word] or "" in subject.split("."):
            raise PublishError(f"cannot subscribe to {subject!r} (queue {queue!r}): not a subject")
        client = self._client
        client._sid += 1
        sid = client._sid
        key = b"%d" % sid
        client._subs[sid] = _Interest(subject, queue)
        self._receivers[key] = receiver
        # Otherwise nats-py sends it: between restoring `_subs` and calling itself connected it never lets others run.
        if client._status == _CONNECTED:
            self._command(f"SUB {subject} {queue} {sid}\r\n".encode())

        def unsubscribe(keep: bool) -> None:
            if client._subs.pop(sid, None) is not None and client._status == _CONNECTED:
                self._command(b"UNSUB %d\r\n" % sid)
            if not keep:
                self._receivers.pop(key, None)

        return unsubscribe

    def barrier(self) -> asyncio.Future[None]:
        """Return a future that ends when the server has seen all that was published before."""
        self._write()
        pong: asyncio.Future[None] = self._loop.create_future()
        self._barriers.add(pong)
        pong.add_done_callback(self._barriers.discard)
        self._client._pongs.append(pong)
        self._client._transport.write(b"PING\r\n")
        return pong

    async def drained(self) -> None:
        """Wait until the socket's buffer is small again."""
        self._write()
        while self._client._status == _CONNECTED and self._outbound() > HIGH_WATER:
            try:
                await self._client._transport.drain()
            except ConnectionError:
                return  # the read loop sees it too, and connects again

    def disconnected(self) -> None:
        """End the waits that the old connection would have answered; what it had not sent is lost with it."""
        self._buffer.clear()
        for pong in list(self._barriers):
            pong.cancel()

    def reconnected(self) -> None:
        """Take note of the new connection; nats-py restored the subscriptions."""
        self.start()

    async def stop(self) -> None:
        """Write what is left, and end the waits."""
        self._write()
        self.disconnected()
        if self._healing is not None:
            self._healing.cancel()
            await asyncio.wait({self._healing}, timeout=1.0)

    def _command(self, line: bytes) -> None:
        if not self._buffer:
            self._loop.call_soon(self._write)
        self._buffer.append(line)

    def _write(self) -> None:
        buffer = self._buffer
        if buffer:
            joined = b"".join(buffer)
            buffer.clear()
            if self._client._status == _CONNECTED:
                self._client._transport.write(joined)
                self._full = self._outbound() > MAX_OUTBOUND

    def _outbound(self) -> int:
        return self._client._transport._io_writer.transport.get_write_buffer_size()

    def _refuse(self, subject: bytes) -> None:
        if self._client._status != _CONNECTED:
            raise NotConnected(f"not connected to NATS: {subject.decode('utf-8', 'backslashreplace')} was not sent")
        waiting = self._outbound()
        self._full = waiting > MAX_OUTBOUND
        if self._full:
            raise PublishError(
                f"{waiting} bytes wait to be written: {subject.decode('utf-8', 'backslashreplace')} was not sent"
            )

    def _too_large(self, subject: bytes, size: int) -> None:
        raise PublishError(
            f"{size} bytes (headers included) to {subject.decode('utf-8', 'backslashreplace')}: the server takes {self._max_payload}"
        )

    async def _after_read(self) -> None:
        # Whoever makes us write more than the server takes in must wait, or our memory pays for it.
        while self._client._status == _CONNECTED and self._outbound() > HIGH_WATER:
            await self._client._transport.drain()

    def _on_reader_end(self, reading: "asyncio.Task[Any]") -> None:
        if self._client._reading_task is reading and self._client._status == _CONNECTED:
            logger.error("nats-py stopped reading: connecting again")
            self._healing = self._loop.create_task(self._client.force_reconnect(), name="actorloom nats heal")


def _keep_read_buffers() -> None:
    """Let the allocator keep the 256 KiB that asyncio asks for with every read and mostly gives back unused.

    glibc takes blocks above 128 KiB from the kernel and returns them (three system calls and page faults a read), until
    a larger one was freed once: mallopt(3), M_MMAP_THRESHOLD. At 1 in flight that is half of a request's CPU.
    """
    bytes(1024 * 1024)


class _Parser:
    """Stands in for nats-py's parser: `parse` and `reset` are what its client calls."""

    def __init__(self, client: Client, scanner: FrameScanner, after_read: Callable[[], Any]) -> None:
        self._client = client
        self._scanner = scanner
        self._after_read = after_read
        self._inner = Parser(client)
        self._stream = 0

    def reset(self) -> None:
        self._stream += 1
        self._scanner.reset()
        self._inner.reset()

    async def parse(self, data: bytes = b"") -> None:
        if self._client._status != _CONNECTED:
            return  # of a connection that was given up meanwhile: it must not leave half a frame for the next
        stream = self._stream
        try:
            for frame in self._scanner.feed(data):
                await self._hand_on(frame)
                if self._stream != stream:
                    return
        except ValueError as error:  # a size of more digits than Python reads
            raise nats.errors.ProtocolError from error
        await self._after_read()

    async def _hand_on(self, frame: bytes) -> None:
        inner = self._inner
        try:
            await inner.parse(frame)
        except (ValueError, LookupError, AttributeError, asyncio.InvalidStateError) as error:
            # What ends nats-py's reading for good: a header block of 8 bytes, a subject that is not UTF-8, a PONG whose
            # waiter gave up. The frame was whole, so the stream goes on behind it.
            logger.warning("skipped a frame that nats-py cannot read: %r (%r)", frame[:64], error)
            inner.reset()
        if inner.buf:
            inner.reset()
            raise nats.errors.ProtocolError


class _Interest:
    """What nats-py needs to know of a subscription of ours: to restore it, and to end it when it closes."""

    __slots__ = ("_queue", "_subject")

    _max_msgs = 0
    _received = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, subject: str, queue: str) -> None:
        self._subject = subject
        self._queue = queue
