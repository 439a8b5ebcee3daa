"""The keys of one actor that are in memory: made when first used, loaded when first needed, evicted when idle.

A key is *loaded* if its newest record was read, which is enough for a handler to run: its commit is refused if there is a
newer one. It is *readable* if its state may also be shown, by the reply of a query or of a command that commits nothing:
no former owner can write a newer record any more (ADR 016).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Set
from typing import Any

from runtime.errors import NotDelivered, PublishError
from runtime.nats.jetstream.errors import ApiError
from runtime.storage.draft import RecordTooLarge
from runtime.storage.journal import Journal
from runtime.storage.record import Record
from runtime.storage.relay import Relay
from runtime.storage.settlement import Conflict, NotStored, Unsettled
from runtime.turns.elsewhere import Elsewhere
from runtime.turns.held import HeldKeys
from runtime.turns.key import Key
from runtime.turns.work import Work
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token, token_key

_STEPS = 16
"""Reads and touches of one key, each refused or out of date, after which its reader gets an error."""


class Unconfirmed:
    """The state on which a handler runs, of a key that is not readable (a `Basis`)."""

    __slots__ = ("_generation", "_key", "_keys")

    def __init__(self, keys: "Keys", key: Key[Work], generation: int) -> None:
        self._keys = keys
        self._key = key
        self._generation = generation

    async def wait_stored(self) -> bool:
        """Return whether the state is the newest one; see `Keys.confirm`."""
        return await self._keys.confirm(self._key, self._generation)


class Keys(dict[str, Key[Work]]):
    """The keys in memory, by token, in the order of last use. At most `resident` idle keys stay."""

    def __init__(self, names: Names, journal: Journal, relay: Relay, resident: int) -> None:
        super().__init__()
        self._names = names
        self._journal = journal
        self._relay = relay
        self._resident = resident
        self._loading: dict[Key[Work], asyncio.Future[None]] = {}
        """The reads that are under way, each with a future that ends with it."""
        self._reads = 0
        """The number of the last read that was begun."""
        self.held: HeldKeys | None = None
        """Keys that a former owner still finishes; None if there is none."""
        self._handed_over_at = 0
        """The last sequence of the stream at the hand-over; 0 before it."""
        self._finishing: Set[str] = frozenset()
        """The tokens of the keys that are finished here after the hand-over."""
        self._on_foreign: Callable[[], None] = lambda: None
        self._clock = time.monotonic()
        """Time of the last eviction. All keys used since share this one object as their time of use."""

    def use(self, key: str) -> Key[Work]:
        """Return the key named `key`, made if it is not in memory.

        Raises:
            CodecError: No subject can hold it.
            Elsewhere: It is in another partition.
        """
        token = key_token(key)
        entry = self.pop(token, None)
        if entry is None:
            partition = self._names.partition
            if (owning := partition_of(token, partition.total)) != partition.number:
                raise Elsewhere(
                    f"{self._names.actor}: the key is in partition {owning}, not {partition.number}", owning
                )
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

    def hold(self, tokens: Iterable[str]) -> HeldKeys:
        """Hold keys that a former owner still finishes: their messages wait. `HeldKeys.end` ends it for a key."""
        self.held = HeldKeys([self.use(token_key(token)) for token in tokens], self._load_held)
        return self.held

    def hand_over(self, busy: Set[str], on_foreign: Callable[[], None]) -> None:
        """Call `on_foreign` from now on if a record of a `busy` key is read that the successor has written."""
        self._handed_over_at = self._relay.checkpoint.last
        self._finishing = busy
        self._on_foreign = on_foreign

    async def latest(self, key: Key[Work]) -> Any:
        """Return the newest state of `key` that is known, for a list. Raises the errors of `ensure_loaded`."""
        if self.held is not None and (copy := await self.held.read(key.token)) is not None:
            return copy.state
        await self.ensure_loaded(key)
        return key.state

    async def ensure_loaded(self, key: Key[Work]) -> None:
        """Load the record of `key` if needed. Concurrent callers share one read.

        Raises:
            NotDelivered: The stream does not answer.
            Unreadable: The stored record cannot be read.
        """
        while not key.loaded:
            await self._share(key, self._load)

    async def read(self, key: Key[Work]) -> Any:
        """Return the state of `key` for a reader: it includes every commit that was acknowledged before the call.

        Raises:
            NotDelivered: The stream does not answer.
            Unreadable: The stored record cannot be read.
        """
        if self.held is not None and (copy := await self.held.read(key.token)) is not None:
            return copy.state
        before = self._reads
        for _ in range(_STEPS):
            if key.readable:
                return key.state
            if not key.loaded:
                await self._share(key, self._load)
            elif await self._look(key, before):
                return None
        raise self._contended()

    async def confirm(self, key: Key[Work], generation: int) -> bool:
        """Return whether the state that a turn has read may be shown. If not, it is out of date, and the turn runs again.

        Args:
            key: The key.
            generation: Its generation when its state was read.

        Raises:
            NotDelivered: The stream does not answer.
        """
        before = self._reads
        for _ in range(_STEPS):
            if key.generation != generation:
                return False
            if key.readable or await self._look(key, before):
                return key.generation == generation
        raise self._contended()

    def learn(self, token: str, sequence: int) -> bool:
        """Forget the copy of a key, since another writer has stored the record at `sequence`.

        Returns:
            False if the record may be that of a commit which is under way here. The caller asks again later.
        """
        key = self.get(token)
        if key is None or key.sequence >= sequence:
            return True
        if key.pending is not None or key.touching is not None or key in self._loading:
            return False
        key.forget()
        return True

    def forget_all(self) -> None:
        """Forget all copies. Messages that run now run again. A commit that is under way is checked by the stream."""
        for key in self.values():
            if key.pending is None:
                key.forget()

    async def _look(self, key: Key[Work], before: int) -> bool:
        """Do one step to make a loaded key readable.

        Returns:
            True if the key has no record, found out by a read that began after the read number `before`. Nothing can
            exclude that a former owner writes its first record, so this is not kept for other readers.
        """
        if key.pending is not None:
            await key.pending.wait_committed()  # It makes the key readable, or forgets it.
        elif key.unfenced is not None:
            await self._touch(key)
        elif key.seen > before:
            return True
        else:
            await self._share(key, self._look_again)
        return False

    async def _share(self, key: Key[Work], read: Callable[[Key[Work]], Awaitable[None]]) -> None:
        """Read a key, or wait for the read that is under way. Afterwards the caller looks at the key again."""
        if (loading := self._loading.get(key)) is not None:
            await asyncio.shield(loading)
            return
        loading = self._loading[key] = asyncio.get_running_loop().create_future()
        try:
            await read(key)
        except (TimeoutError, PublishError, ApiError) as error:
            raise self._unavailable() from error
        finally:
            loading.set_result(None)
            del self._loading[key]

    async def _look_again(self, key: Key[Work]) -> None:
        """Read whether a key without a record still has none."""
        self._reads = number = self._reads + 1
        generation = key.generation
        if not await self._journal.exists(key):
            key.seen = number
        elif key.pending is None and key.generation == generation and not key.sequence:
            key.forget()

    async def _touch(self, key: Key[Work]) -> None:
        """Touch a key, or wait for the touch that is under way. Afterwards the caller looks at the key again."""
        if key.touching is not None:
            await asyncio.shield(key.touching)
            return
        generation = key.generation
        touching = key.touching = asyncio.get_running_loop().create_future()
        try:
            sequence = await self._journal.touch(key)
            self._relay.send(key, [], sequence)
        except Conflict:
            if key.generation == generation:
                key.forget()
        except (NotStored, RecordTooLarge, Unsettled) as error:
            raise NotDelivered(f"{self._names.actor}: the record of a key cannot be touched now") from error
        finally:
            key.touching = None
            touching.set_result(None)

    def _unavailable(self) -> NotDelivered:
        return NotDelivered(f"{self._names.actor}: the record of a key cannot be read now")

    def _contended(self) -> NotDelivered:
        return NotDelivered(f"{self._names.actor}: the key is being written by another owner")

    async def _load(self, key: Key[Work]) -> None:
        self._reads = number = self._reads + 1
        record = await self._journal.load(key)
        if record is None:
            key.seen = number
            return
        foreign = key.token in self._finishing and key.sequence > self._handed_over_at
        if foreign and not self._journal.fence.is_own(record.commit_id):
            self._on_foreign()
        self._publish_left(key, record)

    async def _load_held(self, key: Key[Work], gone: bool) -> None:
        """Load a key that is held, or a copy of it. Raises the errors of `ensure_loaded`. See `HeldKeys.end` for `gone`."""
        if gone:
            self._journal.fence.suspect(key.token)
        try:
            record = await self._journal.load(key)
        except (TimeoutError, PublishError, ApiError) as error:
            raise self._unavailable() from error
        if gone and record is not None:
            self._publish_left(key, record)

    def _publish_left(self, key: Key[Work], record: Record) -> None:
        """Publish the entries of a loaded outbox that nobody may have published."""
        if not record.outbox or self._relay.checkpoint.covers(key.sequence):
            return
        known = {outgoing.id for outgoing, _ in key.outbox or ()}
        left = [outgoing for outgoing in record.outbox if outgoing.id not in known]
        if left:
            self._relay.send(key, left, key.sequence)
