"""The steps of a turn at which a fault can happen: places in the runtime that a process patches when it starts.

``arm(actors, "commit.sent", 7, kill)`` calls `kill` when the process reaches that step for the seventh time. A process is armed once,
before its actors start.
"""

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from typing import Any, Final

from runtime.actor.base import Actor
from runtime.intake.endpoint import Endpoint
from runtime.nats.client import NatsClient
from runtime.nats.jetstream.puller import Puller
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.dedup import DedupStore
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay

STEPS: Final = (
    "handler.before", "handler.after",
    "commit.before", "commit.sent", "commit.after",
    "reply.before", "reply.sent",
    "relay.before", "relay.sent", "relay.confirmed",
    "ack.before", "ack.sent",
    "dedup.before", "dedup.sent", "dedup.confirmed",
    "checkpoint.before", "checkpoint.after",
    "recover.before", "recover.after",
)  # fmt: skip
"""The steps of a turn.

``before`` and ``after`` surround a step. At ``sent`` the step's message is written to the socket and not yet answered; at
``confirmed`` its acknowledgement has arrived.
"""

DEAD_LETTERING: Final = ("dead-letter.before", "dead-letter.after")
"""The steps around the publishing of a dead letter, which few actors reach. The original is terminated after both."""


def kill() -> None:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)


def pause() -> None:
    """Stop this process until it gets SIGCONT."""
    os.kill(os.getpid(), signal.SIGSTOP)


_clients: list[NatsClient] = []
"""The connections of this process, once it is armed."""


def cut() -> None:
    """End the connections of this process, which connects again."""
    for client in _clients:
        client.abort()


def arm(actors: Sequence[type[Actor[Any]]], step: str, times: int, act: Callable[[], None] = kill) -> None:
    """Have `act` called when this process reaches `step` for the `times`-th time.

    Args:
        actors: The classes of the actors that will run.
        step: One of `STEPS` or `DEAD_LETTERING`.
        times: From 1 on.
        act: `kill`, `pause`, `cut`, or a function that calls one of them.
    """
    reach = _Countdown(step, times, act).reach
    _patch(NatsClient, "__init__", _noting_clients)
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
    """Counts how often the armed step is reached, and acts at the chosen time."""

    def __init__(self, step: str, times: int, act: Callable[[], None]) -> None:
        self.step = step
        self.remaining = times
        self.act = act

    def reach(self, step: str, *, written: bool = False) -> None:
        """Count `step` if it is the armed one. With `written`, act only after buffered writes have reached the socket."""
        if step != self.step:
            return
        self.remaining -= 1
        if self.remaining == 0:
            if written:
                # Publishes are joined and written at the end of this tick of the event loop, so act in the next one.
                loop = asyncio.get_running_loop()
                loop.call_soon(loop.call_soon, self.act)
            else:
                self.act()


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


def _noting_clients(run: Any) -> Any:
    def initialize(self: NatsClient, *args: Any, **kwargs: Any) -> None:
        run(self, *args, **kwargs)
        _clients.append(self)

    return initialize
