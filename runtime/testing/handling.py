"""Handlers called by themselves, in turns that send nothing."""

from collections.abc import Awaitable, Callable, Mapping
from copy import copy
from functools import wraps
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar, cast

import msgspec

from runtime.actor.base import Actor, require_actor
from runtime.actor.call import Call, CallScope, TurnCall
from runtime.actor.handler import Handler
from runtime.actor.indexes import Page
from runtime.actor.invoke import make_view
from runtime.actor.message import Event, Message, encode_message
from runtime.actor.outcome import settle
from runtime.actor.state_type import StateCodec
from runtime.actor.timer import Timer
from runtime.bounds import Count, check
from runtime.errors import NotDelivered
from runtime.storage.listing import Declared, Position
from runtime.wire import header_block
from runtime.wire.ids import key_for, new_id

A = TypeVar("A", bound=Actor[Any])

Reply = Any | BaseException | Callable[[Any], Any]
"""The reply to a message: a value, an error to raise, or a function of the message (it may be async)."""

Replies = Mapping[type[Message], Reply]
"""The replies to the messages that a handler sends, by message type."""

_UnixSeconds = Annotated[float, msgspec.Meta(ge=0, le=253_402_300_799)]
"""A time until the end of the year 9999."""


class Worker(Generic[A]):
    """An actor under test, as `worker` returns it. It has the methods of the actor, and records what they do."""

    if TYPE_CHECKING:

        @property
        def actor(self) -> A:
            """The same object with the type of the actor, so that a type checker knows its handlers."""
            ...

        @property
        def state(self) -> Any:
            """The state that the handlers have left."""
            ...

        @property
        def emitted(self) -> list[Event]:
            """The events, in order."""
            ...

        @property
        def sent(self) -> list[Message]:
            """The queries and commands, in order."""
            ...

        @property
        def sent_ids(self) -> list[str | None]:
            """The ids of `sent`; None for a query."""
            ...

        @property
        def told(self) -> list[Message]:
            """The commands by `tell`, in order."""
            ...

        @property
        def checkpoints(self) -> list[Any]:
            """The states that long jobs have stored by `Actor.checkpoint`, in order."""
            ...

        @property
        def timers(self) -> list[Timer]:
            """The timers, schedules and cancellations, in order."""
            ...

        def commit(self) -> None:
            """Call the callbacks of `on_commit`."""

        def __getattr__(self, name: str) -> Any: ...


def worker(
    actor: type[A],
    *,
    key: str = "",
    state: Any = None,
    replies: Replies | None = None,
    message_id: str | None = None,
    now: float | None = None,
    attempt: int = 1,
    attempts: int = 8,
    headers: Mapping[str, str] | None = None,
    due: float | None = None,
    states: list[Any] | None = None,
    writable: bool = True,
) -> Worker[A]:
    """Return an actor whose handlers can be called directly, as in one turn of one key. Nothing is sent.

    A handler that raises leaves nothing. Values that do not fit their types are refused as in a turn, and so are calls by a
    task that a handler has left behind.

    The returned object has the methods of `actor` and those of `Worker`. Its `on_start` runs if the test calls it, and sets the
    attributes that the handlers read.

    Args:
        actor: The class of the actor.
        key: The key of the handled message; by default that of the message that is given to the handler.
        state: The state before the handler; None if the key has none.
        replies: A reply for each type of message that the handler sends. A message without one raises `NotDelivered`.
        message_id: The id of the handled message; a new one by default.
        now: The time that the handler sees, in Unix seconds.
        attempt: The number of this attempt, from 1 on.
        attempts: The number of attempts before a dead letter.
        headers: The headers of the handled message.
        due: The time at which the timer fired that sent the message, in Unix seconds; None if no timer did.
        states: The states that `list` finds, in the order of their keys. Filters, order, pages and their tokens are those of the
            declared indexes, as in a service.
        writable: False for a query, which may not emit or assign a state.

    Example:
        orders = worker(Orders, key="1", replies={GetPrice: Price(5)})
        await orders.create_order(CreateOrder("1"))
        assert orders.state == Order("1", total=5)
    """
    require_actor(actor)
    check("attempt", attempt, Count)
    check("attempts", attempts, Count)
    if now is not None:
        check("now", now, _UnixSeconds)
    if due is not None:
        check("due", due, _UnixSeconds)
    requests = _Requests(replies or {})
    methods: dict[str, list[Handler]] = {}
    for handler in actor.handlers.all():
        methods.setdefault(handler.method, []).append(handler)
    handlers = {method: _as_turn(actor, found) for method, found in methods.items()}
    service = actor()
    hooks = {name: _on_service(service, name) for name in ("on_start", "on_stop")}
    recorded = type(
        f"{actor.__name__}UnderTest",
        (actor,),
        {**handlers, **hooks, **_VIEWS, "__module__": actor.__module__, "name": actor.name},
    )
    scope = CallScope(
        actor.name,
        requests,
        _Lists(states or [], Declared(actor.name, actor.indexes, actor.scales)) if actor.indexes else None,
        "test",
    )
    call = TurnCall(
        scope=scope,
        key=key,
        state=state,
        started=now or 0.0,
        message_id=message_id or new_id(),
        received=_Received(header_block.encode((headers or {}).items()), due),
        attempt=attempt,
        attempts=attempts,
    )
    if not writable:
        call = Call(scope=scope, key=key, state=state, started=now or 0.0)
    view = make_view(service, call, recorded)
    object.__setattr__(view, "__dict__", service.__dict__)  # it has what `on_start` and its tasks set, also later
    return cast(Any, view)


def _on_service(service: Actor[Any], name: str) -> Callable[[Any], Awaitable[None]]:
    """Return the method of a worker that runs a hook as a process does: on the service, which is the view of no message."""
    hook = getattr(service, name)

    @wraps(hook)
    async def run(self: Any) -> None:
        await hook()

    return run


def _as_turn(actor: type[Actor[Any]], handlers: list[Handler]) -> Callable[[Any, Any], Awaitable[Any]]:
    """Return the method of a worker that runs a handler in a call of its own, as a turn does, and keeps what it leaves.

    Args:
        actor: The class of the actor.
        handlers: The handlers of the method: one, or those of a reaction to several types of events.
    """

    @wraps(handlers[0].function)
    async def run(self: Any, message: Any) -> Any:
        handler = next((each for each in handlers if isinstance(message, each.contract.type)), handlers[0])
        worker_call: Call = self._running
        call, states, before = copy(worker_call), actor.state_codec, worker_call.state
        if states is not None:
            call.state = self._arranged(states.copy(before))
            call.key = call.key or _key_of(handler, message, call)
        if isinstance(call, TurnCall) and isinstance(worker_call, TurnCall) and handler.accept and states is not None:
            _let_make_checkpoints(handler, call, worker_call, states)
        try:
            value = await handler.run(make_view(self, call, actor), message)
        finally:
            call.ended = True
        if isinstance(call, TurnCall) and isinstance(worker_call, TurnCall):
            base = before if call.on_checkpoint is None else call.base
            _keep(call, worker_call, settle(handler, call, value, base, states).state)
        else:
            handler.result.encode(value, "reply")
        return value

    return run


def _key_of(handler: Handler, message: Any, call: Call) -> str:
    if handler.key_of is not None:
        return handler.key_of(message)
    return key_for(call.message_id) if isinstance(call, TurnCall) and handler.contract.key is not None else ""


class _Received(NamedTuple):
    """The message of a worker as it came."""

    block: bytes | None
    due: float | None


class _Requests:
    """Answers and records the queries and commands of a handler."""

    def __init__(self, replies: Replies) -> None:
        self.replies = replies
        self.sent: list[Message] = []
        self.ids: list[str | None] = []
        self.checkpoints: list[Any] = []

    async def request(self, message: Message, *, command_id: str | None, timeout: float | None, call: Call) -> Any:
        """Record the message and return or raise its reply. A message without a reply raises `NotDelivered`."""
        encode_message(message)
        self.sent.append(message)
        self.ids.append(command_id)
        if type(message) not in self.replies:
            raise NotDelivered(f"the test has no reply to {type(message).__name__}")
        reply = self.replies[type(message)]
        if callable(reply) and not isinstance(reply, type):
            reply = reply(message)
            if isinstance(reply, Awaitable):
                reply = await reply
        if isinstance(reply, BaseException):
            raise reply
        return reply


def _let_make_checkpoints(handler: Handler, call: TurnCall, worker_call: TurnCall, states: StateCodec) -> None:
    """Let a long job make checkpoints, each of which is kept as a turn is."""
    call.base = worker_call.state
    made: list[Any] = cast("Any", call.scope.requests).checkpoints

    async def checkpoint() -> None:
        state = settle(handler, call, None, call.base, states).state
        _keep(call, worker_call, state)
        made.append(state)
        call.go_on(state, states.copy(state))

    call.on_checkpoint = checkpoint


def _keep(call: TurnCall, worker_call: TurnCall, state: Any) -> None:
    """Keep what a handler has left."""
    worker_call.state = state
    first = call.checkpoints == worker_call.checkpoints
    for name in ("emitted", "timers", "told", "callbacks"):
        left = getattr(call, name)
        setattr(worker_call, name, left if first else [*getattr(worker_call, name), *left])
    for name in ("started", "ordinal", "departed"):
        setattr(worker_call, name, getattr(call, name))


class _Lists:
    """Answers `list` from fixed states, whose keys are in the order of the states."""

    def __init__(self, states: list[Any], declared: Declared) -> None:
        self._states = states
        self._declared = declared

    async def page(
        self, filters: dict[str, Any], order: str | None, limit: int, after: str | None, deadline: float = 0.0
    ) -> Page[Any]:
        """Return a page of the states that the index of a filter and an order has."""
        wanted = self._declared.select(filters, order, limit, after)
        found: list[tuple[Position, Any]] = []
        for number, state in enumerate(self._states):
            group, position = self._declared.place(wanted.number, state, f"{number:09}")
            if group == wanted.group:
                found.append((position, state))
        found.sort(key=itemgetter(0), reverse=wanted.descending)
        if (start := wanted.after) is not None:
            found = [each for each in found if (each[0] < start if wanted.descending else each[0] > start)]
        page, rest = found[: wanted.limit], found[wanted.limit :]
        return Page([state for _, state in page], self._declared.token(wanted.number, page[-1][0]) if rest else None)


def turn_of(view: Any) -> TurnCall:
    """Return the call of a view. That of a query has collected nothing."""
    call = view._running
    return call if isinstance(call, TurnCall) else TurnCall(scope=call.scope)


def _commit(self: Any) -> None:
    for callback in turn_of(self).callbacks:
        callback()


_VIEWS: dict[str, Any] = {
    "emitted": property(lambda self: [event for _, event, _ in turn_of(self).emitted]),
    "sent": property(lambda self: self._running.scope.requests.sent),
    "sent_ids": property(lambda self: self._running.scope.requests.ids),
    "checkpoints": property(lambda self: self._running.scope.requests.checkpoints),
    "told": property(lambda self: [told.message for told in turn_of(self).told]),
    "timers": property(lambda self: [timer for _, timer in turn_of(self).timers]),
    "commit": _commit,
    "_arranged": staticmethod(lambda state: state),
    "actor": property(lambda self: self),
}
"""Attributes that `worker` adds to an actor. `_arranged` returns the state that the handler gets; `repeated` replaces it."""
