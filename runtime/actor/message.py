"""The base classes of messages: queries, commands and events.

A message is a frozen `msgspec.Struct`. Its class line declares the actor that owns it, its key and the type of its reply. A
caller imports the messages of another service, but not its actor::

    class GetOrder(Query[Order], actor="orders", key="order_id"):
        order_id: str

The class is checked when it is created. `DeclarationError` is raised if a name cannot be part of a subject, or if the key is
not a field.
"""

import re
import warnings
from collections.abc import Callable
from functools import cache
from typing import (
    Any,
    ClassVar,
    ForwardRef,
    Generic,
    Literal,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec

from runtime.actor.key_reader import key_reader
from runtime.errors import DeclarationError
from runtime.wire.codec import Codec, undefined_type
from runtime.wire.subjects import KINDS, snake_case, valid_name
from runtime.wire.tokens import key_token

R = TypeVar("R", covariant=True)

Op = Literal["query", "command", "event"]
"""The kinds of messages."""


class NewKey:
    """The type of `new_key`."""

    def __repr__(self) -> str:
        return "new_key"


declared: dict[str, dict[str, "Contract"]] = {}
"""All contracts of this process, by actor, and then by kind and name: ``command.create_order``."""

new_key = NewKey()
"""In a class line, ``key=new_key``: the command creates its key, a UUIDv5 that is derived from the id of the command."""


class NamingWarning(UserWarning):
    """The name of a command is not an imperative, or the name of an event is not in the past tense.

    ``naming=False`` in the class line switches the check off.
    """


class Accepted(msgspec.Struct, frozen=True):
    """The reply to a long job (``@command(accept=True)``): the command is stored, and will run.

    An event reports the outcome.
    """

    id: str
    """The id of the command."""
    key: str = ""
    """The key under which it runs: with ``key=new_key``, the one that it creates. Empty without a key."""


class Contract(msgspec.Struct, frozen=True, eq=False):
    """The declaration of a message class."""

    op: Op
    """The kind of the message."""
    actor: str
    """The name of the actor that owns the message."""
    name: str
    """The name on the wire: ``create_order`` for the class `CreateOrder`."""
    type: type[msgspec.Struct]
    """The class."""
    declared_reply: Any
    """The type of the reply as it is written in the class line; None for an event."""
    key: str | NewKey | None
    """The path of the key's field, `new_key`, or None for a message without a key."""
    key_of: Callable[[Any], str] | None
    """Reads the key from a message; None if the message has no field with the key."""
    formerly: tuple[str, ...] = ()
    """The former names of the class."""
    type_name: str = ""
    """The CloudEvents type: ``orders.OrderCreated``."""
    encode: Callable[[Any], bytes] | None = None
    """Returns the JSON of a message; None for a class whose fields are those of the JSON."""

    @property
    def class_name(self) -> str:
        """The name of the class of the message: ``CreateOrder``. An `AnyCommand` has that of the command that it sends."""
        return self.type_name.rpartition(".")[2]

    @property
    def reply(self) -> Any:
        """The type of the reply; None for an event. A type in quotes may be defined later than the message."""
        if not _has_quotes(self.declared_reply):
            return self.declared_reply
        holder = type(
            "Holder", (), {"__annotations__": {"reply": self.declared_reply}, "__module__": self.type.__module__}
        )
        try:
            return get_type_hints(holder, include_extras=True)["reply"]
        except NameError as error:
            raise undefined_type(self.type.__name__, error) from None


def _has_quotes(kind: Any) -> bool:
    return isinstance(kind, str | ForwardRef) or any(map(_has_quotes, get_args(kind)))


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class MessageMeta(msgspec.StructMeta):
    """The metaclass of messages: it turns ``actor=``, ``key=``, ``naming=`` and ``formerly=`` of a class line into a `Contract`."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        actor: str | None = None,
        key: str | NewKey | None = None,
        naming: bool = True,
        formerly: str | tuple[str, ...] = (),
        **config: Any,
    ) -> Any:
        cls = cast(Any, super().__new__(mcls, name, bases, namespace, **config))
        if actor is not None:
            contract = cls.__contract__ = _contract(cls, namespace, actor, key, formerly)
            _declare(contract)
            if naming:
                _check_naming(cls.__contract__)
        elif key is not None or formerly:
            given = "formerly" if key is None else "key"
            raise DeclarationError(f"{name}: {given}= without actor=: declare the actor that owns the message, actor=…")
        elif isinstance(base := getattr(cls, "__contract__", None), Contract):
            raise DeclarationError(
                f"{name} derives from {base.type.__name__}, but is a message of its own: "
                f"declare the actor that owns it, actor={base.actor!r}"
            )
        return cls


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))  # mypy ignores the one of the metaclass
class Message(msgspec.Struct, frozen=True, metaclass=MessageMeta):
    """The root of `Query`, `Command` and `Event`. An application does not subclass it directly."""

    __contract__: ClassVar[Contract]


class Query(Message, Generic[R], frozen=True):
    """The base class of queries. A query asks one actor for data and changes nothing. Its reply has the type `R`.

    A query without a key asks about all keys of the actor.

    Args:
        actor: In the class line: the name of the actor that handles it.
        key: In the class line: the path of the field that has the key. A class that derives from another message has its
            key by default.

    Example:
        class GetOrder(Query[Order], actor="orders", key="order_id"):
            order_id: str
    """


class Command(Message, Generic[R], frozen=True):
    """The base class of commands. A command has one actor do something. Its reply has the type `R`.

    The reply is sent after the effects are stored. A ``Command[None]`` has an empty reply.

    Args:
        actor: In the class line: the name of the actor that handles it.
        key: In the class line: the path of the field that has the key, or `new_key` for a command that creates its key.
        naming: In the class line: False permits a name that is not an imperative.
        formerly: In the class line: the former name of the class, or a tuple of them: ``formerly="DropOrder"``. Timers,
            schedules, long jobs and dead letters that were stored under that name run the handler of this class.

    Example:
        class CancelOrder(Command[None], actor="orders", key="order_id"):
            order_id: str
    """


class Event(Message, frozen=True):
    """The base class of events. An event reports something that happened. It has no receiver and no reply.

    Args:
        actor: In the class line: the name of the actor that emits it.
        key: In the class line: the path of the field that has the key. Events of one key are handled in order.
        naming: In the class line: False permits a name that is not in the past tense.

    Example:
        class OrderCreated(Event, actor="orders", key="order_id"):
            order_id: str
            total: int
    """

    @classmethod
    def of(cls, source: object, **changes: Any) -> Self:
        """Return an event that copies its fields from another object.

        Args:
            source: An object, such as a state. Its attributes with the names of the event's fields are copied.
            changes: Fields with other values.

        Example:
            self.emit(OrderCreated.of(self.state, total=5))
        """
        fields = {name: getattr(source, name) for name in cls.__struct_fields__ if hasattr(source, name)}
        return cls(**{**fields, **changes})


def contract_of(message: object) -> Contract:
    """Return the contract of a message or of a message class.

    Raises:
        DeclarationError: `message` is neither of them.
    """
    contract = getattr(message, "__contract__", None)
    if isinstance(contract, Contract):
        return contract
    name = message.__name__ if isinstance(message, type) else type(message).__name__
    raise DeclarationError(f"{name} is not a message: subclass Query, Command or Event with actor=…")


@cache
def codec_of(kind: Any) -> Codec[Any]:
    """Return the codec of a message class. It is made once, when the class is first used.

    Raises:
        DeclarationError: The type is dangerous on the wire, or not defined.
    """
    return Codec(kind, repeatable=True)


def encode_message(message: Message) -> bytes:
    """Return the JSON of a message, which its receiver can read.

    Raises:
        InvalidValue: The message does not fit its own type. The text names the field.
    """
    contract = contract_of(message)
    return codec_of(contract.type).encode(message, contract.op) if contract.encode is None else contract.encode(message)


def message_token(message: Message) -> str:
    """Return the key of a message as one token of a subject; empty if its class has no key.

    Raises:
        InvalidValue: The field of the key has a value of another type.
        CodecError: The key is too long, or an optional part of its path is absent.
    """
    return token_by(contract_of(message), message)


def token_by(contract: Contract, message: Message) -> str:
    """Return what `message_token` returns, for a message whose contract is known."""
    if contract.key_of is None:
        return ""
    key: Any = contract.key_of(message)
    if not isinstance(key, str):
        encode_message(message)  # raises: the field of the key is declared as text
    return key_token(key)


def _contract(cls: Any, namespace: dict[str, Any], actor: str, key: str | NewKey | None, formerly: Any) -> Contract:
    op: Op | None = next((op for base, op in _OPS.items() if issubclass(cls, base)), None)
    name = cls.__name__
    if op is None:
        raise DeclarationError(f"{name} is not a message: subclass Query[…], Command[…] or Event")
    if not valid_name(actor):
        raise DeclarationError(
            f"{name}: actor={actor!r} is not a valid name: "
            "use lower-case letters, digits, '-' and '_', with a letter first"
        )
    if actor in KINDS:
        raise reserved_name(f"{name}: actor={actor!r}")
    if op == "event" and snake_case(name) in KINDS:
        raise reserved_name(name)
    if not valid_name(snake_case(name)):
        raise DeclarationError(
            f"{name} has no valid name on the wire: use ASCII letters and digits, with a letter first"
        )
    if isinstance(key, NewKey) and op != "command":
        raise DeclarationError(f"{name}: key=new_key is for commands only")
    if not cls.__struct_config__.frozen:
        raise DeclarationError(f"{name}: a message is immutable; remove frozen=False")
    if key is None and isinstance(inherited := getattr(cls, "__contract__", None), Contract):
        key = inherited.key
    read = key_reader(cls, key) if isinstance(key, str) else None
    former = _former_names(name, op, formerly)
    return Contract(
        op, actor, snake_case(name), cls, _reply_type(cls, namespace, op), key, read, former, f"{actor}.{name}"
    )


def _former_names(name: str, op: Op, formerly: Any) -> tuple[str, ...]:
    former = (formerly,) if isinstance(formerly, str) else formerly
    if former and op != "command":
        raise DeclarationError(f"{name}: formerly= is for commands only: timers and long jobs are commands")
    valid = isinstance(former, tuple) and all(isinstance(each, str) and each.isidentifier() for each in former)
    if not valid or name in former:
        raise DeclarationError(
            f"{name}: formerly={formerly!r} must be the former name of the class, or a tuple of them"
        )
    return former


def reserved_name(place: str) -> DeclarationError:
    """Return the error of an actor or event whose name is that of a kind of messages."""
    return DeclarationError(
        f"{place} is reserved: in subjects, {', '.join(sorted(KINDS))} are kinds of messages, and permissions name them"
    )


def _declare(contract: Contract) -> None:
    """Enter a contract in `declared`. A class may be defined again, for example by a module that is loaded again."""
    contracts = declared.setdefault(contract.actor, {})
    entry = f"{contract.op}.{contract.name}"
    other = contracts.get(entry)
    if other is not None and other.type.__name__ != contract.type.__name__:
        raise DeclarationError(
            f"{contract.type.__name__} and {other.type.__name__} have the same name on the wire, "
            f"{contract.op} {contract.name!r} of actor {contract.actor!r}: rename one of them"
        )
    contracts[entry] = contract


def _reply_type(cls: type, namespace: dict[str, Any], op: Op) -> Any:
    if op == "event":
        return None
    for base in namespace.get("__orig_bases__", ()):
        if get_origin(base) in (Query, Command):
            return get_args(base)[0]
    inherited = getattr(cls, "__contract__", None)
    if isinstance(inherited, Contract):
        return inherited.declared_reply
    raise DeclarationError(
        f"{cls.__name__}: declare the type of the reply: {op.capitalize()}[Reply], or {op.capitalize()}[None]"
    )


_IRREGULAR = frozenset(
    "begun bent bitten blown born bought bound broken brought built burnt burst cast caught chosen cut dealt done drawn driven dug "
    "eaten fallen felt flown forbidden forgotten fought found frozen given gone got grown heard held hidden hit hung hurt kept "
    "known laid learnt left lent let lit lost made met mistaken paid proven put quit read ridden risen run rung said seen sent set shaken "
    "shot shown shrunk shut slept slid sold spent split spoken spread spun stolen stood struck stuck sunk swept sworn taken taught "
    "thought thrown told torn understood upset withdrawn woken won worn wound woven written".split()
)
"""The past participles without -ed that are common in the names of events."""
_PREFIX = re.compile("broad|fore|out|over|pre|re|under|un")
"""What may stand before a participle: ``rebuilt``, ``overwritten``."""
_PARTICLES = frozenset("away back down in off on out over through up".split())
"""What may stand behind a participle: ``UserLoggedIn``."""
_IMPERATIVES = frozenset(
    "bed bleed breed embed exceed feed heed need proceed seed shed shred speed succeed wed weed".split()
)
"""The verbs that end with -ed in the imperative."""


def naming_fault(contract: Contract) -> str:
    """Return why the name of a command is no imperative, or that of an event not in the past tense; empty if it may be one."""
    words = contract.name.split("_")
    last = next((word for word in reversed(words) if word not in _PARTICLES), "")
    if contract.op == "event" and not _is_participle(last):
        return f"event {contract.type.__name__} is not in the past tense (as in OrderCreated)"
    if contract.op == "command" and not _may_be_imperative(words[0]):
        return f"command {contract.type.__name__} is not an imperative (as in CreateOrder)"
    return ""


def _is_participle(word: str) -> bool:
    prefix = _PREFIX.match(word)
    return word.endswith("ed") or word in _IRREGULAR or (prefix is not None and word[prefix.end() :] in _IRREGULAR)


def _may_be_imperative(word: str) -> bool:
    if word.endswith("ing"):
        return re.search("[aeiouy]", word[:-3]) is None  # ``ping`` and ``string`` are verbs, ``going`` is none
    return not word.endswith("ed") or word in _IMPERATIVES


def _check_naming(contract: Contract) -> None:
    if fault := naming_fault(contract):
        warnings.warn(f"{fault}; naming=False in the class line permits it", NamingWarning, stacklevel=3)


_OPS: dict[type, Op] = {Query: "query", Command: "command", Event: "event"}
"""The kind of the messages below each base class."""
