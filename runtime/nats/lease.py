"""A lease in a KV bucket: one holder per key, and a release that the others notice at once."""

import asyncio
import logging
import math
import os
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from types import TracebackType
from typing import Final

import msgspec

from runtime import clocks
from runtime.errors import ActorError, ConfigurationError
from runtime.nats.connection import Subscription
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, StreamConfig, kv_config
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.lease_take_over import Candidate, TakeOver, recent
from runtime.nats.lease_value import Finishing, Holder, Kind, Released, holder_of, is_removal, kind_of, left_in
from runtime.wire import header_block

logger = logging.getLogger("actorloom.nats")

_POLL: Final = 1.0
"""Seconds between two reads of a lease that another process holds. The server does not announce that one expired."""

_REREAD_PAUSE: Final = 0.01
"""Seconds between two reads after the announcement of a release, which may come just before the release is stored."""
_REREADS: Final = 20
"""The number of these reads."""

_EXPIRED_KEPT: Final = 30 * 86_400
"""Seconds for which the server keeps its marker of an expired value. Later, the key looks as if somebody had deleted it."""


async def _never() -> bool:
    return False


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
        used: Returns whether anybody has ever held the lease. It is asked if the key is absent and was never seen: if
            nobody has, the lease is free at once. It may raise the errors of `JetStream`. By default, nobody has.

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
        used: Callable[[], Awaitable[bool]] = _never,
    ) -> None:
        if ttl < 1.0:
            raise ConfigurationError(f"lease {key}: a ttl of {ttl} s is below the second that the server can count")
        self.key = key
        self.holder = holder
        self.lost = asyncio.Event()
        """Set if a renewal is refused, or none is confirmed for `ttl` seconds; not set by `release` and `hand_over`."""
        self.waiting = False
        """Whether `acquire` waits for another holder."""
        self.clean = True
        """Whether the former holder had no write under way when this one took over, or there never was one."""
        self.unclean_at = 0.0
        """The time of the last take-over that was not clean, in Unix seconds of the server; 0.0 if it is more than ten minutes ago."""
        self.left: Finishing | None = None
        """What a former holder still finishes. The holder sets it to None as soon as that is known to be over."""
        self._jetstream = jetstream
        self._clock = jetstream.connection.clock
        self._loop = asyncio.get_running_loop()
        self._bucket = bucket
        self._replicas = replicas
        self._stream = f"KV_{bucket}"
        self._subject = f"$KV.{bucket}.{key}"
        self._ttl = ttl
        self._server_ttl = math.ceil(ttl)
        self._used = used
        self._candidate = Candidate(key, self._server_ttl, self._clock)
        self._pause = _POLL
        """Seconds until the next read of the lease of another holder."""
        self._taking: TakeOver | None = None
        """How the lease comes to this holder, since the first attempt to take it."""
        self._sequence = 0
        self._holding = False
        self._handed_over = False
        self._valid_until = 0.0
        """The end of the lease by `clocks.elapsed`."""
        self._since = self._clock.now()
        self._freed = asyncio.Event()
        self._renewal: asyncio.Task[None] | None = None
        self._warned = ""

    def held(self) -> bool:
        """Return whether the lease is held now, by the local clock. A process checks this before it acts as the holder.

        The clock goes on while the machine is suspended. A lease that was not held once is never held again.
        """
        if not self._holding:
            return False
        if clocks.elapsed() < self._valid_until:
            return True
        if self._handed_over:
            self._holding = False
        else:
            self._lose("its time was over, by the clock of this process")
        return False

    async def acquire(self) -> None:
        """Wait until the lease is held. Failures of the server are logged, and the wait continues.

        If the call is cancelled at the moment at which the lease is taken, it releases the lease.

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
                self._pause = _POLL
                try:
                    if not bucket_exists:
                        await self._jetstream.ensure_stream(bucket_config(self._bucket, self._replicas))
                        bucket_exists = True
                    if watch is None:
                        watch = await self._jetstream.connection.subscribe(self._subject, self._on_change)
                    if await self._take_or_release():
                        break
                    self.waiting = True
                except ConfigurationError:
                    raise
                except (ActorError, TimeoutError) as error:
                    bucket_exists = False
                    self._candidate.look_anew()
                    self._warn(f"cannot be acquired now: {error}")
                await self._wait_change()
        finally:
            self.waiting = False
            if watch is not None:
                watch.unsubscribe()
        self._holding = True
        self._start_renewal()

    async def release(self, settled: bool = True) -> None:
        """Release the lease; waiting processes notice it within milliseconds. A lease that is not held stays as it is.

        Args:
            settled: Whether no write of this holder is under way any more. If not, the take-over of the next holder is
                not clean.
        """
        held = self.held()
        await self._stop_renewal()
        if not held:
            return
        try:
            await self._put_release(settled, self.left)
        except (ActorError, TimeoutError) as error:
            if not self._handed_over:  # If it was, the next holder has it already.
                self._warn(f"was not released, and expires in {self._server_ttl} s: {error}")
        finally:
            self._holding = False

    async def hand_over(self, busy: Sequence[str], seconds: float, settled: bool = True) -> bool:
        """Release the lease although the messages of some keys are not finished. Waiting processes notice it at once.

        The next holder finds `busy` in its `left`. For this holder, `held` stays true for `seconds`, without renewal, so
        that it can finish these messages; `release` ends it earlier.

        Args:
            busy: The tokens of the keys whose messages are not finished.
            seconds: The time that this holder may take to finish them.
            settled: Whether no write to any other key is under way.

        Returns:
            Whether the lease was handed over. If it was not, it is held as before, or `lost` will be set.
        """
        if self.left is not None and self.left.rewritten() is not None:
            return False  # The next holder can wait for one former holder only.
        await self._stop_renewal()
        sent = clocks.elapsed()
        if not self.held():
            return False
        left = Finishing(self.holder, tuple(busy), seconds).read()
        try:
            await self._put_release(settled, left)
        except (ActorError, TimeoutError) as error:
            if not await self._is_handed_over(left.tokens):
                self._warn(f"was not handed over: {error}")
                return False
        self._valid_until, self._handed_over = sent + seconds, True
        return self.held()

    async def _is_handed_over(self, tokens: tuple[str, ...]) -> bool:
        """Return whether a hand-over without a clear answer is stored, and exclude that it is stored later.

        A renewal carries the same sequence, so only one of both can be stored. If it is this one, renewals go on.
        """
        while self.held():
            try:
                async with asyncio.timeout(self._time_left()):
                    try:
                        await self._write_value()
                    except WrongSequence:
                        last = await self._jetstream.get_last(self._stream, self._subject)
                        left = left_in(last)
                        if left is not None and (left.holder, left.tokens) == (self.holder, tokens):
                            return True
                        if last is None or not self._is_ours(last):
                            break
                        self._sequence = last.sequence  # The cancelled renewal was stored.
                        continue
            except (ActorError, TimeoutError):
                await asyncio.sleep(min(self._ttl / 16, self._time_left()))
            else:
                self._start_renewal()
                return False
        self._lose("the outcome of a hand-over is unknown, or another process has taken it")
        return False

    def end(self) -> None:
        """Hold the lease no longer, though the time of a hand-over is not over: the next holder has not waited for it."""
        self._holding = False

    async def __aenter__(self) -> "Lease":
        await self.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    async def _take_or_release(self) -> bool:
        """Do the same as `_take`. If this is cancelled, the lease is not held, whether the attempt was stored or not."""
        attempt = asyncio.ensure_future(self._take())
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            if self._taking is not None:
                await self._undo(attempt)
            raise
        finally:
            attempt.cancel()

    async def _undo(self, attempt: "asyncio.Future[bool]") -> None:
        """Wait for the outcome of an attempt to take the lease, and release it if it was taken."""
        try:
            async with asyncio.timeout(self._ttl / 2):
                if await attempt:
                    await self._put_release(True, self.left)
        except (ActorError, TimeoutError) as error:
            self._warn(f"was perhaps taken and not released, and expires in {self._server_ttl} s: {error}")

    async def _take(self) -> bool:
        last = await self._jetstream.get_last(self._stream, self._subject)
        if last is not None and self._is_ours(last):
            # A former `Lease` of this process has left it, or an attempt of this one was stored without a confirmation.
            take_over = self._taking or TakeOver(clean=False, unclean_at=self._clock.now())
        else:
            used = last is not None or self._candidate.has_seen or await self._used()
            take_over = self._candidate.judge(last, used)
        if take_over is None:
            self._pause = min(self._candidate.wait, _POLL)
            return False
        self._taking = take_over
        self.clean, self.unclean_at, self.left = take_over.clean, take_over.unclean_at, take_over.left
        self._sequence = 0 if last is None else last.sequence
        try:
            await self._write_value()
        except WrongSequence:
            self._candidate.look_anew()
            return False
        return True

    async def _wait_change(self) -> None:
        """Wait for a release, or for the time of the next read."""
        if not self._freed.is_set():
            try:
                await asyncio.wait_for(self._freed.wait(), self._pause)
            except TimeoutError:
                return
        for _ in range(_REREADS):
            try:
                last = await self._jetstream.get_last(self._stream, self._subject)
            except (ActorError, TimeoutError):
                return
            if kind_of(last) is not Kind.VALUE:
                return
            await asyncio.sleep(_REREAD_PAUSE)

    def _on_change(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if is_removal(headers):
            self._freed.set()
        else:
            self._candidate.look_anew()

    def _is_ours(self, last: StoredMessage) -> bool:
        holder = holder_of(last)
        return holder is not None and holder.holder == self.holder

    async def _write_value(self) -> None:
        self.unclean_at = recent(self.unclean_at, self._clock.now())
        left = self.left.rewritten() if self.left is not None else None
        value = Holder(self.holder, self._since, socket.gethostname(), os.getpid(), self.unclean_at, left)
        # Our time starts before the server's, so the lease ends here before it ends there.
        sent = clocks.elapsed()
        ttl = (header_block.TTL.decode(), f"{self._server_ttl}s")
        await self._put(msgspec.json.encode(value), (ttl,), self._ttl / 2)
        self._valid_until = sent + self._ttl

    async def _put_release(self, settled: bool, left: Finishing | None) -> None:
        """Store the marker of a release, which the server keeps until the next holder replaces it.

        Raises:
            WrongSequence: Another process has taken the lease.
            PublishError, TimeoutError: The server does not store it now.
        """
        released = Released(self.holder, settled, recent(self.unclean_at, self._clock.now()), left and left.rewritten())
        try:
            await self._put(b"", released.headers(), self._ttl / 2)
        except WrongSequence:
            # The cancelled renewal may have been stored.
            if not await self._is_still_ours():
                raise
            await self._put(b"", released.headers(), self._ttl / 2)

    async def _put(self, value: bytes, headers: Iterable[tuple[str, str]], timeout: float) -> None:
        checked = (header_block.EXPECTED_SEQUENCE.decode(), str(self._sequence))
        block = header_block.encode([checked, *headers])
        ack = await self._jetstream.publish(self._subject, value, headers=block, timeout=timeout)
        self._sequence = ack.sequence

    def _start_renewal(self) -> None:
        self._renewal = self._loop.create_task(self._renew(), name=f"actorloom lease {self.key}")
        self._renewal.add_done_callback(self._renewal_ended)

    async def _stop_renewal(self) -> None:
        renewal, self._renewal = self._renewal, None
        if renewal is not None:
            renewal.cancel()
            await asyncio.wait({renewal})

    async def _renew(self) -> None:
        pause = self._ttl / 4
        while True:
            await asyncio.sleep(pause)
            if not self.held():
                return
            try:
                async with asyncio.timeout(self._time_left()):
                    await self._write_value()
                pause = self._ttl / 4
            except WrongSequence as refused:
                if not await self._is_still_ours():
                    self._lose(str(refused))
                    return
                pause = 0.0
            except (ActorError, TimeoutError) as error:
                self._warn(f"was not renewed: {error}")
                pause = min(self._ttl / 16, self._time_left())

    async def _is_still_ours(self) -> bool:
        """Return whether a refusal was caused by a renewal of our own, stored without a confirmation."""
        try:
            async with asyncio.timeout(self._time_left()):
                last = await self._jetstream.get_last(self._stream, self._subject)
        except (ActorError, TimeoutError):
            return self.held()
        if last is None or not self._is_ours(last):
            return False
        self._sequence = last.sequence
        return True

    def _time_left(self) -> float:
        """Return the seconds for which the lease is held without a renewal."""
        return max(self._valid_until - clocks.elapsed(), 0.0)

    def _lose(self, reason: str) -> None:
        if self._holding:
            self._holding = False
            logger.warning("%s lost the lease %s: %s", self.holder, self.key, reason)
            self.lost.set()

    def _renewal_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._lose(repr(task.exception()))

    def _warn(self, text: str) -> None:
        if text != self._warned:
            self._warned = text
            logger.warning("lease %s %s", self.key, text)


def bucket_config(bucket: str, replicas: int = 1) -> StreamConfig:
    """Return the stream of a KV bucket for leases, in which a lease that has expired leaves a marker."""
    config = kv_config(bucket, "Actorloom: leases, which show the owner of each actor's keys", replicas)
    return msgspec.structs.replace(config, subject_delete_marker_ttl=_EXPIRED_KEPT * SECOND)
