"""Fault points inside an actor process: places in a turn at which the process can kill itself.

`arm` patches the runtime when the process starts. ``arm(actors, "commit.sent", 7)`` sends SIGKILL to the process itself
when it reaches that point for the seventh time.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from random import Random
from typing import Any

from runtime.actor.base import Actor
from runtime.intake.endpoint import Endpoint
from runtime.nats.jetstream.puller import Puller
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.dedup import DedupStore
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay

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
"""The points of a turn.

``before`` and ``after`` surround a step. At ``sent`` the step's message is written to the socket and not yet answered; at
``confirmed`` its acknowledgement has arrived.
"""

DEAD_LETTERING = ("dead-letter.before", "dead-letter.after")
"""The points around the publishing of a dead letter, which few actors reach. The original is terminated after both."""

REACTING = frozenset(POINTS) - {"reply.before", "reply.sent"} - {p for p in POINTS if p.startswith(("relay", "check"))}
"""The points that an actor with reactions only reaches. The ledger emits no events."""

COMMANDED = frozenset(POINTS) - {"ack.before", "ack.sent"}
"""The points that an actor with commands only reaches."""


def occurrence(rng: Random, point: str, actors: int, most: int = 40) -> int:
    """Return at which occurrence of `point` a process with so many actors kills itself.

    An actor reaches ``recover`` once, when it starts, and ``checkpoint`` at the end of that and then every few seconds.
    All other points occur with each message: one of the first `most` occurrences is chosen.
    """
    step = point.partition(".")[0]
    return rng.randint(1, {"recover": 1, "checkpoint": 2 * actors}.get(step, most))


def arm(actors: list[type[Actor[Any]]], point: str, times: int) -> None:
    """Let this process kill itself when it reaches `point` for the `times`-th time."""
    reach = _Countdown(point, times).reach
    for actor in actors:
        handlers = [*actor.handlers.commands.values()]
        handlers += [handler for group in actor.handlers.reactions.values() for handler in group]
        for handler in handlers:
            handler.run = _around(handler.run, reach, "handler.before", "handler.after")
    _patch(Journal, "commit", lambda run: _committing(run, reach))
    _patch(Journal, "send", lambda run: _committing_by_callback(run, reach))
    _patch(Endpoint, "answer", lambda run: _sending(run, reach, "reply"))
    _patch(Relay, "_publish", lambda run: _sending(run, reach, "relay"))
    _patch(Relay, "_confirmed", lambda run: _before(run, reach, "relay.confirmed"))
    _patch(Puller, "finish", lambda run: _sending(run, reach, "ack"))
    _patch(DedupStore, "write", lambda run: _sending(run, reach, "dedup"))
    _patch(DedupStore, "__init__", lambda run: _confirming_entries(run, reach))
    _patch(DeadLetters, "store", lambda run: _around(run, reach, "dead-letter.before", "dead-letter.after"))
    _patch(Relay, "save", lambda run: _around(run, reach, "checkpoint.before", "checkpoint.after"))
    _patch(Relay, "recover", lambda run: _around(run, reach, "recover.before", "recover.after"))


class _Countdown:
    """Counts how often the armed point is reached, and kills the process at the chosen time."""

    def __init__(self, point: str, times: int) -> None:
        self.point = point
        self.remaining = times

    def reach(self, point: str, *, written: bool = False) -> None:
        """Count `point` if it is the armed one. With `written`, kill only after buffered writes have reached the socket."""
        if point != self.point:
            return
        self.remaining -= 1
        if self.remaining == 0:
            if written:
                # Publishes are joined and written at the end of this tick of the event loop, so kill in the next one.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, _kill_self)
            else:
                _kill_self()


def _kill_self() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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


def _committing(run: Any, reach: Any) -> Any:
    async def commit(*args: Any, **kwargs: Any) -> Any:
        reach("commit.before")
        reach("commit.sent", written=True)  # the commit publishes in this tick
        result = await run(*args, **kwargs)
        reach("commit.after")
        return result

    return commit


def _committing_by_callback(run: Any, reach: Any) -> Any:
    def send(journal: Journal, draft: Any, callback: Any) -> None:
        def answered(sequence: int, error: Exception | None) -> None:
            if error is None:
                reach("commit.after")
            callback(sequence, error)

        reach("commit.before")
        reach("commit.sent", written=True)
        run(journal, draft, answered)

    return send


def _confirming_entries(run: Any, reach: Any) -> Any:
    def initialize(self: DedupStore, *args: Any, **kwargs: Any) -> None:
        run(self, *args, **kwargs)
        stored = self._on_stored

        def confirmed(sequence: int) -> None:
            reach("dedup.confirmed")
            stored(sequence)

        self._on_stored = confirmed

    return initialize
