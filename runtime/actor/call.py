"""The call: the context of one running handler, and everything that the handler leaves for the commit of its turn.

Each message gets a call. The methods of an actor (`emit`, `query`, `state` and so on) read and write the call of their
handler. Nothing in a call leaves the process before the turn has committed.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, Self

import msgspec

from runtime.actor.message import Event, Message, NewKey, contract_of, token_by
from runtime.actor.timer import Timer
from runtime.clocks import YEAR, is_duration
from runtime.errors import CallCycle, DeclarationError
from runtime.wire.ids import check_id, derived_id, key_for
from runtime.wire.server_clock import ServerClock
from runtime.wire.tokens import key_token

LONGEST_TELL = 100 * YEAR
"""The most seconds until a command by `tell` is due: a hundred years."""

MAX_DEPTH = 32
"""The most nested calls. A deeper nesting is a recursion that does not come back to a busy key, for example of queries."""


in_handler: ContextVar[bool] = ContextVar("actorloom_in_handler", default=False)
"""Whether a handler runs here: true in the tasks that run handlers, and in those that a handler starts."""


class Requests(Protocol):
    """Sends the queries and commands of handlers: the bus, or a recorder in tests."""

    def request(
        self, message: Message, *, command_id: str | None, timeout: float | None, call: "Call"
    ) -> Awaitable[Any]:
        """Send a message and return the value of its reply.

        Args:
            message: The query or command.
            command_id: The id of a command; None for a query.
            timeout: Seconds; None for the default.
            call: The call of the handler, whose deadline bounds the request.
        """
        ...


class Lists(Protocol):
    """Answers list queries over all keys of an actor."""

    async def page(
        self, filters: dict[str, Any], order: str | None, limit: int, after: str | None, deadline: float = 0.0
    ) -> Any:
        """Return a `Page`. The arguments are those of `Actor.list`, and the deadline of the call, as in `Call`."""
        ...


class Basis(Protocol):
    """The state on which a handler runs, while a commit has yet to store it, or a former owner may have replaced it."""

    async def wait_stored(self) -> bool:
        """Wait until this is known. Return whether the state is the stored one."""
        ...


class Received(Protocol):
    """A message as it came, for what a handler rarely asks for."""

    @property
    def block(self) -> bytes | None:
        """The header block."""
        ...

    @property
    def due(self) -> float | None:
        """The time at which the timer has fired that sent the message, in Unix seconds; None if no timer did."""
        ...


class Told(msgspec.Struct, frozen=True, eq=False):
    """A command that a handler sends by `tell`."""

    id: str
    message: Message
    token: str
    """The key of the command as a subject token; empty without a key."""
    after: float = 0.0
    """Seconds from the commit."""


class CallScope(msgspec.Struct, frozen=True, eq=False):
    """The parts that all calls of one handler share."""

    actor: str
    """The name of the actor."""
    requests: Requests
    lists: Lists | None
    """None if the actor declares no index."""
    source: str
    """The name of the handler in error texts, such as ``command.create_order``."""
    clock: ServerClock = msgspec.field(default_factory=ServerClock)
    """The clock of the server; by default the wall clock of this machine."""


class Call(msgspec.Struct, kw_only=True, eq=False):
    """The context of one running handler. This class is that of a query, whose handler changes nothing."""

    scope: CallScope
    key: str = ""
    state: Any = None
    """The committed state of the key; in a turn, the last state that the handler has assigned."""
    deadline: float = 0.0
    """The time, by `elapsed`, after which the caller has given up; 0.0 if there is no deadline."""
    chain: str = ""
    """The calls that wait for this one, as in the header `Call-Chain`."""
    cut: Exception | None = None
    """The failure of a handler that ran for too long and was cancelled; None for any other."""
    started: float = 0.0
    """The time of the server that the handler sees, in Unix seconds; 0.0 until it looks."""
    checkpoints: int = 0
    """The checkpoints that a long job has made, in all of its runs."""
    ended: bool = False
    """True once the handler has returned or raised, or is abandoned since it did not end after it was cut.

    It may go on, and so may a task that it has left behind. They can read the call, and every other use of it raises."""

    @property
    def now(self) -> float:
        """The time of the server, in Unix seconds. The value stays the same during one run of the handler."""
        if not self.started:
            clock = self.scope.clock
            self.started = clock.now() + clock.ahead
        return self.started

    def nested_chain(self) -> str:
        """Return the call chain of a request that the handler sends: the chain of its own message, and its own call."""
        own = link(self.scope.actor, self.key)
        return f"{self.chain},{own}" if self.chain else own

    def usable(self, action: str) -> Self:
        """Return this call if its handler runs.

        Raises:
            RuntimeError: The handler has ended. The text names the action, which has no turn to belong to.
        """
        if self.ended:
            scope = self.scope
            raise RuntimeError(
                f"{scope.actor} {scope.source}: the handler has ended: it cannot {action} any more; "
                "await each task that a handler starts"
            )
        return self

    def writable(self, action: str) -> "TurnCall":
        """Return this call if it is that of a turn, and its handler runs.

        Raises:
            DeclarationError: It is that of a query. The text names the action, which a query cannot do.
            RuntimeError: The handler has ended.
        """
        scope = self.usable(action).scope
        raise DeclarationError(f"{scope.actor} {scope.source}: a query changes nothing: it cannot {action}")


class TurnCall(Call, kw_only=True, eq=False):
    """The call of a turn: it collects the changes of the handler for the commit."""

    message_id: str = ""
    received: Received | None = None
    """The message as it came."""
    attempt: int = 1
    attempts: int = 1
    ordinal: int = 0
    """The number of ids that `next_id` has returned."""
    basis: Basis | None = None
    """The state on which the handler runs, if it may not be stored yet. No nested command leaves before it is."""
    departed: int = 0
    """The nested commands that were executed or may be. Their effects stay, even if this message has none."""
    assigned: bool = False
    """True if the handler has assigned `state`."""
    emitted: Sequence[tuple[str, Event, str]] = ()
    """The events for the outbox, each between its id and its key as a subject token; the token is empty without a key."""
    timers: Sequence[tuple[str, Timer]] = ()
    """The timers for the outbox, with their ids."""
    told: Sequence[Told] = ()
    """The commands by `tell` for the outbox."""
    callbacks: Sequence[Callable[[], object]] = ()
    """Called after the commit."""
    base: Any = None
    """Of a long job, the state that it began with or left at its last checkpoint."""
    on_checkpoint: Callable[[], Awaitable[None]] | None = None
    """Stores the changes of a long job since its last checkpoint; None in all other turns."""
    lost: Exception | None = None
    """Why a checkpoint was not stored. The run of the job has ended then."""

    def writable(self, action: str) -> "TurnCall":
        """Return this call if its handler runs."""
        return self if not self.ended else self.usable(action)

    def next_id(self, message: Message | None) -> str:
        """Return the id of the next message that the handler sends; None stands for the cancellation of a timer.

        A handler that runs again and sends the same messages gets the same ids. Raises `CodecError` if the key of the
        message is too long.
        """
        if message is None:
            return self._derive("", "")
        contract = contract_of(message)
        return self._derive(contract.type_name, token_by(contract, message))

    def _derive(self, type_name: str, token: str) -> str:
        self.ordinal += 1
        parent = f"{self.message_id}#{self.checkpoints}" if self.checkpoints else self.message_id
        return derived_id(parent, self.ordinal, f"{self.scope.actor}/{self.key}", type_name, token)

    def assign(self, state: Any) -> None:
        """Leave a new state; None deletes the key."""
        self.state = state
        self.assigned = True

    def emit(self, event: Event, event_id: str | None = None) -> None:
        """Add an event to the outbox, under the id that the handler has chosen if there is one.

        Raises:
            DeclarationError: It is no event of this actor.
            CodecError: The id is invalid, or the key is too long.
        """
        contract = contract_of(event)
        if contract.op != "event":
            raise DeclarationError(f"{type(event).__name__} is a {contract.op}: only events are emitted")
        if contract.actor != self.scope.actor:
            raise DeclarationError(
                f"{type(event).__name__} belongs to {contract.actor!r}: {self.scope.actor!r} cannot emit it"
            )
        token = token_by(contract, event)
        chosen = self._derive(contract.type_name, token) if event_id is None else check_id(event_id)
        self.emitted = [*self.emitted, (chosen, event, token)]

    def remind(self, timer: Timer) -> None:
        """Add a timer to the outbox.

        Raises:
            DeclarationError: The timer is invalid.
            CodecError: The name of the timer is too long.
        """
        timer.check(self.scope.actor)
        self.timers = [*self.timers, (self.next_id(timer.message), timer)]

    def tell(self, message: Message, after: float, tell_id: str | None = None) -> str:
        """Add a command to the outbox, and return its id. Raises as `check_tell`, `next_id` and `check_id` do."""
        check_tell(message, after)
        tell_id = self.next_id(message) if tell_id is None else check_id(tell_id)
        self.told = [*self.told, Told(tell_id, message, told_token(message, tell_id), after)]
        return tell_id

    def go_on(self, base: Any, state: Any, basis: Basis | None = None) -> None:
        """Begin with an empty outbox and the state of a checkpoint, which `basis` may have yet to store."""
        self.base, self.state, self.assigned, self.basis = base, state, False, basis
        self.emitted, self.timers, self.told, self.callbacks = (), (), (), ()
        self.ordinal, self.attempt = 0, 1
        self.checkpoints += 1

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Have a function called after the commit."""
        self.callbacks = [*self.callbacks, callback]


def check_tell(message: Message, after: float) -> None:
    """Raise `DeclarationError` if a message cannot be sent by `tell`, or not in `after` seconds."""
    contract = contract_of(message)
    if contract.op != "command":
        raise DeclarationError(f"{contract.type.__name__} is not a command: only commands are told")
    if not is_duration(after, 0.0, LONGEST_TELL):
        raise DeclarationError(
            f"{contract.type.__name__}: after = {after!r} is not a number of seconds from 0 to a hundred years"
        )


def told_token(message: Message, tell_id: str) -> str:
    """Return the key of a command by `tell` as a subject token; empty without a key. Raises `CodecError` if it is too long."""
    contract = contract_of(message)
    if isinstance(contract.key, NewKey):
        return key_token(key_for(tell_id))
    return token_by(contract, message)


def link(actor: str, key: str) -> str:
    """Return the entry of one call in a call chain: the actor, and after a slash the token of its key if there is one."""
    return f"{actor}/{key_token(key)}" if key else actor


def check_depth(subject: str, chain: str) -> None:
    """Raise `CallCycle` for a request at `subject` whose call chain is longer than `MAX_DEPTH`."""
    depth = chain.count(",") + 1
    if depth > MAX_DEPTH:
        raise CallCycle(f"{subject}: {depth} calls within calls: {' > '.join(chain.split(',', 4)[:4])} > …")
