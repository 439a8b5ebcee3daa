"""Held keys: a former owner still finishes their messages, after it has handed over all other keys (ADR 018).

The messages of a held key wait in its lane, as behind a slow handler. Its state is not kept in memory: the former owner may
commit at any moment, so each query reads the newest record. When the former owner has finished the key, the lane moves on.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

from runtime.storage.record import Unreadable
from runtime.turns.key import Key
from runtime.turns.work import Work

Load = Callable[[Key[Work], bool], Awaitable[None]]
"""Reads the newest record of a key into it, tells the indexes, and has its outbox published if the second argument is true."""


class HeldKeys:
    """The held keys of one ownership, and their lanes, in which nothing has run yet."""

    def __init__(self, keys: Iterable[Key[Work]], load: Load) -> None:
        self._keys = {key.token: key for key in keys}
        self._load = load
        self._locks = {token: asyncio.Lock() for token in self._keys}
        """No two reads of a key overlap. Otherwise an index could get the older state last."""
        self._waiters: list[asyncio.Future[None]] = []
        for key in self._keys.values():
            key.active = True

    def __contains__(self, token: str) -> bool:
        return token in self._keys

    @property
    def waiting(self) -> bool:
        """True if a message of a held key waits."""
        return any(key.depth for key in self._keys.values())

    async def read(self, token: str) -> Key[Work] | None:
        """Return a copy of a key with its newest record; None if it is not held. Raises the errors of the load."""
        if token not in self._keys:
            return None
        async with self._locks[token]:
            key = self._keys.get(token)
            if key is None:
                return None
            copy = Key[Work](key.key, token)
            await self._load(copy, False)
            return copy

    async def refresh(self) -> None:
        """Read the newest record of every held key, so that the indexes have its state."""
        await asyncio.gather(*(self._refresh(token) for token in self._keys))

    async def _refresh(self, token: str) -> None:
        with suppress(Unreadable):  # The journal has logged it, and the list leaves the key out.
            await self.read(token)

    async def end(self, token: str, gone: bool) -> Key[Work] | None:
        """Load a key, and hold it no longer. Return it; None if it is not held. Raises the errors of the load.

        `gone`: the former owner has not reported the key. Its last events may not be published.
        """
        if token not in self._keys:
            return None
        async with self._locks[token]:
            with suppress(Unreadable):  # The journal has logged it.
                await self._load(self._keys[token], gone)
            key = self._keys.pop(token)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        return key

    async def wait_end(self) -> None:
        """Return when a key is held no longer."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
