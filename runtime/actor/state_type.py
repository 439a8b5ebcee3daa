"""The type of the states of an actor, read from its class line: ``class Orders(Actor[Order])``."""

from collections.abc import Callable
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec.inspect import CustomType, DataclassType, DecimalType, StructType, Type

from runtime.errors import DeclarationError
from runtime.wire.codec import UNENCODABLE, Codec, encode, encode_in_order, name_of, undefined_type
from runtime.wire.type_parts import has_mutable_parts, has_sets, parts_of

_VALUES = (None, True, 1, 1.5, "", [], {})
"""A value of each kind that JSON has."""


class StateCodec(Codec[Any]):
    """Encodes and decodes the states of an actor, and keeps the handlers of different messages apart (ADR 003).

    Args:
        kind: The type of the states.

    Raises:
        DeclarationError: The type is dangerous on the wire, or has a part that JSON cannot be read as.
    """

    __slots__ = ("_has_sets", "check", "comparable", "mutable")

    def __init__(self, kind: Any) -> None:
        super().__init__(kind)
        for part in parts_of(kind):
            if isinstance(part, CustomType) and not _is_readable(part.cls):
                raise DeclarationError(
                    f"{name_of(kind)}: no state can have a {part.cls}, since JSON cannot be read as one"
                )
        self._has_sets = has_sets(kind)
        self.mutable = has_mutable_parts(kind)
        """Whether a state has a part that can be changed in place, such as a list. Other states need no copies."""
        self.comparable = all(map(_is_comparable, parts_of(kind)))
        """Whether states that are read from the same JSON are equal. Unlike states then have unlike JSON."""
        self.check: Callable[[Any], None] | None = None
        """Raises `InvalidValue` for a state that an index cannot hold; None if each state has a place in all indexes."""

    def copy(self, state: Any) -> Any:
        """Return the state that one handler gets: a copy if the type has mutable parts."""
        return self.decode_json(encode(state)) if self.mutable and state is not None else state

    def is_changed(self, copy: Any, state: Any) -> bool:
        """Return whether a handler has changed its `copy` of `state` in place.

        The JSON is compared, since unlike values may be equal, and a class with eq=False has no other comparison.
        """
        if not self.mutable:
            return False
        try:
            if encode(copy) == encode(state):
                return False
            # Equal sets may differ in their order.
            return not self._has_sets or (copy != state and encode_in_order(copy) != encode_in_order(state))
        except UNENCODABLE:
            return True  # It has a part that no state can have.


def _is_comparable(part: Type) -> bool:
    """Return whether the values of a part can be compared by their content. Those of a class with eq=False cannot."""
    if isinstance(part, StructType):
        cls: Any = get_origin(part.cls) or part.cls
        return cls.__struct_config__.eq and cls.__eq__ is msgspec.Struct.__eq__
    # A signaling NaN raises when it is compared.
    return not isinstance(part, CustomType | DataclassType | DecimalType)


def _is_readable(kind: Any) -> bool:
    """Return whether a value of JSON can be a value of a class that msgspec does not know, as it can be of `object`."""
    try:
        return any(isinstance(value, get_origin(kind) or kind) for value in _VALUES)
    except TypeError:
        return False


def find_state_type(cls: type, generic: type) -> Any:
    """Return the type of the states of an actor.

    Args:
        cls: The class of the actor.
        generic: The generic class, `Actor`, with whose parameter `cls` or one of its bases declares the type.

    Returns:
        The type, or None for an actor without state.

    Raises:
        DeclarationError: The type is neither a frozen struct nor a union of frozen structs with tags.
    """
    for base in cls.__mro__:
        for parent in base.__dict__.get("__orig_bases__", ()):
            if isinstance(get_origin(parent), type) and issubclass(get_origin(parent), generic):
                state = _argument_of(parent, generic)
                is_own = base is cls and get_origin(parent) is generic
                if isinstance(state, TypeVar) or (state is Any and not is_own):
                    continue  # A mixin, ``class Audited(Actor[Any])``, is for actors with any state and without one.
                if state is type(None):
                    return None  # ``Audited[None]``, of a generic mixin, is for an actor without state.
                state = getattr(state, "__value__", state)  # ``type Name = …`` of Python 3.12
                _check_members(cls.__name__, state)
                return state
    return None


def _argument_of(parent: Any, generic: type) -> Any:
    """Return what a parametrised base, such as ``Audited[Order]``, has for the parameter of `generic`."""
    origin: Any = get_origin(parent)
    if origin is generic:
        return get_args(parent)[0]
    given = dict(zip(origin.__parameters__, get_args(parent), strict=False))
    for base in origin.__orig_bases__:
        if isinstance(get_origin(base), type) and issubclass(get_origin(base), generic):
            state = _argument_of(base, generic)
            return given.get(state, state) if isinstance(state, TypeVar) else state
    return Any  # a mixin with parameters of its own only, whose bases name no state


def members_of(state_type: Any) -> tuple[Any, ...]:
    """Return the structs of a state's type: the members of a union, or the type itself."""
    return get_args(state_type) if get_origin(state_type) in (Union, UnionType) else (state_type,)


def classes_of(state_type: Any) -> tuple[Any, ...]:
    """Return the classes of the states of a type, for `isinstance`: a struct with type arguments is no class."""
    return tuple(get_origin(member) or member for member in members_of(state_type))


def _check_members(label: str, state_type: Any) -> None:
    """Raise `DeclarationError` if a type cannot be that of states."""
    members = members_of(state_type)
    if type(None) in members:
        raise DeclarationError(
            f"{label}: the state {name_of(state_type)}: leave None out, since each key may have no state"
        )
    for member, kind in zip(members, classes_of(state_type), strict=True):
        if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.frozen):
            raise DeclarationError(
                f"{label}: the state {name_of(member)} must be a msgspec.Struct with frozen=True, or a union of them"
            )
        if len(members) > 1 and kind.__struct_config__.tag is None:
            raise DeclarationError(
                f"{label}: {name_of(member)} is one of several types of states, and needs a tag, by which its JSON is "
                "recognized: declare tag=True in its class line"
            )
    try:
        msgspec.json.Decoder(state_type)
    except TypeError as error:
        raise DeclarationError(f"{label}: the state {name_of(state_type)}: {error}") from None
    except NameError as error:
        raise undefined_type(name_of(state_type), error) from None


def invalid_state(actor: str, expected: Any, value: object) -> DeclarationError:
    """Return the error of a handler that assigns a state which does not have the declared type, if there is one."""
    if expected is None:
        return DeclarationError(f"{actor}: an actor without state cannot assign self.state: subclass Actor[State]")
    return DeclarationError(f"{actor}: self.state must be a {name_of(expected)} or None, not a {type(value).__name__}")
