"""Commits: what turns have done becomes durable, all of it or nothing, and only then is anybody told.

While one commit of a key is under way, the next messages of that key already run, on the state that it will leave; they
are staged, and share the commit after it. If it fails, they run again, in order. So a key's turns are bounded by its
handlers and not by the round trip to the stream.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from opentelemetry.trace import Span, SpanKind

from runtime.actor.call import Call
from runtime.actor.message import contract_of
from runtime.errors import CodecError, Overloaded
from runtime.storage.journal import Conflict, Journal, NotStored, Unsettled, Unstorable
from runtime.storage.record import NO_REPLY, Handled, Outgoing
from runtime.storage.relay import Relay
from runtime.telemetry import NO_SPAN, ServiceTracer, attach, detach, finish, inject
from runtime.turns.key import Key, Pending
from runtime.turns.work import Work, outage
from runtime.wire.codec import UNENCODABLE, encode
from runtime.wire.ids import id_time
from runtime.wire.subjects import NO_KEY, Names, key_token

logger = logging.getLogger("actorloom.turns")

_MOST = 64
"""Turns that may be staged behind one commit; their messages' lane waits at this."""

_BYTES = 131_072
"""Bytes of replies and events that one commit adds at most, unless one turn has more: a record must fit one message."""

_RERUNS = 10
"""How often a turn is run again since another writer was faster."""


class Staged:
    """One turn that has run: what it leaves behind if its commit succeeds."""

    __slots__ = ("call", "done", "outgoing", "reply", "span", "state", "work")

    def __init__(self, work: Work, call: Call, reply: Any, done: Handled, outgoing: list[Outgoing], span: Span) -> None:
        self.work = work
        self.call = call
        self.reply = reply
        self.state = call.state
        self.done = done
        self.outgoing = outgoing
        self.span = span


class Commits:
    """Stages and commits the turns of one actor type."""

    def __init__(
        self,
        names: Names,
        journal: Journal,
        relay: Relay,
        tracer: ServiceTracer,
        keyed: bool,
        resume: Callable[[Key[Work]], None],
    ) -> None:
        self._names = names
        self._journal = journal
        self._relay = relay
        self._template = tracer.template(f"commit {names.actor}", SpanKind.INTERNAL)
        self._traced = tracer.tracing.records
        self._keyed = keyed
        self._resume = resume
        """Told that a lane has messages to run again while nothing in it runs."""
        self.pauses: dict[Key[Work], float] = {}
        """Seconds after which what must run again does, where it must not at once."""

    def changes(self, state: Any, work: Work, call: Call) -> bool:
        """Whether a turn that began with `state` has anything to commit."""
        if call.emitted or call.timers or (call.state is not state and call.state != state):
            return True
        return work.remembered and (self._keyed or work.handler.verb == "command")

    def stage(self, entry: Key[Work], work: Work, call: Call, reply: Any) -> Pending:
        """Add a turn to the next commit of its key, and return that; in the turn's trace context. Raises `CodecError`."""
        raw = NO_REPLY if reply is None else msgspec.Raw(encode(reply))
        outgoing = self._outgoing(entry, call) if call.emitted or call.timers else []
        done = Handled(work.id, raw, max(time.time(), id_time(work.id) or 0.0, work.sent_at or 0.0))
        span = self._template.child() if self._traced else NO_SPAN
        staged = Staged(work, call, reply, done, outgoing, span)
        pending = entry.pending
        if pending is None:
            pending = entry.pending = Pending()
        pending.staged.append(staged)
        pending.ids.add(work.id)
        pending.head = call.state
        return pending

    def nothing_to_commit(self, call: Call, work: Work, reply: Any) -> None:
        """End a turn that changed nothing."""
        if call.callbacks:
            self._call_back(call)
        work.succeeded(reply, NO_REPLY if reply is None else msgspec.Raw(encode(reply)), False)

    async def settled(self, entry: Key[Work]) -> None:
        """Return when no commit of this key is under way."""
        while (pending := entry.pending) is not None and pending.committing:
            if pending.settling is None:
                pending.settling = asyncio.get_running_loop().create_future()
            await asyncio.shield(pending.settling)

    def full(self, pending: Pending) -> bool:
        """Whether no more turns should be staged before the commit under way is done."""
        return len(pending.staged) >= _MOST

    async def run(self, entry: Key[Work], pending: Pending) -> None:
        """Commit what is staged, and what is staged meanwhile, until there is no more; then all of it has been told."""
        pending.committing = True
        batch: list[Staged] = []
        try:
            while pending.staged:
                batch, pending.staged = _portion(pending.staged)
                try:
                    await self._commit(entry, batch)
                except Conflict:
                    # Another writer was here; its record is the truth.
                    await self._undo(entry, pending, batch, self._outrun)
                except Unstorable:
                    await self._undo(entry, pending, batch, _without_the_first_unstorable(batch))
                except (NotStored, Unsettled) as error:
                    logger.error("%s: %s", self._names.actor, error)
                    told = outage(self._names.actor, error)
                    await self._undo(entry, pending, batch, lambda work, told=told: work.failed(told))
        except BaseException:
            # This process stops: what was sent to the stream may be stored, the rest is not.
            for work in [*(staged.work for staged in (*batch, *pending.staged)), *(entry.again or ())]:
                work.abandon()
            entry.again = None
            entry.forget()
            raise
        finally:
            entry.pending = None
            if pending.settling is not None:
                pending.settling.set_result(None)
        if entry.again and not entry.active:
            self._resume(entry)

    async def _commit(self, entry: Key[Work], batch: list[Staged]) -> None:
        for staged in batch:
            staged.work.committing = True
        outgoing = [one for staged in batch for one in staged.outgoing]
        done = [staged.done for staged in batch]
        try:
            sequence = await self._journal.commit(entry, batch[-1].state, done, outgoing, expires=not self._keyed)
        except BaseException as error:
            for staged in batch:
                finish(staged.span, None, type(error).__name__)
            raise
        self._relay.send(entry, outgoing, sequence)
        for staged in batch:
            work = staged.work
            work.committing = False
            staged.span.end()
            if staged.call.callbacks:
                token = attach(work.span, work.block)
                self._call_back(staged.call)
                detach(token)
            work.succeeded(staged.reply, staged.done.reply, False)

    async def _undo(
        self,
        entry: Key[Work],
        pending: Pending,
        batch: list[Staged],
        failed: Callable[[Work], Awaitable[float | None]],
    ) -> None:
        """Forget the key. What ran on a state that was not stored runs again, in order, before all that waits.

        Of the batch itself `failed` says for each turn whether it does: after how many seconds, or None.
        """
        pending.undone = True
        later, pending.staged, pending.ids = pending.staged, [], set()
        entry.forget()
        repeating: list[Work] = []
        for staged in batch:
            staged.work.committing = False
            pause = await failed(staged.work)
            if pause is not None:
                if pause:
                    self.pauses[entry] = max(self.pauses.get(entry, 0.0), pause)
                repeating.append(staged.work)
        for staged in later:
            finish(staged.span, None, Conflict.__name__)
            repeating.append(staged.work)
        for work in repeating:
            work.again = True
        entry.again = deque(sorted([*repeating, *(entry.again or ())], key=lambda work: work.order))

    async def _outrun(self, work: Work) -> float | None:
        """Run a turn again at once whose key another writer has changed, within a limit."""
        work.reruns += 1
        if work.span.is_recording():
            work.span.add_event("turn.conflict")
        if work.reruns <= _RERUNS:
            return 0.0
        return await work.failed(Overloaded(f"{self._names.actor}: the key is being written by another owner", 0.5))

    def _call_back(self, call: Call) -> None:
        for callback in call.callbacks:
            try:
                callback()
            except Exception:  # the application's own code again; the turn has committed all the same
                logger.exception("%s: an on_commit callback failed", self._names.actor)

    def _outgoing(self, entry: Key[Work], call: Call) -> list[Outgoing]:
        trace = inject().decode()
        now = time.time()
        limit = self._journal.max_body
        outgoing: list[Outgoing] = []
        for event_id, event in call.emitted:
            contract = contract_of(event)
            token = key_token(contract.key_of(event)) if contract.key_of is not None else NO_KEY
            body = encode(event)
            if len(body) + len(trace) > limit:
                raise CodecError(
                    f"{contract.type.__name__}: {len(body)} bytes is more than one message may have ({limit})"
                )
            outgoing.append(Outgoing(event_id, "e", contract.type.__name__, token, msgspec.Raw(body), now, trace))
        token = entry.token if self._keyed else NO_KEY
        for timer_id, timer in call.timers:
            if timer.message is None:
                outgoing.append(Outgoing(timer_id, "x", "Cancelled", token, NO_REPLY, now, trace, timer.name))
                continue
            kind = "s" if timer.schedule or timer.after > 0 else "t"
            name = type(timer.message).__name__
            body = msgspec.Raw(encode(timer.message))
            outgoing.append(
                Outgoing(
                    timer_id, kind, name, token, body, now + timer.after, trace, timer.name, timer.schedule, timer.zone
                )
            )
        return outgoing


def _without_the_first_unstorable(batch: list[Staged]) -> Callable[[Work], Awaitable[float | None]]:
    """Return what becomes of each turn of `batch`: the first whose state cannot be encoded fails, the others run again."""

    async def failed(work: Work) -> float | None:
        return await work.failed(fault) if work is guilty else 0.0

    for staged in batch:
        try:
            encode(staged.state)
        except UNENCODABLE as error:
            guilty, fault = staged.work, error
            return failed
    raise AssertionError("unreachable: the last state of the batch could not be encoded")


def _portion(staged: list[Staged]) -> tuple[list[Staged], list[Staged]]:
    """Split what is staged into what the next commit takes, and the rest."""
    if len(staged) == 1:
        return staged, []
    size = 0
    for number, one in enumerate(staged):
        size += len(one.done.reply) + sum(len(each.body) for each in one.outgoing)
        if number and size > _BYTES:
            return staged[:number], staged[number:]
    return staged, []
