"""The keyed turn: one message of a key at a time, from its lane to its commit (architecture.md §3).

Load, known already?, run, commit, answer, relay. A message that is handled again, after whatever was killed, gets the
stored reply and changes nothing.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from opentelemetry.trace import Span, SpanKind

from .actor import Actor, view
from .call import ActorCall, Call, Lists, Requests
from .codec import encode
from .errors import CodecError, DeadlineExceeded, NotDelivered, Overloaded, PublishError, RequestError
from .handler import Handler
from .journal import Conflict, Journal, Key, NotStored, Unsettled
from .mailbox import Workers, stray
from .message import contract_of
from .options import Options
from .record import NO_REPLY, Handled, Outgoing
from .relay import Relay
from .subject import NO_KEY, Names, key_token
from .tracing import ServiceTracer, attach, detach, finish, inject

log = logging.getLogger("actorloom.turn")

_RERUNS = 10
"""How often a turn is run again since another writer was faster."""


class Work:
    """A message on its way through a turn. Made by the dispatcher or a reaction, which say what its end means."""

    __slots__ = (
        "attempt",
        "attempts",
        "block",
        "born",
        "chain",
        "committing",
        "deadline",
        "entry",
        "handler",
        "id",
        "key",
        "message",
        "remembered",
        "span",
        "turns",
    )  # fmt: skip

    def __init__(self, handler: Handler, message: Any, span: Span, block: bytes | None) -> None:
        self.handler = handler
        self.message = message
        self.span = span
        self.block = block
        self.id = ""
        self.key = ""
        self.committing = False
        """Whether its commit is under way: until that is answered, its outcome is unknown."""
        self.remembered = True
        """Whether the id came with the message, and so may come again."""
        self.born: float | None = None
        """The time of the message where its id carries none, in unix seconds."""
        self.deadline = 0.0
        self.chain = ""
        self.attempt = 1
        self.attempts = 1
        self.turns: Turns | None = None
        self.entry: Key[Work] | None = None
        """Where it runs; set when it is admitted."""

    def run(self) -> Coroutine[Any, Any, None]:
        """Run its turn (called by a worker)."""
        assert self.turns is not None and self.entry is not None
        return self.turns.run(self.entry, self)

    def succeeded(self, reply: Any, raw: msgspec.Raw, repeated: bool) -> None:
        """It has committed. `reply` is the value, or None where only the stored `raw` is known (`repeated`)."""
        raise NotImplementedError

    async def failed(self, error: BaseException) -> float | None:
        """It has had no effect, or an unknown one; the error says which. Seconds: try again in this lane after these."""
        raise NotImplementedError

    def abandon(self) -> None:
        """It will not be run to its end here: this process stops."""
        raise NotImplementedError


class Turns:
    """Runs the turns of one actor type, of all its keys. Exactly one owner process does, as far as leases can tell."""

    def __init__(
        self,
        actor: Actor[Any],
        names: Names,
        journal: Journal,
        relay: Relay,
        requests: Requests,
        options: Options,
        tracer: ServiceTracer,
        lists: Lists | None,
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._actor = actor
        self._names = names
        self._journal = journal
        self._relay = relay
        self._requests = requests
        self._options = options
        self._lists = lists
        self._commit_span = tracer.template(f"commit {names.actor}", SpanKind.INTERNAL)
        self._workers = Workers(options.concurrency, crashed)
        self._keyed = actor.state_type is not None
        self._crashed = crashed
        self._stopping = False
        self._held: dict[Key[Work], tuple[asyncio.TimerHandle, Work]] = {}
        self._spawned: set[asyncio.Task[None]] = set()
        self.keys: dict[str, Key[Work]] = {}
        self.waiting = 0
        """Messages admitted and not yet running."""
        self.on_change: Any = None
        """Told ``(key token, state)`` after each commit (the indexes)."""

    def key(self, key: str) -> Key[Work]:
        """Return what is kept for `key`, and make it where there is nothing."""
        token = key_token(key)
        entry = self.keys.pop(token, None)
        if entry is None:
            if len(self.keys) >= self._options.resident:
                self.evict(0.0, 1 + len(self.keys) // 100)
            entry = Key(key, token)
        # Put back at the end: the dictionary's order is that of last use.
        self.keys[token] = entry
        entry.touched = time.monotonic()
        return entry

    def admit(self, work: Work, *, forced: bool = False) -> None:
        """Put a message into its key's lane. Raises `Overloaded` where that, or the mailbox, is full (unless `forced`)."""
        if not forced and self.waiting >= self._options.mailbox:
            raise Overloaded(
                f"{self._names.actor}: the mailbox is full ({self.waiting} messages wait)", self._retry_after()
            )
        if not self._keyed:
            entry: Key[Work] = Key(work.id, key_token(work.id))
            entry.active = entry.loaded = True
            work.turns, work.entry = self, entry
            self.waiting += 1
            self._workers.put(work)
            return
        entry = self.key(work.key)
        if not forced and entry.depth() >= self._options.lane:
            raise Overloaded(f"{self._names.actor}: the lane of key {work.key!r} is full", self._retry_after())
        self.waiting += 1
        work.turns, work.entry = self, entry
        if entry.enter(work):
            self._workers.put(work)
        elif work.span.is_recording():
            work.span.add_event("lane.wait", {"actorloom.lane.depth": entry.depth()})

    async def loaded(self, entry: Key[Work]) -> None:
        """Have the record of a key in memory; who comes while it is being read waits for the same read.

        Raises `NotDelivered` where the stream does not answer, and what an unreadable record raises.
        """
        while not entry.loaded:
            if entry.loading is not None:
                await asyncio.shield(entry.loading)
                continue
            entry.loading = asyncio.get_running_loop().create_future()
            try:
                await self._load(entry)
            except (TimeoutError, PublishError) as error:
                raise NotDelivered(f"{self._names.actor}: the record of a key cannot be read now") from error
            finally:
                entry.loading.set_result(None)
                entry.loading = None

    async def quiet(self) -> None:
        """Finish what was admitted; what waits for another attempt is given back. Return when nothing waits or runs."""
        self._stopping = True
        for entry, (timer, work) in list(self._held.items()):
            timer.cancel()
            del self._held[entry]
            self._abandon(entry, work)
        await self._workers.quiet()
        await asyncio.gather(*self._spawned)

    async def close(self) -> None:
        """End the workers; what still runs is cancelled, and what waits given back."""
        self._stopping = True
        for entry, (timer, work) in self._held.items():
            timer.cancel()
            self._abandon(entry, work)
        self._held.clear()
        for task in self._spawned:
            task.cancel()
        await self._workers.close()
        for entry in self.keys.values():
            self._abandon(entry, entry.leave())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something off the read loop that ends by itself; a failure of it is a crash."""
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._spawn_ended)

    def _spawn_ended(self, task: asyncio.Task[None]) -> None:
        self._spawned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._crashed(error)

    def evict(self, idle: float, most: int = 10_000) -> int:
        """Let at most `most` keys leave memory to which nothing happened for `idle` seconds; return how many did."""
        horizon = time.monotonic() - idle
        leaving: list[str] = []
        for token, entry in self.keys.items():
            if entry.touched > horizon or len(leaving) >= most:
                break
            if entry.idle:
                leaving.append(token)
        for token in leaving:
            del self.keys[token]
        return len(leaving)

    def _retry_after(self) -> float:
        return round(min(0.05 + self.waiting / 2000, 2.0), 3)

    async def _load(self, entry: Key[Work]) -> None:
        record = await self._journal.load(entry)
        if record is None or not record.outbox or self._relay.checkpoint.covers(entry.sequence):
            return
        known = {outgoing.id for outgoing, _ in entry.outbox or ()}
        left = [outgoing for outgoing in record.outbox if outgoing.id not in known]
        if left:
            self._relay.send(entry, left, entry.sequence)

    async def run(self, entry: Key[Work], work: Work) -> None:
        """Run one message in its lane, and let the next one follow."""
        self.waiting -= 1
        token = attach(work.span, work.block)
        again = None
        try:
            again = await self._turn(entry, work)
        finally:
            detach(token)
            if again is None:
                self._follow(entry)
        if again is not None:
            self._hold(entry, work, again)

    def _follow(self, entry: Key[Work]) -> None:
        following = entry.leave() if self._keyed else None
        if following is not None:
            self._workers.put(following)

    def _hold(self, entry: Key[Work], work: Work, delay: float) -> None:
        """Keep the lane until `work` is tried again: what came after it on this key waits, other keys do not."""
        if self._stopping:
            self._abandon(entry, work)
            return

        def again() -> None:
            del self._held[entry]
            self.waiting += 1
            self._workers.put(work)

        self._held[entry] = (asyncio.get_running_loop().call_later(delay, again), work)

    def _abandon(self, entry: Key[Work], work: Work | None) -> None:
        while work is not None:
            work.abandon()
            work = entry.leave()
            self.waiting -= work is not None

    async def _turn(self, entry: Key[Work], work: Work) -> float | None:
        """Run one message to its end; whatever happens, `work` is told. Return the seconds after which to try it again."""
        try:
            _check_deadline(work, "before the message could be handled")
            for _ in range(_RERUNS):
                try:
                    await self._attempt(entry, work)
                    return None
                except Conflict:
                    # Another writer was here; its record is the truth. Without state, it is this message's own record.
                    entry.forget()
                    if work.span.is_recording():
                        work.span.add_event("turn.conflict")
            raise Overloaded(f"{self._names.actor}: key {entry.key!r} is being written by another owner", 0.5)
        except (NotStored, Unsettled) as error:
            entry.forget()
            log.error("%s: %s", self._names.actor, error)
            return await work.failed(_outage(self._names.actor, error))
        except asyncio.CancelledError as error:
            if (failure := stray(error)) is not None:
                return await work.failed(failure)
            entry.forget()
            work.abandon()
            raise
        except Exception as error:  # noqa: BLE001 - the one place where a handler's failure is caught
            return await work.failed(error)

    async def _attempt(self, entry: Key[Work], work: Work) -> None:
        if not entry.loaded:
            await self.loaded(entry)
        known = await self._known(entry, work)
        if known is not None:
            work.succeeded(None, known.reply, True)
            return
        _check_deadline(work, "before the message could be handled")
        call = ActorCall(
            self._names.actor, self._requests, writable=True, source=f"{work.handler.verb}.{work.handler.name}"
        )
        call.key, call.state, call.message_id = work.key, entry.state, work.id
        call.deadline, call.chain, call.lists = work.deadline, work.chain, self._lists
        call.attempt, call.attempts = work.attempt, work.attempts
        reply = await work.handler.function(view(type(self._actor), self._actor.__dict__, call), work.message)
        _check_deadline(work, "while the message was handled; nothing was committed")
        await self._commit(entry, work, call, reply)

    async def _known(self, entry: Key[Work], work: Work) -> Handled | None:
        known = entry.find(work.id)
        if known is None and work.remembered and entry.may_be_marked(work.id, work.born):
            try:
                known = await self._journal.marked(entry, work.id)
            except (TimeoutError, PublishError) as error:
                raise NotDelivered(
                    f"{self._names.actor}: it cannot be looked up now whether this was handled"
                ) from error
        return known

    async def _commit(self, entry: Key[Work], work: Work, call: Call, reply: Any) -> None:
        raw = NO_REPLY if reply is None else msgspec.Raw(encode(reply))
        changed = call.state is not entry.state and call.state != entry.state
        if not (
            changed
            or call.emitted
            or call.timers
            or (work.remembered and (self._keyed or work.handler.verb == "command"))
        ):
            self._committed(call)
            work.succeeded(reply, raw, False)
            return
        outgoing = self._outgoing(entry, call) if call.emitted or call.timers else []
        span = self._commit_span.child()
        try:
            done = Handled(work.id, raw, time.time())
            work.committing = True
            sequence = await self._journal.commit(entry, call.state, done, outgoing, expires=not self._keyed)
        except BaseException as error:
            finish(span, None, type(error).__name__)
            raise
        work.committing = False
        span.end()
        self._relay.send(entry, outgoing, sequence)
        if changed and self.on_change is not None:
            self.on_change(entry.token, call.state)
        self._committed(call)
        work.succeeded(reply, raw, False)

    def _committed(self, call: Call) -> None:
        for callback in call.callbacks:
            try:
                callback()
            except Exception:  # the application's own code again; the turn has committed all the same
                log.exception("%s: an on_commit callback failed", self._names.actor)

    def _outgoing(self, entry: Key[Work], call: Call) -> list[Outgoing]:
        trace = inject().decode()
        now = time.time()
        limit = self._journal.max_body
        outgoing: list[Outgoing] = []
        for event_id, event in call.emitted:
            contract = contract_of(event)
            token = key_token(contract.key_of(event)) if contract.key_of is not None else NO_KEY
            body = encode(event)
            if len(body) > limit:
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


def _check_deadline(work: Work, when: str) -> None:
    if work.deadline and time.time() > work.deadline:
        raise DeadlineExceeded(f"the deadline passed {when}", executed=False)


def _outage(actor: str, error: Exception) -> RequestError:
    """Return what the caller learns where the stream does not answer: a refusal was not stored, a silence is unknown."""
    if isinstance(error, NotStored):
        unavailable: RequestError = NotDelivered(f"{actor} could not store its turn")
    else:
        unavailable = DeadlineExceeded(f"{actor}: the outcome is unknown: the stream did not answer")
    unavailable.__cause__ = error
    return unavailable
