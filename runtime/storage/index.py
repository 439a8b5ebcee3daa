"""Indexes over the states of an actor: what list queries read.

They live in the owner's memory, are rebuilt from the newest record of each key when it starts, and change with each
commit before its reply leaves: a list includes every turn that was committed before it was asked for.
"""

import base64
import logging
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

import msgspec

from runtime.actor.base import Index, Page
from runtime.errors import CodecError, DeclarationError, InvalidMessage, NotDelivered
from runtime.nats.jetstream.client import JetStream
from runtime.storage.journal import Journal
from runtime.storage.ordered import Ordered
from runtime.storage.record import decode_record
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

_MAX_PAGE = 1000
_MAX_TOLD = 10
_NO_TOKEN = "the page token is not one that a list gave out"

Place = tuple[bool, Any, str]
"""Where a key stands in an index: whether it has a value to order by, that value, and its token (which breaks ties)."""


class Indexes:
    """All declared indexes of one actor type. `read` returns the states of keys, given their tokens."""

    def __init__(
        self, actor: str, indexes: tuple[Index, ...], read: Callable[[list[str]], Awaitable[list[Any]]]
    ) -> None:
        self._actor = actor
        self._indexes = indexes
        self._read = read
        self._places: list[dict[Any, Ordered[Place]]] = [{} for _ in indexes]
        self._known: dict[str, tuple[tuple[Any, Place], ...]] = {}

    def __len__(self) -> int:
        """Return how many keys have a state."""
        return len(self._known)

    def update(self, token: str, state: Any) -> None:
        """Take in the state of a key; None takes the key out."""
        before = self._known.get(token)
        after = None if state is None else tuple(self._place(index, state, token) for index in self._indexes)
        for number, places in enumerate(self._places):
            if before is not None and (after is None or before[number] != after[number]):
                group, place = before[number]
                members = places[group]
                members.remove(place)
                if not members:
                    del places[group]
            if after is not None and (before is None or before[number] != after[number]):
                group, place = after[number]
                if (members := places.get(group)) is None:
                    members = places[group] = Ordered()
                members.add(place)
        if after is not None:
            self._known[token] = after
        elif before is not None:
            del self._known[token]

    async def page(self, filters: dict[str, Any], order: str | None, limit: int, after: str | None) -> Page[Any]:
        """Return one page; see `Actor.list`."""
        descending = order is not None and order.startswith("-")
        number = self._choose(filters, order.lstrip("-") if order else None)
        members = self._places[number].get(next(iter(filters.values()), None), Ordered())
        limit = max(1, min(limit, _MAX_PAGE))
        start = _read_token(after) if after else None
        try:
            chosen = list(islice(members.descending(start) if descending else members.ascending(start), limit + 1))
        except TypeError:  # a value of another type: the token of another list
            raise InvalidMessage(_NO_TOKEN) from None
        more = len(chosen) > limit
        del chosen[limit:]
        states = await self._read([place[2] for place in chosen])
        # A key deleted while the page was read has no state any more.
        items = [state for state in states if state is not None]
        return Page(items, _token(chosen[-1]) if more else None)

    async def rebuild(self, jetstream: JetStream, names: Names, journal: Journal) -> None:
        """Read the newest record of each key. Raises `ActorError` where the stream cannot be read.

        A key whose state cannot be (a newer version's) is not listed, which is logged; the others are.
        """
        begun = time.monotonic()
        count = unreadable = 0
        async for stored in jetstream.read(names.turns_stream, names.turn("*"), last_per_subject=True):
            count += 1
            try:
                state = journal.decode_state(decode_record(stored.payload, stored.subject), stored.subject)
            except (NotDelivered, CodecError) as error:
                unreadable += 1
                if unreadable <= _MAX_TOLD:
                    logger.error("%s: a key is not listed: %s", self._actor, error)
                continue
            self.update(stored.subject.rpartition(".")[2], state)
            if count % 50_000 == 0:
                logger.info("%s: indexing, %d keys so far", self._actor, count)
        taken = time.monotonic() - begun
        if unreadable:
            logger.error(
                "%s: %d of %d keys are not listed: their states cannot be read", self._actor, unreadable, count
            )
        if count:
            logger.info("%s: indexed %d keys in %.2f s", self._actor, count, taken)

    def _place(self, index: Index, state: Any, token: str) -> tuple[Any, Place]:
        group = getattr(state, index.field) if index.field is not None else None
        value = getattr(state, index.order) if index.order is not None else None
        return group, (value is not None, value, token)

    def _choose(self, filters: dict[str, Any], order: str | None) -> int:
        if len(filters) > 1:
            raise DeclarationError(f"{self._actor}: list() filters by one attribute, not by {', '.join(filters)}")
        field = next(iter(filters), None)
        for number, index in enumerate(self._indexes):
            if index.field == field and (order is None or index.order == order):
                return number
        wanted = f"Index({field!r}, order={order!r})" if order else f"Index({field!r})"
        raise DeclarationError(f"{self._actor}: this list needs a declared {wanted}")


_decode_place = msgspec.json.Decoder(tuple[bool, str | int | float | None, str]).decode


def _token(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _read_token(text: str) -> Place:
    try:
        padded = text + "=" * (-len(text) % 4)
        place = _decode_place(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (ValueError, msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidMessage(_NO_TOKEN) from None
    if place[0] != (place[1] is not None):
        raise InvalidMessage(_NO_TOKEN)
    return place
