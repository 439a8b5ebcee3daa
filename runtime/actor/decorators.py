"""The decorators of handlers: `query`, `command` and `react`. Each stores its arguments on the method, as a `Mark`."""

import inspect
import math
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal, TypeVar, overload

import msgspec

from runtime.actor.message import Accepted, Command, Event, Query
from runtime.actor.since import FIRST
from runtime.clocks import is_duration
from runtime.errors import DeclarationError

Verb = Literal["query", "command", "react"]

A = TypeVar("A")
M = TypeVar("M")
R = TypeVar("R")
Q = TypeVar("Q", bound=Query[Any])
C = TypeVar("C", bound=Command[Any])
J = TypeVar("J", bound=Command[Accepted])
E = TypeVar("E", bound=Event)

Method = Callable[[A, M], Coroutine[Any, Any, R]]
"""A coroutine method of an actor `A` that handles a message `M` and returns `R`.

A type checker compares the kind of the message with the decorator. Python has no type for "the reply that this message
declares", so the table compares the reply when the class is created."""

_MARK = "__actorloom__"
"""The attribute of a method that has its `Mark`."""


class Mark(msgspec.Struct, frozen=True):
    """The arguments of a decorator, stored on the method."""

    verb: Verb
    accept: bool = False
    internal: bool = False
    every: str = ""
    zone: str = ""
    by_id: bool = False
    where: dict[str, Any] | str | Callable[[Any, Any], bool] | None = None
    key: str | None = None
    attempts: int | None = None
    limit: float | None = None
    since: object = FIRST
    name: str | None = None
    sources: object = None


@overload
def query(function: Method[A, Q, R], /) -> Method[A, Q, R]: ...
@overload
def query(*, limit: float | None = None) -> Callable[[Method[A, Q, R]], Method[A, Q, R]]: ...
def query(function: Any = None, /, *, limit: float | None = None) -> Any:
    """Mark a method as the handler of a query.

    The handler reads the last committed state and does not wait for commands of its key. It cannot change the state, emit
    events, send commands or set timers.

    Args:
        function: A coroutine method with two parameters, `self` and the query. It returns the declared reply.
        limit: Seconds that the handler may run, as `Options.limit`; by default that of the actor.

    Raises:
        DeclarationError: `function` is not a coroutine function, or `limit` is not a number above 0.

    Example:
        @query
        async def get_order(self, message: GetOrder) -> Order:
            return self.state or not_found(message.order_id)
    """
    if function is not None:
        return _mark(function, Mark("query"))
    return lambda target: _mark(target, Mark("query", limit=limit))


@overload
def command(function: Method[A, C, R], /) -> Method[A, C, R]: ...
@overload
def command(
    *,
    accept: Literal[False] = False,
    internal: bool = False,
    by_id: bool = False,
    every: str = "",
    zone: str = "",
    limit: float | None = None,
) -> Callable[[Method[A, C, R]], Method[A, C, R]]: ...
@overload
def command(
    *,
    accept: Literal[True],
    internal: bool = False,
    by_id: bool = False,
    every: str = "",
    zone: str = "",
    limit: float | None = None,
) -> Callable[[Method[A, J, None]], Method[A, J, None]]: ...
def command(
    function: Any = None,
    /,
    *,
    accept: bool = False,
    internal: bool = False,
    by_id: bool = False,
    every: str = "",
    zone: str = "",
    limit: float | None = None,
) -> Any:
    """Mark a method as the handler of a command.

    In an actor with a state, the handler runs while no other command or event of the same key does. Its state, events and
    timers are stored together, before the reply is sent. If it raises, they are discarded; a command that it has sent to
    another actor keeps its effect.

    Args:
        function: A coroutine method with two parameters, `self` and the command. It returns the declared reply.
        accept: True for a long job, whose command is a ``Command[Accepted]``. The caller receives `Accepted` as soon as the
            command is stored. The handler runs after that, and runs again if the process crashes. It returns None, and
            reports its outcome with an event.
        internal: True for a command that only the actor itself sends, by its timers. A request with it is refused with
            `Forbidden`, also one of a handler of the actor, and discovery does not list it.
        by_id: True if the id alone stands for the command, as that of an event does: another body under an id that was handled
            is a repetition, and not `IdReused`. The sender chooses the id and may not be able to send the same body again.
        every: The schedule of a command that the runtime sends again and again, as in `Actor.schedule`: ``@every 1m30s``,
            ``@daily``, or a cron expression of six fields. It is sent once over all processes, with the defaults of its
            fields. In an actor with a state, one firing runs and at most one waits; after a downtime it runs once, late.
        zone: The time zone of a cron expression, such as ``Europe/Berlin``; UTC by default.
        limit: Seconds that one run of the handler may take, as `Options.limit`; by default that of the actor.

    Raises:
        DeclarationError: `function` is not a coroutine function, or `limit` is not a number above 0. The class of the actor
            raises it if `every` and `zone` are no schedule, or a field of the command has no default.

    Example:
        @command
        async def create_order(self, message: CreateOrder) -> Order:
            self.state = Order(self.key, message.total)
            self.emit(OrderCreated(self.key, message.total))
            return self.state
    """
    if function is not None:
        return _mark(function, Mark("command"))
    return lambda target: _mark(
        target,
        Mark("command", accept=accept, internal=internal, by_id=by_id, every=every, zone=zone, limit=limit),
    )


@overload
def react(function: Method[A, E, None], /) -> Method[A, E, None]: ...
@overload
def react(
    *,
    where: dict[str, Any] | str | Callable[[Any, E], bool] | None = None,
    key: str | None = None,
    attempts: int | None = None,
    limit: float | None = None,
    since: str = FIRST,
    name: str | None = None,
    sources: Sequence[str] | None = None,
) -> Callable[[Method[A, E, None]], Method[A, E, None]]: ...
def react(
    function: Any = None,
    /,
    *,
    where: dict[str, Any] | str | Callable[[Any, Any], bool] | None = None,
    key: str | None = None,
    attempts: int | None = None,
    limit: float | None = None,
    since: str = FIRST,
    name: str | None = None,
    sources: Sequence[str] | None = None,
) -> Any:
    """Mark a method as a reaction to an event of any actor.

    In an actor with a state, the events of a key are handled in order, and each takes effect once. In an actor without a
    state, a reaction that emits nothing may run again after a failure of the process or the network (ADR 002). A reaction
    that raises runs again after a delay; see `RetryPolicy`.

    Args:
        function: A coroutine method with two parameters, `self` and the event. It returns None.
        where: A content pattern. Events whose JSON does not match it are skipped. See `runtime.actor.patterns`. Or a function
            of the actor and the event, which runs before the turn and returns whether the event is handled. It is called
            with the actor itself, which has the attributes that `on_start` has set, and no state. If it raises, the event is handled.
        key: The path of the field that has the key, with dots: ``"new.order_id"``. By default it is the event's own key.
        attempts: The number of attempts before an event becomes a dead letter; by default that of the retry policy.
        limit: Seconds that one attempt may take, as `Options.limit`; by default that of the actor.
        since: The first event that the reaction receives when it starts for the first time, in a new actor or in one that has
            run: ``"first"``, the oldest one of the stream; ``"new"``, the first one stored after that start; or the first one
            after a time, as in ``"2026-01-01T00:00:00Z"``. A later change has no effect.
        name: The name of the reaction; by default that of the method. Its place in the stream and the ids of handled events
            belong to this name. Declare the former name if you rename the method.
        sources: For a reaction to `AnyEvent`: the names of the actors whose events it receives; by default those of all actors of
            the namespace but its own, also of those that run for the first time later.

    Raises:
        DeclarationError: `function` is not a coroutine function, or `limit` is not a number above 0.

    Example:
        @react(where={"total": [{"numeric": [">", 100]}]}, attempts=3)
        async def on_order_created(self, event: OrderCreated) -> None:
            self.state = Discount(self.key, 5)
    """
    if function is not None:
        return _mark(function, Mark("react"))
    mark = Mark("react", where=where, key=key, attempts=attempts, limit=limit, since=since, name=name, sources=sources)
    return lambda target: _mark(target, mark)


def _mark(function: Any, mark: Mark) -> Any:
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(
            f"{getattr(function, '__qualname__', function)}: a handler must be a coroutine function: use async def"
        )
    if mark.limit is not None and not (is_duration(mark.limit, 0.0, math.inf) and mark.limit > 0):
        raise DeclarationError(
            f"{function.__qualname__}: limit = {mark.limit!r}: it must be a number of seconds above 0"
        )
    setattr(function, _MARK, mark)
    return function


def mark_of(function: Any) -> Mark | None:
    """Return the mark of a method; None if it has no decorator."""
    found = getattr(function, _MARK, None)
    return found if isinstance(found, Mark) else None
