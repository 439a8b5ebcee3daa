"""The keyed turn: one message of a key at a time, from its lane to its commit (architecture.md §3).

Load, known already?, run, commit, answer, relay. A message that is handled again, after whatever was killed, gets the
stored reply and changes nothing.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from runtime.actor.base import maker, view
from runtime.actor.call import ActorCall, Lists, Requests
from runtime.errors import NotDelivered, Overloaded, PublishError, RemoteError, RequestError
from runtime.nats.jetstream.errors import ApiError
from runtime.storage.journal import Journal
from runtime.storage.record import Handled
from runtime.storage.relay import Relay
from runtime.telemetry import attach, detach
from runtime.turns.blocked import Held
from runtime.turns.commit import Commits
from runtime.turns.key import Key, Pending
from runtime.turns.keys import Keys
from runtime.turns.served import Served
from runtime.turns.work import Work, check_deadline
from runtime.turns.workers import Workers, stray
from runtime.wire.subjects import key_token

logger = logging.getLogger("actorloom.turns")


class _Overtaken(Exception):
    """What a handler ran on was not stored: it runs again."""


class Turns:
    """Runs the turns of one actor type, of all its keys. Exactly one owner process does, as far as leases can tell."""

    def __init__(
        self,
        served: Served,
        journal: Journal,
        relay: Relay,
        requests: Requests,
        lists: Lists | None,
        owns: Callable[[], bool],
    ) -> None:
        actor, options = served.actor, served.options
        self.owns = owns
        """Whether the keys are still this process's, by the clock: it may have been paused."""
        self._make, self._attributes = maker(type(actor)), actor.__dict__
        self._names = names = served.names
        self._journal = journal
        self._requests = requests
        self._options = options
        self._lists = lists
        self.commits = Commits(names, journal, relay, served.tracer, served.keyed, self._resume)
        self._workers = Workers(options.concurrency, served.crashed)
        self._keyed = served.keyed
        self._crashed = served.crashed
        self._stopping = False
        self._held = Held(self._again)
        self._spawned: set[asyncio.Task[None]] = set()
        self.keys = Keys(names, journal, relay, options.resident)
        self._admitted = 0
        self.waiting = 0
        """Messages admitted and not yet running."""

    def admit(self, work: Work, *, forced: bool = False) -> None:
        """Put a message into its key's lane. Raises `Overloaded` where that, or the mailbox, is full (unless `forced`)."""
        if not forced and self.waiting >= self._options.mailbox:
            raise Overloaded(
                f"{self._names.actor}: the mailbox is full ({self.waiting} messages wait)", self._retry_after()
            )
        work.turns = self
        if not self._keyed:
            self.waiting += 1
            self._workers.put(work)
            return
        entry = self.keys.use(work.key)
        if entry.active and work.remembered and (known := entry.find(work.id)) is not None:
            # Done already: it need not wait for the message that runs now (the job that it was the acceptance of, say).
            work.succeeded(None, known.reply, True)
            return
        if not forced and entry.depth() >= self._options.lane:
            raise Overloaded(f"{self._names.actor}: the lane of key {work.key!r} is full", self._retry_after())
        self.waiting += 1
        self._admitted += 1
        work.entry, work.order = entry, self._admitted
        if entry.enter(work):
            self._workers.put(work)
            return
        if entry.behind and work.park():
            entry.behind = work.order
        if work.span.is_recording():
            work.span.add_event("lane.wait", {"actorloom.lane.depth": entry.depth()})

    @property
    def busy(self) -> bool:
        """Whether anything was admitted that is not finished, and not to be tried again later."""
        return self._workers.busy or bool(self._spawned)

    async def wait_idle(self) -> None:
        """Finish what was admitted; what waits for another attempt is given back. Return when nothing waits or runs."""
        self._stopping = True
        for entry, work in self._held.end():
            self._abandon(entry, work)
        await self._workers.wait_idle()
        await asyncio.gather(*self._spawned)

    async def close(self) -> None:
        """End the workers; what still runs is cancelled, and what waits given back."""
        self._stopping = True
        for entry, work in self._held.end():
            self._abandon(entry, work)
        for task in self._spawned:
            task.cancel()
        await self._workers.close()
        for entry in self.keys.values():
            self._abandon(entry, entry.leave())
        self.keys.clear()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something off the read loop that ends by itself; a failure of it is a crash."""
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._spawn_ended)

    def _spawn_ended(self, task: asyncio.Task[None]) -> None:
        self._spawned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(error)

    def _retry_after(self) -> float:
        return round(min(0.05 + self.waiting / 2000, 2.0), 3)

    async def run(self, entry: Key[Work], work: Work) -> None:
        """Run one message in its lane, and let the next one follow."""
        self.waiting -= 1
        if not self.owns():
            # Another has the keys: what is known of them here is not to decide anything any more.
            self._abandon(entry, work)
            return
        pending = entry.pending
        if pending is not None and pending.undone:
            await self.commits.settled(entry)
            pending = entry.pending
        if entry.again and entry.again[0].order < work.order:
            self._once_more(entry, work)
            return
        work.again = False
        token = attach(work.span, work.block)
        try:
            await self._turn(entry, work, pending)
        finally:
            detach(token)

    async def run_alone(self, work: Work) -> None:
        """Run one message of an actor without state: beside all others, with a record only where it leaves something."""
        self.waiting -= 1
        token = attach(work.span, work.block)
        try:
            call, reply = await self._handle(work, None)
            if not self.commits.changes(None, work, call):
                self.commits.nothing_to_commit(call, work, reply)
                return
            # Its id is the key of its record: where there is one already, it was handled before.
            entry: Key[Work] = Key(work.id, key_token(work.id))
            entry.loaded = True
            work.entry = entry
            await self.commits.run(entry, self.commits.stage(entry, work, call, reply))
        except asyncio.CancelledError as error:
            failure = stray(error)
            if failure is None:
                work.abandon()
                raise
            await work.failed(failure)
        except Exception as error:  # noqa: BLE001 - the other place where a handler's failure is caught
            await work.failed(error)
        finally:
            detach(token)

    async def _turn(self, entry: Key[Work], work: Work, before: Pending | None) -> None:
        """Run one message to its end, or until it is staged for a commit; whatever happens, `work` is told.

        `before` is what it runs on that is not stored yet.
        """
        staged, failure = False, None
        try:
            staged = await self._attempt(entry, work, before)
        except _Overtaken:
            await self.commits.settled(entry)
            self._once_more(entry, work)
            return
        except asyncio.CancelledError as error:
            failure = stray(error)
            if failure is None:
                entry.forget()
                work.abandon()
                raise
        except Exception as error:  # noqa: BLE001 - the one place where a handler's failure is caught
            failure = error
        if failure is not None:
            # It failed on a state that must be stored before anybody is told of it.
            await self.commits.settled(entry)
            if before is not None and before.undone:
                self._once_more(entry, work)
                return
            pause = await work.failed(failure)
            if pause is not None:
                self._hold(entry, work, pause)
                return
        elif staged and (pending := entry.pending) is not None and pending.committing and self.commits.full(pending):
            await self.commits.settled(entry)
        self._follow(entry)
        if staged and (pending := entry.pending) is not None and not pending.committing:
            await self.commits.run(entry, pending)

    async def _attempt(self, entry: Key[Work], work: Work, before: Pending | None) -> bool:
        """Run the handler; return whether there is something to commit. Otherwise `work` has been told."""
        if not entry.loaded:
            await self.keys.ensure_loaded(entry)
        if entry.pending is not None and work.id in entry.pending.ids:
            await self.commits.settled(entry)
        known = await self._known(entry, work)
        if known is not None:
            work.succeeded(None, known.reply, True)
            return False
        pending = entry.pending
        state = pending.head if pending is not None and pending.committing else entry.state
        call, reply = await self._handle(work, state)
        changes = self.commits.changes(state, work, call)
        if not changes:
            await self.commits.settled(entry)
        if before is not None and before.undone:
            raise _Overtaken
        if changes:
            self.commits.stage(entry, work, call, reply)
        else:
            self.commits.nothing_to_commit(call, work, reply)
        return changes

    async def _handle(self, work: Work, state: Any) -> tuple[ActorCall, Any]:
        """Run the handler on `state`; return what it leaves behind, and its reply."""
        if work.deadline:
            check_deadline(work, "before the message could be handled")
        handler = work.handler
        call = ActorCall(
            self._names.actor, self._requests, handler.source, True, work.key, state, work.id, work.deadline, work.chain,
            self._lists, work.attempt, work.attempts,
        )  # fmt: skip
        try:
            reply = await handler.function(view(self._make, self._attributes, call), work.message)
            if work.deadline:
                check_deadline(work, "while the message was handled; nothing was committed")
        except RequestError as error:
            if call.commanded and error.executed is False and not isinstance(error, RemoteError):
                error.executed = None  # that of the nested command; what others before it have done stays done
            raise
        return call, reply

    def _once_more(self, entry: Key[Work], work: Work) -> None:
        """Put `work` in its place among what must run again, and let the first of that follow."""
        work.again = True
        again = entry.again = entry.again if entry.again is not None else deque()
        place = len(again)
        while place and again[place - 1].order > work.order:
            place -= 1
        again.insert(place, work)
        self._follow(entry)

    def _resume(self, entry: Key[Work]) -> None:
        """Have what must run again do so, in a lane in which nothing runs."""
        entry.active = True
        self._follow(entry)

    def _follow(self, entry: Key[Work]) -> None:
        """Let the next message of the lane run."""
        following = entry.leave()
        if following is None:
            entry.behind = 0
            return
        if entry.behind:
            if following.order > entry.behind:
                entry.behind = 0
            elif self._stopping:
                self.waiting -= not following.again
                self._abandon(entry, following)
                return
        if self.commits.pauses and (pause := self.commits.pauses.pop(entry, 0.0)):
            self._hold(entry, following, pause)
            return
        self.waiting += following.again
        self._workers.put(following)

    def _hold(self, entry: Key[Work], work: Work, delay: float) -> None:
        if self._stopping:
            self._abandon(entry, work)
        else:
            self._held.hold(entry, work, delay)

    def _again(self, work: Work) -> None:
        self.waiting += 1
        self._workers.put(work)

    def hold_back_slow(self) -> None:
        """Let lanes in which nothing moves take no room from others; called from time to time while room is scarce."""
        self._held.hold_slow(self.keys.values())

    def _abandon(self, entry: Key[Work], work: Work | None) -> None:
        while work is not None:
            work.abandon()
            work = entry.leave()
            self.waiting -= work is not None and not work.again

    async def _known(self, entry: Key[Work], work: Work) -> Handled | None:
        known = entry.find(work.id)
        if known is None and work.remembered and entry.may_have_entry(work.id, work.sent_at):
            try:
                known = await self._journal.dedup.find(entry.token, work.id)
            except (TimeoutError, PublishError, ApiError) as error:
                raise NotDelivered(
                    f"{self._names.actor}: it cannot be looked up now whether this was handled"
                ) from error
        return known
