"""The events that a test waits for, from the start of its system on."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from runtime.actor.message import codec_of
from runtime.client.tap import Tap, read_wanted
from runtime.client.tapped import TappedEvent
from runtime.errors import CodecError
from runtime.nats.jetstream.client import JetStream
from runtime.wire.codec import UNDECODABLE


class SeenEvents:
    """Finds events that a test has not got yet.

    The streams keep all events, so each wait reads them from the start of the system. Nothing has to listen meanwhile.

    Args:
        jetstream: A client of the test, which outlives the actors.
        namespace: The namespace of the actors.
        ends: The last sequence of each stream of events before the start of the system.
    """

    def __init__(self, jetstream: JetStream, namespace: str, ends: Mapping[str, int]) -> None:
        self._jetstream = jetstream
        self._namespace = namespace
        self._ends = ends
        self._returned: set[tuple[str, int]] = set()

    async def wait(self, event: type | str, where: object, trace: str, timeout: float) -> Any:
        """Wait for an event; see `System.event`."""
        passed: Counter[str] = Counter()
        try:
            async with asyncio.timeout(timeout):
                found = await self._find(event, where, trace, passed)
        except TimeoutError:
            seen = ", ".join(f"{kind} ({count})" for kind, count in sorted(passed.items())) or "none"
            wanted = event if isinstance(event, str) else event.__name__
            text = f"no {wanted}{f' where {where}' if where is not None else ''} within {timeout:g} s"
            raise TimeoutError(f"{text}; events since the start that no call has returned: {seen}") from None
        return found if isinstance(event, str) else _decoded(found, event)

    async def _find(self, event: type | str, where: object, trace: str, passed: Counter[str]) -> TappedEvent:
        wanted = read_wanted([event], where, trace, "System.event")
        # All events are read, for the text of the failure.
        async with Tap(self._jetstream, self._namespace, read_wanted([], None, ""), self._ends) as tap:
            async for each in tap:
                place = each.stream, each.sequence
                if place in self._returned:
                    continue
                if wanted.has(each):
                    self._returned.add(place)
                    return each
                passed[each.type] += 1
        raise AssertionError("unreachable: nobody closes the tap")


def _decoded(found: TappedEvent, event: type) -> Any:
    try:
        return codec_of(event).decode(found.payload)
    except (CodecError, *UNDECODABLE) as error:
        raise CodecError(f"{found.subject}, sequence {found.sequence} of {found.stream}: {error}") from error
