"""Indexes over the states of an actor, and the pages that its lists return."""

from types import UnionType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from runtime.errors import DeclarationError

T = TypeVar("T")


class Index(msgspec.Struct, frozen=True):
    """An index over the states of an actor, for `Actor.list`.

    The values of both fields must be strings or numbers; None is allowed as well.

    Example:
        class Orders(Actor[Order], indexes=[Index("user_id", order="created_date")]):
            name = "orders"

            @query
            async def list_orders(self, message: ListOrders) -> list[Order]:
                page = await self.list(user_id=message.user_id, order="-created_date")
                return page.items
    """

    field: str | None = None
    """The field of the state by which a list is filtered. Without it, the index covers all keys."""
    order: str | None = None
    """The field of the state by which a list is ordered. Without it, the order is that of the keys."""


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: list[T]
    """The states, in order."""
    next: str | None = None
    """The token of the following page, for `after` of `Actor.list`; None if this page is the last."""


def check_indexes(label: str, indexes: tuple[Index, ...], state_type: type[msgspec.Struct] | None) -> None:
    """Check the indexes of an actor.

    Args:
        label: The name of the actor's class in error texts.
        indexes: The declared indexes.
        state_type: The type of the actor's states; None if it has no state.

    Raises:
        DeclarationError: An index names a field that the state does not have, or whose values have no order.
    """
    if not indexes:
        return
    if state_type is None:
        raise DeclarationError(f"{label}: an actor without state cannot have indexes: subclass Actor[State]")
    kinds = {field.name: field.type for field in msgspec.structs.fields(state_type)}
    for name in (name for index in indexes for name in (index.field, index.order) if name is not None):
        if name not in kinds:
            raise DeclarationError(
                f"{label}: an index names the field {name!r}, which {state_type.__name__} does not have"
            )
        if _ordered_type(kinds[name]) is None:
            raise DeclarationError(
                f"{label}: an index names {state_type.__name__}.{name}, whose values have no order: "
                "index a field of strings or of numbers (None is allowed as well)"
            )


def _ordered_type(kind: Any) -> type | None:
    """Return the type by which the values of `kind` are ordered: ``str`` or ``float``, or None for mixed or other values."""
    origin = get_origin(kind)
    if origin is Annotated:
        return _ordered_type(get_args(kind)[0])
    if origin is Literal:
        found = {_ordered_type(type(value)) for value in get_args(kind)}
    elif origin is Union or origin is UnionType:
        found = {_ordered_type(part) for part in get_args(kind) if part is not type(None)}
    elif not isinstance(kind, type):
        return None
    else:
        return str if issubclass(kind, str) else float if issubclass(kind, int | float) else None
    return found.pop() if len(found) == 1 else None
