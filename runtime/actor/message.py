"""Messages: typed contracts that carry their owner, their key and their reply type.

A message is a frozen `msgspec.Struct`. A caller imports another service's messages and never its actor::

    class GetOrder(Query[Order], actor="orders", key="order_id"):
        order_id: str

Checked when the class is made: `DeclarationError` where a name is no subject token, a key names no field, or an event
declares a reply.
"""

import re
import warnings
from collections.abc import Callable
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    Self,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

import msgspec

from runtime.errors import CodecError, DeclarationError
from runtime.wire.subjects import snake_case, valid_name

R = TypeVar("R", covariant=True)

Op = Literal["query", "command", "event"]


class NewKey:
    """The type of `new_key`."""

    def __repr__(self) -> str:
        return "new_key"


declared: dict[str, dict[str, "Contract"]] = {}
"""All contracts declared in this process, by actor and then by operation and name (``command.create_order``)."""

new_key = NewKey()
"""``key=new_key``: the command creates its key, which is derived from the command's id (a UUIDv5)."""


class NamingWarning(UserWarning):
    """A command that is no imperative, or an event that is not in the past tense; opt out with ``naming=False``."""


class Accepted(msgspec.Struct, frozen=True):
    """The reply of a command that is a long job: it is stored, and will run. The outcome is an event.

    `id` is the command's id.
    """

    id: str


class Contract(msgspec.Struct, frozen=True, eq=False):
    """What a message class declares: operation, owner, wire name, key and reply type."""

    op: Op
    actor: str
    name: str
    type: type[msgspec.Struct]
    reply: Any
    key: str | NewKey | None
    key_of: Callable[[Any], str] | None
    """Reads the key from a message; None where the message has no key of its own."""

    @property
    def type_name(self) -> str:
        """``orders.OrderCreated``: the CloudEvents type."""
        return f"{self.actor}.{self.type.__name__}"


def path_reader(root: type, path: str, what: str) -> Callable[[Any], str]:
    """Return a function that reads the dotted attribute `path` of a `root` as a key (a string).

    Raises `DeclarationError` where a field of the path does not exist; integers are written in decimal. The function
    raises `CodecError` for a message that has none there (an optional part of the path that is absent).
    """
    names = path.split(".")
    kind: Any = root
    for name in names:
        fields = {f.name: f.type for f in msgspec.structs.fields(kind)} if _is_struct(kind) else None
        if fields is not None and name not in fields:
            raise DeclarationError(f"{what}: key {path!r}: {kind.__name__} has no field {name!r}")
        kind = fields[name] if fields is not None else Any
        if get_origin(kind) is Annotated:  # constraints of msgspec: a key may have them
            kind = get_args(kind)[0]
    if kind not in (str, int, Any):
        raise DeclarationError(f"{what}: key {path!r} must be a str or int, not {kind!r}")
    if len(names) == 1 and kind is str:
        from operator import attrgetter

        return attrgetter(path)

    def read(message: Any) -> str:
        value = message
        for name in names:
            value = getattr(value, name, None)
        if not isinstance(value, str | int):
            raise CodecError(f"{type(message).__name__}: there is no key at {path!r}")
        return str(value)

    return read


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class MessageMeta(msgspec.StructMeta):
    """Takes ``actor=``, ``key=`` and ``naming=`` in a message's class line, and hangs a `Contract` on the class."""

    def __new__(
        mcls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, Any],
        *,
        actor: str | None = None,
        key: str | NewKey | None = None,
        naming: bool = True,
        **config: Any,
    ) -> Any:
        cls = cast(Any, super().__new__(mcls, name, bases, namespace, **config))
        if actor is not None:
            contract = cls.__contract__ = _contract(cls, namespace, actor, key)
            declared.setdefault(actor, {})[f"{contract.op}.{contract.name}"] = contract
            if naming:
                _check_naming(cls.__contract__)
        elif key is not None:
            raise DeclarationError(f"{name}: key= without actor=: name the actor that owns this message")
        return cls


class Message(msgspec.Struct, frozen=True, metaclass=MessageMeta):
    """The root of `Query`, `Command` and `Event`; not subclassed directly."""

    __contract__: ClassVar[Contract]


class Query(Message, Generic[R], frozen=True):
    """Asks one actor for current data, and changes nothing: always a reply of type `R`.

    Without a key it is about all keys of the actor.
    """


class Command(Message, Generic[R], frozen=True):
    """Tells one actor to do something; the reply `R` comes when it is done and durable (``Command[None]``: no result)."""


class Event(Message, frozen=True):
    """Something that happened. No target, no reply."""

    @classmethod
    def of(cls, source: object, **changes: Any) -> Self:
        """Return an event with the fields of `source` (any object that has them as attributes), and `changes`."""
        fields = {name: getattr(source, name) for name in cls.__struct_fields__ if hasattr(source, name)}
        return cls(**{**fields, **changes})


def contract_of(message: object) -> Contract:
    """Return the contract of a message or message class; `DeclarationError` where it is none."""
    contract = getattr(message, "__contract__", None)
    if isinstance(contract, Contract):
        return contract
    name = message.__name__ if isinstance(message, type) else type(message).__name__
    raise DeclarationError(f"{name} is not a message: subclass Query, Command or Event with actor=…")


def _contract(cls: Any, namespace: dict[str, Any], actor: str, key: str | NewKey | None) -> Contract:
    op: Op | None = next((op for base, op in _OPS.items() if issubclass(cls, base)), None)
    name = cls.__name__
    if op is None:
        raise DeclarationError(f"{name}: subclass Query[…], Command[…] or Event")
    if not valid_name(actor):
        raise DeclarationError(f"{name}: actor={actor!r} is no valid name: lower-case letters, digits, '-' and '_'")
    if not valid_name(snake_case(name)):
        raise DeclarationError(
            f"{name} gives no valid name on the wire: letters and digits of ASCII, and a letter first"
        )
    if isinstance(key, NewKey) and op != "command":
        raise DeclarationError(f"{name}: only a command creates its key (key=new_key)")
    if not cls.__struct_config__.frozen:
        raise DeclarationError(f"{name}: a message is immutable; remove frozen=False")
    read = path_reader(cls, key, name) if isinstance(key, str) else None
    return Contract(op, actor, snake_case(name), cls, _reply_type(cls, namespace, op), key, read)


def _reply_type(cls: type, namespace: dict[str, Any], op: Op) -> Any:
    if op == "event":
        return None
    for base in namespace.get("__orig_bases__", ()):
        if get_origin(base) in (Query, Command):
            return get_args(base)[0]
    inherited = getattr(cls, "__contract__", None)
    if isinstance(inherited, Contract):
        return inherited.reply
    raise DeclarationError(
        f"{cls.__name__}: say what the reply is: {op.capitalize()}[Reply], or {op.capitalize()}[None]"
    )


# Past participles that do not end in -ed, as far as events are usually named.
_IRREGULAR = frozenset(
    "begun bought broken brought built chosen done drawn driven fallen felt found gone given grown held hidden kept known laid "
    "left lent lost made met paid put read reset risen run said seen sent set shown shut sold spent spun split stolen "
    "struck taken thrown told torn understood withdrawn won written".split()
)


def _check_naming(contract: Contract) -> None:
    words = contract.name.split("_")
    last, first = words[-1], words[0]
    if contract.op == "event" and not (last.endswith("ed") or last in _IRREGULAR):
        _warn(f"event {contract.type.__name__} is not in the past tense (e.g. OrderCreated)")
    if contract.op == "command" and (
        re.search(r"(ed|ing)$", first) and first not in {"feed", "need", "bring", "ring", "seed"}
    ):
        _warn(f"command {contract.type.__name__} is not an imperative (e.g. CreateOrder)")


def _warn(text: str) -> None:
    warnings.warn(f"{text}; opt out with naming=False", NamingWarning, stacklevel=4)


_OPS: dict[type, Op] = {Query: "query", Command: "command", Event: "event"}
