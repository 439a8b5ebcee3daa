"""Commits in a task: what `Commits` cannot do in a callback, because it has to wait.

The answer to a commit was an error, and the journal must read whether the record is stored. The record is too large, and what
is in it must leave first. A key is being touched. Too many commits are under way, or the connection is down.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from runtime.errors import TooLarge
from runtime.storage.draft import RecordTooLarge
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay
from runtime.storage.settlement import Conflict, NotStored, Unsettled
from runtime.telemetry import finish
from runtime.turns.effects import Effects
from runtime.turns.key import Key, Pending
from runtime.turns.served import Served
from runtime.turns.staged import Staged, draft_of, last_of, portion
from runtime.turns.work import Work, storage_error

logger = logging.getLogger("actorloom.turns")

_PUBLISH_TIMEOUT = 2.0
"""Seconds for which a large record waits until the events before it are published and leave it."""


class NotOwned(Exception):
    """The keys are not owned any more: nothing is sent."""


class CommitTask:
    """Commits the batches of a key one after another, and waits for each.

    Args:
        served: The actor, its options and its connections.
        journal: Stores the records.
        relay: Publishes the outboxes.
        effects: What follows a commit.
        owns: Returns True while this process owns the keys.
    """

    def __init__(
        self, served: Served, journal: Journal, relay: Relay, effects: Effects, owns: Callable[[], bool]
    ) -> None:
        self._served = served
        self._actor = served.names.actor
        self._keyed = served.keyed
        self._journal = journal
        self._relay = relay
        self._effects = effects
        self._owns = owns

    async def run(self, key: Key[Work], pending: Pending) -> None:
        """Settle the batch that was sent, if any, and commit the staged turns and those staged meanwhile, until none is left.

        Raises:
            NotOwned: Another process owns the key. No turn of `pending` is sent any more.
        """
        if key.touching is not None:
            await asyncio.shield(key.touching)
        while pending.batch or pending.staged:
            if pending.batch:
                sent = True
            else:
                pending.batch, pending.staged = portion(pending.staged)
                sent = False
            try:
                if not sent and key.generation != pending.generation:
                    raise Conflict("the key was read anew", refused=True)
                await self._store(key, pending)
            except RecordTooLarge as failure:
                first: Staged = pending.batch[0]
                finish(first.span, None, TooLarge.__name__)
                failures: dict[Staged, BaseException] = {first: TooLarge(str(failure))}
                await self._effects.take_back(key, pending, failures)
            except Conflict as failure:
                await self._effects.take_back(key, pending, self._effects.after_conflict(pending.batch, failure))
            except (NotStored, Unsettled) as failure:
                kind = type(failure).__name__
                self._served.bursts.log(logger, logging.ERROR, self._actor, kind, str(failure), "commits failed")
                for staged in pending.batch:
                    staged.work.unsettled |= isinstance(failure, Unsettled)
                await self._effects.take_back(
                    key, pending, dict.fromkeys(pending.batch, storage_error(self._actor, failure))
                )

    async def _store(self, key: Key[Work], pending: Pending) -> None:
        """Commit as many turns of the batch as fit one record; the others are staged again.

        Raises:
            RecordTooLarge: A record of the first turn alone does not fit one message, though nothing else is in it.
            Exception: The errors of `Settlement.settle`.
        """
        while True:
            try:
                await self._commit(key, pending)
                return
            except RecordTooLarge as failure:
                if len(pending.batch) == 1:
                    break
                rest = last_of(pending.batch, failure.excess)
            pending.batch, pending.staged = pending.batch[: -len(rest)], rest + pending.staged
        # What earlier turns have left must leave the record first: their replies, and their events.
        if not await self._journal.dedup.move_out(key):
            raise NotStored(
                f"key {key.key!r}: a large record waits for the dedup entries before it, which are not stored"
            )
        if key.outbox and not await self._relay.wait_published(key, _PUBLISH_TIMEOUT):
            raise NotStored(
                f"key {key.key!r}: a large record waits for the events before it, which are not published yet"
            )
        await self._commit(key, pending, alone=True)

    async def _commit(self, key: Key[Work], pending: Pending, alone: bool = False) -> None:
        """Store the batch in one record, or find out whether it is stored if it was sent, and let it take effect."""
        batch: list[Staged] = pending.batch
        try:
            sequence = await self._stored(key, pending, alone)
        except RecordTooLarge:
            for staged in batch:
                staged.work.committing = False
            raise
        except NotOwned:
            raise
        except BaseException as error:
            for staged in batch:
                finish(staged.span, None, type(error).__name__)
            raise
        self._effects.apply(key, pending, sequence)

    def _stored(self, key: Key[Work], pending: Pending, alone: bool) -> Coroutine[Any, Any, int]:
        """Return the wait for the sequence of the record of a batch. `alone` is an argument of `Drafts.make`."""
        draft, error = pending.draft, pending.error
        if draft is not None and error is not None:
            # Also if the keys are not owned any more: a caller needs to know whether its command is stored.
            pending.draft = pending.error = None
            return self._journal.resolve(draft, error)
        if not self._owns():
            raise NotOwned
        draft = draft_of(self._journal.drafts, key, pending.batch, expires=not self._keyed, alone=alone)
        for staged in pending.batch:
            staged.work.committing = True
        return self._journal.commit(draft)
