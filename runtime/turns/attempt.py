"""One attempt at a message: it looks for a stored reply, runs the handler, and stages what the handler leaves.

`runtime.turns.turn` decides when an attempt runs, and what follows it.
"""

from collections.abc import Callable
from typing import Any

from runtime.actor.call import Basis, CallScope, Lists, Requests, TurnCall
from runtime.actor.handler import Handler
from runtime.actor.invoke import make_invoke
from runtime.actor.outcome import Outcome, settle
from runtime.errors import IdReused, NotDelivered, PublishError
from runtime.nats.jetstream.errors import ApiError
from runtime.storage.journal import Journal
from runtime.storage.record import Handled, Unreadable
from runtime.turns.checkpoints import Checkpoints, Superseded
from runtime.turns.commit import Commits
from runtime.turns.jobs import JobCancelled, Jobs
from runtime.turns.key import Key, Pending
from runtime.turns.keys import Keys, Unconfirmed
from runtime.turns.nested import NestedRequests
from runtime.turns.served import Served
from runtime.turns.work import Work, check_deadline


class StaleState(Exception):
    """The state on which a handler ran was not stored: the message runs again."""


class Abandoned(BaseException):
    """A handler has ended after its message, which `Turns.release` has finished."""


class Attempts:
    """Runs the handlers of one actor type for its turns.

    Args:
        served: The actor, its options and its connections.
        journal: Finds messages that were handled before.
        keys: The keys in memory.
        commits: Stages the turns that leave something.
        jobs: Knows the long jobs that were cancelled.
        requests: The bus, for handlers that query or command other actors.
        lists: The indexes, for handlers that list keys; None if the actor declares none.
        owns: Returns True while this process owns the keys.
    """

    def __init__(
        self,
        served: Served,
        journal: Journal,
        keys: Keys,
        commits: Commits,
        jobs: Jobs,
        requests: Requests,
        lists: Lists | None,
        owns: Callable[[], bool],
    ) -> None:
        self._served = served
        self._journal = journal
        self._keys = keys
        self._commits = commits
        self._jobs = jobs
        self._requests = NestedRequests(requests, owns, served.options.timeout)
        self._lists = lists
        self._owns = owns
        self._invoke = make_invoke(served.actor)
        self._states = states = served.actor.state_codec
        self._checkpoints = Checkpoints(commits, states) if states is not None else None
        self._copy = states.copy if states is not None and states.mutable else None
        self._scopes: dict[str, CallScope] = {}
        """By the source of the handler."""

    async def run(self, key: Key[Work], work: Work, before: Pending | None) -> bool:
        """Run one message in its lane.

        Args:
            key: The key in whose lane it runs.
            work: The message.
            before: The pending turns on whose state it runs, if any.

        Returns:
            True if the turn is staged for a commit, False if the message is finished.

        Raises:
            StaleState: The state on which the handler ran was not stored.
            Abandoned: The message was finished while its handler ran.
            BaseException: The failure of the message.
        """
        work.generation = 0
        if not key.loaded:
            await self._keys.ensure_loaded(key)
        generation = key.generation
        if key.pending is not None and work.id in key.pending.ids:
            await self._commits.wait_committed(key)
        handled = key.find(work.id)
        if handled is None and work.remembered and key.may_have_entry(work.id, work.sent_at):
            handled = await self._look_up(key, work)
        if handled is not None:
            self.repeat(work, handled)
            return False
        if key.generation != generation:
            raise StaleState
        work.generation = generation
        pending = key.pending
        state = pending.head if pending is not None and pending.committing else key.state
        basis = before or (None if key.readable else Unconfirmed(self._keys, key, generation))
        if work.handler.accept and self._jobs.is_cancelled(work):
            call, outcome = self._nothing(work, state)
        else:
            try:
                call, outcome = await self.run_handler(work, state, basis)
            except JobCancelled:
                await self._commits.wait_committed(key)  # of a checkpoint
                state = key.state
                call, outcome = self._nothing(work, state)
            else:
                if call.checkpoints:
                    await self._commits.wait_committed(key)  # of a checkpoint for which the handler has not waited
                if call.on_checkpoint is not None:
                    state = call.base
        changes = self._commits.changes(state, work, outcome)
        if not changes:
            await self._commits.wait_committed(key)
            if not key.readable and key.generation == generation:
                work.generation = 0
                await self._keys.confirm(key, generation)
        if (before is not None and before.undone) or key.generation != generation:
            raise StaleState
        if changes:
            self._commits.stage(key, work, call, outcome)
        elif not self._owns():
            raise NotDelivered(f"{self._served.name}: the service is stopping")
        else:
            self._commits.nothing_to_commit(call, work, outcome)
        return changes

    def _nothing(self, work: Work, state: Any) -> tuple[TurnCall, Outcome]:
        """Return the call and the outcome of a cancelled job: nothing but that it is handled."""
        call = TurnCall(scope=self._make_scope(work.handler), key=work.key, state=state, message_id=work.id)
        return call, settle(work.handler, call, None, state, self._states)

    async def run_handler(self, work: Work, state: Any, basis: Basis | None = None) -> tuple[TurnCall, Outcome]:
        """Run the handler on `state`, and return its call and its outcome. No command of it leaves before `basis` allows it."""
        if work.deadline:
            check_deadline(work, "before the message could be handled")
        handler = work.handler
        if work.ran:
            work.message = work.decode_again()
        work.ran = True
        call = TurnCall(
            scope=self._scopes.get(handler.source) or self._make_scope(handler),
            key=work.key,
            state=state if self._copy is None else self._copy(state),
            message_id=work.id,
            deadline=work.deadline,
            chain=work.chain,
            received=work,
            attempt=work.attempt,
            attempts=work.attempts,
            basis=basis,
        )
        if handler.accept and self._checkpoints is not None:
            self._checkpoints.begin(work, call, state)
        work.running = call
        try:
            try:
                value = await self._invoke(handler, call, work.message)
            except BaseException as error:
                if call.ended:
                    raise _end_of(call) from error
                if call.cut is not None:
                    raise call.cut from error
                raise
            finally:
                if work.running is call:
                    work.running = None
            if call.ended:
                raise _end_of(call)
            if call.cut is not None and not isinstance(call.cut, JobCancelled):
                raise call.cut
            if work.deadline:
                check_deadline(work, "while the message was handled; nothing was committed")
            if call.on_checkpoint is not None:
                state = call.base
            return call, work.pack(settle(handler, call, value, state, self._states))
        finally:
            call.ended = True
            work.commanded |= call.departed > 0

    def repeat(self, work: Work, handled: Handled) -> None:
        """Answer a message whose id was handled before. Raises `IdReused` if the id was that of another message."""
        if not work.repeats(handled):
            contract = work.handler.contract
            raise IdReused(
                f"{self._served.names.prefix}{contract.actor}.{contract.op}.{contract.name}: the id was used for another "
                f"message: use a new id for each {contract.op}"
            )
        work.succeeded(handled.reply, True)

    def _make_scope(self, handler: Handler) -> CallScope:
        scope = CallScope(self._served.name, self._requests, self._lists, handler.source, self._served.connection.clock)
        self._scopes[handler.source] = scope
        return scope

    async def _look_up(self, key: Key[Work], work: Work) -> Handled | None:
        """Return the dedup entry of a message; None if it was not handled before."""
        try:
            return await self._journal.dedup.find(key.token, work.id)
        except Unreadable as error:
            self._journal.unreadable.report(error, "messages that may have been handled before are refused")
            raise
        except (TimeoutError, PublishError, ApiError) as error:
            raise NotDelivered(
                f"{self._served.name}: the lookup of messages that were handled before failed; try again"
            ) from error


def _end_of(call: TurnCall) -> BaseException:
    """Return the failure of a run that has ended before its handler: a checkpoint was not stored, or the handler is abandoned."""
    if call.lost is None:
        return Abandoned()
    return StaleState() if isinstance(call.lost, Superseded) else call.lost
