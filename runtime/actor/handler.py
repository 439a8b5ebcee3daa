"""The handler table of an actor. It is collected from the decorated methods of a class, and checked, when the class is created."""

import inspect
import re
import typing
from collections.abc import Awaitable, Callable
from types import UnionType
from typing import Any, cast

from runtime.actor.decorators import Mark, Verb, mark_of
from runtime.actor.key_reader import path_reader
from runtime.actor.message import (
    Accepted,
    Command,
    Contract,
    Event,
    NewKey,
    Op,
    codec_of,
    contract_of,
    declared,
    encode_message,
)
from runtime.actor.patterns import compile_where
from runtime.actor.query_check import check_reads_only
from runtime.actor.schedules import schedule_fault
from runtime.actor.since import read_since
from runtime.bounds import Count, fault
from runtime.errors import CodecError, DeclarationError
from runtime.wire.codec import Codec, name_of
from runtime.wire.fingerprint import fingerprint
from runtime.wire.schemas import check_schema
from runtime.wire.subjects import valid_name

_REACTION_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")

_DECORATORS: dict[Op, Verb] = {"query": "query", "command": "command", "event": "react"}
"""The decorator for the handlers of each kind of message."""


class Handler:
    """One row of the handler table: a message type, the method that handles it, and everything prepared from them.

    Args:
        label: The class and method in error texts: ``Orders.create_order``.
        method: The name of the method.
        function: The method.
        mark: The arguments of its decorator.
        contract: The contract of the message type.
        keyed: Whether the actor has a state.
        shared: Whether the method reacts to events of other types, too, each by a handler of its own.

    Raises:
        DeclarationError: The key or the pattern is invalid, or the actor has a state and the message no key.
    """

    __slots__ = (
        "accept",
        "alias",
        "attempts",
        "by_id",
        "codec",
        "contract",
        "doc",
        "every",
        "fingerprint",
        "function",
        "id_suffix",
        "internal",
        "key_of",
        "key_path",
        "keyed",
        "limit",
        "matches",
        "method",
        "name",
        "recurring",
        "reply",
        "result",
        "run",
        "since",
        "source",
        "sources",
        "type_name",
        "verb",
        "wanted",
        "where",
        "zone",
    )

    def __init__(
        self,
        label: str,
        method: str,
        function: Callable[..., Awaitable[Any]],
        mark: Mark,
        contract: Contract,
        keyed: bool,
        shared: bool = False,
    ) -> None:
        name = _reaction_name(mark, label) or method
        self.method = method
        """The name of the method."""
        self.name, self.alias = name, f"{name}_{contract.name}" if mark.verb == "react" else name
        """The name of the handler, and the one that a reaction to this event would have if its method reacted to several
        types of events, or to this one only. What was stored under the other name belongs to it."""
        if shared:
            self.name, self.alias = self.alias, self.name
        self.source = f"{mark.verb}.{name}"
        """The operation, for error texts."""
        self.function = function
        self.run = function
        """Runs the method on the view of an actor: the method itself, unless the class overrides `Actor.on_message`."""
        self.verb: Verb = mark.verb
        self.accept = mark.accept
        self.internal = mark.internal
        """Whether only the timers of the actor may send the command."""
        self.contract = contract
        self.type_name = contract.type_name.encode()
        """The type of the message in fingerprints."""
        self.fingerprint = fingerprint(self.type_name)
        """Of each event of a reaction: an event's id stands for it, whatever its body."""
        self.reply: Any = contract.reply
        self.doc = inspect.getdoc(function) or ""
        self.codec = codec_of(contract.type)
        if not self.takes_all:
            check_schema(contract.type)
        check_schema(contract.reply, f"the reply of {contract.type.__name__}")
        self.result: Codec[Any] = Codec(None if mark.accept else contract.reply)
        """The codec of the values that the method returns. A reaction and a long job return None."""
        self.wanted = mark.where if callable(mark.where) else None
        """Returns for the actor and an event whether the event is handled; None without such a function."""
        pattern, kind = (None if callable(mark.where) else mark.where), None if self.takes_all else contract.type
        self.where, self.matches = compile_where(pattern, kind, f"{label}: where")
        """The content pattern, and its predicate over the decoded JSON of an event; None without a pattern."""
        self.sources = _sources(label, mark, self.takes_all)
        """The actors whose events an `AnyEvent` is; None for all."""
        self.by_id = mark.by_id
        """Whether the id of the command stands for it, whatever its body."""
        self.limit = mark.limit
        """Seconds that one run may take; None for `Options.limit`."""
        if mark.attempts is not None and (reason := fault(mark.attempts, Count)) is not None:
            raise DeclarationError(f"{label}: attempts = {mark.attempts!r}: {reason}")
        self.attempts = mark.attempts
        """The attempts before a dead letter; None for the number in the retry policy."""
        self.since = read_since(mark.since, label)
        """The start of a reaction: ``first``, ``new`` or a time in UTC."""
        key = mark.key or contract.key
        self.key_path = key if isinstance(key, str) else ""
        """The path of the field with the key; empty if messages of this type have no key, or create it."""
        self.key_of = _key_reader(label, mark, contract)
        """Reads the key from a message; None if messages of this type have no key."""
        self.keyed = keyed
        """Whether the actor has a state."""
        self.every, self.zone = mark.every, mark.zone
        """The schedule of a recurring command, and its time zone; empty for any other."""
        self.recurring = _recurring(label, mark, contract, self.key_of) if mark.every or mark.zone else None
        """The command that recurs."""
        self.id_suffix = f".{name}" if mark.verb == "react" else ""
        """Follows the id of an event in the record, since each reaction to an event is handled by itself.

        It depends on the name of the method alone, so that a reaction that is added later changes no other id."""
        if keyed and self.key_of is None and mark.verb != "query" and not isinstance(contract.key, NewKey):
            place = "@react(key=…)" if mark.verb == "react" else "key=… in the class line of the message"
            raise DeclarationError(
                f"{label}: {contract.type.__name__} has no key, but the actor has a state for each key: declare {place}"
            )

    @property
    def takes_all(self) -> bool:
        """Whether it is a reaction to events of any type."""
        return self.contract.op == "event" and not self.contract.actor

    def fingerprint_of(self, type_name: bytes, body: bytes) -> str:
        """Return the fingerprint of a command of this handler, given the type under which it came, and its body."""
        return self.fingerprint if self.by_id else fingerprint(type_name, body)


def _key_reader(label: str, mark: Mark, contract: Contract) -> Callable[[Any], str] | None:
    """Return the function that reads the key from a message; None if messages of this type have no key."""
    key: Any = mark.key  # as an application has given it
    if key is not None and not isinstance(key, str):
        raise DeclarationError(f"{label}: key={key!r} must be the path of a field, such as key='new.order_id'")
    if key is None and not contract.actor:
        return contract.key_of
    key = key or contract.key
    return path_reader(contract.type, key, label) if isinstance(key, str) else None


def _sources(label: str, mark: Mark, takes_all: bool) -> tuple[str, ...] | None:
    """Return the actors whose events a reaction to `AnyEvent` receives; None for all. Raises `DeclarationError` if they are invalid."""
    sources: Any = mark.sources
    if sources is None:
        return None
    if not takes_all:
        raise DeclarationError(f"{label}: sources= is for reactions to AnyEvent: the class of an event names its actor")
    names = tuple(sources) if isinstance(sources, list | tuple | set | frozenset) else ()
    if not names or not all(isinstance(name, str) and valid_name(name) for name in names):
        raise DeclarationError(f"{label}: sources={sources!r} must be a list of names of actors")
    return names


def _recurring(label: str, mark: Mark, contract: Contract, key_of: Callable[[Any], str] | None) -> Command[Any]:
    """Return the command that a handler with ``every=`` gets again and again. Raises `DeclarationError` if it has none."""
    if (fault := schedule_fault(mark.every, mark.zone)) is not None:
        raise DeclarationError(f"{label}: every: {fault}")
    name = contract.type.__name__
    if isinstance(contract.key, NewKey):
        raise DeclarationError(f"{label}: every: {name} makes a new key each time: give it a field with its key")
    try:
        message = cast("Command[Any]", contract.type())
        encode_message(message)
        if key_of is not None:
            key_of(message)
    except (TypeError, CodecError) as error:
        raise DeclarationError(
            f"{label}: every: {name} is sent with the defaults of its fields, and has none that fit: {error}"
        ) from None
    return message


def _reaction_name(mark: Mark, label: str) -> str:
    """Return the declared name of a reaction; empty if it has none."""
    if mark.name is None:
        return ""
    if not isinstance(mark.name, str) or _REACTION_NAME.fullmatch(mark.name) is None:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DeclarationError(
            f"{label}: name={mark.name!r}: use letters, digits and underscores, as in a method's name"
        )
    return mark.name


class HandlerTable:
    """The handlers of one actor.

    Args:
        actor: The name of the actor.
        cls: Its class.
        keyed: Whether it has a state.
        intercepts: Whether it overrides `Actor.on_message`.

    Raises:
        DeclarationError: A handler has an invalid declaration, or a message has two handlers.
    """

    __slots__ = ("commands", "queries", "reactions")

    def __init__(self, actor: str, cls: type, keyed: bool, intercepts: bool = False) -> None:
        self.queries: dict[str, Handler] = {}
        """The handlers of queries, by the name of the message on the wire: ``get_order``."""
        self.commands: dict[str, Handler] = {}
        """The handlers of commands, by the name of the message on the wire."""
        self.reactions: dict[type[Event], list[Handler]] = {}
        """The reactions, by the type of the event."""
        for attribute in dir(cls):
            function = getattr(cls, attribute, None)
            if (mark := mark_of(function)) is not None:
                self._add(actor, cls, attribute, function, mark, keyed)
        if intercepts:
            for handler in self.all():
                handler.run = _intercepted(handler.function)
        self._check_former_names(actor)
        for attribute in dir(cls):
            self._check_undecorated(f"{cls.__name__}.{attribute}", getattr(cls, attribute, None))
        for contract in declared.get(actor, {}).values():
            if contract.op == "event":
                check_schema(contract.type)

    def all(self) -> list[Handler]:
        """Return all handlers."""
        reactions = (handler for handlers in self.reactions.values() for handler in handlers)
        return [*self.queries.values(), *self.commands.values(), *reactions]

    def _check_undecorated(self, label: str, function: Any) -> None:
        """Raise `DeclarationError` if a public coroutine method takes a message that no handler takes."""
        if label.rpartition(".")[2].startswith("_") or not inspect.iscoroutinefunction(function):
            return
        if mark_of(function) is not None or len(inspect.signature(function).parameters) != 2:
            return
        _, message = inspect.signature(function).parameters.values()
        try:
            kind = typing.get_type_hints(function).get(message.name)
        except NameError:  # a type that only a type checker imports is not that of a handler
            return
        contract = getattr(kind, "__contract__", None)
        if not isinstance(contract, Contract) or self._handles(contract):
            return
        raise DeclarationError(
            f"{label} takes a {contract.type.__name__} and has no decorator: add @{_DECORATORS[contract.op]}, "
            "or begin its name with '_'"
        )

    def unhandled(self, actor: str, module: str) -> list[Contract]:
        """Return the declared queries and commands of an actor that have no handler.

        Args:
            actor: The name of the actor.
            module: The module of its class. Messages are looked for there and in the modules of the handled messages,
                since another module may declare messages for a stub of the actor.
        """
        handlers = (*self.queries.values(), *self.commands.values())
        modules = {module, *(handler.contract.type.__module__ for handler in handlers)}
        return [
            contract
            for contract in declared.get(actor, {}).values()
            if contract.op != "event" and contract.type.__module__ in modules and not self._handles(contract)
        ]

    def _check_former_names(self, actor: str) -> None:
        """Raise `DeclarationError` if two commands have or had the same name."""
        owners = {handler.contract.type.__name__: handler for handler in self.commands.values()}
        for handler in self.commands.values():
            for former in handler.contract.formerly:
                if owners.setdefault(former, handler) is not handler:
                    raise DeclarationError(
                        f"{handler.contract.type.__name__}: formerly={former!r} is also a name of "
                        f"{owners[former].contract.type.__name__}, another command of {actor}"
                    )

    def _handles(self, contract: Contract) -> bool:
        found = {"query": self.queries, "command": self.commands, "event": self.reactions}[contract.op]
        return (contract.type if contract.op == "event" else contract.name) in found

    def all_reactions(self) -> list[Handler]:
        """Return all reactions in one list."""
        return [handler for handlers in self.reactions.values() for handler in handlers]

    def _add(self, actor: str, cls: type, attribute: str, function: Any, mark: Mark, keyed: bool) -> None:
        label = f"{cls.__name__}.{attribute}"
        message_types, returns = _signature(label, function)
        for message_type in message_types:
            contract = contract_of(message_type)
            wanted = _DECORATORS[contract.op]
            if mark.verb != wanted:
                article = "an" if contract.op == "event" else "a"
                raise DeclarationError(
                    f"{label}: @{mark.verb} cannot handle {message_type.__name__}, "
                    f"which is {article} {contract.op}: use @{wanted}"
                )
        several = len(message_types) > 1
        if several and mark.verb != "react":
            raise DeclarationError(f"{label}: a handler takes one type of message; only a reaction may take several")
        for message_type in message_types:
            handler = Handler(label, attribute, function, mark, contract_of(message_type), keyed, several)
            if mark.verb == "react":
                self._add_reaction(actor, label, handler, returns)
            else:
                self._add_request(actor, label, handler, returns)

    def _add_reaction(self, actor: str, label: str, handler: Handler, returns: Any) -> None:
        if returns not in (None, type(None)):
            raise DeclarationError(f"{label}: a reaction must return None, since an event has no reply")
        if handler.name in [each.name for each in self.all_reactions()]:
            raise DeclarationError(f"{label}: another reaction of {actor!r} has the name {handler.name!r}")
        self.reactions.setdefault(handler.contract.type, []).append(handler)  # type: ignore[arg-type]

    def _add_request(self, actor: str, label: str, handler: Handler, returns: Any) -> None:
        contract = handler.contract
        if contract.actor != actor:
            raise DeclarationError(
                f"{label}: {contract.type.__name__} belongs to actor {contract.actor!r}: {actor!r} cannot handle it"
            )
        _check_reply(label, handler, returns)
        if handler.verb == "query":
            check_reads_only(label, handler.function)
        table = self.queries if handler.verb == "query" else self.commands
        other = table.setdefault(contract.name, handler)
        if other is not handler:
            raise DeclarationError(
                f"{label}: {contract.type.__name__} has a handler already: {label.rpartition('.')[0]}.{other.method}"
            )


def _intercepted(function: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    """Return the function that runs a method inside of `Actor.on_message`."""

    def run(view: Any, message: Any) -> Awaitable[Any]:
        called = False

        def handle() -> Awaitable[Any]:
            nonlocal called
            if called:
                raise RuntimeError(f"{type(view).__name__}.on_message: handle can be called once")
            called = True
            return function(view, message)

        return cast("Awaitable[Any]", view.on_message(message, handle))

    return run


def has_handlers(cls: type) -> bool:
    """Return whether a class has or inherits a decorated method."""
    return any(mark_of(getattr(cls, attribute, None)) is not None for attribute in dir(cls))


def _check_reply(label: str, handler: Handler, returns: Any) -> None:
    declared = handler.reply
    if handler.accept:
        if declared is not Accepted or returns not in (None, type(None)):
            raise DeclarationError(f"{label}: accept=True needs a Command[Accepted], and a handler that returns None")
        return
    if declared is None:
        declared = type(None)
    if returns is None:
        returns = type(None)
    if returns != declared:
        raise DeclarationError(
            f"{label} returns {name_of(returns)}, but the reply of {handler.contract.type.__name__} "
            f"is {name_of(declared)}"
        )


def _signature(label: str, function: Any) -> tuple[tuple[Any, ...], Any]:
    """Return the annotated types of the message, of which a union has several, and that of the reply."""
    parameters = list(inspect.signature(function).parameters.values())
    if len(parameters) != 2:
        raise DeclarationError(f"{label}: a handler must have two parameters, self and the message")
    try:
        hints = typing.get_type_hints(function)
    except NameError as error:
        raise DeclarationError(f"{label}: {error}; import message types at run time, not under TYPE_CHECKING") from None
    if parameters[1].name not in hints or "return" not in hints:
        raise DeclarationError(f"{label}: annotate the type of the message and the type of the reply")
    kind = hints[parameters[1].name]
    kind = getattr(kind, "__value__", kind)  # ``type Name = …`` of Python 3.12
    several = typing.get_origin(kind) in (typing.Union, UnionType)
    return typing.get_args(kind) if several else (kind,), hints["return"]
