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
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from opentelemetry.trace import SpanKind

from runtime.actor.call import TurnCall
from runtime.actor.outcome import Outcome
from runtime.errors import Overloaded, TooLarge
from runtime.faults import log_fault
from runtime.storage.journal import Conflict, Journal, NotStored, RecordTooLarge, Unsettled
from runtime.storage.record import Handled, Outgoing
from runtime.storage.relay import Relay
from runtime.telemetry import NO_SPAN, ServiceTracer, attach, detach, finish
from runtime.telemetry.bursts import Bursts
from runtime.turns.key import Key, Pending
from runtime.turns.staged import Staged, last_of, outbox_of, portion
from runtime.turns.work import Rerun, Work, storage_error
from runtime.wire.ids import id_time
from runtime.wire.server_clock import ServerClock
from runtime.wire.subjects import NO_KEY, Names

logger = logging.getLogger("actorloom.turns")


class _NotOwned(Exception):
    """The keys are not owned any more: nothing is sent."""


_MAX_STAGED = 64
"""Turns that may be staged behind one commit; at this number the lane waits."""

_PUBLISH_TIMEOUT = 2.0
"""Seconds for which a large record waits until the events before it are published and leave it."""

_MAX_RERUNS = 10
"""How often a turn runs again because another writer was faster."""


class Commits:
    """Stages and commits the turns of one actor type. `resume` is called for a lane that has reruns and runs nothing."""

    def __init__(
        self,
        names: Names,
        journal: Journal,
        relay: Relay,
        tracer: ServiceTracer,
        keyed: bool,
        exit: Callable[[BaseException], None],
        bursts: Bursts,
        resume: Callable[[Key[Work]], None],
        owns: Callable[[], bool],
        clock: ServerClock,
    ) -> None:
        self._names = names
        self._journal = journal
        self._relay = relay
        self._template = tracer.template(f"commit {names.actor}", SpanKind.INTERNAL)
        self._traced = tracer.tracing.records
        self._keyed = keyed
        self._exit = exit
        self._bursts = bursts
        self._resume = resume
        self._owns = owns
        self._clock = clock
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

    async def run(self, key: Key[Work], pending: Pending) -> None:
        """Commit the staged turns, and those staged meanwhile, until none is left. Each message is finished on return."""
        pending.committing = True
        batch: list[Staged] = []
        generation = key.generation
        try:
            if key.touching is not None:
                await asyncio.shield(key.touching)
            while pending.staged:
                batch, pending.staged = portion(pending.staged)
                try:
                    if key.generation != generation:
                        raise Conflict("the key was read anew", refused=True)
                    while (rest := await self._store(key, batch)) is not None:
                        batch, pending.staged = batch[: -len(rest)], rest + pending.staged
                except RecordTooLarge as error:
                    finish(batch[0].span, None, TooLarge.__name__)
                    failures: dict[Staged, BaseException] = {batch[0]: TooLarge(str(error))}
                    await self._undo(key, pending, batch, failures)
                except Conflict as error:
                    await self._undo(key, pending, batch, self._after_conflict(batch, error))
                except (NotStored, Unsettled) as error:
                    kind = type(error).__name__
                    self._bursts.log(logger, logging.ERROR, self._names.actor, kind, str(error), "commits failed")
                    for staged in batch:
                        staged.work.unsettled |= isinstance(error, Unsettled)
                    await self._undo(key, pending, batch, dict.fromkeys(batch, storage_error(self._names.actor, error)))
        except _NotOwned:
            for work in [*(staged.work for staged in (*batch, *pending.undo())), *key.take_rerun()]:
                work.abandon()
            key.forget()
        except BaseException:
            # This process stops. The batch that was sent may be stored; the other turns are not.
            later = pending.undo()
            for work in [*(staged.work for staged in (*batch, *later)), *key.take_rerun()]:
                if not work.stored:
                    work.abandon()
            key.forget()
            raise
        finally:
            key.pending = None
            pending.end()
        if key.rerun and not key.active:
            self._resume(key)

    async def _store(self, key: Key[Work], batch: list[Staged]) -> list[Staged] | None:
        """Commit a batch if it fits one record.

        Returns:
            None if it is committed; else the turns at its end that must wait for the next commit.

        Raises:
            RecordTooLarge: A record of the only turn of `batch` does not fit one message, though nothing else is in it.
            Exception: The errors of `Journal.commit`.
        """
        try:
            await self._commit(key, batch)
            return None
        except RecordTooLarge as error:
            if len(batch) > 1:
                return last_of(batch, error.excess)
        # What earlier turns have left must leave the record first: their replies, and their events.
        if not await self._journal.dedup.move_out(key):
            raise NotStored(
                f"key {key.key!r}: a large record waits for the dedup entries before it, which are not stored"
            )
        if key.outbox and not await self._relay.wait_published(key, _PUBLISH_TIMEOUT):
            raise NotStored(
                f"key {key.key!r}: a large record waits for the events before it, which are not published yet"
            )
        await self._commit(key, batch, alone=True)
        return None

    async def _commit(self, key: Key[Work], batch: list[Staged], alone: bool = False) -> None:
        """Store the turns of `batch` in one record, and then let each of them take effect outside.

        `alone` leaves the messages that were handled before out of the record.
        """
        if not self._owns():
            raise _NotOwned
        for staged in batch:
            staged.work.committing = True
        last = batch[-1].outcome
        if len(batch) == 1:
            outgoing, handled = batch[0].outgoing, [batch[0].handled]
        else:
            outgoing = [one for staged in batch for one in staged.outgoing]
            handled = [staged.handled for staged in batch]
        try:
            sequence = await self._journal.commit(
                key, last.state, last.body, handled, outgoing, expires=not self._keyed, alone=alone
            )
        except RecordTooLarge:
            for staged in batch:
                staged.work.committing = False
            raise
        except BaseException as error:
            for staged in batch:
                finish(staged.span, None, type(error).__name__)
            raise
        for staged in batch:
            staged.work.committing, staged.work.stored = False, True
        self._relay.send(key, outgoing, sequence)
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
                    self._exit(error)
                log_fault(logger, "%s: an on_commit callback failed", self._names.actor, error=error)
