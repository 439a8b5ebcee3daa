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

StoredGroup = list[Scalar]
"""The form of a group in messages: the scalar of each field by which the index is filtered."""

NOWHERE: Final = object()
"""The group of states of which a value to filter by has no scalar: no list has them."""


class Selection(NamedTuple):
    """What one page asks for."""

    number: int
    """The number of the index."""
    group: Any
    """The scalar of the value by which the index is filtered (None for no value, or if it is not filtered), or the tuple of
    several."""
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
            (self._grouping(each.fields), self._grouping((each.order,) if each.order else ())) for each in indexes
        ]
        """For each index, the functions that return the group of a state, and the scalar that orders it."""

    def select(self, filters: dict[str, Any], order: str | None, limit: int, after: str | None) -> Selection:
        """Return what a page asks for, given the arguments of `Actor.list`.

        Raises:
            DeclarationError: No declared index serves this filter and order, or an argument has a wrong type.
            InvalidMessage: The page token is invalid.
        """
        number = self._choose(filters, order.lstrip("-") if order else None)
        group = _grouped([self._group(name, filters[name]) for name in self.indexes[number].fields])
        if type(limit) is not int:
            raise DeclarationError(f"list: limit = {limit!r} is no whole number")
        start = self._read_token(number, after) if after else None
        descending = order is not None and order.startswith("-")
        return Selection(number, group, descending, max(1, min(limit, MAX_PAGE)), start)

    def find(self, wanted: Index) -> int | None:
        """Return the number of the index with these fields and this order; None if there is none."""
        form = wanted.fields, wanted.order
        return next((n for n, each in enumerate(self.indexes) if (each.fields, each.order) == form), None)

    def place(self, number: int, state: Any, token: str) -> tuple[Any, Position]:
        """Return the group of a state in an index, or `NOWHERE`, and its position.

        The group is the scalar of the field by which the index is filtered, or the tuple of several. A value to order by that
        has no scalar counts as none, so that lists are complete. No turn leaves such a value, but a record may be older than
        the index.
        """
        place_group, place_value = self._places[number]
        try:
            group = place_group(state)
        except ValueError:
            group = NOWHERE
        try:
            value = place_value(state)
        except ValueError:
            value = None
        return group, (value is not None, value, token)

    def store_group(self, number: int, group: Any) -> StoredGroup:
        """Return the group of a selection in the form that a message can hold."""
        fields = self.indexes[number].fields
        return [
            None if each is None else self._scales[name].store(each)
            for name, each in zip(fields, _parts(group, len(fields)), strict=True)
        ]

    def load_group(self, number: int, stored: StoredGroup) -> Any:
        """Return a group, given the form of `store_group`. Raises `ValueError` if it is not of the fields' types."""
        fields = self.indexes[number].fields
        return _grouped(
            [None if each is None else self._scales[name].load(each) for name, each in zip(fields, stored, strict=True)]
        )

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
        fields = tuple(sorted(filters))
        for number, index in enumerate(self.indexes):
            if index.fields == fields and (order is None or index.order == order):
                return number
        raise DeclarationError(f"{self.actor}: this list needs a declared {index_over(fields, order)!r}")

    def _group(self, field: str, value: Any) -> Any:
        """Return the scalar of the value of a filter. Raises `DeclarationError` if it is not of the field's type."""
        scale = self._scales[field]
        if value is not None and not scale.accepts(value):
            raise DeclarationError(f"{self.actor}: list: {field} = {value!r} is not {scale.label}")
        try:
            return self._place(field, value)
        except ValueError as error:
            raise DeclarationError(f"{self.actor}: list: {field} = {value!r} {error}") from None

    def _grouping(self, fields: tuple[str, ...]) -> Callable[[Any], Any]:
        """Return the function that returns the scalar of a field in a state, or the tuple of several; see `_placing`."""
        places = [self._placing(field) for field in fields]
        if len(places) > 1:
            return lambda state: tuple([place(state) for place in places])
        return places[0] if places else lambda _: None

    def _placing(self, field: str) -> Callable[[Any], Any]:
        """Return the function that returns the scalar of a field in a state. It raises `ValueError` for a value without one."""
        scale = self._scales[field]
        read, place = scale.read, scale.place
        if place is same:
            return read

        def placed(state: Any) -> Any:
            value = read(state)
            return None if value is None else place(value)

        return placed

    def _place(self, field: str, value: Any) -> Any:
        return None if value is None else self._scales[field].place(value)


def index_over(fields: tuple[str, ...], order: str | None) -> Index:
    """Return the index that is filtered by some fields and ordered by another one."""
    return Index(fields if len(fields) > 1 else next(iter(fields), None), order)


def _grouped(parts: list[Any]) -> Any:
    """Return the group that the scalars of some fields make: that of a single field, or the tuple of several."""
    return tuple(parts) if len(parts) > 1 else next(iter(parts), None)


def _parts(group: Any, count: int) -> tuple[Any, ...]:
    """Return the scalars of a group, given the number of its fields."""
    return group if count > 1 else (group,) * count


_decode_position = msgspec.json.Decoder(StoredPosition).decode
