"""Actors: the classes that applications write.

An actor with a state (``Actor[Order]``) handles one message per key at a time; one without runs its handlers side by side.
A handler is a plain coroutine method; what it does to the world goes through `self` and leaves with the turn's commit.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast, get_args, get_origin

import msgspec

from runtime.actor.call import Call, Timer
from runtime.actor.handler import HandlerTable
from runtime.actor.indexes import Index, Page, check_indexes
from runtime.actor.message import Command, Event, Query, contract_of
from runtime.errors import DeclarationError, RequestError
from runtime.options import Options
from runtime.wire.codec import check_type
from runtime.wire.subjects import valid_name

R = TypeVar("R")
if TYPE_CHECKING:  # a default, so that ``Actor`` alone is an actor without state to a type checker too (PEP 696)
    from typing_extensions import TypeVar as DefaultTypeVar

    S = DefaultTypeVar("S", default=None)
else:
    S = TypeVar("S")


class Actor(Generic[S]):
    """The base class of services. `S` is the frozen struct that is the state of one key.

    Subclass it with a ``name`` (one lower-case subject token), mark methods with `query`, `command` and `react`; override
    `on_start` and `on_stop` for what lives as long as the service.
    """

    name: ClassVar[str]
    """The service's name: the first token of its subjects, its ``service.name`` in traces."""
    version: ClassVar[str] = "0.1.0"
    """SemVer, shown by discovery."""
    options: ClassVar[Options] = Options()
    upgrades: ClassVar[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
    """``{1: to_2}``: functions that turn the stored JSON of a state version into that of the next."""
    state_version: ClassVar[int] = 1

    handlers: ClassVar[HandlerTable]
    state_type: ClassVar[Any] = None
    indexes: ClassVar[tuple[Index, ...]] = ()

    __slots__ = ("_call",)

    def __init_subclass__(cls, indexes: list[Index] | tuple[Index, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = getattr(cls, "name", None)
        if name is None:
            return  # an abstract actor: a base class of others
        if not isinstance(name, str) or not valid_name(name):
            raise DeclarationError(
                f"{cls.__name__}.name = {name!r}: one token of lower-case letters, digits, '-' and '_'"
            )
        cls.state_type = _state_type(cls)
        cls.indexes = tuple(indexes) or cls.indexes
        check_indexes(cls.__name__, cls.indexes, cls.state_type)
        cls.handlers = HandlerTable(name, cls, cls.state_type is not None)

    async def on_start(self) -> None:
        """Called once before the first message; what it sets on `self` is there in every handler."""

    async def on_stop(self) -> None:
        """Called once after the last message, also when the process drains."""

    # What a handler works with; outside a handler each of these raises.

    @property
    def state(self) -> S | None:
        """The state of this key, None where there is none. Assigning it is the change; it is never changed in place.

        In a query: the last committed state. Assigning None deletes the key.
        """
        return cast("S | None", self._running.state)

    @state.setter
    def state(self, value: S | None) -> None:
        call = self._running
        call.require_writable("change state")
        if value is not None and not isinstance(value, self.state_type or ()):
            raise DeclarationError(f"{self.name}: the state is a {self.state_type!r}, not a {type(value).__name__}")
        call.state = value

    @property
    def key(self) -> str:
        """The key of this turn; for a command with ``key=new_key`` the one that it creates."""
        return self._running.key

    @property
    def message_id(self) -> str:
        """The id of the message being handled; the same when it is handled again."""
        return self._running.message_id

    @property
    def now(self) -> float:
        """The time of this turn in unix seconds; the same at every look."""
        return self._running.now

    @property
    def deadline(self) -> float | None:
        """Unix seconds after which the caller has given up, or None."""
        return self._running.deadline or None

    @property
    def attempt(self) -> int:
        """Which attempt at this message it is, from 1."""
        return self._running.attempt

    @property
    def attempts(self) -> int:
        """How many attempts there will be before the message becomes a dead letter."""
        return self._running.attempts

    def emit(self, event: Event) -> None:
        """Say that something happened. It leaves if and only if the turn commits, in the order of the emits of this key."""
        self._running.emit(event)

    async def query(self, message: Query[R], *, timeout: float | None = None) -> R:
        """Ask another actor and return its reply. `timeout` in seconds; the caller's deadline bounds it in any case.

        Raises a `RequestError`: `NotFound`, `NotDelivered`, `DeadlineExceeded` …
        """
        call = self._running
        if contract_of(message).op != "query":
            raise DeclarationError(f"{type(message).__name__} is no query")
        return await call.requests.request(message, command_id=None, timeout=timeout, call=call)

    async def command(self, message: Command[R], *, timeout: float | None = None) -> R:
        """Tell another actor to do something, and return its reply once that is done and durable.

        Its id derives from this message's id and the ordinal of the call, so that a handler that is run again repeats
        nothing: keep the order of commands the same from run to run. Raises a `RequestError`.
        """
        call = self._running
        call.require_writable("command")
        if contract_of(message).op != "command":
            raise DeclarationError(f"{type(message).__name__} is no command")
        executed = True
        try:
            return await call.requests.request(message, command_id=call.next_id(), timeout=timeout, call=call)
        except RequestError as error:
            executed = error.executed is not False
            raise
        finally:
            call.commanded |= executed

    def remind(self, after: float, message: Command[Any], *, name: str | None = None) -> str:
        """Send `message`, a command of this actor, `after` seconds from now; durable, once. Returns the timer's name.

        It is set if and only if the turn commits. A timer of the same name and key is replaced; `cancel` takes it back.
        """
        call = self._running
        timer = Timer(name or call.next_id(), message, after)
        call.remind(timer)
        return timer.name

    def schedule(self, every: str, message: Command[Any], *, name: str, zone: str = "") -> None:
        """Send `message` again and again: ``@every 1m`` or a cron expression with seconds (``0 30 9 * * *``), in time zone `zone`."""
        self._running.remind(Timer(name, message, schedule=every, zone=zone))

    def cancel(self, name: str) -> None:
        """Take back the timer or schedule `name` of this key, if and only if the turn commits.

        What is due by then may still come: a handler looks at its state.
        """
        self._running.remind(Timer(name, None, cancel=True))

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` once when the turn has committed (to count a metric, say); never when it is refused or fails."""
        self._running.on_commit(callback)

    async def list(
        self, *, order: str | None = None, limit: int = 20, after: str | None = None, **filters: Any
    ) -> Page[S]:
        """Return a page of the states of all keys, by a declared `Index`: filtered by equality, ordered by an attribute.

        ``order="-created_date"``: newest first. `after` is the `next` of the page before. Every turn committed before the
        call is in it. Raises `InvalidMessage` for a token that is none.
        """
        lists = self._running.lists
        if lists is None:
            raise DeclarationError(f"{self.name}: declare indexes=[Index(…)] to list states")
        return cast("Page[S]", await lists.page(filters, order, limit, after))

    @property
    def _running(self) -> Call:
        try:
            return self._call
        except AttributeError:
            raise RuntimeError(f"{type(self).__name__}: this works only while a message is being handled") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "state" and hasattr(self, "_call"):
            raise AttributeError(
                f"{type(self).__name__}.{name}: a handler's own attributes end with it; keep data in self.state, "
                "and what lives as long as the service in on_start"
            )
        object.__setattr__(self, name, value)

    _call: Call
    """What a view is of; the actor itself has none."""


set_call: Callable[[Actor[Any], Call], None] = Actor.__dict__["_call"].__set__  # past `__setattr__`
"""Make what `maker` gives the view of a call."""


def maker(kind: type[Actor[Any]]) -> Callable[[], Actor[Any]]:
    """Return what makes bare objects of `kind` for views: a class that is called does it fastest, an `__init__` is not run."""
    return kind if kind.__init__ is object.__init__ else partial(object.__new__, kind)


def view(make: Callable[[], Actor[Any]], attributes: dict[str, Any], call: Call) -> Actor[Any]:
    """Return the actor as one call sees it: `attributes` are those of the service, as `on_start` and its tasks left them."""
    seen = make()
    if attributes:
        seen.__dict__.update(attributes)
    set_call(seen, call)
    return seen


def _state_type(cls: type) -> Any:
    for base in cls.__mro__:
        for generic in base.__dict__.get("__orig_bases__", ()):
            if isinstance(get_origin(generic), type) and issubclass(get_origin(generic), Actor):
                state = get_args(generic)[0]
                if isinstance(state, TypeVar):
                    continue
                if not (
                    isinstance(state, type) and issubclass(state, msgspec.Struct) and state.__struct_config__.frozen
                ):
                    raise DeclarationError(
                        f"{cls.__name__}: the state {state!r} must be a msgspec.Struct with frozen=True"
                    )
                check_type(state)
                return state
    return None
