"""Actors whose process ends of some events, for tests that run them as processes: ``python -m runtime run tests.support.bombs:Sapper``.

MENDED in the environment: nothing ends any more. STUCK: no handler comes to its end. ACK_WAIT: seconds, for consumers made here.
"""

import asyncio
import os

import msgspec

from runtime import Actor, Event, Options, Query, RetryPolicy, query, react
from runtime.intake import consumers
from tests.support.counting import Add

ATTEMPTS = 5
EXIT = 7
OPTIONS = Options(retry=RetryPolicy(attempts=ATTEMPTS, first=0.05, longest=0.1))

if "ACK_WAIT" in os.environ:
    consumers._ACK_WAIT = int(os.environ["ACK_WAIT"])


class Found(Event, actor="scouts", key="place"):
    """Published by the tests. `kind` is "" or ``bomb`` (ends the process), ``slow``, ``fails``."""

    place: str
    number: int
    kind: str = ""


class Finds(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...] = ()


class GetFinds(Query[Finds], actor="sapper", key="place"):
    place: str


async def handle(event: Found) -> None:
    if "STUCK" in os.environ:
        print("stuck", flush=True)
        await asyncio.Event().wait()
    if "MENDED" in os.environ:
        return
    match event.kind:
        case "bomb":
            os._exit(EXIT)
        case "slow":
            await asyncio.sleep(0.5)
        case "fails":
            raise RuntimeError("fails on purpose")


class Sapper(Actor[Finds]):
    """Has a state for each place."""

    name = "sapper"
    options = OPTIONS

    @react
    async def on_found(self, event: Found) -> None:
        await handle(event)
        self.state = Finds((*(self.state or Finds()).numbers, event.number))

    @query
    async def get_finds(self, message: GetFinds) -> Finds:
        return self.state or Finds()


class Courier(Actor):
    """Has no state, and tells the counter."""

    name = "courier"
    options = OPTIONS

    @react
    async def on_found(self, event: Found) -> None:
        await handle(event)
        await self.command(Add(event.place, event.number))
