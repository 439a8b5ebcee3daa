"""The deliveries of a puller that are not finished, and the acknowledgements that the server has yet to accept."""

import asyncio

from runtime.nats.jetstream.delivery import Delivery


class InHand:
    """The unfinished deliveries of one consumer.

    After a reset of the consumer, and after a crash in which the server lost its position, the server ignores an
    acknowledgement until it has delivered the message again. A delivery that is in hand at that moment is *stale*. If it
    is finished before the server delivers it again, its acknowledgement is kept, and sent again on that delivery. The
    handler therefore runs once, although the server delivers twice.
    """

    def __init__(self) -> None:
        self.deliveries: dict[int, Delivery] = {}
        """The unfinished deliveries by stream sequence. The puller adds new ones."""
        self._stale: set[int] = set()
        self._unaccepted: dict[int, bytes] = {}
        """The acknowledgements of stale deliveries that are finished."""
        self._watchers: dict[int, asyncio.Future[None]] = {}
        self._idle: asyncio.Future[None] | None = None

    def is_known(self, sequence: int) -> bool:
        """Return whether the message at `sequence` is in hand, or finished with an unaccepted acknowledgement."""
        return sequence in self.deliveries or sequence in self._unaccepted

    def remove(self, sequence: int, acknowledgement: bytes) -> bool:
        """Remove a finished delivery; return False if it was finished before."""
        if self.deliveries.pop(sequence, None) is None:
            return False
        if sequence in self._stale:
            self._stale.discard(sequence)
            self._unaccepted[sequence] = acknowledgement
        if self._watchers:
            self.wake_watcher(sequence)
        if not self.deliveries and self._idle is not None:
            self._idle.set_result(None)
            self._idle = None
        return True

    def redelivered(self, sequence: int, reply: bytes) -> bytes | None:
        """Record that the server delivered a known message again, under the ack subject `reply`.

        Returns:
            The acknowledgement to send on `reply` if the message is finished, else None. A delivery in hand takes
            `reply` as its ack subject: the server accepts the newest one.
        """
        delivery = self.deliveries.get(sequence)
        if delivery is None:
            return self._unaccepted.pop(sequence)
        delivery.reply = reply
        self._stale.discard(sequence)
        return None

    def repositioned(self, delivered: int, ack_floor: int) -> None:
        """Record the position from which the server goes on.

        Args:
            delivered: The last stream sequence that the server counts as delivered. Later ones are delivered again.
            ack_floor: The stream sequence up to which the server counts all messages as acknowledged.
        """
        self._stale = {sequence for sequence in self.deliveries if sequence > delivered}
        self._unaccepted = {sequence: ack for sequence, ack in self._unaccepted.items() if sequence > ack_floor}

    def watch(self, sequence: int) -> asyncio.Future[None]:
        """Return a future that `wake_watcher` or the end of the delivery completes."""
        future = self._watchers[sequence] = asyncio.get_running_loop().create_future()
        return future

    def wake_watcher(self, sequence: int) -> None:
        """Complete the future of `watch` for the message at `sequence`, if there is one."""
        watcher = self._watchers.pop(sequence, None)
        if watcher is not None and not watcher.done():
            watcher.set_result(None)

    async def wait_empty(self) -> None:
        """Wait until all deliveries are finished."""
        while self.deliveries:
            if self._idle is None:
                self._idle = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._idle)
