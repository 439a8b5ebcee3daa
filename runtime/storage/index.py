"""Indexes over the states of an actor, from which list queries are answered.

The indexes are in the memory of the owner. They are rebuilt from the newest record of each key when an owner starts, and
updated by each commit before its reply is sent. A list therefore includes every turn that was committed before the list
was requested. Records that another writer stores are learned later (ADR 016).
"""

import logging
import time
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any

from runtime.actor.indexes import Page
from runtime.nats.jetstream.client import JetStream
from runtime.storage.journal import Journal
from runtime.storage.listing import Declared, Position, Selection
from runtime.storage.ordered import Ordered
from runtime.storage.record import Unreadable, check_subject, decode_record
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

_PROGRESS = 50_000
"""Keys after which a rebuild logs its progress."""


class Indexes:
    """All declared indexes of one actor type, over the keys of one owner.

    Args:
        declared: The declared indexes.
        read_states: Returns the states of keys, given their tokens; None for a key without a state or an unreadable one.
    """

    def __init__(self, declared: Declared, read_states: Callable[[list[str]], Awaitable[list[Any]]]) -> None:
        self.declared = declared
        self._read_states = read_states
        self._numbers = range(len(declared.indexes))
        self._groups: list[dict[Any, Ordered[Position]]] = [{} for _ in self._numbers]
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
        after = None if state is None else tuple(self.declared.place(number, state, token) for number in self._numbers)
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

    async def page(
        self, filters: dict[str, Any], order: str | None, limit: int, after: str | None, deadline: float = 0.0
    ) -> Page[Any]:
        """Return one page of a list; see `Actor.list`. The deadline is not used: all keys are here.

        Raises:
            DeclarationError: No declared index serves this filter and order.
            InvalidMessage: The page token is invalid.
        """
        selection = self.declared.select(filters, order, limit, after)
        chosen = await self.positions(selection, selection.limit + 1)
        has_more = len(chosen) > selection.limit
        del chosen[selection.limit :]
        states = await self._read_states([position[2] for position in chosen])
        # A key that was deleted while the page was read has no state any more, and an unreadable one is logged.
        items = [state for state in states if state is not None]
        return Page(items, self.declared.token(selection.number, chosen[-1]) if has_more else None)

    async def positions(self, selection: Selection, count: int) -> list[Position]:
        """Return the first positions of a selection, at most `count`, as they are at one moment after the call."""
        if self.refresh is not None:
            await self.refresh()
        members = self._groups[selection.number].get(selection.group, Ordered())
        if selection.descending:
            return list(islice(members.descending(selection.after), count))
        return list(islice(members.ascending(selection.after), count))

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
                logger.info("%s: indexing, %d keys so far", names.label, count)
        seconds = time.monotonic() - start
        if unreadable:
            logger.error(
                "%s: %d of %d keys are not listed: their records cannot be read", names.label, unreadable, count
            )
        if count:
            logger.info("%s: indexed in %.2f s, keys: %d", names.label, seconds, count)


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
