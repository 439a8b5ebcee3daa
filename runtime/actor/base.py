"""The base class of actors, and the view of an actor that a handler receives as `self`.

An actor with a state (``Actor[Order]``) handles one message per key at a time. An actor without a state runs its handlers
concurrently. A handler is a coroutine method. It changes the state, emits events and sets timers through `self`, and these
effects become visible together, when the turn commits.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from runtime.actor.call import Call, TurnCall
from runtime.actor.declaration import check_attributes, check_index_list
from runtime.actor.handler import HandlerTable, has_handlers
from runtime.actor.index_values import Scale
from runtime.actor.indexes import Index, Page, check_states, scales_of
from runtime.actor.message import Command, Event, Message, Query, contract_of, message_token
from runtime.actor.state_type import StateCodec, classes_of, find_state_type, invalid_state
from runtime.actor.timer import Timer
from runtime.errors import DeclarationError
from runtime.options import Options
from runtime.wire import header_block
from runtime.wire.tokens import key_token

R = TypeVar("R")
if TYPE_CHECKING:  # with the default of PEP 696, ``Actor`` alone is an actor without state to a type checker, too
    from typing_extensions import TypeVar as DefaultTypeVar

    S = DefaultTypeVar("S", default=None)
else:
    S = TypeVar("S")


class Actor(Generic[S]):
    """The base class of services. `S` is the type of the state of one key, a frozen `msgspec.Struct`.

    A subclass has a ``name`` and handlers, which are methods with the decorator `query`, `command` or `react`. The class is
    checked when it is created, and an invalid one raises `DeclarationError`. A class without a ``name`` is a base of other
    actors and is not checked.

    Args:
        indexes: In the class line: the indexes that `list` uses, as in ``class Orders(Actor[Order], indexes=[Index()])``.

    Example:
        class Counter(Actor[Count]):
            name = "counter"

            @command
            async def add(self, message: Add) -> Count:
                self.state = Count((self.state.value if self.state else 0) + message.amount)
                self.emit(Added(message.name, message.amount))
                return self.state
    """

    name: ClassVar[str]
    """The name of the service: the first token of its subjects, and its ``service.name`` in traces.

    It has lower-case letters, digits, ``-`` and ``_``, and begins with a letter."""
    version: ClassVar[str] = "0.1.0"
    """The semantic version of the service, for discovery."""
    options: ClassVar[Options] = Options()
    """The limits of the actor. Settings under ``[actors.<name>]`` take precedence."""
    state_version: ClassVar[int] = 1
    """The version of the stored state. Increase it with each incompatible change of the state's type."""
    upgrades: ClassVar[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {}
    """For each earlier state version, a function that converts its stored JSON to the next version: ``{1: to_2, 2: to_3}``."""

    handlers: ClassVar[HandlerTable]
    """The handlers of the class."""
    state_type: ClassVar[Any] = None
    """The type of the state; None for an actor without state."""
    state_classes: ClassVar[tuple[type, ...]] = ()
    """The classes of the states: those of the members, if the type is a union."""
    state_codec: ClassVar[StateCodec | None] = None
    """The codec of the states; None for an actor without state."""
    indexes: ClassVar[tuple[Index, ...]] = ()
    """The declared indexes."""
    scales: ClassVar[dict[str, Scale]] = {}
    """How the values of each field are ordered that an index names."""

    __slots__ = ("_call",)

    def __init_subclass__(cls, indexes: list[Index] | tuple[Index, ...] = (), **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        check_index_list(cls.__name__, indexes)
        if getattr(cls, "name", None) is None:
            return
        check_attributes(cls)
        cls.state_type = find_state_type(cls, Actor)
        cls.state_classes = classes_of(cls.state_type) if cls.state_type is not None else ()
        cls.state_codec = StateCodec(cls.state_type) if cls.state_type is not None else None
        cls.indexes = tuple(indexes) or cls.indexes
        cls.scales = scales_of(cls.__name__, cls.indexes, cls.state_type)
        if cls.state_codec is not None:
            cls.state_codec.check = check_states(cls.state_type, cls.scales)
        cls.handlers = HandlerTable(cls.name, cls, cls.state_type is not None, cls.on_message is not Actor.on_message)

    async def on_start(self) -> None:
        """Acquire resources of the service. Override it; it runs once, before the first message.

        The attributes that it sets on `self` can be read in every handler. If it raises, the service does not start.
        """

    async def on_stop(self) -> None:
        """Release resources of the service. Override it; it runs once, after the last message has been handled."""

    async def on_message(self, message: Message, handle: Callable[[], Awaitable[Any]]) -> Any:
        """Do something around each message: a query, a command, an event, a timer or a long job. Override it, for example in a mixin.

        It runs in the span and in the turn of the message: its errors are those of the handler, and its events are part of the
        turn. It runs again whenever the handler does. ``class Orders(Audited[Order], Metered[Order])`` runs that of `Audited`
        first, whose ``super().on_message(message, handle)`` runs that of `Metered`. To do something around the messages that a
        handler sends, override `query`, `command`, `tell` or `emit`.

        Args:
            message: The message.
            handle: Runs the handler, and returns what it returns. It can be called once.

        Returns:
            The reply: that of `handle`, or another value of its type.

        Example:
            async def on_message(self, message: Message, handle: Callable[[], Awaitable[Any]]) -> Any:
                try:
                    return await handle()
                except StockError as error:
                    raise Rejected(str(error)) from error
        """
        return await handle()

    # The methods below work in a handler only. Elsewhere each raises RuntimeError, and so does each in a task that the handler
    # has left behind, once the handler has ended. The properties can still be read there.

    @property
    def state(self) -> S | None:
        """The state of the key, None if it has none. In a query, the last committed state.

        A handler changes the state by assigning a new one, since a state is immutable. Assigning None deletes the key. The
        change is stored if and only if the turn commits.

        Raises:
            DeclarationError: The assigned value is not of the state's type, or the handler is that of a query.
        """
        return cast("S | None", self._running.state)

    @state.setter
    def state(self, value: S | None) -> None:
        call = self._running.writable("change state")
        if value is not None and not isinstance(value, self.state_classes):
            raise invalid_state(self.name, self.state_type, value)
        call.assign(value)

    @property
    def key(self) -> str:
        """The key of the message; for a command with ``key=new_key``, the key that it creates. Empty without a key."""
        return self._running.key

    @property
    def message_id(self) -> str:
        """The id of the message. It is the same if the message is handled again. Empty in a query."""
        call = self._running
        return call.message_id if isinstance(call, TurnCall) else ""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the message as it came, such as ``traceparent``; of several with one name, the first.

        Anybody who may send a message may set them. Who is allowed to send it is for the permissions of NATS.
        """
        call = self._running
        received = call.received if isinstance(call, TurnCall) else call
        return header_block.parse(getattr(received, "block", None))

    @property
    def due(self) -> float | None:
        """The time of the server at which the timer fired that sent the command, in Unix seconds; None for any other message.

        A command that runs late, since its actor was down or busy, has the time for which it was meant. So a handler that must
        have run for each day catches up: ``while (day := self.state.last + DAY) <= self.due``.
        """
        call = self._running
        return call.received.due if isinstance(call, TurnCall) and call.received is not None else None

    @property
    def now(self) -> float:
        """The time of the NATS server at which the handler first read it, in Unix seconds. It does not change while the handler runs.

        It is right even if the clock of this machine is not, so it may be compared with `deadline` and with dates of other
        actors. Without the permission to ask the server for its time, it is the time of this machine.
        """
        return self._running.now

    @property
    def deadline(self) -> float | None:
        """The time of the NATS server at which the caller stops waiting for the reply, in Unix seconds; None if there is none."""
        call = self._running
        clock = call.scope.clock
        return call.deadline + clock.offset + clock.ahead if call.deadline else None

    @property
    def attempt(self) -> int:
        """The number of this attempt to handle the message, from 1 on."""
        call = self._running
        return call.attempt if isinstance(call, TurnCall) else 1

    @property
    def attempts(self) -> int:
        """The number of attempts after which the message becomes a dead letter."""
        call = self._running
        return call.attempts if isinstance(call, TurnCall) else 1

    def emit(self, event: Event, *, id: str | None = None) -> None:
        """Add an event to the turn.

        The event is published if and only if the turn commits. Events of one key are published in the order of their emits.

        Args:
            event: An event of this actor.
            id: The id of the event; by default one that is derived from the id of this message. Events with the same id take
                effect once.

        Raises:
            DeclarationError: The event belongs to another actor, or the handler is that of a query.
            CodecError: The id is invalid.
        """
        self._running.writable("emit").emit(event, id)

    async def query(self, message: Query[R], *, timeout: float | None = None) -> R:
        """Send a query to an actor, and return the reply.

        Args:
            message: The query.
            timeout: Seconds; by default `Options.timeout`. The deadline of the caller applies in any case.

        Raises:
            RequestError: The query failed: `NotFound`, `NotDelivered`, `DeadlineExceeded` and so on.

        Example:
            user = await self.query(GetUser(message.user_id))
        """
        call = self._running.usable("query")
        if contract_of(message).op != "query":
            raise _wrong_operation(message, "query")
        return await call.scope.requests.request(message, command_id=None, timeout=timeout, call=call)

    async def command(self, message: Command[R], *, id: str | None = None, timeout: float | None = None) -> R:
        """Send a command to an actor, and return the reply after its turn is stored.

        The command is no part of this turn: it takes effect at once, and stays in effect whatever becomes of this turn. What must
        go together with the state is an event, or a command that is told (`tell`). The command leaves when the state on which this handler runs is stored; while a
        commit of the key is under way, it waits for that.

        The id of the command is derived from the id of this message, the number of the call in this handler, and the type
        and key of the command. If the handler runs again, its commands have the same ids and take effect once. Send the same
        commands in the same order in every run. A command whose other fields differ, the time for example, gets the reply of
        the first run, and its receiver logs the field. A handler that cannot send the same commands in each run gives each
        of them an `id`.

        Args:
            message: The command.
            id: The id of the command, in place of the derived one. The same command with the same id takes effect once.
            timeout: Seconds; by default `Options.timeout`. The deadline of the caller applies in any case.

        Raises:
            RequestError: The command failed. `RequestError.executed` reports whether it took effect.
            DeclarationError: The handler is that of a query.

        Example:
            payment = await self.command(ProcessPayment(self.key, total))
        """
        call = self._running.writable("command")
        if contract_of(message).op != "command":
            raise _wrong_operation(message, "command")
        command_id = call.next_id(message) if id is None else id
        return await call.scope.requests.request(message, command_id=command_id, timeout=timeout, call=call)

    def tell(self, message: Command[Any], *, id: str | None = None, after: float = 0.0) -> str:
        """Tell any actor to do something: a command that is stored with this turn, and that nobody here waits for.

        The command leaves if and only if the turn commits. The other actor runs it once in effect, with its `RetryPolicy`, and
        keeps it as a dead letter if it fails for good. If that actor is down, the command waits for it. Commands from one key
        to one key arrive in the order in which they are told. Those with `after` arrive in the order of their times.

        `command` returns the reply of a command that takes effect at once, and `emit` publishes an event to all that react.

        Args:
            message: A command of any actor, or of another key of this one.
            id: The id of the command; by default one that is derived from the id of this message.
            after: Seconds from now, up to a hundred years.

        Returns:
            The id of the command. If the handler runs again, it is the same.

        Raises:
            DeclarationError: `message` is no command, only timers of its actor may send it, `after` is invalid, or the
                handler is that of a query.
            CodecError: The key of the command is too long, or the id is invalid.

        Example:
            self.tell(ChargeCard(self.key, total))
        """
        contract = contract_of(message)
        handler = self.handlers.commands.get(contract.name) if contract.actor == self.name else None
        if handler is not None and handler.internal:
            raise DeclarationError(f"{contract.type.__name__} is internal: only timers send it: use self.remind(0, …)")
        return self._running.writable("tell").tell(message, after, id)

    def remind(self, after: float, message: Command[Any], *, name: str | None = None) -> str:
        """Set a timer, which sends a command to this actor once.

        The timer is set if and only if the turn commits. It is durable. It replaces a timer of the same key and name.

        Args:
            after: Seconds from now, up to a hundred years.
            message: A command of this actor and, if the actor has a state, of this key.
            name: The name of the timer, unique for the key; by default a new id.

        Returns:
            The name of the timer, for `cancel`.

        Raises:
            DeclarationError: `after` or `message` is invalid, or the handler is that of a query.

        Example:
            self.remind(3600, CancelOrder(self.key), name="payment-timeout")
        """
        call = self._running.writable("set a timer")
        timer = Timer(name or call.next_id(message), message, after)
        self._set_timer(call, timer)
        return timer.name

    def schedule(self, every: str, message: Command[Any], *, name: str, zone: str = "") -> None:
        """Set a schedule, which sends a command to this actor repeatedly, until it is cancelled or replaced.

        The schedule is set if and only if the turn commits. It is durable. It replaces a timer or schedule of the same key
        and name.

        Args:
            every: ``@every 1m30s`` (a second to a hundred years), ``@hourly``, ``@daily`` and so on, or a cron expression of
                six fields, seconds first: ``0 30 9 * * *``. It must match a time within five years.
            message: A command of this actor and, if the actor has a state, of this key.
            name: The name of the schedule, unique for the key.
            zone: A time zone that this machine and the server know, such as ``Europe/Berlin``; not allowed with ``@every``.

        Raises:
            DeclarationError: An argument is invalid, or the handler is that of a query.

        Example:
            self.schedule("@daily", SendReport(self.key), name="report", zone="Europe/Berlin")
        """
        call = self._running.writable("set a timer")
        if not every:
            raise DeclarationError(f"{self.name}: the schedule of timer {name!r} is empty")
        self._set_timer(call, Timer(name, message, schedule=every, zone=zone))

    def cancel(self, name: str) -> None:
        """Cancel a timer or schedule of this key, if it exists.

        It is cancelled if and only if the turn commits. Its command may arrive nevertheless if it is due before that, or shortly
        after, before the server has got the cancellation: at once, or from the next owner if this process dies just then. So the
        handler of the command has to check the state.

        Args:
            name: The name of the timer or schedule.

        Raises:
            DeclarationError: The handler is that of a query.
        """
        self._running.writable("set a timer").remind(Timer(name, None, cancel=True))

    async def checkpoint(self) -> None:
        """Commit the changes of this long job since it began, or since its last checkpoint, and go on.

        The state, events, timers and tells are stored, and queries see the state. If the job fails or its process ends, it begins
        again at its top, with the state of the last checkpoint. So a job is a loop over its state. Its messages between two
        checkpoints have the same ids in each run. Its attempts and its `limit` count anew.

        Raises:
            DeclarationError: The handler is not that of a long job (``@command(accept=True)``) of an actor with state.
            InvalidValue: A value does not fit its type.
            ActorError: The checkpoint is not stored, or another owner has the key. The run of the handler has ended: whatever it does
                with `self` after that raises, and the job runs again.

        Example:
            while page := self.state.next_page:
                self.state = self.state.with_rows(await fetch(page))
                await self.checkpoint()
        """
        call = self._running.writable("make a checkpoint")
        if call.on_checkpoint is None:
            raise DeclarationError(
                f"{self.name} {call.scope.source}: only a long job of an actor with state makes checkpoints: "
                "declare the command with @command(accept=True)"
            )
        await call.on_checkpoint()

    def on_commit(self, callback: Callable[[], object]) -> None:
        """Call a function once after the turn has committed, to count a metric for example.

        It is not called if the turn fails or is refused, and it may be lost if the process crashes. If it raises, the error is
        logged.

        Args:
            callback: A function without parameters. It must not block.

        Raises:
            DeclarationError: The handler is that of a query.
        """
        self._running.writable("wait for its commit").on_commit(callback)

    async def list(
        self, *, order: str | None = None, limit: int = 20, after: str | None = None, **filters: Any
    ) -> Page[S]:
        """Return one page of the states of all keys, by a declared `Index`.

        The list includes every turn that committed before the call, in all partitions of the keys.

        Args:
            order: The field that orders the list, descending with a ``-`` in front: ``"-created_date"``. It must be the
                `order` of the index.
            limit: Upper limit of states on the page, from 1 to 1000.
            after: The `next` of the preceding page; None for the first page.
            filters: The fields of the index and their values, which the listed states have: ``user_id="1"``. A value is of
                the field's type, or None; for an enum, its values are allowed, too.

        Raises:
            DeclarationError: No declared index has these filters and this order, or the value of a filter has another type.
            InvalidMessage: `after` is not a token of this list.
            NotDelivered: The keys are in several partitions, and one of them has no owner, or its owner does not answer.

        Example:
            page = await self.list(user_id=message.user_id, order="-created_date", after=message.page)
        """
        call = self._running.usable("list")
        lists = call.scope.lists
        if lists is None:
            raise DeclarationError(f"{self.name}: self.list needs an index: declare indexes=[Index(…)] on the class")
        return cast("Page[S]", await lists.page(filters, order, limit, after, call.deadline))

    def _set_timer(self, call: TurnCall, timer: Timer) -> None:
        """Leave a timer. Its command runs under the key of this call, so it must be a command of that key."""
        timer.check(self.name)
        if timer.name.startswith("@"):
            raise DeclarationError(
                f"{self.name}: the name of a timer cannot begin with @, as those of recurring commands do"
            )
        assert timer.message is not None
        contract = contract_of(timer.message)
        label = f"{contract.type.__name__}: a timer"
        if contract.name not in self.handlers.commands:
            raise DeclarationError(f"{label} is a command to oneself, and {self.name!r} has no handler for it")
        if self.state_type is not None:
            if contract.key_of is None:
                raise DeclarationError(f"{label} is for its own key, and this command creates a new one")
            if message_token(timer.message) != key_token(call.key):
                raise DeclarationError(
                    f"{label} of key {call.key!r} cannot send a command to key {contract.key_of(timer.message)!r}: "
                    "send that key a command that sets the timer"
                )
        call.remind(timer)

    @property
    def _running(self) -> Call:
        try:
            return self._call
        except AttributeError:
            raise RuntimeError(f"{type(self).__name__}: this works only while a message is being handled") from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "state" and hasattr(self, "_call"):
            raise AttributeError(
                f"{type(self).__name__}.{name}: an attribute that a handler sets is lost when the handler ends; "
                "keep data in self.state, and set the attributes of the service in on_start"
            )
        object.__setattr__(self, name, value)

    _call: Call
    """The call that this view belongs to. The actor itself is not a view and has none."""


set_call: Callable[[Actor[Any], Call], None] = Actor.__dict__["_call"].__set__
"""Turn a bare object into the view of a call. This bypasses `__setattr__`, which refuses attributes of a view."""


def require_actor(value: object, label: str | None = None) -> None:
    """Check that a value is the class of an actor.

    Args:
        value: The value.
        label: The name of the value in error texts; by default its own.

    Raises:
        DeclarationError: It is not a subclass of `Actor`, or it has no name.
    """
    if not isinstance(value, type):
        raise DeclarationError(f"{label or repr(value)} is not an actor: an actor is a subclass of runtime.Actor")
    label = label or value.__name__
    if not issubclass(value, Actor):
        raise DeclarationError(f"{label} is not an actor: an actor is a subclass of runtime.Actor")
    if getattr(value, "name", None) is None:
        raise DeclarationError(f'{label} has no name: declare name = "…" in the class')


def is_unnamed_actor(cls: type) -> bool:
    """Return whether a class has handlers, and neither it nor any subclass has a name, so that they are never used."""
    return (
        issubclass(cls, Actor)
        and getattr(cls, "name", None) is None
        and has_handlers(cls)
        and all(is_unnamed_actor(subclass) for subclass in cls.__subclasses__())
    )


def _wrong_operation(message: object, expected: str) -> DeclarationError:
    contract = contract_of(message)
    method = "emit" if contract.op == "event" else contract.op
    return DeclarationError(f"{type(message).__name__} is not a {expected}: use self.{method}")
