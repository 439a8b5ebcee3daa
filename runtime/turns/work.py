"""A message on its way through a turn, and what its end can be."""

import time
from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec
from opentelemetry.trace import Span

from runtime.actor.handler import Handler
from runtime.errors import DeadlineExceeded, NotDelivered, RequestError
from runtime.storage.journal import NotStored
from runtime.turns.key import Key


class Runs(Protocol):
    """Runs messages: what a message must know of the turns to run itself when a worker takes it."""

    def run(self, entry: "Key[Work]", work: "Work") -> Coroutine[Any, Any, None]:
        """Run one message in its key's lane."""
        ...

    def run_alone(self, work: "Work") -> Coroutine[Any, Any, None]:
        """Run one message of an actor without state."""
        ...


class Work(msgspec.Struct, eq=False):
    """A message on its way through a turn. Made by the dispatcher or a reaction, which say what its end means."""

    handler: Handler
    message: Any
    span: Span
    block: bytes | None
    id: str = ""
    key: str = ""
    again: bool = False
    """Whether it has run, and waits to run again."""
    order: int = 0
    """Its place in the order of arrival: what runs again keeps to it."""
    reruns: int = 0
    committing: bool = False
    """Whether its commit is under way: until that is answered, its outcome is unknown."""
    remembered: bool = True
    """Whether the id came with the message, and so may come again."""
    deadline: float = 0.0
    chain: str = ""
    attempt: int = 1
    attempts: int = 1
    turns: Runs | None = None
    entry: "Key[Work] | None" = None
    """Where it runs; set when it is admitted."""

    @property
    def sent_at(self) -> float | None:
        """The time of the message where its id carries none, in unix seconds; None where nothing tells it."""
        return None

    def run(self) -> Coroutine[Any, Any, None]:
        """Run its turn (called by a worker)."""
        assert self.turns is not None
        return self.turns.run_alone(self) if self.entry is None else self.turns.run(self.entry, self)

    def succeeded(self, reply: Any, raw: msgspec.Raw, repeated: bool) -> None:
        """It has committed. `reply` is the value, or None where only the stored `raw` is known (`repeated`)."""
        raise NotImplementedError

    async def failed(self, error: BaseException) -> float | None:
        """It has had no effect, or an unknown one; the error says which. Seconds: try again in this lane after these."""
        raise NotImplementedError

    def park(self) -> bool:
        """It waits behind a message that fails: return whether it stopped taking room from others meanwhile."""
        return False

    def abandon(self) -> None:
        """It will not be run to its end here: this process stops."""
        raise NotImplementedError


def check_deadline(work: Work, when: str) -> None:
    """Raise `DeadlineExceeded` where nobody waits for `work` any more."""
    if work.deadline and time.time() > work.deadline:
        # A commit of an earlier run whose answer was lost may still arrive.
        raise DeadlineExceeded(f"the deadline passed {when}", executed=None if work.reruns else False)


def outage(actor: str, error: Exception) -> RequestError:
    """Return what the caller learns where the stream does not answer: a refusal was not stored, a silence is unknown."""
    if isinstance(error, NotStored):
        unavailable: RequestError = NotDelivered(f"{actor} could not store its turn")
    else:
        unavailable = DeadlineExceeded(f"{actor}: the outcome is unknown: the stream did not answer")
    unavailable.__cause__ = error
    return unavailable
