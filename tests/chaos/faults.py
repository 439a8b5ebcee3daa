"""Fault points and switches inside an actor process: all of them patches of the runtime, made at the process's start.

A point is reached before or after one step of a turn; ``arm("commit.sent", 7)`` lets the process kill itself (SIGKILL)
when it is reached for the seventh time. A switch takes one protection away, for the control runs that must fail.
"""

import asyncio
import os
import re
import signal
from collections.abc import Callable
from typing import Any

from runtime.actor.base import Actor
from runtime.intake.endpoint import Endpoint
from runtime.intake.event_work import EventWork
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.puller import Puller
from runtime.nats.jetstream.responses import ConsumerInfo
from runtime.nats.lease import Lease
from runtime.storage import outbox_messages
from runtime.storage import relay as relay_module
from runtime.storage.checkpoint import Checkpoint
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.dedup import DedupStore
from runtime.storage.journal import Journal
from runtime.storage.record import Outgoing
from runtime.storage.relay import Relay
from runtime.turns import turn as turn_module
from runtime.turns.turn import Turns
from runtime.wire.subjects import Names, key_token

POINTS = (
    "handler.before", "handler.after",
    "commit.before", "commit.sent", "commit.after",
    "reply.before", "reply.sent",
    "relay.before", "relay.sent", "relay.confirmed",
    "ack.before", "ack.sent",
    "dedup.before", "dedup.sent", "dedup.confirmed",
    "checkpoint.before", "checkpoint.after",
    "recover.before", "recover.after",
)  # fmt: skip
"""``before`` a step, when what it ``sent`` is on the wire and unanswered, and ``after`` it."""

DEAD_LETTERING = ("dead-letter.before", "dead-letter.after")
"""Around the publishing of a dead letter, which most actors never do; ``after`` it the original is not terminated yet."""

REACTING = frozenset(POINTS) - {"reply.before", "reply.sent"} - {p for p in POINTS if p.startswith(("relay", "check"))}
"""The points that an actor which only reacts reaches (the ledger emits nothing)."""
COMMANDED = frozenset(POINTS) - {"ack.before", "ack.sent"}
"""The points that an actor which is only commanded reaches."""
ONCE = frozenset({"checkpoint.before", "checkpoint.after", "recover.before", "recover.after"})
"""Reached about once in seconds, or once in a process's life."""

_EXPECTED = re.compile(rb"Nats-Expected-Last-Subject-Sequence: \d+\r\n")
_MESSAGE_ID = re.compile(rb"Nats-Msg-Id: [^\r]*\r\n")


class _Armed:
    def __init__(self, point: str, times: int) -> None:
        self.point = point
        self.left = times

    def reach(self, point: str, *, written: bool = False) -> None:
        if point != self.point:
            return
        self.left -= 1
        if self.left == 0:
            if written:
                # Publishes are joined and written at the end of this loop tick: die in the next.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, _die)
            else:
                _die()


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(actors: list[type[Actor[Any]]], point: str, times: int) -> None:
    """Let this process kill itself when it reaches `point` for the `times`-th time."""
    reach = _Armed(point, times).reach
    for actor in actors:
        handlers = [*actor.handlers.commands.values()]
        handlers += [handler for group in actor.handlers.reactions.values() for handler in group]
        for handler in handlers:
            handler.function = _around(handler.function, reach, "handler.before", "handler.after")
    _patch(Journal, "commit", lambda run: _commit(run, reach))
    _patch(Endpoint, "answer", lambda run: _sending(run, reach, "reply"))
    _patch(Relay, "_publish", lambda run: _sending(run, reach, "relay"))
    _patch(Relay, "_confirmed", lambda run: _before(run, reach, "relay.confirmed"))
    _patch(Puller, "finish", lambda run: _sending(run, reach, "ack"))
    _patch(DedupStore, "write", lambda run: _sending(run, reach, "dedup"))
    _patch(DedupStore, "__init__", lambda run: _confirming_entries(run, reach))
    _patch(DeadLetters, "store", lambda run: _around(run, reach, "dead-letter.before", "dead-letter.after"))
    _patch(Relay, "save", lambda run: _around(run, reach, "checkpoint.before", "checkpoint.after"))
    _patch(Relay, "recover", lambda run: _around(run, reach, "recover.before", "recover.after"))


def _patch(owner: type, name: str, wrap: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrap(getattr(owner, name)))


def _around(run: Any, reach: Any, before: str, after: str) -> Any:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(before)
        result = await run(*args, **kwargs)
        reach(after)
        return result

    return wrapped


def _before(run: Any, reach: Any, point: str) -> Any:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(point)
        return run(*args, **kwargs)

    return wrapped


def _sending(run: Any, reach: Any, step: str) -> Any:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        reach(f"{step}.before")
        result = run(*args, **kwargs)
        reach(f"{step}.sent", written=True)
        return result

    return wrapped


def _commit(run: Any, reach: Any) -> Any:
    async def commit(*args: Any, **kwargs: Any) -> Any:
        reach("commit.before")
        reach("commit.sent", written=True)  # the publish is made in this tick
        result = await run(*args, **kwargs)
        reach("commit.after")
        return result

    return commit


def _confirming_entries(run: Any, reach: Any) -> Any:
    def initialize(self: DedupStore, *args: Any, **kwargs: Any) -> None:
        run(self, *args, **kwargs)
        stored = self._on_stored

        def confirmed(sequence: int) -> None:
            reach("dedup.confirmed")
            stored(sequence)

        self._on_stored = confirmed

    return initialize


def without(switch: str) -> None:
    """Take one protection away from this process: one of `SWITCHES`."""
    SWITCHES[switch]()


def _without_deduplication() -> None:
    async def known(self: Turns, entry: Any, work: Any) -> None:
        return None

    headers = outbox_messages.event_headers

    def unnamed(*args: Any) -> bytes:
        return _MESSAGE_ID.sub(b"", headers(*args))

    Turns._find_handled = known
    outbox_messages.event_headers = unnamed


def _without_dedup_entries() -> None:
    async def find(self: DedupStore, token: str, message_id: str) -> None:
        return None

    DedupStore.find = find


def _without_check() -> None:
    publish = JetStream.publish

    async def unchecked(
        self: JetStream, subject: Any, payload: bytes, *, headers: Any = None, timeout: Any = None
    ) -> Any:
        if ".turn." in str(subject) and headers is not None:
            headers = _EXPECTED.sub(b"", headers)
        return await publish(self, subject, payload, headers=headers, timeout=timeout)

    JetStream.publish = unchecked  # type: ignore[method-assign]


def _without_lease() -> None:
    async def nothing(self: Lease) -> None:
        return None

    def held(self: Lease) -> bool:
        return True

    Lease.acquire = nothing  # type: ignore[method-assign]
    Lease.release = nothing  # type: ignore[method-assign]
    Lease.held = held  # type: ignore[method-assign]


def _without_standing() -> None:
    async def take_back(jetstream: JetStream, names: Names, entry: Outgoing, origin: int, left: set[str]) -> bool:
        await jetstream.purge(names.turns_stream, names.schedule(entry.token, key_token(entry.timer)), 2**53)
        return True

    relay_module.take_back = take_back


def _without_recovery() -> None:
    async def recover(self: Relay) -> int:
        return 0

    Relay.recover = recover  # type: ignore[method-assign]


def _without_sweep() -> None:
    def unaccounted(self: Checkpoint, last: int, mine: set[int]) -> list[int]:
        return []

    Checkpoint.unaccounted = unaccounted  # type: ignore[method-assign]


def _without_reset() -> None:
    async def reset(self: Puller) -> ConsumerInfo:
        return await self._info()

    Puller.reset = reset  # type: ignore[method-assign]


def _without_lane() -> None:
    """A failing event is given back to the server, and what came after it on its key goes on."""
    again = EventWork._retry

    def give_back(self: EventWork, error: BaseException) -> None:
        delay = again(self, error)
        if delay is not None:
            self.completion.delivery.nak(delay.after)

    EventWork._retry = give_back  # type: ignore[method-assign]


def _without_dead_letters_first() -> None:
    """The original is terminated before its dead letter is stored."""
    store = DeadLetters.store

    async def end_first(self: DeadLetters, stream: str, delivery: Any, *rest: Any) -> bool:
        delivery.term()
        await asyncio.sleep(0.02)  # it is on the wire before the process can be killed
        return await store(self, stream, delivery, *rest)

    DeadLetters.store = end_first  # type: ignore[method-assign]


def _without_deadlines() -> None:
    def unchecked(work: Any, when: str) -> None:
        return None

    turn_module.check_deadline = unchecked


SWITCHES: dict[str, Callable[[], None]] = {
    "deduplication": _without_deduplication,
    "dedup-entries": _without_dedup_entries,
    "check": _without_check,
    "lease": _without_lease,
    "standing": _without_standing,
    "recovery": _without_recovery,
    "sweep": _without_sweep,
    "reset": _without_reset,
    "lane": _without_lane,
    "dead-letters-first": _without_dead_letters_first,
    "deadlines": _without_deadlines,
}
"""What can be taken away from a process."""
