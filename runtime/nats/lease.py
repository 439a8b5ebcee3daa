"""A lease in a KV bucket: one holder of a key at a time, seen by others at once when it is given back."""

import asyncio
import logging
import math
import os
import socket
import time
from types import TracebackType
from typing import Final

import msgspec

from runtime.errors import ActorError, ConfigurationError
from runtime.nats.connection import Subscription
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.wire import header_block

logger = logging.getLogger("actorloom.nats")

# Seconds between looks at a lease that somebody else holds; a lease that expires is not announced.
_POLL: Final = 1.0

# A release is announced when it is published, which may be just before it is stored: look again this soon, this often.
_AGAIN: Final = 0.01
_AGAIN_TIMES: Final = 20

# Seconds for which the marker of a released lease is kept.
_MARKER_TTL: Final = 5

_OPERATION: Final = b"KV-Operation"


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lease: the value of its key. `since` is in Unix seconds."""

    holder: str
    since: float
    host: str
    pid: int


class Lease:
    """The lease `key` in the KV `bucket` (stream ``KV_<bucket>``, readable with ``nats kv get``), for `holder`.

    `holder` must be unique to this process and start. A lease that is not renewed for `ttl` seconds (whole seconds on
    the server, rounded up) is free for others. It is for economy and not for safety: a paused process may believe it
    holds what it has lost, until its next look at the clock; writes need a check of their own (architecture.md §5).
    """

    def __init__(
        self,
        jetstream: JetStream,
        *,
        key: str,
        holder: str,
        bucket: str = "leases",
        ttl: float = 4.0,
        replicas: int = 1,
    ) -> None:
        if ttl < 1.0:
            raise ConfigurationError(f"lease {key}: a ttl of {ttl} s is below the second that the server can count")
        self.key = key
        self.holder = holder
        self.lost = asyncio.Event()
        """Set when a renewal was refused, or none was confirmed for `ttl` seconds; never by `release`."""
        self.waiting = False
        """Whether somebody else was seen to hold it, and `acquire` waits."""
        self._jetstream = jetstream
        self._loop = asyncio.get_running_loop()
        self._bucket = bucket
        self._replicas = replicas
        self._stream = f"KV_{bucket}"
        self._subject = f"$KV.{bucket}.{key}"
        self._ttl = ttl
        self._server_ttl = math.ceil(ttl)
        self._sequence = 0
        self._valid_until = 0.0
        self._since = time.time()
        self._freed = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._complaint = ""

    def held(self) -> bool:
        """Whether it is ours by the local clock, right now: what a paused process is to ask before it acts as the holder."""
        return time.monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Wait until it is held. Creates the bucket where it is missing.

        Failures of the server are logged and waited out. Raises `StreamConflict` where the bucket is another kind of
        stream. When cancelled, the lease may have been taken just now: it then expires by itself.
        """
        if self._renewal is not None:
            raise ConfigurationError(f"lease {self.key} was acquired already; make a new one")
        watch: Subscription | None = None
        ready = False
        try:
            while True:
                self._freed.clear()
                try:
                    if not ready:
                        await self._jetstream.ensure_stream(bucket_config(self._bucket, self._replicas))
                        ready = True
                    if watch is None:
                        watch = await self._jetstream.connection.subscribe(self._subject, self._on_change)
                    if await self._take():
                        break
                    self.waiting = True
                except ConfigurationError:
                    raise
                except (ActorError, TimeoutError) as error:
                    self._complain(f"cannot be acquired now: {error}")
                await self._changed()
        finally:
            self.waiting = False
            if watch is not None:
                watch.unsubscribe()
        self._renewal = self._loop.create_task(self._renew(), name=f"actorloom lease {self.key}")
        self._renewal.add_done_callback(self._renewal_ended)

    async def release(self) -> None:
        """Give it back: others that wait see it within milliseconds. Does nothing where it is not held."""
        held = self.held()
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.cancel()
            await asyncio.wait({renewal})
        if not held:
            return
        try:
            try:
                await self._put_marker()
            except WrongSequence:
                # The renewal that was just cancelled may have been stored.
                if await self._is_still_ours():
                    await self._put_marker()
        except (ActorError, TimeoutError) as error:
            self._complain(f"was not given back, and expires in {self._server_ttl} s: {error}")
        finally:
            self._valid_until = 0.0

    async def __aenter__(self) -> "Lease":
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    async def _take(self) -> bool:
        last = await self._jetstream.get_last(self._stream, self._subject)
        # Ours already: an attempt that was not confirmed.
        if last is not None and not self._is_free(last) and not self._is_ours(last):
            return False
        self._sequence = 0 if last is None else last.sequence
        try:
            await self._write_value()
        except WrongSequence:
            return False
        return True

    async def _changed(self) -> None:
        """Wait for a release, or until it is time to look anyway."""
        if not self._freed.is_set():
            try:
                await asyncio.wait_for(self._freed.wait(), _POLL)
            except TimeoutError:
                return
        for _ in range(_AGAIN_TIMES):
            try:
                last = await self._jetstream.get_last(self._stream, self._subject)
            except (ActorError, TimeoutError):
                return
            if last is None or self._is_free(last):
                return
            await asyncio.sleep(_AGAIN)

    def _on_change(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if header_block.get(headers, _OPERATION) is not None:
            self._freed.set()

    @staticmethod
    def _is_free(last: StoredMessage) -> bool:
        return not last.payload or header_block.get(last.headers, _OPERATION) is not None

    def _is_ours(self, last: StoredMessage) -> bool:
        try:
            return msgspec.json.decode(last.payload, type=Holder).holder == self.holder
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False

    async def _write_value(self) -> None:
        value = Holder(self.holder, self._since, socket.gethostname(), os.getpid())
        # Counted from before it is sent: the server's clock for it starts later, so ours ends first.
        sent = time.monotonic()
        await self._put(msgspec.json.encode(value), [], self._server_ttl, self._ttl / 2)
        self._valid_until = sent + self._ttl

    async def _put_marker(self) -> None:
        await self._put(b"", [("KV-Operation", "DEL")], _MARKER_TTL, self._ttl / 2)

    async def _put(self, value: bytes, headers: list[tuple[str, str]], ttl: int, timeout: float) -> None:
        checked = (header_block.EXPECTED_SEQUENCE.decode(), str(self._sequence))
        block = header_block.encode([checked, (header_block.TTL.decode(), f"{ttl}s"), *headers])
        ack = await self._jetstream.publish(self._subject, value, headers=block, timeout=timeout)
        self._sequence = ack.sequence

    async def _renew(self) -> None:
        pause = self._ttl / 4
        while True:
            await asyncio.sleep(pause)
            if time.monotonic() >= self._valid_until:
                self._lose(f"no renewal was confirmed for {self._ttl:g} s")
                return
            try:
                async with asyncio.timeout_at(self._valid_until):
                    await self._write_value()
                pause = self._ttl / 4
            except WrongSequence as refused:
                if not await self._is_still_ours():
                    self._lose(str(refused))
                    return
                pause = 0.0
            except (ActorError, TimeoutError) as error:
                self._complain(f"was not renewed: {error}")
                pause = min(self._ttl / 16, max(self._valid_until - time.monotonic(), 0.0))

    async def _is_still_ours(self) -> bool:
        """Whether the refusal is due to a renewal of our own that was stored though not confirmed."""
        try:
            async with asyncio.timeout_at(self._valid_until):
                last = await self._jetstream.get_last(self._stream, self._subject)
        except (ActorError, TimeoutError):
            return time.monotonic() < self._valid_until
        if last is None or not self._is_ours(last):
            return False
        self._sequence = last.sequence
        return True

    def _lose(self, reason: str) -> None:
        logger.warning("lease %s is lost by %s: %s", self.key, self.holder, reason)
        self._valid_until = 0.0
        self.lost.set()

    def _renewal_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._lose(repr(task.exception()))

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            logger.warning("lease %s %s", self.key, text)


def bucket_config(bucket: str, replicas: int = 1) -> StreamConfig:
    """Return the stream of a KV bucket that holds leases: the newest value of each key, each with a TTL of its own."""
    return StreamConfig(
        name=f"KV_{bucket}",
        subjects=(f"$KV.{bucket}.>",),
        replicas=replicas,
        max_msgs_per_subject=1,
        discard="new",
        allow_msg_ttl=True,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )
