"""The states of keys that a list needs: as last committed, whether a key is in memory or not."""

import asyncio
from typing import Any

from runtime.storage.record import Unreadable
from runtime.turns.turn import Turns
from runtime.wire.tokens import token_key


async def latest_states(turns: Turns, tokens: list[str]) -> list[Any]:
    """Return the committed state of each key token, for a page of a list; None for an unreadable record.

    Raises:
        NotDelivered: The stream does not answer, or a key is in another partition.
        CodecError: A token is not that of a key.
    """

    keys = turns.keys

    async def load(token: str) -> Any:
        entry = keys.use(token_key(token))
        entry.queries += 1
        try:
            return await keys.latest(entry)
        except Unreadable:
            return None  # the journal has logged it
        finally:
            entry.queries -= 1
            keys.release(entry)

    states: dict[str, Any] = {}
    for token in tokens:
        entry = keys.get(token)
        if entry is not None and entry.loaded and keys.held is None:
            states[token] = keys.use(entry.key).state  # A task for each key would cost ten times as much.
    missing = [token for token in tokens if token not in states]
    if missing:
        states.update(zip(missing, await asyncio.gather(*map(load, missing)), strict=True))
    return [states[token] for token in tokens]
