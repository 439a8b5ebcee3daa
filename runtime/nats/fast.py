"""The fast transport: messages through nats-py's read loop and socket, past its queues and its parser.

This module and `client.py` use nats-py's internals. This one uses these attributes of `nats.aio.client.Client`:

- `_ps`, the parser, is replaced. Ours passes on every frame that is not for one of our subscriptions, so INFO, PING, -ERR
  and nats-py's own subscriptions work as before.
- `_subs` and `_sid` hold our subscriptions as well, so nats-py restores them on reconnect.
- `_transport` writes, `_pongs` and `_process_pong` make a barrier, `_reading_task` shows the end of the read loop, and
  `_status` is the state of the connection.

`unsupported_reason` checks that they exist (ADR 008).
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
from runtime.nats.sizes import HEADER_SIZES, MESSAGE_SIZES

logger = logging.getLogger("actorloom.nats")

SUPPORTED = ((2, 16), (2, 17))
"""The versions of nats-py whose internals are known: from the first one, below the second one."""

HIGH_WATER = 1024 * 1024
"""Bytes in the socket's buffer above which reading pauses."""
MAX_OUTBOUND = 64 * 1024 * 1024
"""Bytes in the socket's buffer above which a publish is refused."""

_MAX_PARTS = 7 * 512
"""Parts (seven or nine per message) that are kept back within one turn of the event loop, before they are written."""
_MAX_JOINED = 64 * 1024
"""Bytes of a message above which it is written at once."""

_CONNECTED = Client.CONNECTED
_PROBES = ("_ps", "_subs", "_sid", "_transport", "_pongs", "_reading_task", "_status", "_process_pong")


def unsupported_reason(client: Client, servers: list[str]) -> str | None:
    """Return the reason against the fast transport with this nats-py and these servers, or None if there is none."""
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


def close_failed_handshake(client: Client) -> None:
    """Close the socket of a failed handshake, which nats-py leaves to the garbage collector when it opens the next."""
    transport: Any = getattr(client, "_transport", None)
    if client.is_connecting and transport:
        transport.close()


class FastTransport:
    """Publishes and subscribes beside one nats-py client; created before the client connects."""

    def __init__(self, client: Client) -> None:
        self._client: Any = client  # Its internals have no usable types.
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
        """Read the limits of the new connection, and watch its read loop."""
        self._max_payload = self._client.max_payload
        self._client._reading_task.add_done_callback(self._on_reader_end)

    def publish(self, subject: bytes, payload: bytes, headers: bytes | None = None, reply: bytes = b"") -> None:
        """Add one message to the write at the end of this turn of the event loop.

        Args:
            subject: One word.
            payload: The body.
            headers: A header block, or None.
            reply: One word, or empty.

        Raises:
            PublishError: The connection is down or its buffer is full, or the message is too large.
        """
        if self._client._status != _CONNECTED or self._full:
            self._check_writable(subject)
        size = len(payload) if headers is None else len(payload) + len(headers)
        if size > self._max_payload:
            raise PublishError(
                f"{size} bytes (headers included) to {_text(subject)}: the server takes {self._max_payload}"
            )
        buffer = self._buffer
        if not buffer:
            self._loop.call_soon(self._write)
        end = MESSAGE_SIZES[size] if size < 4096 else b" %d\r\n" % size
        if headers is None:
            buffer.extend((b"PUB ", subject, b" ", reply, end, payload, b"\r\n"))
        else:
            head = HEADER_SIZES[len(headers)] if len(headers) < 512 else b" %d" % len(headers)
            buffer.extend((b"HPUB ", subject, b" ", reply, head, end, headers, payload, b"\r\n"))
        if size > _MAX_JOINED or len(buffer) > _MAX_PARTS:
            self._write()

    async def subscribe(self, subject: str, queue: str, receiver: Receiver) -> Callable[[bool], None]:
        """Subscribe, and return a function that ends the subscription (see `Transport`). nats-py restores it."""
        words = f"{subject} {queue}".split()
        if words != [word for word in (subject, queue) if word] or "" in subject.split("."):
            raise PublishError(f"cannot subscribe to {subject!r} (queue {queue!r}): not a subject")
        client = self._client
        client._sid += 1
        sid = client._sid
        key = b"%d" % sid
        client._subs[sid] = _SubscriptionStub(subject, queue)
        self._receivers[key] = receiver
        # While disconnected, nats-py sends it on reconnect: it restores `_subs` and becomes connected in one step.
        if client._status == _CONNECTED:
            self._command(f"SUB {subject} {queue} {sid}\r\n".encode())

        def unsubscribe(keep: bool) -> None:
            if client._subs.pop(sid, None) is not None and client._status == _CONNECTED:
                self._command(b"UNSUB %d\r\n" % sid)
            if not keep:
                self._receivers.pop(key, None)

        return unsubscribe

    def barrier(self) -> asyncio.Future[None]:
        """Return a future that is done when the server has processed everything published before."""
        self._write()
        pong: asyncio.Future[None] = self._loop.create_future()
        self._barriers.add(pong)
        pong.add_done_callback(self._barriers.discard)
        self._client._pongs.append(pong)
        self._client._transport.write(b"PING\r\n")
        return pong

    def disconnected(self) -> None:
        """Cancel the barriers of the lost connection, and drop the messages that it had not sent."""
        self._buffer.clear()
        for pong in list(self._barriers):
            pong.cancel()

    def reconnected(self) -> None:
        """Start on the new connection; nats-py restored the subscriptions."""
        self.start()

    async def stop(self) -> None:
        """Write the kept messages, and cancel the barriers."""
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

    def _check_writable(self, subject: bytes) -> None:
        if self._client._status != _CONNECTED:
            raise NotConnected(f"not connected to NATS: {_text(subject)} was not sent")
        waiting = self._outbound()
        self._full = waiting > MAX_OUTBOUND
        if self._full:
            raise PublishError(f"{waiting} bytes wait to be written: {_text(subject)} was not sent")

    async def _after_read(self) -> None:
        # A peer that makes us write more than the server accepts has to wait, or our memory grows without bound.
        while self._client._status == _CONNECTED and self._outbound() > HIGH_WATER:
            await self._client._transport.drain()

    def _on_reader_end(self, reading: "asyncio.Task[Any]") -> None:
        if self._client._reading_task is reading and self._client._status == _CONNECTED:
            logger.error("nats-py stopped reading: connecting again")
            self._healing = self._loop.create_task(self._client.force_reconnect(), name="actorloom nats heal")


def _text(subject: bytes) -> str:
    return subject.decode("utf-8", "backslashreplace")


def _keep_read_buffers() -> None:
    """Make the allocator keep the 256 KiB that asyncio allocates for each read and returns mostly unused.

    glibc takes blocks above 128 KiB from the kernel and returns them, which costs three system calls and page faults per
    read, until a larger block was freed once (mallopt(3), M_MMAP_THRESHOLD). With one request in flight this is half of
    a request's CPU time.
    """
    bytes(1024 * 1024)


class _Parser:
    """Replaces nats-py's parser in its client, which calls `parse` and `reset`."""

    def __init__(self, client: Client, scanner: FrameScanner, after_read: Callable[[], Any]) -> None:
        self._client: Any = client
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
            return  # The data is from an abandoned connection. Half a frame of it must not precede the next stream.
        stream = self._stream
        try:
            for frame in self._scanner.feed(data):
                await self._pass_on(frame)
                if self._stream != stream:
                    return
        except ValueError as error:  # A size has more digits than Python parses.
            raise nats.errors.ProtocolError from error
        await self._after_read()

    async def _pass_on(self, frame: bytes) -> None:
        inner = self._inner
        if frame.startswith(b"-ERR"):
            self._client.error_line = frame
        try:
            await inner.parse(frame)
        except (ValueError, LookupError, AttributeError, asyncio.InvalidStateError) as error:
            # Each of these ends nats-py's read loop for good: a header block of 8 bytes, a subject that is not UTF-8, a
            # PONG for a cancelled future. The frame was whole, so the stream continues after it.
            logger.warning("skipped a frame that nats-py cannot read: %r (%r)", frame[:64], error)
            inner.reset()
        if inner.buf:
            inner.reset()
            raise nats.errors.ProtocolError


class _SubscriptionStub:
    """The attributes of a subscription that nats-py reads when it restores our subscriptions, or ends them on close."""

    __slots__ = ("_queue", "_subject")

    _max_msgs = 0
    _received = 0
    _wait_for_msgs_task = None
    _message_iterator = None
    _pending_next_msgs_calls = None

    def __init__(self, subject: str, queue: str) -> None:
        self._subject = subject
        self._queue = queue
