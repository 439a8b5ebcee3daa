"""A turn that has run and is not stored yet: what it leaves, and which of these turns share a commit."""

import msgspec
from opentelemetry.trace import Span

from runtime.actor.call import TurnCall
from runtime.actor.message import contract_of
from runtime.actor.outcome import Outcome
from runtime.errors import TooLarge
from runtime.storage.draft import Draft, Drafts
from runtime.storage.key import StoredKey
from runtime.storage.record import CANCEL, EVENT, SCHEDULE, TELL, TIMER, Handled, Outgoing
from runtime.telemetry import inject
from runtime.turns.work import Work
from runtime.wire.tokens import NO_KEY

_MAX_BYTES = 131_072
"""Bytes of replies and events that one commit adds at most, unless one turn has more: a record must fit one message."""


class Staged(msgspec.Struct, eq=False):
    """One turn that has run, with everything it leaves behind if its commit succeeds."""

    work: Work
    call: TurnCall
    outcome: Outcome
    handled: Handled | None
    """The entry of the record by which the message is recognized; None for a checkpoint."""
    outgoing: list[Outgoing]
    span: Span
    job: tuple[str, int] | None = None
    """The id of a long job, and the number of its checkpoint; 0 if the job ends with this turn."""

    @property
    def reply(self) -> msgspec.Raw:
        """The reply to the message."""
        return self.handled.reply if self.handled is not None else msgspec.Raw(b"null")

    @property
    def size(self) -> int:
        """The bytes of its reply, events and timers in a record, without names and ids."""
        return len(self.reply) + sum(len(each.body) + len(each.trace) for each in self.outgoing)


def outbox_of(
    call: TurnCall, outcome: Outcome, token: str, now: float, max_body: int, ahead: float = 0.0
) -> list[Outgoing]:
    """Return the outbox entries for the events, timers and commands of a turn. Runs in the turn's trace context.

    Args:
        call: The call of its handler.
        outcome: What the handler leaves.
        token: The token of its key, or `NO_KEY`.
        now: The time of the server in Unix seconds.
        max_body: The bytes that a body and its trace context may have.
        ahead: Seconds by which the time that handlers see is ahead.

    Raises:
        TooLarge: One of them is too large for a message.
    """
    trace = inject().decode()
    limit = max_body - len(trace)
    outgoing: list[Outgoing] = []
    for (event_id, event, event_token), body in zip(call.emitted, outcome.events, strict=True) if call.emitted else ():
        name = type(event).__name__
        _check_size(name, body, limit)
        outgoing.append(Outgoing(event_id, EVENT, name, event_token or NO_KEY, msgspec.Raw(body), now, trace))
    for (timer_id, timer), body in zip(call.timers, outcome.timers, strict=True) if call.timers else ():
        raw = msgspec.Raw(body)
        if timer.message is None:
            outgoing.append(Outgoing(timer_id, CANCEL, "Cancelled", token, raw, now, trace, timer.name))
            continue
        kind = SCHEDULE if timer.schedule or timer.after > 0 else TIMER
        name = contract_of(timer.message).class_name
        _check_size(name, body, limit)
        due = now + ahead + timer.after
        outgoing.append(Outgoing(timer_id, kind, name, token, raw, due, trace, timer.name, timer.schedule, timer.zone))
    for told, body in zip(call.told, outcome.told, strict=True) if call.told else ():
        contract = contract_of(told.message)
        name, due = contract.class_name, now + ahead + told.after if told.after else 0.0
        _check_size(name, body, limit)
        outgoing.append(
            Outgoing(told.id, TELL, name, told.token or NO_KEY, msgspec.Raw(body), due, trace, target=contract.actor)
        )
    return outgoing


def outgoing_of(batch: list[Staged]) -> list[Outgoing]:
    """Return the outbox entries of turns, in their order."""
    return batch[0].outgoing if len(batch) == 1 else [one for staged in batch for one in staged.outgoing]


def draft_of(
    drafts: Drafts, key: StoredKey, batch: list[Staged], *, expires: bool = False, alone: bool = False
) -> Draft:
    """Return the record of a batch. The other arguments and the errors are those of `Drafts.make`."""
    last = batch[-1].outcome
    handled: list[Handled] = []
    jobs = key.jobs
    for staged in batch:
        if staged.handled is not None:
            handled.append(staged.handled)
        if staged.job is not None:
            jobs = _with_job(jobs, *staged.job)
    return drafts.make(key, last.state, last.body, handled, outgoing_of(batch), jobs, expires=expires, alone=alone)


def _with_job(jobs: dict[str, int], job_id: str, checkpoint: int) -> dict[str, int]:
    """Return the checkpoints of the jobs of a key, with another number for one of them; 0 removes it."""
    others = {each: number for each, number in jobs.items() if each != job_id}
    return {**others, job_id: checkpoint} if checkpoint else others


def portion(staged: list[Staged]) -> tuple[list[Staged], list[Staged]]:
    """Split the staged turns into those of the next commit, within `_MAX_BYTES`, and the rest."""
    if len(staged) == 1:
        return staged, []
    size = 0
    for number, one in enumerate(staged):
        size += one.size
        if number and size > _MAX_BYTES:
            return staged[:number], staged[number:]
    return staged, []


def last_of(batch: list[Staged], excess: int) -> list[Staged]:
    """Return the turns at the end of a batch that hold at least `excess` bytes; at least one, and never all."""
    first = len(batch) - 1
    while first > 1 and sum(one.size for one in batch[first:]) < excess:
        first -= 1
    return batch[first:]


def _check_size(name: str, body: bytes, limit: int) -> None:
    """Raise `TooLarge` if the body of an event, timer or command leaves no room for its headers in one message."""
    if len(body) > limit:
        raise TooLarge(f"{name}: it would have {len(body):,} bytes, and an event, timer or command may have {limit:,}")
