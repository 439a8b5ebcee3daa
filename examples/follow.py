"""Follow: a plain program waits for an event, and follows events live.

    python examples/follow.py

It prints::

    ann waits for her parcel
    the parcel p1 is at the door of ann
    p1: Lyon
    p1: Paris
    p1: Paris, rue des Lilas 1
"""

import asyncio

from msgspec import Struct

from runtime import Actor, Bus, Command, Event, command, local


class Parcel(Struct, frozen=True):
    place: str


class Move(Command[None], actor="parcels", key="parcel_id"):
    parcel_id: str
    place: str


class ParcelMoved(Event, actor="parcels", key="parcel_id"):
    parcel_id: str
    place: str


class Parcels(Actor[Parcel]):
    """Knows where each parcel is."""

    name = "parcels"

    @command
    async def move(self, message: Move) -> None:
        self.state = Parcel(message.place)
        self.emit(ParcelMoved(message.parcel_id, message.place))


async def deliver(bus: Bus) -> None:
    for place in ("Lyon", "Paris", "Paris, rue des Lilas 1"):
        await bus.command(Move("p1", place))


async def main() -> None:
    async with local(Parcels) as bus:
        # `async with` notes the place in the stream, so that no event of what the block does is missed. The wait is bounded by
        # a timeout of Python: the events have no end.
        print("ann waits for her parcel")
        async with bus.events(ParcelMoved, key="p1") as moves, asyncio.timeout(30):
            await deliver(bus)
            async for move in moves:
                if move.place.endswith("rue des Lilas 1"):
                    print(f"the parcel {move.parcel_id} is at the door of ann")
                    break

        # Any number of programs may follow the same events, from the first one on or from now on. A lost connection, a server
        # that restarts: the next event comes in any case, once, and in the order of the stream.
        seen = 0
        async for move in bus.events(ParcelMoved, since="first"):
            print(f"{move.parcel_id}: {move.place}")
            seen += 1
            if seen == 3:
                break


if __name__ == "__main__":
    asyncio.run(main())
