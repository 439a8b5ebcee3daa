"""Progress reports: the server is asked not to redeliver a message that is still being handled."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from runtime.nats.jetstream.delivery import Delivery

_IN_PROGRESS: Final = b"+WPI"
"""The acknowledgement that restarts the server's `ack_wait` for a delivery."""


class Progress:
    """Reports every delivery that is in hand for a whole period or longer. A short handler causes no report.

    Args:
        in_hand: The deliveries in hand.
        acknowledge: Sends an acknowledgement on an ack subject.
    """

    def __init__(self, in_hand: Mapping[int, Delivery], acknowledge: Callable[[bytes, bytes], None]) -> None:
        self.seconds = 10.0
        """The length of a period: a third of the consumer's `ack_wait`."""
        self.period = 0
        """The number of the current period."""
        self._in_hand = in_hand
        self._acknowledge = acknowledge
        self._running = False

    def start(self) -> None:
        """Start the reports."""
        self._running = True
        self._schedule()

    def stop(self) -> None:
        """Stop the reports as soon as no delivery is in hand."""
        self._running = False

    def _schedule(self) -> None:
        asyncio.get_running_loop().call_later(self.seconds, self._report)

    def _report(self) -> None:
        self.period += 1
        for delivery in self._in_hand.values():
            if self.period - delivery.period > 1:
                self._acknowledge(delivery.reply, _IN_PROGRESS)
        if self._running or self._in_hand:
            self._schedule()
