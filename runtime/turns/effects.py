"""What follows a commit: the turns of its batch take effect outside, are taken back and run again, or are given back.

Nothing of a turn is visible before its commit is stored: replies, events, timers and callbacks leave in `Effects.apply` only.
"""

import logging
from collections.abc import Mapping

from runtime.actor.call import TurnCall
from runtime.errors import Overloaded
from runtime.faults import log_fault
from runtime.storage.relay import Relay
from runtime.storage.settlement import Conflict
from runtime.telemetry import attach, detach, finish
from runtime.turns.key import Key, Pending
from runtime.turns.served import Served
from runtime.turns.staged import Staged, outgoing_of
from runtime.turns.work import Work

logger = logging.getLogger("actorloom.turns")

_MAX_RERUNS = 10
"""How often a turn runs again because another writer was faster."""


class Effects:
    """The effects of the commits of one actor type.

    Args:
        served: The actor.
        relay: Publishes the outboxes.
    """

    def __init__(self, served: Served, relay: Relay) -> None:
        self._served = served
        self._relay = relay
        self.rerun_after: dict[Key[Work], float] = {}
        """Seconds until the reruns of a key may start, for keys that must not start at once."""

    def apply(self, key: Key[Work], pending: Pending, sequence: int) -> None:
        """Publish the outbox of the batch that is stored at `sequence`, and finish its messages."""
        batch: list[Staged] = pending.batch
        pending.batch = []
        for staged in batch:
            staged.work.committing, staged.work.stored = False, True
        self._relay.send(key, outgoing_of(batch), sequence)
        for staged in batch:
            work = staged.work
            staged.span.end()
            if staged.call.callbacks:
                token = attach(work.span, work.block)
                self.call_back(staged.call)
                detach(token)
            work.succeeded(staged.reply, False)

    async def take_back(self, key: Key[Work], pending: Pending, failures: Mapping[Staged, BaseException]) -> None:
        """Take back a batch whose commit failed, with all turns that ran on its state.

        The turns in `failures` fail with their error, unless they ask to run again. All others run again: the rest of
        the batch, since their record was not stored, and the turns staged behind it, since they ran on a state that does
        not exist. They keep their order of arrival. Turns that run just now find `pending.undone` when they end, and
        requeue themselves (`Turns`).
        """
        batch, later = pending.undo()
        key.forget()
        rerun: list[Work] = []
        for staged in batch:
            work = staged.work
            work.committing = False
            again = await work.failed(failures[staged]) if staged in failures else work.taken_back()
            if again is not None:
                if again.after:
                    self.rerun_after[key] = max(self.rerun_after.get(key, 0.0), again.after)
                rerun.append(work)
        for staged in later:
            finish(staged.span, None, Conflict.__name__)
            rerun.append(staged.work)
        key.requeue(rerun)

    def give_back(self, key: Key[Work], pending: Pending) -> None:
        """Give back all messages of a key that are not stored: this process stops, or does not own the key any more."""
        batch, later = pending.undo()
        for work in [*(staged.work for staged in (*batch, *later)), *key.take_rerun()]:
            if not work.stored:
                work.abandon()
        key.forget()

    def after_conflict(self, batch: list[Staged], error: Conflict) -> dict[Staged, BaseException]:
        """Return the turns that have rerun too often because another writer was faster, each with its error."""
        failures: dict[Staged, BaseException] = {}
        for staged in batch:
            work = staged.work
            work.reruns += 1
            work.unsettled |= not error.refused
            if work.span.is_recording():
                work.span.add_event("turn.conflict")
            if work.reruns > _MAX_RERUNS:
                failures[staged] = Overloaded(f"{self._served.name}: the key is being written by another owner", 0.5)
        return failures

    def call_back(self, call: TurnCall) -> None:
        """Run the `on_commit` callbacks of a turn."""
        for callback in call.callbacks:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 - application code; the turn has committed all the same
                # No exception of a plain function is a cancellation of this task, so that all of them end here.
                if isinstance(error, SystemExit | KeyboardInterrupt):
                    self._served.exit(error)
                log_fault(logger, "%s: an on_commit callback failed", self._served.name, error=error)
