"""An actor that starts and ends again and again: the side that shows the price of a start."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from bench.sides.actorloom.actors import Accounts
from runtime.telemetry import Tracing
from runtime.testing import running


class Starter:
    """Starts the actor on streams that exist, and ends it."""

    def __init__(self, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace

    async def start(self, count: int) -> None:
        """Start and end the actor `count` times, with nothing to do in between."""
        for _ in range(count):
            async with running(Accounts, url=self.url, namespace=self.namespace, tracing=Tracing.from_env()):
                pass


@asynccontextmanager
async def starter(url: str, namespace: str) -> AsyncIterator[Starter]:
    """Provide the side. The first start creates the streams and imports everything."""
    side = Starter(url, namespace)
    await side.start(2)
    yield side
