"""One message being handled: what its handler reads and leaves behind.

The dispatcher makes a `Call` for each message; an actor's methods (`emit`, `query`, `state` …) are views on it. Nothing
in it leaves the process before the turn has committed.
"""

import re
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import msgspec

from runtime.actor.message import Command, Event, Message, contract_of
from runtime.errors import CallCycle, DeclarationError
from runtime.wire.ids import derived_id
from runtime.wire.subjects import key_token

_LONGEST = 100 * 365 * 86_400.0
_SCHEDULE = re.compile(
    r"@(yearly|annually|monthly|weekly|daily|midnight|hourly)|@every (\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+"
    r"|[\d*/,?-]+ [\d*/,?-]+ [\d*/,?-]+ [\d*/,?L-]+ [\w*/,?-]+ [\w*/,?-]+"
)
"""The form of ADR-51; whether a month has that day only the server says, and the relay hears it."""
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+/-]*")

MAX_CHAIN = 32
"""Calls within calls; more is a recursion that no key's lane can see."""


def link(actor: str, key: str) -> str:
    """Return what stands for one call in a `Call-Chain`: the actor, and the key's token where there is one."""
    return f"{actor}/{key_token(key)}" if key else actor


def check_depth(subject: str, chain: str) -> None:
    """Raise `CallCycle` for a request at `subject` that is too many calls deep."""
    depth = chain.count(",") + 1
    if depth > MAX_CHAIN:
        raise CallCycle(f"{subject}: {depth} calls within calls: {' > '.join(chain.split(',', 4)[:4])} > …")


class Requests(Protocol):
    """Sends queries and commands for a handler (the bus, or a recording one in tests)."""

    def request(
        self, message: Message, *, command_id: str | None, timeout: float | None, call: "Call"
    ) -> Awaitable[Any]: ...


class Lists(Protocol):
    """Answers list queries over all keys of an actor."""

    async def page(self, filters: dict[str, Any], order: str | None, limit: int, after: str | None) -> Any: ...


class Timer:
    """A command that the actor sends to itself, `after` seconds from the commit (0: at once); or the cancelling of one."""

    __slots__ = ("after", "cancel", "message", "name", "schedule", "zone")

    def __init__(
        self,
        name: str,
        message: Message | None,
        after: float = 0.0,
        schedule: str = "",
        zone: str = "",
        cancel: bool = False,
    ) -> None:
        self.name = name
        self.message = message
        self.after = after
        self.schedule = schedule
        self.zone = zone
        self.cancel = cancel


class Call:
    """The context of one running handler, as its actor's methods use it. Ends with the reply.

    What a query leaves at its default stands here on the class, and costs it nothing.
    """

    __slots__ = ()

    actor: str
    requests: Requests
    source: str
    """The operation that runs, e.g. ``command.create_order``; for messages to people."""
    lists: Lists | None = None
    writable = False
    key: str = ""
    state: Any = None
    message_id: str = ""
    deadline: float = 0.0
    """Unix seconds after which nobody waits for the answer; 0 for none."""
    chain: str = ""
    attempt: int = 1
    attempts: int = 1
    ordinal: int = 0
    commanded: bool = False
    """Whether a command that it sent may have been executed: that stays done, whatever becomes of this message."""
    started: float = 0.0
    emitted: Sequence[tuple[str, Event]] = ()
    timers: Sequence[tuple[str, Timer]] = ()
    callbacks: Sequence[Callable[[], object]] = ()

    @property
    def now(self) -> float:
        """Unix seconds, the same at every look during one run of the handler."""
        if not self.started:
            self.started = time.time()
        return self.started

    def next_id(self) -> str:
        """Return the id of the next message that this handler gives rise to; the same ones when it is run again."""
        self.ordinal += 1
        return derived_id(self.message_id, self.ordinal)

    def nested_chain(self) -> str:
        """Return the call chain of a request that this handler sends: the chain of its own message, and its own call."""
        own = link(self.actor, self.key)
        return f"{self.chain},{own}" if self.chain else own

    def require_writable(self, what: str) -> None:
        """Raise where a query handler is about to change something."""
        if not self.writable:
            raise DeclarationError(f"{self.actor} {self.source}: a query changes nothing: it cannot {what}")

    def emit(self, event: Event) -> None:
        """Put `event` into the turn's outbox."""
        self.require_writable("emit")
        contract = contract_of(event)
        if contract.op != "event":
            raise DeclarationError(f"{type(event).__name__} is a {contract.op}: only events are emitted")
        if contract.actor != self.actor:
            raise DeclarationError(
                f"{type(event).__name__} belongs to {contract.actor!r}: {self.actor!r} cannot emit it"
            )
        self.emitted = [*self.emitted, (self.next_id(), event)]

    def remind(self, timer: Timer) -> None:
        """Put `timer` into the turn's outbox. Raises `DeclarationError` for one that the server would not take."""
        self.require_writable("set a timer")
        key_token(timer.name)
        if not 0 <= timer.after <= _LONGEST:  # also for what is no number
            raise DeclarationError(f"{self.actor}: a timer is due in 0 s to a hundred years, not in {timer.after} s")
        if timer.schedule and _SCHEDULE.fullmatch(timer.schedule) is None:
            raise DeclarationError(
                f"{self.actor}: {timer.schedule!r} is no schedule: @every 1m30s (a second at least), @daily, "
                "or a cron expression of six fields, seconds first"
            )
        if timer.zone and (_ZONE.fullmatch(timer.zone) is None or timer.schedule.startswith("@every")):
            raise DeclarationError(f"{self.actor}: {timer.zone!r} is no time zone for {timer.schedule!r}")
        if timer.message is not None:
            contract = contract_of(timer.message)
            if not isinstance(timer.message, Command) or contract.actor != self.actor:
                raise DeclarationError(
                    f"{type(timer.message).__name__} is no command of {self.actor!r}: a timer is a command to oneself"
                )
        self.timers = [*self.timers, (self.next_id(), timer)]

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the turn has committed."""
        self.require_writable("wait for its commit")
        self.callbacks = [*self.callbacks, callback]


class ActorCall(Call, msgspec.Struct, eq=False):
    """The call of a turn, or of a test: all that a handler may leave behind."""

    actor: str
    requests: Requests
    source: str
    writable: bool = True
    key: str = ""
    state: Any = None
    message_id: str = ""
    deadline: float = 0.0
    chain: str = ""
    lists: Lists | None = None
    attempt: int = 1
    attempts: int = 1
    ordinal: int = 0
    commanded: bool = False
    started: float = 0.0
    emitted: Sequence[tuple[str, Event]] = ()
    timers: Sequence[tuple[str, Timer]] = ()
    callbacks: Sequence[Callable[[], object]] = ()
