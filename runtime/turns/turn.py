"""The turn: one message of a key at a time, from its lane to its commit.

A turn loads the key's record, finds out whether the message was handled before, runs the handler, commits, answers, and hands
the outbox to the relay. A message that comes again, after whatever was killed, gets the stored reply and changes nothing.
`runtime.turns.key` draws the states of a key; docs/architecture.md walks a command through all rooms.
"""

import asyncio
from collections.abc import Callable, Coroutine, Set
from typing import Any

from runtime.actor.call import Lists, Requests, TurnCall
from runtime.errors import RequestError
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay
from runtime.telemetry import attach, detach
from runtime.turns.admission import Admission
from runtime.turns.attempt import Abandoned, Attempts, StaleState
from runtime.turns.blocked import BlockedKeys
from runtime.turns.commit import Commits
from runtime.turns.failures import failure_of
from runtime.turns.jobs import Jobs
from runtime.turns.key import Key, Pending
from runtime.turns.keys import Keys
from runtime.turns.served import Served
from runtime.turns.work import Rerun, Work
from runtime.turns.workers import Workers
from runtime.wire.ids import id_time
from runtime.wire.tokens import token_of


class Turns:
    """Runs the turns of one actor type, of all its keys, in the process that owns them."""

    def __init__(
        self,
        served: Served,
        journal: Journal,
        relay: Relay,
        requests: Requests,
        lists: Lists | None,
        owns: Callable[[], bool],
    ) -> None:
        """Make the turns of one ownership.

        Args:
            served: The actor, its options and its connections.
            journal: Loads and commits records.
            relay: Publishes outboxes.
            requests: The bus, for handlers that query or command other actors.
            lists: The indexes, for handlers that list keys; None if the actor declares none.
            owns: Returns True while the lease is held, by this process's clock. A process that was paused learns of a lost
                lease late; so its clock is asked before each turn.
        """
        options = served.options
        self.owns = owns
        self.keys = Keys(served.names, journal, relay, options.resident)
        self.admission = Admission(served.name, options.mailbox)
        self.commits = Commits(served, journal, relay, self._resume, self.keys.release, owns, self.spawn)
        self.jobs = Jobs(self._cut, self._hurry)
        self.attempts = Attempts(served, journal, self.keys, self.commits, self.jobs, requests, lists, owns)
        self._served = served
        self._keyed = served.keyed
        self._options = options
        self._workers = Workers(options.concurrency, served.crashed, served.overruns())
        self._blocked = BlockedKeys(self._put)
        self._tasks: set[asyncio.Task[None]] = set()
        self._admitted = 0
        self._stopping = False
        self.handed_over = False
        """True once a successor has all keys. It has the events in hand too, and lets those run that this process has not handled."""

    def admit(self, work: Work, *, forced: bool = False) -> None:
        """Put a message into its key's lane. Messages of a key run in the order of their admission.

        Args:
            work: The message. `Work.succeeded`, `Work.failed` or `Work.abandon` is called at its end.
            forced: Admit it even if the lane or the mailbox is full (an event, which the puller has bounded already).

        Raises:
            Overloaded: The lane or the mailbox is full.
            IdReused: The key has handled another message under this id. A forced message gets this error in its lane.
            CodecError: The key cannot be part of a subject.
        """
        if not forced:
            self.admission.check()
        work.turns = self
        if not self._keyed:
            self._put(work)
            return
        key = self.keys.use(work.key)
        known = key.find(work.id) if key.active and work.remembered else None
        if known is not None and (not forced or work.repeats(known)):
            # Handled already: it need not wait for the running message (the job whose acceptance it asks for, say).
            self.attempts.repeat(work, known)
            return
        if not forced and key.depth >= self._options.lane:
            raise self.admission.overloaded(f"the lane of key {work.key!r} is full")
        self._admitted += 1
        work.lane, work.order = key, self._admitted
        self.admission.enqueue(work)
        if key.enter(work):
            self._workers.put(work)
            return
        if key.blocked_until and work.park():
            key.blocked_until = work.order
        if work.span.is_recording():
            work.span.add_event("lane.wait", {"actorloom.lane.depth": key.depth})

    @property
    def busy(self) -> bool:
        """True if an admitted message is not finished, other than those that wait for another attempt."""
        held = self.keys.held
        return self._workers.busy or self.commits.busy or bool(self._tasks) or (held is not None and held.waiting)

    @property
    def blocked(self) -> int:
        """The number of keys whose first message waits for another attempt."""
        return len(self._blocked)

    def busy_keys(self) -> set[str]:
        """Return the tokens of the keys that have a message or a commit in hand, or that a former owner finishes."""
        return {token for token in self.keys if self.is_busy(token)}

    def is_busy(self, token: str) -> bool:
        """Return whether a key has a message or a commit in hand, or is held."""
        key = self.keys.get(token)
        return key is not None and (key.active or key.pending is not None)

    def hand_over(self, busy: Set[str], on_foreign: Callable[[], None]) -> None:
        """Take note that a successor has the keys, and waits until the `busy` ones are finished here.

        `on_foreign` is called if it has written such a key nevertheless, because it believes that this process is gone.
        """
        self.handed_over = True
        self.keys.hand_over(busy, on_foreign)

    async def end_hold(self, token: str, gone: bool) -> None:
        """Let the messages of a held key run: its former owner has finished it, or is gone.

        Raises:
            NotDelivered: The record of the key cannot be read now. The key stays held.
        """
        held = self.keys.held
        if held is not None and (key := await held.end(token, gone)) is not None:
            self._run_next(key)

    def unfinished(self) -> list[str]:
        """Return the description of each message that a worker runs, or whose commit is under way."""
        return self._workers.unfinished() + self.commits.unfinished()

    async def drain(self) -> None:
        """Finish all admitted messages, and give back those that wait for another attempt. Return when nothing runs."""
        self._stop_retries()
        while self.busy:
            await self._workers.wait_idle()
            await self.commits.wait_idle()
            if self._tasks:
                await asyncio.wait(self._tasks)
            if (held := self.keys.held) is not None and held.waiting:
                await held.wait_end()

    async def close(self) -> None:
        """End the workers: cancel the running turns, and give back the messages that wait."""
        self._stop_retries()
        for task in self._tasks:
            task.cancel()
        self.commits.close()
        await self._workers.close()
        for key in self.keys.values():
            self._abandon(key, key.leave())
        self.keys.clear()

    async def end_left(self) -> None:
        """Wait for the handlers that `close` has left alone: see `Workers.end_left`."""
        await self._workers.end_left()

    def spawn(self, task: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that ends by itself, off the read loop. Its failure is a crash of the host."""
        spawned = asyncio.get_running_loop().create_task(task)
        self._tasks.add(spawned)
        spawned.add_done_callback(self._task_ended)

    def park_slow_lanes(self) -> None:
        """Park the messages of lanes that do not move. The puller calls this from time to time while its room is scarce."""
        self._blocked.park_slow(self.keys.values())

    def hold(self, work: Work) -> None:
        """Keep the lane of a message that a worker has taken, until `resume`. Other keys go on."""
        self.admission.dequeue(work)
        key = work.lane
        assert key is not None, "a message without a lane runs beside all others"
        if self._stopping:
            self._abandon(key, work)
        else:
            self._blocked.hold(key, work)

    def resume(self, work: Work) -> None:
        """Let a message run that `hold` has stopped."""
        if work.lane is not None:
            self._blocked.resume(work.lane, work)

    def release(self, work: Work, error: Exception) -> None:
        """End a message whose handler was cut and does not end, and let the next one of its key run."""
        call, work.running = work.running, None
        work.commanded |= isinstance(call, TurnCall) and call.departed > 0
        self.spawn(self._end(work, error))

    def _cut(self, work: Work, failure: Exception) -> None:
        self._workers.cut(work, failure)

    def _hurry(self, work: Work) -> None:
        if work.lane is not None:
            self._blocked.hurry(work.lane, work)

    async def _end(self, work: Work, error: Exception) -> None:
        """End a message with `error` as `_turn` does."""
        key = work.lane
        if key is None:
            await work.failed(error)
            return
        await self.commits.wait_committed(key)
        await self._answer_failure(key, work, error)

    async def _answer_failure(self, key: Key[Work], work: Work, error: BaseException) -> None:
        """End a message with `error`, or keep its lane if it asks to run again."""
        rerun = await work.failed(error)
        if rerun is not None:
            self._block(key, work, rerun)
        else:
            self._run_next(key)

    async def run(self, key: Key[Work], work: Work) -> None:
        """Run one message in its lane, and let the next one follow. Called by a worker; never raises."""
        self.admission.dequeue(work)
        if not self.owns():
            # Another process owns the keys: this one's copy of the state must not decide anything any more.
            self._abandon(key, work)
            return
        pending = key.pending
        if pending is not None and pending.undone:
            await self.commits.wait_committed(key)
            pending = key.pending
        if key.must_yield(work):
            self._requeue(key, work)
            return
        token = attach(work.span, work.block)
        try:
            await self._turn(key, work, pending)
        finally:
            detach(token)

    async def run_alone(self, work: Work) -> None:
        """Run one message of an actor without state, beside all others; it has a record only if it leaves something."""
        self.admission.dequeue(work)
        token = attach(work.span, work.block)
        key: Key[Work] | None = None
        try:
            if work.remembered and work.handler.verb == "command" and id_time(work.id) is None:
                # Its caller chose the id, and may use it again on purpose. Other ids are looked up by the commit only.
                key = _own_key(work)
                await self.keys.ensure_loaded(key)
                if (handled := key.find(work.id)) is not None:
                    self.attempts.repeat(work, handled)
                    return
            call, outcome = await self.attempts.run_handler(work, None)
            if not self.commits.changes(None, work, outcome):
                self.commits.nothing_to_commit(call, work, outcome)
                return
            work.lane = key = key or _own_key(work)
            key.loaded = True
            pending = self.commits.stage(key, work, call, outcome)
            if not self.commits.begin(key, pending):
                await self.commits.run(key, pending)
        except Abandoned:
            return
        except BaseException as error:
            failure = failure_of(error, self._served.exit, self._workers.survives_cancellation)
            if failure is None:
                work.abandon()
                raise
            rerun = await work.failed(failure)
            if rerun is not None:
                self._block(key or _own_key(work), work, rerun)
        finally:
            detach(token)

    async def _turn(self, key: Key[Work], work: Work, before: Pending | None) -> None:
        """Run one message until it is finished, or staged for a commit.

        Args:
            key: The key in whose lane it runs.
            work: The message.
            before: The pending turns on whose state it runs, if any. If their commit fails, the message runs again, and
                neither its result nor its failure is shown to anybody.
        """
        staged, failure = False, None
        exits: list[BaseException] = []
        try:
            staged = await self.attempts.run(key, work, before)
        except StaleState:
            await self.commits.wait_committed(key)
            self._requeue(key, work)
            return
        except Abandoned:
            return
        except BaseException as error:
            failure = failure_of(error, exits.append, self._workers.survives_cancellation)
            if failure is None:
                key.forget()
                work.abandon()
                raise
        if failure is not None:
            await self._fail(key, work, before, failure, exits)
            return
        if staged and (pending := key.pending) is not None and pending.committing and self.commits.full(pending):
            await self.commits.wait_committed(key)
        self._run_next(key)
        if staged and (pending := key.pending) is not None and not pending.committing:
            if self.commits.begin(key, pending):
                return
            await self.commits.run(key, pending)

    async def _fail(
        self, key: Key[Work], work: Work, before: Pending | None, failure: BaseException, exits: list[BaseException]
    ) -> None:
        """End a message whose handler has failed, or let it run again. `exits` ask for the end of the process."""
        # The state on which it failed must be stored before anybody hears of the failure.
        await self.commits.wait_committed(key)
        if before is not None and before.undone:
            self._requeue(key, work)
            return
        try:
            if work.generation and not await self.keys.confirm(key, work.generation):
                self._requeue(key, work)
                return
        except RequestError as error:
            failure = error
        if not self.owns():
            self._abandon(key, work)
            return
        for asked in exits:
            self._served.exit(asked)
        await self._answer_failure(key, work, failure)

    def _put(self, work: Work) -> None:
        """Have a worker run `work`."""
        self.admission.enqueue(work)
        self._workers.put(work)

    def _run_next(self, key: Key[Work]) -> None:
        """Let the next message of the lane run, if any."""
        work = key.leave()
        if work is None:
            key.blocked_until = 0
            if not key.sequence:
                self.keys.release(key)
            return
        if key.blocked_until:
            if work.order > key.blocked_until:
                key.blocked_until = 0
            elif self._stopping:
                self._abandon(key, work)
                return
        rerun_after = self.commits.effects.rerun_after
        if rerun_after and (delay := rerun_after.pop(key, 0.0)):
            self._block(key, work, Rerun(delay))
            return
        self._put(work)

    def _requeue(self, key: Key[Work], work: Work) -> None:
        """Put `work` back in its place among the messages that must run again, and start the first of them."""
        key.requeue([work])
        self._run_next(key)

    def _resume(self, key: Key[Work]) -> None:
        """Start the reruns of a lane in which nothing runs."""
        key.active = True
        self._run_next(key)

    def _block(self, key: Key[Work], work: Work, rerun: Rerun) -> None:
        """Keep the lane for `work` until it runs again."""
        if self._stopping:
            self._abandon(key, work)
        else:
            self._blocked.block(key, work, rerun.after)

    def _stop_retries(self) -> None:
        self._stopping = True
        self.jobs.stop()
        for key, work in self._blocked.end():
            self._abandon(key, work)

    def _abandon(self, key: Key[Work], work: Work | None) -> None:
        """Give back `work` and all messages behind it."""
        while work is not None:
            self.admission.dequeue(work)
            work.abandon()
            work = key.leave()

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._served.crashed(error)


def _own_key(work: Work) -> Key[Work]:
    """Return the key of the record of a message to an actor without state: its id.

    If that record exists already, the message was handled before.
    """
    return Key(work.id, token_of(work.id))
