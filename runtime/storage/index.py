"""Indexes over the states of an actor, from which list queries are answered.

The indexes are in the memory of the owner. They are rebuilt from the newest record of each key when an owner starts, and
updated by each commit before its reply is sent. A list therefore includes every turn that was committed before the list
was requested. Records that another writer stores are learned later (ADR 016).
"""

import base64
import logging
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import msgspec

from runtime.actor.indexes import Index, Page
from runtime.errors import DeclarationError, InvalidMessage
from runtime.nats.jetstream.client import JetStream
from runtime.storage.journal import Journal
from runtime.storage.ordered import Ordered
from runtime.storage.record import Unreadable, check_subject, decode_record
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

_MAX_PAGE = 1000
"""Items of one page at most."""
_PROGRESS = 50_000
"""Keys after which a rebuild logs its progress."""
_INVALID_TOKEN = "the page token is not one that a list gave out"

Position = tuple[bool, Any, str]
"""The position of a key in an index: whether it has a value to order by, that value, and its token, which breaks ties."""


class Indexes:
    """All declared indexes of one actor type.

    Args:
        actor: The name of the actor.
        indexes: The declared indexes.
        read_states: Returns the states of keys, given their tokens; None for a key without a state or an unreadable one.
    """

    def __init__(
        self, actor: str, indexes: tuple[Index, ...], read_states: Callable[[list[str]], Awaitable[list[Any]]]
    ) -> None:
        self._actor = actor
        self._indexes = indexes
        self._read_states = read_states
        self._groups: list[dict[Any, Ordered[Position]]] = [{} for _ in indexes]
        """For each index, the ordered positions of the keys that share a value of its field."""
        self._known: dict[str, tuple[tuple[Any, Position], ...]] = {}
        """For each key token, its group and its position in each index."""
        self.refresh: Callable[[], Awaitable[None]] | None = None
        """Called before each page while two owners have keys, during a hand-over: tells `update` the states that the other one stores."""

    def __len__(self) -> int:
        """Return the number of keys that have a state."""
        return len(self._known)

    def update(self, token: str, state: Any) -> None:
        """Move a key to the positions of its new state; None removes the key."""
        before = self._known.get(token)
        after = None if state is None else tuple(self._position(index, state, token) for index in self._indexes)
        for number, groups in enumerate(self._groups):
            old = None if before is None else before[number]
            new = None if after is None else after[number]
            if old == new:
                continue
            if old is not None:
                _remove(groups, *old)
            if new is not None:
                _add(groups, *new)
        if after is not None:
            self._known[token] = after
        elif before is not None:
            del self._known[token]

    async def page(self, filters: dict[str, Any], order: str | None, limit: int, after: str | None) -> Page[Any]:
        """Return one page of a list; see `Actor.list`.

        Raises:
            DeclarationError: No declared index serves this filter and order.
            InvalidMessage: The page token is invalid.
        """
        if self.refresh is not None:
            await self.refresh()
        descending = order is not None and order.startswith("-")
        number = self._choose(filters, order.lstrip("-") if order else None)
        members = self._groups[number].get(next(iter(filters.values()), None), Ordered())
        if type(limit) is not int:
            raise DeclarationError(f"list: limit = {limit!r} is no whole number")
        limit = max(1, min(limit, _MAX_PAGE))
        start = _read_token(after) if after else None
        try:
            chosen = list(islice(members.descending(start) if descending else members.ascending(start), limit + 1))
        except TypeError:  # the value has another type: the token is that of another list
            raise InvalidMessage(_INVALID_TOKEN) from None
        has_more = len(chosen) > limit
        del chosen[limit:]
        states = await self._read_states([position[2] for position in chosen])
        # A key that was deleted while the page was read has no state any more, and an unreadable one is logged.
        items = [state for state in states if state is not None]
        return Page(items, _token(chosen[-1]) if has_more else None)

    async def rebuild(self, jetstream: JetStream, names: Names, journal: Journal) -> None:
        """Read the newest record of each key.

        A key with an unreadable record, such as one that a newer version wrote, is logged and left out.

        Raises:
            ActorError, TimeoutError: The stream cannot be read.
        """
        start = time.monotonic()
        count = unreadable = 0
        async for stored in jetstream.read(names.turns_stream, names.turn("*"), last_per_subject=True):
            count += 1
            try:
                token = check_subject(stored.subject, names.turn(""))
                state = journal.decode_state(decode_record(stored.payload, stored.subject), stored.subject)
            except Unreadable as error:
                unreadable += 1
                journal.unreadable.report(error)
                continue
            self.update(token, state)
            if count % _PROGRESS == 0:
                logger.info("%s: indexing, %d keys so far", self._actor, count)
        seconds = time.monotonic() - start
        if unreadable:
            logger.error(
                "%s: %d of %d keys are not listed: their records cannot be read", self._actor, unreadable, count
            )
        if count:
            logger.info("%s: indexed %d keys in %.2f s", self._actor, count, seconds)

    def _position(self, index: Index, state: Any, token: str) -> tuple[Any, Position]:
        group = getattr(state, index.field) if index.field is not None else None
        value = getattr(state, index.order) if index.order is not None else None
        return group, (value is not None, value, token)

    def _choose(self, filters: dict[str, Any], order: str | None) -> int:
        """Return the number of the index that serves a filter and an order."""
        if len(filters) > 1:
            raise DeclarationError(f"{self._actor}: list() filters by one attribute, not by {', '.join(filters)}")
        field = next(iter(filters), None)
        for number, index in enumerate(self._indexes):
            if index.field == field and (order is None or index.order == order):
                return number
        wanted = f"Index({field!r}, order={order!r})" if order else f"Index({field!r})"
        raise DeclarationError(f"{self._actor}: this list needs a declared {wanted}")


_decode_position = msgspec.json.Decoder(tuple[bool, str | int | float | None, str]).decode


def _add(groups: dict[Any, Ordered[Position]], group: Any, position: Position) -> None:
    members = groups.get(group)
    if members is None:
        members = groups[group] = Ordered()
    members.add(position)


def _remove(groups: dict[Any, Ordered[Position]], group: Any, position: Position) -> None:
    members = groups[group]
    members.remove(position)
    if not members:
        del groups[group]


def _token(position: Position) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(position)).decode().rstrip("=")


def _read_token(text: str) -> Position:
    try:
        padded = text + "=" * (-len(text) % 4)
        position = _decode_position(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidMessage(_INVALID_TOKEN) from None
    if position[0] != (position[1] is not None):
        raise InvalidMessage(_INVALID_TOKEN)
    return position
