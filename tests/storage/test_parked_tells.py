"""Parked commands: a process that loses the checkpoint leaves them to its next owner."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from runtime.nats.jetstream.responses import StoredMessage, StreamInfo, StreamState
from runtime.storage.parked_tells import ParkedTells
from runtime.wire.subjects import Names


class Stream:
    """A stream with one parked command, whose readers are counted."""

    def __init__(self) -> None:
        self.reads = 0

    async def read(self, stream: str, subject: str) -> AsyncIterator[StoredMessage]:
        self.reads += 1
        await asyncio.sleep(0)
        yield StoredMessage(subject, 1, None, b"{}", 0.0)


async def test_a_process_that_loses_the_checkpoint_does_not_read_on() -> None:
    stream: Any = Stream()
    parked = ParkedTells(stream, Names("clerk"), lambda: not stream.reads, shared=True)
    parked.find(StreamInfo(state=StreamState(subjects={"clerk.parked._.till.x": 1})))
    for _ in range(20):
        await asyncio.sleep(0)
    assert stream.reads == 1
    parked.stop()
