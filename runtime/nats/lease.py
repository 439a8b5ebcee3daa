"""A lease in a KV bucket: one holder per key, and a release that the others notice at once."""

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
from runtime.nats.lease_value import Holder, fault, holder_of, is_release, is_released, lifetime
from runtime.wire import header_block

logger = logging.getLogger("actorloom.nats")

_POLL: Final = 1.0
"""Seconds between two reads of a lease that another process holds. The server does not announce that one expired."""

_REREAD_PAUSE: Final = 0.01
"""Seconds between two reads after the announcement of a release, which may come just before the release is stored."""
_REREADS: Final = 20
"""The number of these reads."""

_MARKER_TTL: Final = 5
"""Seconds for which the server keeps the marker of a released lease."""


class Lease:
    """The lease `key` in a KV bucket (stream ``KV_<bucket>``, readable with ``nats kv get``).

    A lease saves work but does not protect data: a paused process may believe that it holds a lost lease until it reads
    the clock again. Writes therefore need a sequence check of their own.

    Args:
        jetstream: The client.
        key: The key of the lease.
        holder: A name that is unique to this process and its start.
        bucket: The name of the bucket; `acquire` creates it if it is missing.
        ttl: Seconds after the last renewal at which the lease is free for others, at least one. The server rounds up to
            whole seconds.
        replicas: The number of replicas of a new bucket.

    Raises:
        ConfigurationError: `ttl` is less than a second.
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
        """Set if a renewal is refused, or none is confirmed for `ttl` seconds; not set by `release`."""
        self.waiting = False
        """Whether `acquire` waits for another holder."""
        self._jetstream = jetstream
        self._loop = asyncio.get_running_loop()
        self._bucket = bucket
        self._replicas = replicas
        self._stream = f"KV_{bucket}"
        self._subject = f"$KV.{bucket}.{key}"
        self._ttl = ttl
        self._server_ttl = math.ceil(ttl)
        self._sequence = 0
        self._seen = (0, 0.0)
        """The sequence of the last value of another holder, and the monotonic time at which it was seen first."""
        self._valid_until = 0.0
        self._since = time.time()
        self._freed = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._warned = ""

    def held(self) -> bool:
        """Return whether the lease is held now, by the local clock. A process checks this before it acts as the holder."""
        return time.monotonic() < self._valid_until

    async def acquire(self) -> None:
        """Wait until the lease is held. Failures of the server are logged, and the wait continues.

        If the call is cancelled, the lease may have been taken at that moment; it then expires.

        Raises:
            StreamConflict: The bucket exists as another kind of stream.
            ConfigurationError: This lease was acquired before.
        """
        if self._renewal is not None:
            raise ConfigurationError(f"lease {self.key} was acquired already; create another one")
        watch: Subscription | None = None
        bucket_exists = False
        try:
            while True:
                self._freed.clear()
                try:
                    if not bucket_exists:
                        await self._jetstream.ensure_stream(bucket_config(self._bucket, self._replicas))
                        bucket_exists = True
                    if watch is None:
                        watch = await self._jetstream.connection.subscribe(self._subject, self._on_change)
                    if await self._take():
                        break
                    self.waiting = True
                except ConfigurationError:
                    raise
                except (ActorError, TimeoutError) as error:
                    self._warn(f"cannot be acquired now: {error}")
                await self._wait_change()
        finally:
            self.waiting = False
            if watch is not None:
                watch.unsubscribe()
        self._renewal = self._loop.create_task(self._renew(), name=f"actorloom lease {self.key}")
        self._renewal.add_done_callback(self._renewal_ended)

    async def release(self) -> None:
        """Release the lease; waiting processes notice it within milliseconds. A lease that is not held stays as it is."""
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
                # The cancelled renewal may have been stored.
                if await self._is_still_ours():
                    await self._put_marker()
        except (ActorError, TimeoutError) as error:
            self._warn(f"was not released, and expires in {self._server_ttl} s: {error}")
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
        # It may be ours: an earlier attempt may have been stored without a confirmation.
        if last is not None and not is_released(last) and not self._is_ours(last) and not self._is_stale(last):
            return False
        self._sequence = 0 if last is None else last.sequence
        try:
            await self._write_value()
        except WrongSequence:
            return False
        return True

    async def _wait_change(self) -> None:
        """Wait for a release, or for the time of the next read."""
        if not self._freed.is_set():
            try:
                await asyncio.wait_for(self._freed.wait(), _POLL)
            except TimeoutError:
                return
        for _ in range(_REREADS):
            try:
                last = await self._jetstream.get_last(self._stream, self._subject)
            except (ActorError, TimeoutError):
                return
            if last is None or is_released(last):
                return
            await asyncio.sleep(_REREAD_PAUSE)

    def _on_change(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if is_release(headers):
            self._freed.set()

    def _is_ours(self, last: StoredMessage) -> bool:
        holder = holder_of(last)
        return holder is not None and holder.holder == self.holder

    def _is_stale(self, last: StoredMessage) -> bool:
        """Return whether a value was seen unchanged for its lifetime, in which each holder renews it several times.

        The server removes such a value, unless it has no lifetime. The age counts from the first look at the value, by
        the monotonic clock, because the clocks of two machines may differ.
        """
        now = time.monotonic()
        sequence, seen_at = self._seen
        if last.sequence != sequence:
            self._seen = (last.sequence, now)
            return False
        if now - seen_at < (lifetime(last) or self._server_ttl):
            return False
        logger.warning("lease %s: taken over a value that %s and was not renewed", self.key, fault(last) or "expired")
        return True

    async def _write_value(self) -> None:
        value = Holder(self.holder, self._since, socket.gethostname(), os.getpid())
        # Our time starts before the server's, so the lease ends here before it ends there.
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
                self._warn(f"was not renewed: {error}")
                pause = min(self._ttl / 16, max(self._valid_until - time.monotonic(), 0.0))

    async def _is_still_ours(self) -> bool:
        """Return whether a refusal was caused by a renewal of our own, stored without a confirmation."""
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
        logger.warning("%s lost the lease %s: %s", self.holder, self.key, reason)
        self._valid_until = 0.0
        self.lost.set()

    def _renewal_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._lose(repr(task.exception()))

    def _warn(self, text: str) -> None:
        if text != self._warned:
            self._warned = text
            logger.warning("lease %s %s", self.key, text)


def bucket_config(bucket: str, replicas: int = 1) -> StreamConfig:
    """Return the stream of a KV bucket for leases: it keeps the newest value of each key, with a TTL per value."""
    return StreamConfig(
        name=f"KV_{bucket}",
        subjects=(f"$KV.{bucket}.>",),
        description="Actorloom: leases, which show the owner of each actor's keys",
        replicas=replicas,
        max_msgs_per_subject=1,
        discard="new",
        allow_msg_ttl=True,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )
