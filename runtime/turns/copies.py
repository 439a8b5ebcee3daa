"""The copies of states in memory follow the records that other writers store: those of keys, and those in indexes (ADR 016)."""

from runtime.errors import CodecError
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.index import Indexes
from runtime.storage.record import Unreadable
from runtime.turns.keys import Keys
from runtime.wire.subjects import token_key


class Copies:
    """The copies of one ownership.

    Args:
        keys: The keys in memory.
        indexes: The indexes of the actor; None if it declares none.
    """

    def __init__(self, keys: Keys, indexes: Indexes | None) -> None:
        self._keys = keys
        self._indexes = indexes

    async def learn(self, stored: StoredMessage) -> bool:
        """Take note of a record that another writer has stored.

        Returns:
            False if it may be the record of a commit that is under way here. The caller asks again later.

        Raises:
            NotDelivered: The stream does not answer.
        """
        keys, token = self._keys, stored.subject.rpartition(".")[2]
        if not keys.learn(token, stored.sequence):
            return False
        if self._indexes is None or (keys.held is not None and await keys.held.read(token) is not None):
            return True
        try:
            key = keys.use(token_key(token))
        except CodecError:
            return True  # not the subject of a key, which the relay reports
        key.queries += 1
        try:
            await keys.ensure_loaded(key)  # The journal updates the indexes.
        except Unreadable:
            self._indexes.update(token, None)
        finally:
            key.queries -= 1
            keys.release(key)
        return True
