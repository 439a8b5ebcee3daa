"""Commits: a turn becomes durable, all of it or nothing, before anybody hears of it (ADR 001, ADR 011).

A commit is one publish to JetStream, and takes a round trip. A key does not wait for it: while its commit is
under way, the next messages of the key already run, on the state that the commit will leave. Their turns are staged, and
share the next commit. So the rate of a busy key is bounded by its handlers and not by the round trip.

No task waits for a commit either. `begin` sends it, and the answer calls back: the turns take effect, and those that were staged
meanwhile are sent. A task takes over if there is anything to wait for (`commit_task`).

A commit can fail under turns that have run on its state. All of it is taken back then: the key forgets its record, and every turn
of the failed batch and behind it runs again on the reloaded state, in the order of arrival and before any message that waits.
Nothing was visible yet: replies, events, timers and commands leave after the commit only (`effects`).
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec
from opentelemetry.trace import SpanKind

from runtime.actor.call import TurnCall
from runtime.actor.outcome import Outcome
from runtime.errors import PublishError
from runtime.storage.draft import RecordTooLarge
from runtime.storage.journal import Journal
from runtime.storage.record import Handled, Outgoing
from runtime.storage.relay import Relay
from runtime.telemetry import NO_SPAN
from runtime.turns.commit_task import CommitTask, NotOwned
from runtime.turns.effects import Effects
from runtime.turns.key import Key, Pending
from runtime.turns.overrun import name_of
from runtime.turns.served import Served
from runtime.turns.staged import Staged, draft_of, outbox_of, portion
from runtime.turns.work import Work
from runtime.wire.ids import id_time
from runtime.wire.tokens import NO_KEY

_MAX_STAGED = 64
"""Turns that may be staged behind one commit; at this number the lane waits."""


class Commits:
    """Stages and commits the turns of one actor type.

    Args:
        served: The actor, its options and its connections.
        journal: Stores the records.
        relay: Publishes the outboxes.
        resume: Called for a lane that has reruns and runs nothing.
        release: Called for a key whose commits have ended; see `Keys.release`.
        owns: Returns True while this process owns the keys.
        spawn: Runs a coroutine in a task of its own, whose failure is a crash of the host.
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
        self._journal = journal
        self._template = served.tracer.template(f"commit {served.name}", SpanKind.INTERNAL)
        self._checkpoint_template = served.tracer.template(f"checkpoint {served.name}", SpanKind.INTERNAL)
        self._traced = served.tracer.tracing.records
        self._keyed = served.keyed
        self._crashed = served.crashed
        self._resume = resume
        self._release = release
        self._owns = owns
        self.spawn = spawn
        self._clock = served.connection.clock
        self.effects = Effects(served, relay)
        self._task = CommitTask(served, journal, relay, self.effects, self.owns)
        self._most = served.options.concurrency
        self._under_way: dict[Key[Work], Pending] = {}
        """The keys whose commits are under way, whoever waits for the answer. Only `_end` removes a key."""
        self._idle: list[asyncio.Future[None]] = []
        self._closed = False

    def owns(self) -> bool:
        """Return True while this process owns the keys."""
        return self._owns()

    # Staging

    def changes(self, state: Any, work: Work, outcome: Outcome) -> bool:
        """Return True if a turn that began with `state` has anything to commit."""
        if outcome.events or outcome.timers or outcome.told or outcome.state is not state:
            return True
        return work.remembered and (self._keyed or work.handler.verb == "command")

    def stage(self, key: Key[Work], work: Work, call: TurnCall, outcome: Outcome) -> Pending:
        """Add a turn to the next commit of its key, and return the key's pending turns.

        Runs in the turn's trace context. Raises `TooLarge` if an event, timer or command is too large for a message.
        """
        now = self._clock.now()
        outgoing = self._outgoing(key, call, outcome, now)
        at = max(now, id_time(work.id) or 0.0, work.sent_at or 0.0)
        handled = Handled(work.id, msgspec.Raw(outcome.reply), at, work.fingerprint)
        span = self._template.child() if self._traced else NO_SPAN
        staged = Staged(work, call, outcome, handled, outgoing, span)
        if key.jobs and work.id in key.jobs:
            staged.job = (work.id, 0)
        pending = key.pending
        if pending is None:
            pending = key.pending = Pending()
        pending.stage(staged, work.id, outcome.state)
        return pending

    def stage_checkpoint(
        self, key: Key[Work], work: Work, call: TurnCall, outcome: Outcome, job: tuple[str, int]
    ) -> Pending:
        """Add a checkpoint to the next commit of its key, and return the key's pending turns, which are this one.

        Args:
            key: The key, of which no commit is under way.
            work: The checkpoint.
            call: The changes of the job since its last checkpoint.
            outcome: The same as it is stored.
            job: The id of the job, and the number of the checkpoint, from 1 on.
        """
        outgoing = self._outgoing(key, call, outcome, self._clock.now())
        span = self._checkpoint_template.child() if self._traced else NO_SPAN
        pending = key.pending = Pending()
        pending.stage(Staged(work, call, outcome, None, outgoing, span, job), work.id, outcome.state)
        return pending

    def _outgoing(self, key: Key[Work], call: TurnCall, outcome: Outcome, now: float) -> list[Outgoing]:
        if not (outcome.events or outcome.timers or outcome.told):
            return []
        token = key.token if self._keyed else NO_KEY
        return outbox_of(call, outcome, token, now, self._journal.drafts.max_body, self._clock.ahead)

    def nothing_to_commit(self, call: TurnCall, work: Work, outcome: Outcome) -> None:
        """End a turn that changed nothing."""
        if call.callbacks:
            self.effects.call_back(call)
        work.succeeded(msgspec.Raw(outcome.reply), False)

    def full(self, pending: Pending) -> bool:
        """Return True if no more turns may be staged before the commit under way ends."""
        return len(pending.staged) >= _MAX_STAGED

    # What is under way

    @property
    def busy(self) -> bool:
        """True if a commit is under way."""
        return bool(self._under_way)

    async def wait_idle(self) -> None:
        """Return when no commit is under way."""
        while self._under_way:
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await waiter

    async def wait_committed(self, key: Key[Work]) -> None:
        """Return when no commit of `key` is under way."""
        while (pending := key.pending) is not None and pending.committing:
            await pending.wait_committed()

    def unfinished(self) -> list[str]:
        """Return the description of each message whose commit is under way, or that is staged behind it."""
        return [
            f"{name_of(staged.work)}, which is not stored yet"
            for pending in self._under_way.values()
            for staged in (*pending.batch, *pending.staged)
        ]

    # Committing

    def begin(self, key: Key[Work], pending: Pending) -> bool:
        """Send the staged turns, if nothing is in the way. The answer finishes them, and sends those staged meanwhile.

        This needs neither a task nor a future: the worker goes on to the next message. At most `Options.concurrency`
        commits are sent in this way. A worker waits for each further one (`run`), so that a slow stream slows the turns down.

        Returns:
            False if nothing was sent: the caller calls `run`.
        """
        if key.touching is not None or len(self._under_way) >= self._most or self._closed or not self._owns():
            return False
        pending.committing, pending.generation = True, key.generation
        self._under_way[key] = pending
        return self._send(key, pending)

    def start(self, key: Key[Work], pending: Pending) -> None:
        """Commit the staged turns, in a task if they cannot be sent at once."""
        if not self.begin(key, pending):
            pending.committing, pending.generation = True, key.generation
            self._under_way[key] = pending
            self.spawn(self._go_on(key, pending))

    async def run(self, key: Key[Work], pending: Pending) -> None:
        """Commit the staged turns of a key, and those staged meanwhile. Each message is finished on return."""
        pending.committing, pending.generation = True, key.generation
        self._under_way[key] = pending
        await self._go_on(key, pending)

    def close(self) -> None:
        """Give back the messages whose commits are under way: these may be stored. No commit begins after this."""
        self._closed = True
        for key, pending in list(self._under_way.items()):
            self._give_up(key, pending)

    def _send(self, key: Key[Work], pending: Pending) -> bool:
        """Send one batch of staged turns. Return False, and leave all of them staged, if it cannot be sent at once."""
        batch, later = portion(pending.staged)
        try:
            draft = draft_of(self._journal.drafts, key, batch, expires=not self._keyed)
            self._journal.send(draft, partial(self._on_reply, key, pending))
        except (RecordTooLarge, PublishError):
            return False
        pending.batch, pending.staged, pending.draft = batch, later, draft
        for staged in batch:
            staged.work.committing = True
        return True

    def _on_reply(self, key: Key[Work], pending: Pending, sequence: int, error: Exception | None) -> None:
        """Go on after the answer to a commit. Called by the read loop, which does not see what fails here."""
        draft = pending.draft
        if pending.ended or draft is None:
            return  # `_give_up` was faster.
        try:
            if error is None:
                pending.draft = None
                self._journal.accept(draft, sequence)
                self.effects.apply(key, pending, sequence)
                if not pending.staged:
                    self._end(key, pending)
                    return
                if key.generation == pending.generation and self._owns() and self._send(key, pending):
                    return
            pending.error = error
            self.spawn(self._go_on(key, pending))
        except BaseException as failure:  # noqa: BLE001 - the read loop must go on; the ownership does not
            self._crashed(failure)
            self._give_up(key, pending)

    async def _go_on(self, key: Key[Work], pending: Pending) -> None:
        """Do the rest of the commits of a key in a task that waits for the answers. The task must not begin after `close`."""
        try:
            if self._closed:
                raise NotOwned
            await self._task.run(key, pending)
        except NotOwned:
            self._give_up(key, pending)
        except BaseException:
            # This process stops. The batch that was sent may be stored; the other turns are not.
            self._give_up(key, pending)
            raise
        self._end(key, pending)

    def _give_up(self, key: Key[Work], pending: Pending) -> None:
        """Give back the messages of a key whose turns are not stored, and end its commits."""
        if pending.ended:
            return
        if pending.draft is not None:
            self._journal.give_up(pending.draft)
            pending.draft = None
        try:
            self.effects.give_back(key, pending)
        finally:
            self._end(key, pending)

    def _end(self, key: Key[Work], pending: Pending) -> None:
        """End the commits of a key: wake all that wait for them, and let reruns begin."""
        if pending.ended:
            return
        del self._under_way[key]
        key.pending = None
        pending.end()
        if key.rerun and not key.active:
            self._resume(key)
        if not key.sequence:
            self._release(key)
        if self._idle and not self._under_way:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()
