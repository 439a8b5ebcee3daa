"""What one page of a list asks for: which declared index serves it, from which position on, and the form of page tokens.

A position depends on the value and the key only. So a page token means the same in each number of partitions, and survives a
repartition.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from runtime.actor.index_values import Scalar, Scale, same
from runtime.actor.indexes import Index
from runtime.errors import DeclarationError, InvalidMessage

MAX_PAGE: Final = 1000
"""Items of one page at most."""
_INVALID_TOKEN = "the page token is not one that a list gave out"

Position = tuple[bool, Any, str]
"""The position of a key in an index: whether it has a value to order by, the scalar of that value, and its token, which breaks ties."""
StoredPosition = tuple[bool, Scalar, str]
"""The form of a position in page tokens and messages."""

NOWHERE: Final = object()
"""The group of states whose value of the filtered field has no scalar: no list has them."""


class Selection(NamedTuple):
    """What one page asks for."""

    number: int
    """The number of the index."""
    group: Any
    """The scalar of the value by which the index is filtered; None for no value, or if it is not filtered."""
    descending: bool
    limit: int
    """The most items of the page."""
    after: Position | None
    """The position behind which the page begins; None for the first page."""


class Declared:
    """The declared indexes of one actor type.

    Args:
        actor: The name of the actor.
        indexes: The indexes.
        scales: The scale of each field that they name.
    """

    def __init__(self, actor: str, indexes: tuple[Index, ...], scales: Mapping[str, Scale]) -> None:
        self.actor = actor
        self.indexes = indexes
        self._scales = scales
        self._places = [
            (self._reading(each.field), self._placing(each.field), self._reading(each.order), self._placing(each.order))
            for each in indexes
        ]
        """For each index, two functions for each of its fields: one returns the value in a state (None if there is no such
        field), the other one the scalar of a value (None if that is the value)."""

    def select(self, filters: dict[str, Any], order: str | None, limit: int, after: str | None) -> Selection:
        """Return what a page asks for, given the arguments of `Actor.list`.

        Raises:
            DeclarationError: No declared index serves this filter and order, or an argument has a wrong type.
            InvalidMessage: The page token is invalid.
        """
        number = self._choose(filters, order.lstrip("-") if order else None)
        group = self._group(*next(iter(filters.items()))) if filters else None
        if type(limit) is not int:
            raise DeclarationError(f"list: limit = {limit!r} is no whole number")
        start = self._read_token(number, after) if after else None
        descending = order is not None and order.startswith("-")
        return Selection(number, group, descending, max(1, min(limit, MAX_PAGE)), start)

    def find(self, field: str | None, order: str | None) -> int | None:
        """Return the number of the index with this field and this order; None if there is none."""
        return next((n for n, each in enumerate(self.indexes) if (each.field, each.order) == (field, order)), None)

    def place(self, number: int, state: Any, token: str) -> tuple[Any, Position]:
        """Return the scalar of the field by which an index is filtered, or `NOWHERE`, and the position of a state.

        A value to order by that has no scalar counts as none, so that lists are complete. No turn leaves such a value, but
        a record may be older than the index.
        """
        read_group, place_group, read_value, place_value = self._places[number]
        group = None if read_group is None else read_group(state)
        value = None if read_value is None else read_value(state)
        if place_group is not None and group is not None:
            try:
                group = place_group(group)
            except ValueError:
                group = NOWHERE
        if place_value is not None and value is not None:
            try:
                value = place_value(value)
            except ValueError:
                value = None
        return group, (value is not None, value, token)

    def store_group(self, number: int, group: Any) -> Scalar:
        """Return the scalar of a filter in the form that a message can hold."""
        field = self.indexes[number].field
        return None if field is None or group is None else self._scales[field].store(group)

    def load_group(self, number: int, stored: Scalar) -> Any:
        """Return the scalar of a filter. Raises `ValueError` if it is not of the field's type."""
        field = self.indexes[number].field
        return None if field is None or stored is None else self._scales[field].load(stored)

    def store(self, number: int, position: Position) -> StoredPosition:
        """Return a position in the form that a token or a message can hold."""
        order, (has_value, value, token) = self.indexes[number].order, position
        return has_value, None if order is None or not has_value else self._scales[order].store(value), token

    def load(self, number: int, stored: StoredPosition) -> Position:
        """Return a position, given the form of `store`. Raises `ValueError` if the index has no such position."""
        order, (has_value, value, token) = self.indexes[number].order, stored
        if has_value != (value is not None) or (has_value and order is None):
            raise ValueError(stored)
        return has_value, self._scales[order].load(value) if order is not None and has_value else None, token

    def token(self, number: int, position: Position) -> str:
        """Return the page token of a position."""
        data = msgspec.json.encode(self.store(number, position))
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    def _read_token(self, number: int, text: str) -> Position:
        try:
            padded = text + "=" * (-len(text) % 4)
            stored = _decode_position(base64.b64decode(padded, altchars=b"-_", validate=True))
            return self.load(number, stored)
        except (ValueError, msgspec.DecodeError, UnicodeDecodeError):
            raise InvalidMessage(_INVALID_TOKEN) from None

    def _choose(self, filters: dict[str, Any], order: str | None) -> int:
        """Return the number of the index that serves a filter and an order."""
        if len(filters) > 1:
            raise DeclarationError(f"{self.actor}: list() filters by one attribute, not by {', '.join(filters)}")
        field = next(iter(filters), None)
        for number, index in enumerate(self.indexes):
            if index.field == field and (order is None or index.order == order):
                return number
        wanted = f"Index({field!r}, order={order!r})" if order else f"Index({field!r})"
        raise DeclarationError(f"{self.actor}: this list needs a declared {wanted}")

    def _group(self, field: str, value: Any) -> Any:
        """Return the scalar of the value of a filter. Raises `DeclarationError` if it is not of the field's type."""
        scale = self._scales[field]
        if value is not None and not scale.accepts(value):
            raise DeclarationError(f"{self.actor}: list: {field} = {value!r} is not {scale.label}")
        try:
            return self._place(field, value)
        except ValueError as error:
            raise DeclarationError(f"{self.actor}: list: {field} = {value!r} {error}") from None

    def _reading(self, field: str | None) -> Callable[[Any], Any] | None:
        return None if field is None else self._scales[field].read

    def _placing(self, field: str | None) -> Callable[[Any], Any] | None:
        place = None if field is None else self._scales[field].place
        return None if place is same else place

    def _place(self, field: str, value: Any) -> Any:
        return None if value is None else self._scales[field].place(value)


_decode_position = msgspec.json.Decoder(StoredPosition).decode
