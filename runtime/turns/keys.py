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
    """The keys in memory, by token, in the order of last use. At most `resident` idle keys stay."""

    def __init__(self, names: Names, journal: Journal, relay: Relay, resident: int) -> None:
        super().__init__()
        self._names = names
        self._journal = journal
        self._relay = relay
        self._resident = resident
        self._loading: dict[Key[Work], asyncio.Future[None]] = {}
        self._clock = time.monotonic()
        """Time of the last eviction. All keys used since share this one object as their time of use."""

    def use(self, key: str) -> Key[Work]:
        """Return the key named `key`, made if it is not in memory. Raises `CodecError` if no subject can hold it."""
        token = key_token(key)
        entry = self.pop(token, None)
        if entry is None:
            if len(self) >= self._resident:
                self.evict(0.0, 1 + len(self) - self._resident + len(self) // 100)
            entry = Key(key, token)
        self[token] = entry
        entry.touched = self._clock
        return entry

    def release(self, key: Key[Work]) -> None:
        """Remove a key from memory that has no record, if nothing of it runs or waits.

        There is nothing to keep of it. Requests for keys that do not exist, however many, take no memory in this way.
        """
        if not key.sequence and key.idle and self.get(key.token) is key:
            del self[key.token]

    def evict(self, idle: float, most: int = 10_000) -> int:
        """Remove keys from memory that were not used for `idle` seconds, at most `most`; return how many left."""
        self._clock = time.monotonic()
        horizon = self._clock - idle
        leaving: list[str] = []
        for token, key in self.items():
            if key.touched > horizon or len(leaving) >= most:
                break
            if key.idle:
                leaving.append(token)
        for token in leaving:
            del self[token]
        return len(leaving)

    async def ensure_loaded(self, key: Key[Work]) -> None:
        """Load the record of `key` if needed. Concurrent callers share one read.

        Raises:
            NotDelivered: The stream does not answer.
            Unreadable: The stored record cannot be read.
        """
        while not key.loaded:
            if (loading := self._loading.get(key)) is not None:
                await asyncio.shield(loading)
                continue
            loading = self._loading[key] = asyncio.get_running_loop().create_future()
            try:
                await self._load(key)
            except (TimeoutError, PublishError, ApiError) as error:
                raise NotDelivered(f"{self._names.actor}: the record of a key cannot be read now") from error
            finally:
                loading.set_result(None)
                del self._loading[key]

    async def _load(self, key: Key[Work]) -> None:
        record = await self._journal.load(key)
        if record is None or not record.outbox or self._relay.checkpoint.covers(key.sequence):
            return
        known = {outgoing.id for outgoing, _ in key.outbox or ()}
        left = [outgoing for outgoing in record.outbox if outgoing.id not in known]
        if left:
            self._relay.send(key, left, key.sequence)
