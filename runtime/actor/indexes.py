"""Indexes over the states of an actor, and the pages that its lists return."""

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Generic, TypeVar, Union

import msgspec

from runtime.actor.index_values import Scale, may_be_naive, scale_of
from runtime.actor.state_type import classes_of, members_of
from runtime.errors import DeclarationError, InvalidValue
from runtime.wire.codec import name_of

T = TypeVar("T")


class Index(msgspec.Struct, frozen=True):
    """An index over the states of an actor, for `Actor.list`.

    The values of both fields are of str, int, float, bool, date, Decimal, UUID, an enum of str or of int (by its values), or
    aware datetimes (``Annotated[datetime, msgspec.Meta(tz=True)]``, by their instants). None is allowed as well, and comes first.
    A turn fails with `InvalidValue` if it leaves a value that has no order, such as ``Decimal("NaN")``. If the states are of
    several types, each has the field, with values of one kind. The field with their tags, ``type`` by default, may be named, too:
    ``Index("type")``.

    Example:
        class Orders(Actor[Order], indexes=[Index("user_id", order="created_date")]):
            name = "orders"

            @query
            async def list_orders(self, message: ListOrders) -> list[Order]:
                page = await self.list(user_id=message.user_id, order="-created_date")
                return page.items
    """

    field: str | tuple[str, ...] | None = None
    """The field of the state by which a list is filtered, or several: ``("user_id", "status")``. A list names all of them, in any
    order. Without it, the index covers all keys."""
    order: str | None = None
    """The field of the state by which a list is ordered. Without it, the order is that of the keys."""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields by which a list is filtered, in the order of their names: that of the declaration has no meaning."""
        if self.field is None:
            return ()
        return (self.field,) if isinstance(self.field, str) else tuple(sorted(self.field))

    def __repr__(self) -> str:
        named = [repr(self.field)] if self.field is not None else []
        return f"Index({', '.join(named + ([f'order={self.order!r}'] if self.order is not None else []))})"


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list."""

    items: list[T]
    """The states, in order."""
    next: str | None = None
    """The token of the following page, for `after` of `Actor.list`; None if this page is the last."""


def scales_of(label: str, indexes: tuple[Index, ...], state_type: Any) -> dict[str, Scale]:
    """Check the indexes of an actor, and return the scale of each field that they name.

    Args:
        label: The name of the actor's class in error texts.
        indexes: The declared indexes.
        state_type: The type of the actor's states; None if it has no state.

    Raises:
        DeclarationError: An index names a field that a state may not have, or whose values have no order.
    """
    names = [name for index in indexes for name in (*index.fields, index.order) if name is not None]
    if indexes and state_type is None:
        raise DeclarationError(f"{label}: an actor without state cannot have indexes: subclass Actor[State]")
    return {name: _scale(label, name, state_type) for name in names}


def _scale(label: str, name: str, state_type: Any) -> Scale:
    """Return the scale of a field of the states, or of the tag that tells the members of a union apart."""
    members, classes = members_of(state_type), classes_of(state_type)
    if all(cls.__struct_config__.tag_field == name for cls in classes):
        scale = scale_of(type(classes[0].__struct_config__.tag))
        assert scale is not None, "a tag is a str or an int"
        return scale._replace(read=lambda state: state.__struct_config__.tag)
    kinds: list[Any] = []
    for member in members:
        found = [field.type for field in msgspec.structs.fields(member) if field.name == name]
        if not found:
            raise DeclarationError(f"{label}: an index names the field {name!r}, which {name_of(member)} does not have")
        kinds += found
    kind = Union[tuple(kinds)]  # noqa: UP007 - of types that are known at run time only
    scale = scale_of(kind)
    if scale is None:
        raise DeclarationError(f"{label}: an index names {name_of(state_type)}.{name}, {_fault(kind)}")
    return scale._replace(read=attrgetter(name))


def _fault(kind: Any) -> str:
    if may_be_naive(kind):
        return "which may have datetimes without a time zone: declare it as Annotated[datetime, msgspec.Meta(tz=True)]"
    return (
        "whose values have no order: index a field of str, int, float, bool, date, aware datetime, Decimal, UUID, or of an "
        "enum of str or of int (None is allowed as well)"
    )


def check_states(state_type: Any, scales: dict[str, Scale]) -> Callable[[Any], None] | None:
    """Return the check whether the indexes can hold a state; None if they can hold each one of its type.

    The check raises `InvalidValue`, which names the field: the turn fails before its commit.
    """
    checked = [(name, scale) for name, scale in scales.items() if not scale.always]
    if not checked:
        return None

    def check(state: Any) -> None:
        for name, scale in checked:
            value = scale.read(state)
            if value is not None:
                try:
                    scale.place(value)
                except ValueError as error:
                    field = f"{name_of(state_type)}.{name}"
                    raise InvalidValue(f"the state has no place in an index: {field} = {value!r} {error}") from None

    return check
