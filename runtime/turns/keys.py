"""The keys of one actor that are in memory: made when first used, loaded when first needed, evicted when idle."""

import asyncio
import time

from runtime.errors import NotDelivered, PublishError
from runtime.nats.jetstream.errors import ApiError
from runtime.storage.journal import Journal
from runtime.storage.relay import Relay
from runtime.turns.key import Key
from runtime.turns.work import Work
from runtime.wire.subjects import Names, key_token


class Keys(dict[str, Key[Work]]):
    """What is kept for each key in memory, by the key's token; the order is that of last use. At most `resident` stay."""

    def __init__(self, names: Names, journal: Journal, relay: Relay, resident: int) -> None:
        super().__init__()
        self._names = names
        self._journal = journal
        self._relay = relay
        self._resident = resident
        self._loading: dict[Key[Work], asyncio.Future[None]] = {}
        self._clock = time.monotonic()
        """When idle keys were looked for last: one object for all keys touched since."""

    def use(self, key: str) -> Key[Work]:
        """Return what is kept for `key`, and make it where there is nothing."""
        token = key_token(key)
        entry = self.pop(token, None)
        if entry is None:
            if len(self) >= self._resident:
                self.evict(0.0, 1 + len(self) - self._resident + len(self) // 100)
            entry = Key(key, token)
        self[token] = entry
        entry.touched = self._clock
        return entry

    def evict(self, idle: float, most: int = 10_000) -> int:
        """Let at most `most` keys leave memory to which nothing happened for `idle` seconds; return how many did."""
        self._clock = time.monotonic()
        horizon = self._clock - idle
        leaving: list[str] = []
        for token, entry in self.items():
            if entry.touched > horizon or len(leaving) >= most:
                break
            if entry.idle:
                leaving.append(token)
        for token in leaving:
            del self[token]
        return len(leaving)

    async def ensure_loaded(self, entry: Key[Work]) -> None:
        """Have the record of a key in memory; who comes while it is being read waits for the same read.

        Raises `NotDelivered` where the stream does not answer, and what an unreadable record raises.
        """
        while not entry.loaded:
            if (loading := self._loading.get(entry)) is not None:
                await asyncio.shield(loading)
                continue
            loading = self._loading[entry] = asyncio.get_running_loop().create_future()
            try:
                await self._load(entry)
            except (TimeoutError, PublishError, ApiError) as error:
                raise NotDelivered(f"{self._names.actor}: the record of a key cannot be read now") from error
            finally:
                loading.set_result(None)
                del self._loading[entry]

    async def _load(self, entry: Key[Work]) -> None:
        record = await self._journal.load(entry)
        if record is None or not record.outbox or self._relay.checkpoint.covers(entry.sequence):
            return
        known = {outgoing.id for outgoing, _ in entry.outbox or ()}
        left = [outgoing for outgoing in record.outbox if outgoing.id not in known]
        if left:
            self._relay.send(entry, left, entry.sequence)
