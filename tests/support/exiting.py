"""Actors whose process exits on certain events. Tests run them with ``python -m runtime run tests.support.exiting:Sapper``.

Environment variables change them for one process:

``HARMLESS``: every event is handled at once, whatever its kind.
``STUCK``: no handler returns.
``ACK_WAIT``: seconds until the server redelivers an unacknowledged event, for consumers that this process creates.
"""

import asyncio
import os

import msgspec

from runtime import Actor, Event, NotDelivered, Options, Query, RetryPolicy, query, react
from runtime.intake import consumers
from tests.support.counting import Add

ATTEMPTS = 5
"""Attempts of an event before it becomes a dead letter."""

EXIT = 7
"""Exit code of a process that an event ends."""

OPTIONS = Options(retry=RetryPolicy(attempts=ATTEMPTS, first=0.05, longest=0.1))

if "ACK_WAIT" in os.environ:
    consumers._ACK_WAIT = int(os.environ["ACK_WAIT"])


class Found(Event, actor="scouts", key="place"):
    """An event that tests publish. `kind` selects its effect.

    ``exit`` (of the process), ``slow``, ``fails``, ``waits`` (for a service that nobody serves), or none.
    """

    place: str
    number: int
    kind: str = ""


class Finds(msgspec.Struct, frozen=True):
    """The numbers of the handled events of a place, in order."""

    numbers: tuple[int, ...] = ()


class GetFinds(Query[Finds], actor="sapper", key="place"):
    """Returns the handled events of a place."""

    place: str


async def handle(event: Found) -> None:
    """Apply the effect of the event's kind, unless the environment overrides it."""
    if "STUCK" in os.environ:
        print("stuck", flush=True)
        await asyncio.Event().wait()
    if "HARMLESS" in os.environ:
        return
    match event.kind:
        case "exit":
            os._exit(EXIT)
        case "slow":
            await asyncio.sleep(0.5)
        case "fails":
            raise RuntimeError("fails on purpose")
        case "waits":
            print("waits", flush=True)
            raise NotDelivered("nobody serves it")


class Sapper(Actor[Finds]):
    """An actor with one state per place."""

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
    """An actor without state, which sends a command to the counter for each event."""

    name = "courier"
    options = OPTIONS

    @react
    async def on_found(self, event: Found) -> None:
        await handle(event)
        await self.command(Add(event.place, event.number))
