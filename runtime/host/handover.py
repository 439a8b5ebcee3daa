"""Hand-over: an owner that drains gives its keys away although the messages of some keys still run (ADR 018).

The lease tells the successor which keys these are, and how long the former owner may take. The former owner answers on
``<actor>.handover.<holder>``: the successor sends the keys that it still holds, and gets those among them that are finished,
as soon as there is one. The subject has no subscriber any more as soon as the former owner has ended.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any

import msgspec

from runtime import clocks
from runtime.errors import ActorError, NotDelivered
from runtime.nats.connection import NoResponders, Subscription
from runtime.nats.lease import Lease
from runtime.nats.lease_value import Finishing
from runtime.storage.index import Indexes
from runtime.turns.served import Served
from runtime.turns.turn import Turns
from runtime.wire.codec import UNDECODABLE

logger = logging.getLogger("actorloom.host")

_LOOK = 0.02
"""Seconds between two looks of the former owner for keys that are finished."""
_LINGER = 1.0
"""Seconds for which a former owner waits for a question about the last finished keys."""
_QUESTION_TIMEOUT = 1.0
"""Seconds that a question waits for a finished key. Then the successor asks again."""
_GONE = 0.5
"""Seconds without a subscriber after which a former owner is gone. A connection that was lost comes back in this time."""
_PAUSE = 0.05
"""Seconds between two questions without an answer, and between two attempts to read a record."""

_decode_tokens = msgspec.json.Decoder(set[str]).decode


class Reports:
    """The side of the former owner: answers which of its busy keys are finished. The caller calls `stop`.

    Args:
        served: The actor, its names and clients.
        busy: Returns those of some key tokens whose keys are not finished.
    """

    def __init__(self, served: Served, busy: Callable[[set[str]], set[str]]) -> None:
        self._served = served
        self._busy = busy
        self._question: tuple[bytes, set[str]] | None = None
        """The reply subject of the last question, and the keys that the successor holds."""
        self._held: set[str] = set()
        """Keys that the successor may still hold."""
        self._subscription: Subscription | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe, before the lease is handed over. Raises the errors of `Connection.flush`."""
        connection, names = self._served.connection, self._served.names
        self._subscription = await connection.subscribe(names.handover(self._served.holder), self._receive)
        await connection.flush()

    def begin(self, tokens: Iterable[str]) -> None:
        """Answer from now on. `tokens` are those of the busy keys."""
        self._held = set(tokens)
        self._task = asyncio.get_running_loop().create_task(self._look())

    async def wait_answered(self) -> None:
        """Return when the successor knows that all keys are finished, or does not ask."""
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=_LINGER)

    async def stop(self) -> None:
        """Answer no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._subscription is not None:
            self._subscription.unsubscribe()

    def _receive(self, subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        if reply.startswith(b"_"):  # An inbox, as in `MicroService`.
            try:
                self._question = reply, _decode_tokens(payload)
            except UNDECODABLE:
                logger.warning("%s: an unreadable question about a hand-over", self._served.label)

    async def _look(self) -> None:
        while self._held:
            await asyncio.sleep(_LOOK)
            if self._question is None:
                continue
            reply, held = self._question
            finished = held - self._busy(held)
            if finished:
                self._question = None
                self._served.connection.publish(reply, msgspec.json.encode(sorted(finished)))
                self._held -= finished


def hold(
    served: Served, lease: Lease | None, turns: Turns, indexes: Indexes | None
) -> Callable[[], Coroutine[Any, Any, None]] | None:
    """Hold the keys that a former owner still finishes, before the endpoints receive anything.

    Returns:
        Starts the work that lets the messages of these keys run, one key after another; None if there are none.
    """
    if lease is None or lease.left is None:
        return None
    held = turns.keys.hold(lease.left.tokens)
    if indexes is not None:
        indexes.refresh = held.refresh
    logger.info("%s: %s still finishes %d keys", served.label, lease.left.holder, len(lease.left.tokens))
    return partial(_end_all_holds, served, lease, turns, indexes)


async def _end_all_holds(served: Served, lease: Lease, turns: Turns, indexes: Indexes | None) -> None:
    if lease.left is not None:
        await _follow(served, lease.left, turns)
    turns.keys.held = lease.left = None
    if indexes is not None:
        indexes.refresh = None


async def _follow(served: Served, left: Finishing, turns: Turns) -> None:
    """Ask the former owner for the keys that it has finished, until none is left or it is gone."""
    held = set(left.tokens)
    subject = served.names.handover(left.holder)
    gone_since: float | None = None
    while held and clocks.elapsed() < left.until:
        try:
            reply = await served.connection.request(
                subject, msgspec.json.encode(sorted(held)), timeout=_QUESTION_TIMEOUT
            )
            finished = held & _decode_tokens(reply.payload)
        except NoResponders:
            gone_since = gone_since or time.monotonic()
            if time.monotonic() - gone_since > _GONE:
                break
            await asyncio.sleep(_PAUSE)
            continue
        except (ActorError, TimeoutError, *UNDECODABLE):
            await asyncio.sleep(_PAUSE)
            continue
        gone_since = None
        held -= finished
        await asyncio.gather(*(_end_hold(turns, token, gone=False) for token in finished))
    if held:
        logger.warning("%s: %s is gone, it left %d keys unfinished", served.label, left.holder, len(held))
    await asyncio.gather(*(_end_hold(turns, token, gone=True) for token in held))


async def _end_hold(turns: Turns, token: str, gone: bool) -> None:
    while True:
        try:
            await turns.end_hold(token, gone)
            return
        except NotDelivered:
            await asyncio.sleep(_PAUSE)
