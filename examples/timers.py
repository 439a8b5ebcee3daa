"""Timers: commands that an actor sends to itself later, once or repeatedly. They are stored, so a restart loses none.

    python examples/timers.py
    actorloom run examples.timers    # or serve it, and in another terminal:
    actorloom command eggs.cook_egg name=mine seconds=3
    nats req eggs.query.get_egg '{"name": "mine"}'

It prints::

    soft is cooking, 0 of 3 looks
    hard is cooking, 0 of 3 looks
    hard is taken out, no bell
    soft is done after 3 looks
    hard is still taken out
"""

import asyncio
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Query, command, local, not_found, query


class Egg(Struct, frozen=True):
    name: str
    status: Literal["cooking", "done", "taken out"] = "cooking"
    looks: int = 0


class GetEgg(Query[Egg], actor="eggs", key="name"):
    name: str


class CookEgg(Command[Egg], actor="eggs", key="name"):
    name: str
    seconds: float


class TakeOutEgg(Command[Egg], actor="eggs", key="name"):
    name: str


# A timer is a command of the actor itself. It goes to the key that set it, in turn with the other messages of that key.
class RingBell(Command[None], actor="eggs", key="name"):
    name: str


class LookAtEgg(Command[None], actor="eggs", key="name"):
    name: str


class Eggs(Actor[Egg]):
    """Cooks eggs."""

    name = "eggs"

    @query
    async def get_egg(self, message: GetEgg) -> Egg:
        return self.state or not_found(f"no egg {message.name}")

    @command
    async def cook_egg(self, message: CookEgg) -> Egg:
        # Like an event, a timer is set if and only if the turn commits. Its name is unique per key; a new timer of the same
        # name replaces it. `schedule` repeats: "@every 1s", or cron with seconds ("0 30 9 * * *") in a time zone.
        self.remind(message.seconds, RingBell(message.name), name="bell")
        self.schedule("@every 1s", LookAtEgg(message.name), name="look")
        self.state = Egg(message.name)
        return self.state

    @command
    async def take_out_egg(self, message: TakeOutEgg) -> Egg:
        egg = self.state or not_found(f"no egg {message.name}")
        self._stop()
        self.state = replace(egg, status="taken out")
        return self.state

    @command
    async def look_at_egg(self, message: LookAtEgg) -> None:
        if self.state is not None and self.state.status == "cooking":
            self.state = replace(self.state, looks=self.state.looks + 1)

    @command
    async def ring_bell(self, message: RingBell) -> None:
        if self.state is not None and self.state.status == "cooking":
            self._stop()
            self.state = replace(self.state, status="done")

    def _stop(self) -> None:
        self.cancel("bell")
        self.cancel("look")


async def main() -> None:
    async with local(Eggs) as bus:
        for name in ("soft", "hard"):
            egg = await bus.command(CookEgg(name, seconds=3.5))
            print(f"{egg.name} is {egg.status}, {egg.looks} of 3 looks")
        egg = await bus.command(TakeOutEgg("hard"))
        print(f"{egg.name} is {egg.status}, no bell")

        while (egg := await bus.query(GetEgg("soft"))).status != "done":
            await asyncio.sleep(0.05)
        print(f"{egg.name} is {egg.status} after {egg.looks} looks")
        egg = await bus.query(GetEgg("hard"))
        print(f"{egg.name} is still {egg.status}")


if __name__ == "__main__":
    asyncio.run(main())
