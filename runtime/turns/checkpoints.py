"""Checkpoints: a long job commits its changes so far, and goes on.

A checkpoint is a turn without an end: its record has the state, the outbox and the number of checkpoints of the job, and no
handled message. A job that begins again finds the state of its last checkpoint, and derives the ids of its messages from
that number. So it repeats the work since then, and nothing before.
"""

import asyncio
from copy import copy
from typing import Any

import msgspec

from runtime.actor.call import TurnCall
from runtime.actor.outcome import settle
from runtime.actor.state_type import StateCodec
from runtime.errors import ActorError, NotDelivered
from runtime.turns.commit import Commits
from runtime.turns.key import Key
from runtime.turns.work import Rerun, Work


class Superseded(ActorError):
    """The checkpoint of a job was refused, since another owner has written its key. The job begins again."""


class CheckpointWork(Work, kw_only=True, eq=False):
    """A checkpoint on its way through a commit. `result` ends with it."""

    result: asyncio.Future[None]

    def succeeded(self, reply: msgspec.Raw, repeated: bool) -> None:
        """Let the job go on."""
        self._end(None)

    async def failed(self, error: BaseException) -> None:
        """Have the job fail."""
        self._end(error)

    def taken_back(self) -> Rerun | None:
        """Have the job begin again: the state on which it has run is not the stored one."""
        self._end(Superseded("another owner has written the key"))
        return None

    def abandon(self) -> None:
        """Have the job end: this process stops."""
        self._end(NotDelivered("the service is stopping"))

    def _end(self, error: BaseException | None) -> None:
        if self.result.done():
            return
        if error is None:
            self.result.set_result(None)
        else:
            self.result.set_exception(error)
            self.result.exception()  # The job may have been cancelled, and not wait any more.


class Checkpoints:
    """Makes the checkpoints of the jobs of one actor.

    Args:
        commits: Stores them.
        states: The codec of the states.
    """

    def __init__(self, commits: Commits, states: StateCodec) -> None:
        self._commits = commits
        self._states = states

    def begin(self, work: Work, call: TurnCall, state: Any) -> None:
        """Let a job make checkpoints.

        Args:
            work: The job.
            call: The call of its handler, which has not run yet.
            state: The committed state. The handler may have a copy of it.
        """
        key = work.lane
        assert key is not None, "an actor with state has lanes"
        call.base = state
        call.checkpoints = key.jobs.get(work.id, 0)

        async def checkpoint() -> None:
            await self._make(key, work, call)

        call.on_checkpoint = checkpoint

    async def _make(self, key: Key[Any], work: Work, call: TurnCall) -> None:
        """Store the changes of the job since its last checkpoint. Raises if it is not stored: the job has ended then.

        A job that is cancelled meanwhile ends, and the checkpoint may be stored.
        """
        commits = self._commits
        await commits.wait_committed(key)
        if key.generation != work.generation or not commits.owns():
            raise self._end(call, Superseded("the key was read anew"))
        outcome = settle(work.handler, call, None, call.base, self._states)
        if not (outcome.events or outcome.timers or outcome.told or outcome.state is not call.base):
            return
        result = asyncio.get_running_loop().create_future()
        made = CheckpointWork(work.handler, None, work.span, work.block, work.id, work.key, result=result)
        call.usable("make a checkpoint")
        pending = commits.stage_checkpoint(key, made, copy(call), outcome, (work.id, call.checkpoints + 1))
        # From here on, what the job does in another task, or after it has stopped to wait, comes after the checkpoint.
        state = outcome.state
        call.go_on(state, self._states.copy(state) if self._states.mutable else state, pending)
        commits.start(key, pending)
        try:
            await result
        except ActorError as error:
            if not isinstance(error, Superseded):
                work.generation = 0  # The key has forgotten its record, on which the job has not failed.
            raise self._end(call, error) from None
        work.attempt = 1

    def _end(self, call: TurnCall, error: ActorError) -> ActorError:
        """Have all that the handler does raise from now on, and its run fail with `error`."""
        call.lost, call.ended = error, True
        return error
