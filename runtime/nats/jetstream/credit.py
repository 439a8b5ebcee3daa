"""The credit of a puller: how many messages its pull requests may deliver, and when another request is due."""

import asyncio
from collections.abc import Callable, Sized


class Credit:
    """Keeps the deliveries in hand plus the requested messages within `limit`, with few requests.

    A request for each finished message would double the traffic. A request only when none is open would leave free
    places unused for a round trip. A request is therefore due when half of the limit is free, or as soon as no message is
    requested.

    Args:
        limit: The upper limit for the deliveries in hand plus the requested messages.
        in_hand: The deliveries in hand; only their number is read.
        send: Sends a request for a number of messages; returns False if that is not possible now.
    """

    def __init__(self, limit: int, in_hand: Sized, send: Callable[[int], bool]) -> None:
        self.limit = limit
        """Each parked delivery raises the limit by one while it is parked."""
        self.requested = 0
        """The number of messages that open requests may still deliver."""
        self._half = (limit + 1) // 2
        self._in_hand = in_hand
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._scheduled = False

    @property
    def is_scarce(self) -> bool:
        """Whether the deliveries in hand take more than half of the limit."""
        return self.limit - len(self._in_hand) < self._half

    @property
    def is_exhausted(self) -> bool:
        """Whether the deliveries in hand take the whole limit."""
        return len(self._in_hand) >= self.limit

    def request(self) -> None:
        """Request as many messages as the limit has room for."""
        room = self.limit - len(self._in_hand) - self.requested
        if room > 0 and self._send(room):
            self.requested += room

    def request_if_due(self) -> None:
        """Request now if half of the limit is free or no request is open."""
        if self.requested <= 0 or self.limit - len(self._in_hand) - self.requested >= self._half:
            self.request()

    def request_soon(self) -> None:
        """Do `request_if_due` at the end of this turn of the event loop: one request for all that finishes in it."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._request_scheduled)

    def request_after_finish(self) -> None:
        """Request now if half of the limit is free, or soon if no request is open."""
        if self.limit - len(self._in_hand) - self.requested >= self._half:
            self.request()
        elif self.requested <= 0:
            self.request_soon()

    def _request_scheduled(self) -> None:
        self._scheduled = False
        self.request_if_due()
