"""The drain of one ownership: finish the messages in hand, and give the keys to the next owner.

If another process is in standby, it need not wait for the slowest handler. After a moment it gets all keys, with a list of
those whose messages still run here (ADR 018). This process finishes them, and tells the successor about each key.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from runtime.errors import ActorError, PublishError
from runtime.host.handover import Reports
from runtime.host.standby import has_standby
from runtime.intake.endpoint import Endpoint
from runtime.nats.connection import Subscription
from runtime.nats.lease import Lease
from runtime.storage.fence import Fence
from runtime.storage.relay import Relay
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.turns.workers import Workers

if TYPE_CHECKING:
    from runtime.intake.router import Router

logger = logging.getLogger("actorloom.host")

_DRAIN_TIMEOUT = 20.0
"""Seconds that a drain may take. Unfinished work is left to the next owner."""
_QUIET = 0.2
"""Seconds for which a drain waits for the messages in hand before it hands the keys over to a standby."""
_FORMER = 10.0
"""Seconds for which a drain serves on at most, until a former owner has finished its keys."""
_LOOK = 0.02
"""Seconds between two looks whether it has."""
_NO_STANDBY = 0.5
"""Seconds between two looks for a standby, if there was none."""
_MOST_BUSY = 256
"""Keys that may be busy at a hand-over. An owner with more waits until they are fewer."""
_MOST_BYTES = 32_768
"""Bytes of their tokens: the marker of the lease names them in a header, and the server takes headers of 64 KiB."""
_NAMED = 20
"""Running messages that a log line names."""


class Drain:
    """The drain of one ownership, and the parts that it needs.

    Args:
        served: The actor, its names and clients.
        lease: The lease of the keys; None for an actor without state.
        endpoints: The endpoints, which go on in the process while handlers of it may ask them.
        turns: The turns of commands and events.
        workers: The workers that run the queries.
        relay: Publishes the outboxes.
        stop: Stops the consumers and discovery.
        save: Stores what the next owner reads at its start.
        fence: Knows the keys with a commit whose outcome is unknown.
        follow: Makes lists contain what a successor stores from now on, or no longer does so.
        wait_idle: Waits until the keys may be given up, given whether a standby waits for them: `Host._wait_idle`.
        router: Receives the requests of a partitioned actor; None for an actor that is one whole.
    """

    def __init__(
        self,
        served: Served,
        lease: Lease | None,
        endpoints: Sequence[Endpoint],
        turns: Turns,
        workers: Workers,
        relay: Relay,
        *,
        stop: Callable[[], Awaitable[None]],
        save: Callable[[], Awaitable[None]],
        fence: Fence,
        follow: Callable[[bool], None],
        wait_idle: Callable[[bool], Awaitable[None]],
        router: "Router | None",
    ) -> None:
        self._served = served
        self._lease = lease
        self._endpoints = endpoints
        self._turns = turns
        self._workers = workers
        self._relay = relay
        self._stop = stop
        self._save = save
        self._fence = fence
        self._follow = follow
        self._wait_idle = wait_idle
        self._router = router
        self.begun = False
        """Whether the endpoints have left NATS, and receive no more requests from other processes."""
        self._in_process: list[Callable[[], None]] = []
        """Each ends the direct way from handlers of this process to one endpoint."""
        self._reports: Reports | None = None
        """Answers the successor about the keys that were busy at the hand-over; None before it."""

    async def run(self, subscriptions: Sequence[Subscription]) -> None:
        """Receive no more messages, finish those in hand, and save the state for the next owner.

        Args:
            subscriptions: Those of the endpoints.
        """
        end = time.monotonic() + _DRAIN_TIMEOUT
        try:
            async with asyncio.timeout(_DRAIN_TIMEOUT):
                await self._wait_for_former()
                await self._stop()
                await self._finish_in_hand(subscriptions, end)
                await self._relay.drain()
                if self._reports is None:
                    await self._save()
                await self._served.connection.flush()
                if self._reports is not None:
                    await self._reports.wait_answered()
        except TimeoutError:
            text = "%s: the drain was cut short after %.0f s, it left %s"
            logger.warning(text, self._served.label, _DRAIN_TIMEOUT, self._unfinished())
        except PublishError as error:
            logger.warning("%s: the drain was cut short: %s", self._served.label, error)

    @property
    def in_process(self) -> bool:
        """Whether the endpoints still receive the requests of this process."""
        return bool(self._in_process)

    async def wait_own(self) -> None:
        """Wait until the messages in hand are finished."""
        await self._workers.wait_idle()
        await self._turns.drain()

    async def end(self) -> None:
        """Answer the successor no more."""
        if self._reports is not None:
            await self._reports.stop()

    async def _wait_for_former(self) -> None:
        """Serve on while messages run here and a former owner finishes some keys, if there is a standby.

        It can wait for one former owner only. So the keys cannot be handed over yet, and nobody else would serve them.
        """
        lease, end, standby = self._lease, time.monotonic() + _FORMER, False
        while lease is not None and lease.left is not None and self._turns.busy and time.monotonic() < end:
            standby = standby or await has_standby(self._served)
            if not standby:
                return
            await asyncio.sleep(_LOOK)

    async def _finish_in_hand(self, subscriptions: Sequence[Subscription], end: float) -> None:
        """Leave NATS, and finish the messages in hand. Handlers of this process can still send requests meanwhile.

        Args:
            subscriptions: Those of the endpoints.
            end: The monotonic time at which the drain ends.
        """
        # A drained subscription ends its loopback too, if there is one. This replaces it, so it must come first.
        self._serve_in_process()
        self.begun = True
        try:
            for subscription in subscriptions:
                await subscription.drain()
            while not await self._becomes_idle(standby := await has_standby(self._served)):
                if standby and await self._hand_over(end):
                    await self.wait_own()
                    return
        finally:
            self._leave_in_process()

    async def _becomes_idle(self, standby: bool) -> bool:
        """Return whether the keys can be given up within a moment. After this, the caller must not await before it does."""
        try:
            async with asyncio.timeout(_QUIET if standby else _NO_STANDBY):
                await self._wait_idle(standby)
        except TimeoutError:
            return False
        return True

    async def _hand_over(self, end: float) -> bool:
        """Hand the keys over to a standby while messages of some of them still run. Return whether that is done.

        From then on, handlers that run here reach other keys of this actor through NATS: they belong to the successor.
        """
        lease, served = self._lease, self._served
        # The successor can wait for one former owner only.
        if lease is None or lease.left is not None or not lease.held() or not _are_few(self._busy_keys()):
            return False
        reports = Reports(served, self._busy_of)
        busy: set[str] | None = None
        try:
            await reports.start()
            await self._save()
            busy = self._busy_keys()
            if _are_few(busy):
                # No await between the look at the busy keys and this: a request must not make another key busy.
                self._leave_in_process()
                self._follow(True)
                settled = self._fence.settled_but(busy)
                if await lease.hand_over(sorted(busy), end - time.monotonic(), settled):
                    self._reports = reports
        except (ActorError, TimeoutError) as error:
            logger.warning("%s: the keys are not handed over yet: %s", served.label, error)
        if self._reports is None or busy is None:
            await reports.stop()
            self._follow(False)
            self._serve_in_process()
            return False
        self._turns.hand_over(busy, lease.end)
        reports.begin(busy)
        logger.info("%s: handed over before %d keys are finished: %s", served.label, len(busy), self._unfinished())
        return True

    def _busy_keys(self) -> set[str]:
        """Return the tokens of the keys with a message in hand, or with events that are not published."""
        return self._turns.busy_keys() | self._relay.publishing

    def _busy_of(self, tokens: set[str]) -> set[str]:
        """Return those of `tokens` whose keys are not finished: they are busy, or a commit may be stored later."""
        busy = {token for token in tokens if self._turns.is_busy(token)}
        return busy | (tokens & self._relay.publishing) | self._fence.unsettled(tokens)

    def _serve_in_process(self) -> None:
        """Receive the requests from handlers of this process directly."""
        self._leave_in_process()
        serve = self._served.connection.serve_in_process
        self._in_process = [serve(each.own_subject, each.receive) for each in self._endpoints]
        if self._router is not None:
            self._in_process += [serve(subject, receive) for subject, receive in self._router.receivers()]

    def _leave_in_process(self) -> None:
        """Receive no more requests from handlers of this process, except through NATS."""
        for leave in self._in_process:
            leave()
        self._in_process.clear()

    def _unfinished(self) -> str:
        """Return the messages that run, for the log."""
        unfinished = [*self._turns.unfinished(), *self._workers.unfinished()]
        more = f"; {len(unfinished) - _NAMED} more" if len(unfinished) > _NAMED else ""
        return "; ".join(unfinished[:_NAMED]) + more or "messages or events, no handler"


def _are_few(busy: set[str]) -> bool:
    """Return whether a hand-over may leave these keys behind."""
    return len(busy) <= _MOST_BUSY and sum(map(len, busy)) <= _MOST_BYTES
