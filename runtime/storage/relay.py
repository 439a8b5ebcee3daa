"""The relay: publishes the events, timers and commands of committed turns (a transactional outbox, ADR 006).

**The outbox is in the record.** A commit stores the events, timers and commands of its turns in the record of the key, and the
next record carries over those that are not confirmed, without a timer that it replaces or cancels. So the newest record of a
key contains everything of that key that may be unpublished, and the relay needs no storage of its own. After a crash, the
next owner reads the records above the checkpoint, and publishes their outboxes.

**Order.** The entries of a key are published one at a time, each after the acknowledgement of the one before: a publish
that fails and is repeated would otherwise overtake, or be overtaken by, the next event of its key. Different keys are
published at the same time. One failing entry therefore holds back the events of its key, and of no other. A command by `tell` that its actor does not take
holds back nothing: it is stored elsewhere (`runtime.storage.parked_tells`).

**Duplicates.** An entry may be published more than once, after a time-out or by two owners of a key. That is harmless, since
its id is fixed when the turn runs: the stream drops an id that it has seen within two minutes, and reactions drop an id
that they remember. Timers need more care; see `runtime.storage.schedules`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial

import msgspec

from runtime.backoff import Backoff
from runtime.errors import ActorError, PublishError
from runtime.nats.errors import PermissionDenied
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES, WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.checkpoint import Checkpoint
from runtime.storage.foreign import ForeignRecords
from runtime.storage.key import StoredKey
from runtime.storage.outbox_messages import OutboxMessages, Publish
from runtime.storage.parked_tells import ParkedTells
from runtime.storage.record import CANCEL, EVENT, TELL, Outgoing, Unreadable, check_subject, decode_record
from runtime.storage.schedules import find_refusal, take_back
from runtime.storage.unreadable import UnreadableRecords
from runtime.telemetry import ServiceTracer
from runtime.telemetry.bursts import Bursts
from runtime.wire import header_block
from runtime.wire.subjects import Names
from runtime.wire.tokens import token_key

logger = logging.getLogger("actorloom.storage")

_BACKOFF = Backoff(first=0.05, longest=5.0)
"""The pauses before a failed publish is repeated."""

_DRAIN_TICK = 0.1
"""Seconds between two looks at what is left during a drain."""

_SILENT_PAUSE = 1.0
"""Seconds: shorter pauses are not logged."""


class _Attempt(msgspec.Struct, frozen=True, eq=False):
    """One attempt to publish the first entry of an outbox."""

    key: StoredKey
    entry: Outgoing
    origin: int
    """The sequence of the record that introduced the entry."""
    failures: int
    """The failed attempts in a row before this one."""


class Relay:
    """Publishes the outboxes of one actor type.

    Everything here is in memory. `StoredKey.outbox` contains the entries that are not confirmed.

    Args:
        jetstream: The client.
        names: The names of the actor.
        tracer: The tracer of the actor.
        owns: Returns whether this process still owns the keys, by the clock. A process that was paused may have lost them
            before it is notified; its relay then stops.
        unreadable: Logs the records whose outbox cannot be read.
        bursts: Joins the log lines of publishes that fail.
        shared: Whether other processes store records in the same stream, as those of an actor without state do.
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        tracer: ServiceTracer,
        owns: Callable[[], bool],
        unreadable: UnreadableRecords,
        bursts: Bursts,
        shared: bool = False,
    ) -> None:
        self._jetstream = jetstream
        self._owns = owns
        self._unreadable = unreadable
        self._bursts = bursts
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._names = names
        self._messages = OutboxMessages(names, tracer, jetstream.connection.server_address)
        self._keys: set[StoredKey] = set()
        """Keys whose outbox is being published."""
        self._adopted: set[StoredKey] = set()
        """Those of them whose turns ran in another process."""
        self._saved = 0
        """The stored checkpoint."""
        self._refused: dict[StoredKey, PermissionDenied] = {}
        """Keys whose last publish was refused for want of a permission."""
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._key_waiters: dict[StoredKey, list[asyncio.Future[None]]] = {}
        self._stopped = False
        self._tasks: set[asyncio.Task[None]] = set()
        self.checkpoint = Checkpoint()
        self.parked = ParkedTells(jetstream, names, lambda: self.checkpoint.tracking and owns(), shared)
        self.foreign = ForeignRecords(jetstream, names, self.checkpoint, self.pending, self._adopt_foreign)
        self.published = 0
        """Entries that are confirmed."""
        self.failed = 0
        """Attempts that failed."""

    def send(self, key: StoredKey, outgoing: list[Outgoing], sequence: int) -> None:
        """Publish the entries that the record at `sequence` has added. A record without any is done at once."""
        if not outgoing:
            self.checkpoint.mark_done(sequence)
            return
        if key.outbox is None:
            key.outbox = deque()
        for entry in outgoing:
            key.outbox.append((entry, sequence))
        if key not in self._keys and not self._stopped:
            self._keys.add(key)
            self._publish(key)

    def pending(self) -> set[int]:
        """Return the sequences of the records that have unpublished entries."""
        return {sequence for key in self._keys if key.outbox for _, sequence in key.outbox}

    @property
    def publishing(self) -> set[str]:
        """The tokens of the keys whose outbox is being published."""
        return {key.token for key in self._keys}

    async def wait_published(self, key: StoredKey, timeout: float) -> bool:
        """Return whether the outbox of a key is published within `timeout` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while key.outbox and not self._stopped:
                    waiter = self._loop.create_future()
                    self._key_waiters.setdefault(key, []).append(waiter)
                    await waiter
        except TimeoutError:
            return False
        return not key.outbox

    async def wait_idle(self) -> None:
        """Return when nothing is left to publish, or the relay has stopped."""
        while self._keys:
            waiter = self._loop.create_future()
            self._idle_waiters.append(waiter)
            await waiter

    async def drain(self) -> None:
        """Return when nothing is left to publish, or the relay has stopped.

        Raises:
            PublishError: The server refuses all that is left. The records contain it, for the next owner.
        """
        while self._keys:
            refused = [self._refused.get(key) for key in self._keys]
            if all(refused):
                keys = "1 key" if len(refused) == 1 else f"{len(refused)} keys"
                raise PublishError(f"events or timers of {keys} are left to the next owner: {refused[0]}")
            waiter = self._loop.create_future()
            self._idle_waiters.append(waiter)
            await asyncio.wait({waiter}, timeout=_DRAIN_TICK)

    def stop(self) -> None:
        """Publish nothing more. The records contain the rest, for the next owner."""
        self._stopped = True
        self.parked.stop()
        for task in self._tasks:
            task.cancel()
        self._keys.clear()
        self._adopted.clear()
        self._wake_idle_waiters()
        for key in list(self._key_waiters):
            self._wake(self._key_waiters.pop(key))

    # Recovery

    async def recover(self) -> int:
        """Publish the outboxes of former owners, from the stored checkpoint on, and become the owner of the checkpoint.

        The new position is stored at once. Processes that die one after another, each soon after its start, would otherwise
        publish the same outboxes again for longer than the server recognizes a message.

        An unreadable record is logged, and fails the messages of its key only. If a newer version of this package wrote it,
        it is held above the checkpoint: a process of that version can publish its outbox.

        Returns:
            The number of records that had an outbox; 0 if the keys were lost meanwhile.

        Raises:
            PublishError, TimeoutError, ApiError: The stream cannot be read now.
        """
        stream = self._names.turns_stream
        saved = await self._jetstream.get_last(stream, self._names.checkpoint())
        info = await self._jetstream.stream_info(stream, subjects=self._names.parked("*", "*", "*"))
        self.parked.find(info)
        last = info.state.last_seq
        start = 0 if saved is None else self._saved_position(saved, last)
        newest: dict[str, tuple[int, list[Outgoing]]] = {}
        if last > start:
            async for stored in self._jetstream.read(stream, self._names.turn("*"), start_sequence=start + 1):
                newest[stored.subject] = (stored.sequence, self._outbox_of(stored))
        unpublished = {subject: found for subject, found in newest.items() if found[1]}
        for subject, (sequence, outbox) in unpublished.items():
            self._adopt(subject, outbox, sequence)
        await self.wait_idle()
        if self._stopped:
            return 0
        self._saved = start
        self.checkpoint.begin(max(last, start))
        self.parked.start()
        await self.save()
        return len(unpublished)

    async def sweep(self) -> None:
        """Deal with the records of other writers, and store the checkpoint. Called regularly."""
        await self.foreign.follow()
        checkpoint, stream = self.checkpoint, self._names.turns_stream
        if not checkpoint.tracking:
            return
        if self._shared or self.foreign.found:
            # A former owner may have parked a command that is stored after the recovery.
            self.foreign.found = False
            self.parked.find(await self._jetstream.stream_info(stream, subjects=self._names.parked("*", "*", "*")))
        while (held := checkpoint.first_held) is not None and await self._jetstream.get(stream, held) is None:
            checkpoint.release(held)
        await self.save()

    async def save(self) -> None:
        """Store the checkpoint if it has moved."""
        position = self.checkpoint.storable
        if self.checkpoint.tracking and position > self._saved:
            ack = await self._jetstream.publish(self._names.checkpoint(), b"%d" % position)
            self._saved = position
            self.checkpoint.mark_done(ack.sequence)

    def _outbox_of(self, stored: StoredMessage) -> list[Outgoing]:
        """Return the outbox of a record; an empty one if the record cannot be read, which is logged once."""
        try:
            check_subject(stored.subject, self._names.turn(""))
            return decode_record(stored.payload, stored.subject).outbox
        except Unreadable as error:
            self._unreadable.report(error)
            if error.newer_format:
                self.checkpoint.hold(stored.sequence)
            return []

    def _saved_position(self, saved: StoredMessage, last: int) -> int:
        """Return the sequence in the stored checkpoint; 0, so that all records are read, if it can be none of this stream."""
        position = header_block.number(saved.payload)
        if position is None or position > last:
            logger.error("%s is no checkpoint of this stream: all records are read", saved.subject)
            return 0
        return position

    def _adopt_foreign(self, stored: StoredMessage) -> bool:
        """Publish the outbox of a record that another writer has stored. Return False if it has none."""
        outbox = self._outbox_of(stored)
        if outbox:
            self._adopt(stored.subject, outbox, stored.sequence)
        return bool(outbox)

    def _adopt(self, subject: str, outbox: list[Outgoing], sequence: int) -> None:
        """Publish the outbox of a record that this process has not written."""
        token = subject.rpartition(".")[2]
        key = StoredKey(token_key(token), token)
        self._adopted.add(key)
        self.send(key, outbox, sequence)

    # Publishing

    def _publish(self, key: StoredKey, failures: int = 0) -> None:
        """Publish the first entry of an outbox; its confirmation publishes the next one."""
        if not self._owns():
            self.stop()
            return
        assert key.outbox
        entry, origin = key.outbox[0]
        attempt = _Attempt(key, entry, origin, failures)
        if entry.kind is CANCEL:
            self._start_take_back(attempt)
            return
        message = self._messages.make(entry, origin, key not in self._adopted)
        if entry.kind is TELL and entry.target in self.parked.targets:
            message.park(*self.parked.begin(key.token, entry, message.subject, message.headers))
        on_reply = partial(self._on_reply, attempt, message)
        try:
            self._jetstream.publish_callback(message.subject, bytes(entry.body), message.headers, on_reply)
        except PublishError as error:
            self._on_reply(attempt, message, 0, error)

    def _on_reply(self, attempt: _Attempt, message: Publish, sequence: int, error: Exception | None) -> None:
        if message.parked:
            self.parked.end(attempt.entry.target)
        if error is None:
            message.succeed()
            self._confirmed(attempt, sequence, message.parked)
        elif isinstance(error, WrongSequence):
            message.succeed()
            if message.parked:
                self._confirmed(attempt, 0)
            else:
                # Another timer has this name.
                self._start_take_back(attempt)
        else:
            message.fail(error)
            if isinstance(error, PublishError) and error.err_code in INVALID_SCHEDULE_CODES:
                self._give_up(attempt, error)
            elif self.parked.refuse(attempt.entry, error):
                self._retry(attempt.key, 0)
            else:
                self._retry_later(attempt, error)

    def _give_up(self, attempt: _Attempt, error: PublishError) -> None:
        """Give up a schedule that no retry can store."""
        logger.error(
            "%s: the timer %s of key %s is not set: %s",
            self._names.actor, attempt.entry.timer, attempt.key.token, error,
        )  # fmt: skip
        self._confirmed(attempt, 0)

    def _confirmed(self, attempt: _Attempt, sequence: int, parked: bool = False) -> None:
        """Remove a published entry from its outbox, and publish the next one.

        Args:
            attempt: The attempt.
            sequence: The sequence of the message in its stream; 0 if nothing was stored.
            parked: Whether the message is a parked tell.
        """
        key, entry = attempt.key, attempt.entry
        outbox = key.outbox
        if not outbox or outbox[0][0] is not entry:
            return  # the outbox was dropped meanwhile
        self.published += 1
        if self._refused:
            self._refused.pop(key, None)
        _, origin = outbox.popleft()
        if entry.kind is not EVENT and sequence and (entry.kind is not TELL or parked):
            # Timers and parked tells are stored in the turns stream, whose sequences the checkpoint covers.
            self.checkpoint.mark_done(sequence)
        if not outbox or outbox[0][1] != origin:
            self.checkpoint.mark_done(origin)
        if outbox:
            if not self._stopped:
                self._publish(key)
            return
        key.outbox = None
        self._keys.discard(key)
        self._adopted.discard(key)
        if self._key_waiters:
            self._wake(self._key_waiters.pop(key, []))
        if self._idle_waiters:
            self._wake_idle_waiters()

    def _retry_later(self, attempt: _Attempt, error: Exception) -> None:
        self.failed += 1
        if isinstance(error, PermissionDenied):
            self._refused[attempt.key] = error
        if self._stopped:
            return
        key, failures = attempt.key, attempt.failures + 1
        if _BACKOFF.nominal(failures) > _SILENT_PAUSE:
            text = f"events of key {key.token} are not published yet: {error}"
            kind = type(error).__name__
            self._bursts.log(logger, logging.WARNING, self._names.actor, kind, text, "publishes failed")
        self._loop.call_later(_BACKOFF.delay(failures), self._retry, key, failures)

    def _retry(self, key: StoredKey, failures: int) -> None:
        if key.outbox and not self._stopped:
            self._publish(key, failures)

    def _start_take_back(self, attempt: _Attempt) -> None:
        work = self._take_back(attempt)
        task = self._loop.create_task(work, name=f"actorloom {self._names.actor} timer")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take_back(self, attempt: _Attempt) -> None:
        """Delete the stored timer that has the name of an entry, and then publish the entry if it sets a timer."""
        key, entry = attempt.key, attempt.entry
        own_ids = {each.id for each, _ in key.outbox or ()}
        try:
            if entry.schedule and (refusal := await find_refusal(self._jetstream, self._names, entry)) is not None:
                self._give_up(attempt, refusal)
                return
            deleted = await take_back(self._jetstream, self._names, entry, attempt.origin, own_ids)
        except (ActorError, TimeoutError) as error:
            self._retry_later(attempt, error)
            return
        if deleted and entry.kind is not CANCEL:
            self._retry(key, attempt.failures)
        else:
            self._confirmed(attempt, 0)

    def _wake_idle_waiters(self) -> None:
        if not self._keys:
            self._wake(self._idle_waiters)
            self._idle_waiters.clear()

    @staticmethod
    def _wake(waiters: list[asyncio.Future[None]]) -> None:
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
