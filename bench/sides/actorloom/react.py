"""The reacting side: an actor without state that handles stored events."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from bench.sides.actorloom.actors import Deposited
from runtime import Actor, react
from runtime.telemetry import Tracing
from runtime.testing import running


class Reactor:
    """Runs a new actor, with a consumer of its own, for each round."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace
        self.rounds = 0

    async def consume(self, count: int) -> dict[str, Any]:
        """Handle `count` stored events, measured from the first handler to the last acknowledgement."""
        self.rounds += 1
        handled = _Handled(count)

        class Watcher(Actor):
            name = f"watcher-{self.rounds}"

            @react
            async def on_deposited(self, event: Deposited) -> None:
                handled.add(event.amount)

        async with running(Watcher, url=self.url, namespace=self.namespace, tracing=Tracing.from_env()) as system:
            async with asyncio.timeout(60):
                await handled.all.wait()
            await system.connection.flush()
            seconds = (time.perf_counter_ns() - handled.begun) / 1e9
            return {"count": handled.count, "seconds": seconds, "cpu_us": (time.process_time_ns() - handled.cpu) / 1e3}


class _Handled:
    """Counts the handled events, and sets `all` once there are `expected`."""

    def __init__(self, expected: int) -> None:
        self.expected = expected
        self.count = self.total = self.begun = self.cpu = 0
        self.all = asyncio.Event()

    def add(self, amount: int) -> None:
        """Count one event."""
        if not self.begun:
            self.begun, self.cpu = time.perf_counter_ns(), time.process_time_ns()
        self.total += amount
        self.count += 1
        if self.count == self.expected:
            self.all.set()


@asynccontextmanager
async def reactor(url: str, namespace: str) -> AsyncIterator[Reactor]:
    """Provide a side that handles stored events."""
    yield Reactor(url, namespace)
