"""A message on its way through a turn, and the ways in which it can end."""

from collections.abc import Coroutine
from typing import Any, Protocol

import msgspec
from opentelemetry.trace import Span

from runtime.actor.call import Call, TurnCall
from runtime.actor.handler import Handler
from runtime.actor.outcome import Outcome
from runtime.clocks import elapsed
from runtime.errors import DeadlineExceeded, NotDelivered, RequestError
from runtime.storage.record import Handled
from runtime.storage.settlement import NotStored
from runtime.turns.key import Key


class Runs(Protocol):
    """The turns, as a message sees them that a worker has taken."""

    def run(self, key: "Key[Work]", work: "Work") -> Coroutine[Any, Any, None]:
        """Run one message in its key's lane."""
        ...

    def run_alone(self, work: "Work") -> Coroutine[Any, Any, None]:
        """Run one message of an actor without state."""
        ...

    def release(self, work: "Work", error: Exception) -> None:
        """End a message whose handler does not end."""
        ...


class Rerun(msgspec.Struct, frozen=True):
    """The answer of a failed message that keeps its place: it runs again in its lane."""

    after: float = 0.0
    """Seconds; 0 to run again at once."""


class Work(msgspec.Struct, eq=False):
    """A message on its way through a turn. Subclasses (a command, an event) define what its end means."""

    handler: Handler
    message: Any
    span: Span
    block: bytes | None
    """The header block that it came with."""
    id: str = ""
    key: str = ""
    order: int = 0
    """Its place in the order of arrival, which reruns keep."""
    counted: bool = False
    """True while admission counts it among the messages that wait."""
    fingerprint: str = ""
    """Of the message as received; see `runtime.wire.fingerprint`."""
    reruns: int = 0
    """How often another writer was faster."""
    commanded: bool = False
    """True once a run of its handler that has ended had sent a command that may have been executed."""
    generation: int = 0
    """That of its key (`StoredKey.generation`) when this run read the state; 0 before that."""
    ran: bool = False
    """True once its handler has run. Another run gets the message anew, since the handler may have changed a part of it."""
    stored: bool = False
    """True once its turn is committed."""
    committing: bool = False
    """True while its commit is under way: until the answer, the outcome is unknown."""
    unsettled: bool = False
    """True once a commit of it got no clear answer: it may be stored later."""
    remembered: bool = True
    """True if the id came with the message, so that the same message may come again."""
    deadline: float = 0.0
    """The time, by `elapsed`, after which the caller has given up; 0 for none."""
    chain: str = ""
    attempt: int = 1
    attempts: int = 1
    running: Call | None = None
    """The call of its handler while the handler runs; None before and after."""
    turns: Runs | None = None
    lane: "Key[Work] | None" = None
    """The key in whose lane it runs; set at admission, None for an actor without state."""

    @property
    def executed(self) -> bool | None:
        """Whether the message has taken effect in any of its runs, as in `RequestError`. All answers follow it.

        The outcome belongs to the message: the error that ends its last run knows nothing of the runs before, and the effects of
        nested commands stay, whatever becomes of the turn (ADR 020).
        """
        if self.stored:
            return True
        running = self.running
        departed = isinstance(running, TurnCall) and running.departed > 0
        return None if self.committing or self.unsettled or self.commanded or departed else False

    @property
    def sent_at(self) -> float | None:
        """Unix seconds at which the message was sent, if its id carries no time; None if nothing tells."""
        return None

    @property
    def due(self) -> float | None:
        """The time at which the timer has fired that sent the message, in Unix seconds; None if no timer did."""
        return None

    def run(self) -> Coroutine[Any, Any, None]:
        """Run its turn. Called by a worker."""
        assert self.turns is not None
        return self.turns.run_alone(self) if self.lane is None else self.turns.run(self.lane, self)

    @property
    def awaited(self) -> bool:
        """Whether it is a request, for whose reply somebody may wait."""
        return False

    @property
    def behind(self) -> int:
        """How many messages of its key wait behind it."""
        return self.lane.depth if self.lane is not None else 0

    def overrun(self, reason: str) -> Exception:
        """Return the failure of the message if its handler is cut at `reason`."""
        raise NotImplementedError

    def mark_cut(self, reason: str) -> None:
        """Add the cut of its handler to the span."""
        if self.span.is_recording():
            self.span.add_event("handler.cut", {"actorloom.cut.reason": reason})

    def release(self, error: Exception) -> None:
        """End the message with `error`, and let the next one of its key run, though its handler has not ended."""
        assert self.turns is not None
        self.turns.release(self, error)

    def decode_again(self) -> Any:
        """Return the message as it was received."""
        raise NotImplementedError

    def repeats(self, handled: Handled) -> bool:
        """Return whether this is the message that was handled under its id. If not, the id is used for two messages."""
        return handled.fingerprint == self.fingerprint

    def pack(self, outcome: Outcome) -> Outcome:
        """Return the outcome of the handler with the reply as the record stores it.

        Raises:
            InvalidValue: The format of the reply cannot express its value.
        """
        return outcome

    def succeeded(self, reply: msgspec.Raw, repeated: bool) -> None:
        """Finish the message: its turn has committed.

        Args:
            reply: The stored reply.
            repeated: True if the message was handled before, and nothing ran now.
        """
        raise NotImplementedError

    async def failed(self, error: BaseException) -> Rerun | None:
        """Finish the message, or ask for another attempt: its turn had no effect, or an unknown one (`error` says which).

        Returns:
            A `Rerun` to keep its place and run again, or None if the message has ended.
        """
        raise NotImplementedError

    def taken_back(self) -> Rerun | None:
        """Return how the message goes on whose turn was taken back, since the state on which it ran is not stored."""
        return Rerun()

    def park(self) -> bool:
        """Park the message behind a failing one. Return True if it now takes no room from others."""
        return False

    def abandon(self) -> None:
        """Give the message back: this process stops, and does not run it to its end."""
        raise NotImplementedError


def check_deadline(work: Work, when: str) -> None:
    """Raise `DeadlineExceeded` if the deadline of `work` has passed."""
    if work.deadline and elapsed() > work.deadline:
        raise DeadlineExceeded(f"the deadline passed {when}", executed=False)


def storage_error(actor: str, error: Exception) -> RequestError:
    """Return the error for a caller whose turn the stream did not store: refused is not executed, silence is unknown."""
    if isinstance(error, NotStored):
        unavailable: RequestError = NotDelivered(f"{actor} could not store its turn")
    else:
        unavailable = DeadlineExceeded(f"{actor}: the outcome is unknown: the stream did not answer")
    unavailable.__cause__ = error
    return unavailable
