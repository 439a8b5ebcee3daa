"""Commits: a turn becomes durable, all of it or nothing, before anybody hears of it (ADR 001, ADR 011).

A commit is one publish to JetStream, and takes a round trip. A key does not wait for it: while its commit is
under way, the next messages of the key already run, on the state that the commit will leave. Their turns are staged, and
share the next commit. So the rate of a busy key is bounded by its handlers and not by the round trip.

The price is that a commit can fail under turns that have run on its state. `_undo` then takes all of it back: the key
forgets its record, and every turn of the failed batch and behind it runs again on the reloaded state, in the order of
arrival and before any message that waits. Nothing was visible yet: replies, events and timers leave after the commit only.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

import msgspec
from opentelemetry.trace import SpanKind

from runtime.actor.call import TurnCall
from runtime.actor.outcome import Outcome
from runtime.errors import Overloaded, PublishError, TooLarge
from runtime.faults import log_fault
from runtime.storage.journal import Conflict, Draft, Journal, NotStored, RecordTooLarge, Unsettled
from runtime.storage.record import Handled, Outgoing
from runtime.storage.relay import Relay
from runtime.telemetry import NO_SPAN, attach, detach, finish
from runtime.turns.key import Key, Pending
from runtime.turns.overrun import name_of
from runtime.turns.served import Served
from runtime.turns.staged import Staged, last_of, outbox_of, portion
from runtime.turns.work import Rerun, Work, storage_error
from runtime.wire.ids import id_time
from runtime.wire.subjects import NO_KEY

logger = logging.getLogger("actorloom.turns")


class _NotOwned(Exception):
    """The keys are not owned any more: nothing is sent."""


_MAX_STAGED = 64
"""Turns that may be staged behind one commit; at this number the lane waits."""

_PUBLISH_TIMEOUT = 2.0
"""Seconds for which a large record waits until the events before it are published and leave it."""

_MAX_RERUNS = 10
"""How often a turn runs again because another writer was faster."""


class _Sent(msgspec.Struct, eq=False):
    """A batch of turns whose commit is sent. Its answer calls back, and no task waits for it."""

    pending: Pending
    batch: list[Staged]
    draft: Draft
    generation: int
    """That of its key before the first commit of `pending`."""


class Commits:
    """Stages and commits the turns of one actor type.

    Args:
        served: The actor, its options and its connections.
        journal: Stores the records.
        relay: Publishes the outboxes.
        resume: Called for a lane that has reruns and runs nothing.
        release: Called for a key whose commits have ended; see `Keys.release`.
        owns: Returns True while this process owns the keys.
        spawn: Runs a coroutine in a task of its own.
    """

    def __init__(
        self,
        served: Served,
        journal: Journal,
        relay: Relay,
        resume: Callable[[Key[Work]], None],
        release: Callable[[Key[Work]], None],
        owns: Callable[[], bool],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._served = served
        self._names = served.names
        self._journal = journal
        self._relay = relay
        self._template = served.tracer.template(f"commit {served.name}", SpanKind.INTERNAL)
        self._traced = served.tracer.tracing.records
        self._keyed = served.keyed
        self._resume = resume
        self._release = release
        self._owns = owns
        self._spawn = spawn
        self._clock = served.connection.clock
        self._sent: dict[Key[Work], _Sent] = {}
        """The commits under way that no task waits for."""
        self._most_sent = served.options.concurrency
        self._idle: list[asyncio.Future[None]] = []
        self.rerun_after: dict[Key[Work], float] = {}
        """Seconds until the reruns of a key may start, for keys that must not start at once."""

    def changes(self, state: Any, work: Work, outcome: Outcome) -> bool:
        """Return True if a turn that began with `state` has anything to commit."""
        if outcome.events or outcome.timers or outcome.state is not state:
            return True
        return work.remembered and (self._keyed or work.handler.verb == "command")

    def stage(self, key: Key[Work], work: Work, call: TurnCall, outcome: Outcome) -> Pending:
        """Add a turn to the next commit of its key, and return the key's pending turns.

        Runs in the turn's trace context. Raises `TooLarge` if an event or timer is too large for a message.
        """
        now = self._clock.now()
        outgoing: list[Outgoing] = []
        if outcome.events or outcome.timers:
            outgoing = outbox_of(call, outcome, key.token if self._keyed else NO_KEY, now, self._journal.max_body)
        at = max(now, id_time(work.id) or 0.0, work.sent_at or 0.0)
        handled = Handled(work.id, msgspec.Raw(outcome.reply), at, work.fingerprint)
        span = self._template.child() if self._traced else NO_SPAN
        pending = key.pending
        if pending is None:
            pending = key.pending = Pending()
        pending.stage(Staged(work, call, outcome, handled, outgoing, span), work.id, outcome.state)
        return pending

    def nothing_to_commit(self, call: TurnCall, work: Work, outcome: Outcome) -> None:
        """End a turn that changed nothing."""
        if call.callbacks:
            self._call_back(call)
        work.succeeded(msgspec.Raw(outcome.reply), False)

    async def wait_committed(self, key: Key[Work]) -> None:
        """Return when no commit of `key` is under way."""
        while (pending := key.pending) is not None and pending.committing:
            await pending.wait_committed()

    def full(self, pending: Pending) -> bool:
        """Return True if no more turns may be staged before the commit under way ends."""
        return len(pending.staged) >= _MAX_STAGED

    @property
    def busy(self) -> bool:
        """True if a commit is under way that no task waits for."""
        return bool(self._sent)

    async def wait_idle(self) -> None:
        """Return when no task-less commit is under way."""
        while self._sent:
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    def unfinished(self) -> list[str]:
        """Return the description of each message whose commit is under way in no task."""
        return [
            f"{name_of(staged.work)}, which is not stored yet" for sent in self._sent.values() for staged in sent.batch
        ]

    def begin(self, key: Key[Work], pending: Pending) -> bool:
        """Send the staged turns, if nothing is in the way. The answer finishes them, and sends those staged meanwhile.

        This needs neither a task nor a future: the worker goes on to the next message. At most `Options.concurrency`
        commits are sent in this way. A worker waits for each further one (`run`), so that a slow stream slows the turns down.

        Returns:
            False if nothing was sent: the caller calls `run`.
        """
        if key.touching is not None or len(self._sent) >= self._most_sent or not self._owns():
            return False
        pending.committing = True
        return self._send(key, pending, key.generation)

    def _send(self, key: Key[Work], pending: Pending, generation: int) -> bool:
        """Send one batch of staged turns. Return False, and leave all of them staged, if it cannot be sent at once."""
        staged = pending.staged
        batch, pending.staged = portion(staged)
        try:
            draft = self._draft(key, batch)
            sent = _Sent(pending, batch, draft, generation)
            self._journal.send(draft, partial(self._on_reply, key, sent))
        except (RecordTooLarge, PublishError):
            pending.staged = staged
            return False
        self._sent[key] = sent
        for one in batch:
            one.work.committing = True
        return True

    def _on_reply(self, key: Key[Work], sent: _Sent, sequence: int, error: Exception | None) -> None:
        """Go on after the answer to a commit. Called by the read loop."""
        if self._sent.get(key) is not sent:
            return  # `close` has given it up.
        del self._sent[key]
        try:
            pending = sent.pending
            if error is not None:
                self._spawn(self._go_on(key, pending, sent, error))
                return
            self._take_effect(key, sent.batch, sequence)
            if not pending.staged:
                self._end(key, pending)
            elif key.generation != sent.generation or not self._owns() or not self._send(key, pending, sent.generation):
                self._spawn(self._go_on(key, pending))
        except BaseException as failure:  # noqa: BLE001 - the read loop must go on; the ownership does not
            self._served.crashed(failure)
        finally:
            if not self._sent:
                self._wake_idle()

    def _wake_idle(self) -> None:
        for waiter in self._idle:
            if not waiter.done():
                waiter.set_result(None)
        self._idle.clear()

    async def _go_on(
        self, key: Key[Work], pending: Pending, sent: _Sent | None = None, error: Exception | None = None
    ) -> None:
        """Commit turns in a task: after the commit in `sent` has ended with `error`, or if the next one could not be sent."""
        await self.run(key, pending, sent, error)
        self._release(key)

    def close(self) -> None:
        """Give up the commits that no task waits for: they may be stored."""
        while self._sent:
            key, sent = self._sent.popitem()
            self._journal.give_up(sent.draft)
            self._abandon(key, sent.pending, sent.batch)
            self._end(key, sent.pending)
        self._wake_idle()

    def _end(self, key: Key[Work], pending: Pending) -> None:
        """End the commits of a key: wake all that wait for them, and let reruns begin."""
        key.pending = None
        pending.end()
        if key.rerun and not key.active:
            self._resume(key)

    def _abandon(self, key: Key[Work], pending: Pending, batch: list[Staged]) -> None:
        """Give back the messages of a key that are not stored, since this process stops."""
        for work in [*(staged.work for staged in (*batch, *pending.undo())), *key.take_rerun()]:
            if not work.stored:
                work.abandon()
        key.forget()

    async def run(
        self, key: Key[Work], pending: Pending, sent: _Sent | None = None, error: Exception | None = None
    ) -> None:
        """Commit the staged turns, and those staged meanwhile, until none is left. Each message is finished on return.

        Args:
            key: The key.
            pending: Its pending turns.
            sent: A batch of them whose commit has ended with `error`.
            error: The error.
        """
        pending.committing = True
        batch: list[Staged] = []
        generation = key.generation if sent is None else sent.generation
        try:
            if key.touching is not None:
                await asyncio.shield(key.touching)
            while pending.staged or sent is not None:
                if sent is None:
                    batch, pending.staged = portion(pending.staged)
                else:
                    batch = sent.batch
                try:
                    if sent is None and key.generation != generation:
                        raise Conflict("the key was read anew", refused=True)
                    while (rest := await self._store(key, batch, sent, error)) is not None:
                        batch, pending.staged, sent = batch[: -len(rest)], rest + pending.staged, None
                except RecordTooLarge as failure:
                    finish(batch[0].span, None, TooLarge.__name__)
                    failures: dict[Staged, BaseException] = {batch[0]: TooLarge(str(failure))}
                    await self._undo(key, pending, batch, failures)
                except Conflict as failure:
                    await self._undo(key, pending, batch, self._after_conflict(batch, failure))
                except (NotStored, Unsettled) as failure:
                    kind, actor = type(failure).__name__, self._names.actor
                    self._served.bursts.log(logger, logging.ERROR, actor, kind, str(failure), "commits failed")
                    for staged in batch:
                        staged.work.unsettled |= isinstance(failure, Unsettled)
                    await self._undo(key, pending, batch, dict.fromkeys(batch, storage_error(actor, failure)))
                sent = None
        except _NotOwned:
            for work in [*(staged.work for staged in (*batch, *pending.undo())), *key.take_rerun()]:
                work.abandon()
            key.forget()
        except BaseException:
            # This process stops. The batch that was sent may be stored; the other turns are not.
            self._abandon(key, pending, batch)
            raise
        finally:
            key.pending = None
            pending.end()
        if key.rerun and not key.active:
            self._resume(key)

    async def _store(
        self, key: Key[Work], batch: list[Staged], sent: _Sent | None, error: Exception | None
    ) -> list[Staged] | None:
        """Commit a batch if it fits one record. Of a batch that was `sent`, find out whether its record is stored.

        Returns:
            None if it is committed; else the turns at its end that must wait for the next commit.

        Raises:
            RecordTooLarge: A record of the only turn of `batch` does not fit one message, though nothing else is in it.
            Exception: The errors of `Journal.commit`.
        """
        try:
            if sent is not None and error is not None:
                await self._commit(key, batch, self._journal.resolve(sent.draft, error))
            else:
                await self._commit(key, batch, self._journal.commit(self._draft(key, batch)))
            return None
        except RecordTooLarge as failure:
            if len(batch) > 1:
                return last_of(batch, failure.excess)
        # What earlier turns have left must leave the record first: their replies, and their events.
        if not await self._journal.dedup.move_out(key):
            raise NotStored(
                f"key {key.key!r}: a large record waits for the dedup entries before it, which are not stored"
            )
        if key.outbox and not await self._relay.wait_published(key, _PUBLISH_TIMEOUT):
            raise NotStored(
                f"key {key.key!r}: a large record waits for the events before it, which are not published yet"
            )
        await self._commit(key, batch, self._journal.commit(self._draft(key, batch, alone=True)))
        return None

    def _draft(self, key: Key[Work], batch: list[Staged], alone: bool = False) -> Draft:
        """Return the record of a batch; `alone` leaves the messages that were handled before out of it.

        Raises:
            RecordTooLarge: It does not fit one message.
        """
        last = batch[-1].outcome
        return self._journal.draft(
            key,
            last.state,
            last.body,
            [staged.handled for staged in batch],
            _outgoing(batch),
            expires=not self._keyed,
            alone=alone,
        )

    async def _commit(self, key: Key[Work], batch: list[Staged], stored: Coroutine[Any, Any, int]) -> None:
        """Wait until the turns of `batch` are `stored` in one record, and then let each of them take effect outside."""
        if not self._owns():
            stored.close()
            raise _NotOwned
        for staged in batch:
            staged.work.committing = True
        try:
            sequence = await stored
        except RecordTooLarge:
            for staged in batch:
                staged.work.committing = False
            raise
        except BaseException as error:
            for staged in batch:
                finish(staged.span, None, type(error).__name__)
            raise
        self._take_effect(key, batch, sequence)

    def _take_effect(self, key: Key[Work], batch: list[Staged], sequence: int) -> None:
        """Publish the outbox of turns that are stored, and finish their messages."""
        for staged in batch:
            staged.work.committing, staged.work.stored = False, True
        self._relay.send(key, _outgoing(batch), sequence)
        for staged in batch:
            work = staged.work
            staged.span.end()
            if staged.call.callbacks:
                token = attach(work.span, work.block)
                self._call_back(staged.call)
                detach(token)
            work.succeeded(staged.handled.reply, False)

    async def _undo(
        self, key: Key[Work], pending: Pending, batch: list[Staged], failures: Mapping[Staged, BaseException]
    ) -> None:
        """Take back a commit that failed, with all turns that ran on its state.

        The turns in `failures` fail with their error, unless they ask to run again. All others run again: the rest of
        `batch`, since their record was not stored, and the turns staged behind it, since they ran on a state that does
        not exist. They keep their order of arrival. Turns that run just now find `pending.undone` when they end, and
        requeue themselves (`Turns`).
        """
        later = pending.undo()
        key.forget()
        rerun: list[Work] = []
        for staged in batch:
            work = staged.work
            work.committing = False
            again = await work.failed(failures[staged]) if staged in failures else Rerun()
            if again is not None:
                if again.after:
                    self.rerun_after[key] = max(self.rerun_after.get(key, 0.0), again.after)
                rerun.append(work)
        for staged in later:
            finish(staged.span, None, Conflict.__name__)
            rerun.append(staged.work)
        key.requeue(rerun)

    def _after_conflict(self, batch: list[Staged], error: Conflict) -> dict[Staged, BaseException]:
        """Return the turns that have rerun too often because another writer was faster, each with its error."""
        failures: dict[Staged, BaseException] = {}
        for staged in batch:
            work = staged.work
            work.reruns += 1
            work.unsettled |= not error.refused
            if work.span.is_recording():
                work.span.add_event("turn.conflict")
            if work.reruns > _MAX_RERUNS:
                failures[staged] = Overloaded(f"{self._names.actor}: the key is being written by another owner", 0.5)
        return failures

    def _call_back(self, call: TurnCall) -> None:
        for callback in call.callbacks:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 - application code; the turn has committed all the same
                # No exception of a plain function is a cancellation of this task, so that all of them end here.
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    self._served.exit(error)
                log_fault(logger, "%s: an on_commit callback failed", self._names.actor, error=error)


def _outgoing(batch: list[Staged]) -> list[Outgoing]:
    """Return the events and timers of turns, in their order."""
    return batch[0].outgoing if len(batch) == 1 else [one for staged in batch for one in staged.outgoing]
