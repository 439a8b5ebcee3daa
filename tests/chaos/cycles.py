"""Three keyed actors that pass a message along its route. A route may come back to a key that it has passed."""

from typing import Any, ClassVar

from msgspec import Struct

from runtime import Actor, CallCycle, Command, Options, Query, Rejected, command, query
from tests.chaos.actors import OPTIONS


class Passed(Struct, frozen=True):
    """The number of messages that have passed a key."""

    count: int = 0


class PassNorth(Command[int], actor="north", key="key"):
    """Passes this key and then the stops of `route`, each an actor's name, a slash and a key.

    The reply is the number of stops.
    """

    key: str
    route: tuple[str, ...] = ()


class PassEast(Command[int], actor="east", key="key"):
    key: str
    route: tuple[str, ...] = ()


class PassSouth(Command[int], actor="south", key="key"):
    key: str
    route: tuple[str, ...] = ()


class CountNorth(Query[Passed], actor="north", key="key"):
    key: str


class CountEast(Query[Passed], actor="east", key="key"):
    key: str


class CountSouth(Query[Passed], actor="south", key="key"):
    key: str


PASS: dict[str, Any] = {"north": PassNorth, "east": PassEast, "south": PassSouth}
COUNT: dict[str, Any] = {"north": CountNorth, "east": CountEast, "south": CountSouth}


def along(route: tuple[str, ...]) -> Command[int]:
    """Return the command for the first stop of a route."""
    actor, _, key = route[0].partition("/")
    return PASS[actor](key, route[1:])


async def _pass(actor: Actor[Passed], route: tuple[str, ...]) -> int:
    """Pass the message on, and count it.

    Raises:
        Rejected: The route comes back to a key that is waiting for it. The text contains the path.
    """
    try:
        stops = await actor.command(along(route)) if route else 0
    except (CallCycle, Rejected) as error:
        raise Rejected(str(error)) from None
    actor.state = Passed((actor.state or Passed()).count + 1)
    return stops + 1


class North(Actor[Passed]):
    name = "north"
    options: ClassVar[Options] = OPTIONS

    @command
    async def on_pass(self, message: PassNorth) -> int:
        return await _pass(self, message.route)

    @query
    async def on_count(self, message: CountNorth) -> Passed:
        return self.state or Passed()


class East(Actor[Passed]):
    name = "east"
    options: ClassVar[Options] = OPTIONS

    @command
    async def on_pass(self, message: PassEast) -> int:
        return await _pass(self, message.route)

    @query
    async def on_count(self, message: CountEast) -> Passed:
        return self.state or Passed()


class South(Actor[Passed]):
    name = "south"
    options: ClassVar[Options] = OPTIONS

    @command
    async def on_pass(self, message: PassSouth) -> int:
        return await _pass(self, message.route)

    @query
    async def on_count(self, message: CountSouth) -> Passed:
        return self.state or Passed()
