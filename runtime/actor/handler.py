"""The handler table of an actor class: collected from its decorated methods, and checked, when the class is made."""

import inspect
import typing
from collections.abc import Awaitable, Callable
from typing import Any, Literal, TypeVar, overload

import msgspec

from runtime.actor.message import Accepted, Contract, Event, NewKey, contract_of, path_reader
from runtime.actor.patterns import compile_pattern
from runtime.actor.query_check import check_reads_only
from runtime.errors import DeclarationError
from runtime.wire.codec import Codec, check_type

Verb = Literal["query", "command", "react"]

Function = TypeVar("Function", bound=Callable[..., Awaitable[Any]])

_MARK = "__actorloom__"


class Mark(msgspec.Struct, frozen=True):
    """What a decorator leaves on a method."""

    verb: Verb
    accept: bool = False
    where: dict[str, Any] | None = None
    key: str | None = None
    attempts: int | None = None


class Handler:
    """One row of the table: a message type, the method that handles it, and all that dispatch prepares from them."""

    __slots__ = (
        "accept",
        "attempts",
        "codec",
        "contract",
        "doc",
        "function",
        "key_of",
        "mark_suffix",
        "matches",
        "name",
        "reply",
        "source",
        "verb",
        "where",
    )

    def __init__(
        self, name: str, function: Callable[..., Awaitable[Any]], mark: Mark, contract: Contract, keyed: bool
    ) -> None:
        self.name = name
        self.source = f"{mark.verb}.{name}"
        self.function = function
        self.verb: Verb = mark.verb
        self.accept = mark.accept
        self.contract = contract
        self.reply: Any = contract.reply
        self.doc = inspect.getdoc(function) or ""
        self.codec: Codec[Any] = Codec(contract.type)
        check_type(contract.reply)
        self.where = mark.where
        self.matches = compile_pattern(mark.where) if mark.where is not None else None
        self.attempts = mark.attempts
        self.key_of = path_reader(contract.type, mark.key, name) if mark.key else contract.key_of
        self.mark_suffix = f".{name}" if mark.verb == "react" else ""
        """Follows an event's id in the record: each reaction to it is handled for itself, also one that is added later."""
        if keyed and self.key_of is None and mark.verb != "query" and not isinstance(contract.key, NewKey):
            raise DeclarationError(
                f"{name}: {contract.type.__name__} has no key, but the actor has a state for each key"
            )


def query(function: Function) -> Function:
    """Mark a method as the handler of a query. It reads; it cannot emit, command or change state."""
    return _mark(function, Mark("query"))


@overload
def command(function: Function, /) -> Function: ...
@overload
def command(*, accept: bool = False) -> Callable[[Function], Function]: ...
def command(function: Any = None, /, *, accept: bool = False) -> Any:
    """Mark a method as the handler of a command.

    ``accept=True``: a long job. The reply is `Accepted`, given once the command is stored; the handler then runs, again if
    the process dies, and returns None: its outcome is an event.
    """
    if function is not None:
        return _mark(function, Mark("command"))
    return lambda target: _mark(target, Mark("command", accept=accept))


@overload
def react(function: Function, /) -> Function: ...
@overload
def react(
    *, where: dict[str, Any] | None = None, key: str | None = None, attempts: int | None = None
) -> Callable[[Function], Function]: ...
def react(
    function: Any = None, /, *, where: dict[str, Any] | None = None, key: str | None = None, attempts: int | None = None
) -> Any:
    """Mark a method as a reaction to an event: at least once on the wire, once in effect, in order per key.

    `where` is a content pattern over the event's JSON (EventBridge's rules, see `runtime.actor.patterns`); `key` the path of the key
    where it is not the event's own; `attempts` how often it is tried before it becomes a dead letter.
    """
    if function is not None:
        return _mark(function, Mark("react"))
    return lambda target: _mark(target, Mark("react", where=where, key=key, attempts=attempts))


def _mark(function: Any, mark: Mark) -> Any:
    if not inspect.iscoroutinefunction(function):
        raise DeclarationError(f"{getattr(function, '__qualname__', function)}: a handler is an async function")
    setattr(function, _MARK, mark)
    return function


class HandlerTable:
    """The handlers of one actor: queries and commands by name, reactions by event type."""

    __slots__ = ("commands", "queries", "reactions")

    def __init__(self, actor: str, cls: type, keyed: bool) -> None:
        self.queries: dict[str, Handler] = {}
        self.commands: dict[str, Handler] = {}
        self.reactions: dict[type[Event], list[Handler]] = {}
        for attribute in dir(cls):
            function = getattr(cls, attribute, None)
            mark = getattr(function, _MARK, None)
            if isinstance(mark, Mark) and function is not None:
                self._add(actor, cls, attribute, function, mark, keyed)

    def _add(self, actor: str, cls: type, attribute: str, function: Any, mark: Mark, keyed: bool) -> None:
        where = f"{cls.__name__}.{attribute}"
        message_type, returns = _signature(where, function)
        contract = contract_of(message_type)
        expected = "event" if mark.verb == "react" else mark.verb
        if contract.op != expected:
            raise DeclarationError(
                f"{where}: @{mark.verb} cannot handle {message_type.__name__}, which is a {contract.op}"
            )
        handler = Handler(attribute, function, mark, contract, keyed)
        if mark.verb == "react":
            if returns not in (None, type(None)):
                raise DeclarationError(f"{where}: a reaction returns nothing: an event has no reply")
            handlers = self.reactions.setdefault(contract.type, [])  # type: ignore[arg-type]
            handlers.append(handler)
            return
        if contract.actor != actor:
            raise DeclarationError(f"{where}: {message_type.__name__} belongs to {contract.actor!r}, not to {actor!r}")
        _check_reply(where, handler, returns)
        if mark.verb == "query":
            check_reads_only(where, function)
        table = self.queries if mark.verb == "query" else self.commands
        other = table.setdefault(contract.name, handler)
        if other is not handler:
            raise DeclarationError(f"{where}: {message_type.__name__} has a handler already: {other.name}")


def _check_reply(where: str, handler: Handler, returns: Any) -> None:
    declared = handler.reply
    if handler.accept:
        if declared is not Accepted or returns not in (None, type(None)):
            raise DeclarationError(f"{where}: a long job is a Command[Accepted], and its handler returns None")
        return
    if declared is None:
        declared = type(None)
    if returns is None:
        returns = type(None)
    if returns != declared:
        raise DeclarationError(
            f"{where} returns {_show(returns)}, but {handler.contract.type.__name__} promises {_show(declared)}"
        )


def _show(kind: Any) -> str:
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


def _signature(where: str, function: Any) -> tuple[type, Any]:
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2:
        raise DeclarationError(f"{where}: a handler takes self and one message")
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise DeclarationError(
            f"{where}: {error}; message types are imported at run time, not under TYPE_CHECKING"
        ) from None
    if parameters[1].name not in hints or "return" not in hints:
        raise DeclarationError(f"{where}: annotate the message and the reply")
    return hints[parameters[1].name], hints["return"]
