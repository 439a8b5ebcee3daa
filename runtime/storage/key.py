"""The stored half of a key: its newest record in memory, and its unpublished events and timers."""

import re
from collections import deque
from typing import Any

from runtime.storage.key_dedup import KeyDedup
from runtime.storage.record import Handled, Outgoing
from runtime.wire.ids import CLOCK_MARGIN, id_time

_is_escaped = re.compile(r'["\\\x00-\x1f\x7f]').search
"""Find a character that JSON may write in another form."""


_NO_JOBS: dict[str, int] = {}
"""The jobs of most keys. It is never changed."""


class StoredKey:
    """One key of an actor, as its newest record has it.

    The journal loads and commits it, and the relay publishes its outbox.

    Args:
        key: The key.
        token: The key as a subject token.
    """

    __slots__ = (
        "dedup",
        "generation",
        "handled",
        "handled_text",
        "jobs",
        "key",
        "loaded",
        "outbox",
        "readable",
        "sequence",
        "state",
        "token",
        "unfenced",
    )

    def __init__(self, key: str, token: str) -> None:
        self.key = key
        self.token = token
        self.generation = 0
        """Changes whenever something else may be read: a turn that began with another generation runs again."""
        self.outbox: deque[tuple[Outgoing, int]] | None = None
        """Unconfirmed events and timers, each with the sequence of the record that introduced it; None if there are none."""
        self.forget()

    def forget(self) -> None:
        """Drop everything that was read from the stream, so that the next turn loads the record again.

        The outbox stays: the relay is publishing it.
        """
        self.generation += 1
        self.loaded = False
        """Whether the fields below are those of the newest record, or of a key without one."""
        self.readable = False
        """Whether the key is loaded, and no record can be stored that this process does not know of: `state` may be shown."""
        self.unfenced: bytes | None = None
        """The body of the loaded record, until a commit or touch of this process has replaced it; None if that is not
        needed (see `runtime.storage.fence`)."""
        self.state: Any = None
        self.sequence = 0
        """The stream sequence of the record; 0 if there is none. The next commit succeeds only if it is still the newest."""
        self.handled: tuple[Handled, ...] = ()
        """The handled messages that the record lists, oldest first."""
        self.handled_text = b""
        """Their JSON without brackets, for the next record; empty if it is not kept."""
        self.jobs: dict[str, int] = _NO_JOBS
        """The long jobs that have made checkpoints and have not ended, each with the number of its last one."""
        self.dedup: KeyDedup | None = None
        """The dedup entries of this key; None as long as no message has left the record, or is about to."""

    def find(self, message_id: str) -> Handled | None:
        """Return the handled message with this id, if the record lists it."""
        text = self.handled_text
        if text and message_id.encode("utf-8", "surrogatepass") not in text and not _is_escaped(message_id):
            return None  # as for almost every message; a search in the text takes a tenth of the loop
        for entry in reversed(self.handled):
            if entry.id == message_id:
                return entry
        return None

    def may_have_entry(self, message_id: str, sent_at: float | None) -> bool:
        """Return whether a message that the record does not list may have been handled all the same.

        If so, its dedup entry must be looked up (`DedupStore.find`). False is certain, and spares that request: the time
        of the message is later than the commit of everything that this process has forgotten.

        Args:
            message_id: The id of the message.
            sent_at: Unix seconds of a message whose id carries no time, such as the stream time of an event; None if
                unknown.
        """
        dedup = self.dedup
        if dedup is None:
            return False
        if message_id in dedup.recent:
            return True
        if not dedup.forgotten_until:
            return False
        created = id_time(message_id) or sent_at
        return created is None or created <= dedup.forgotten_until + CLOCK_MARGIN
