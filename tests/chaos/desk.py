"""A desk without state, whose commands leave an event and no key that anybody comes back to; a shelf that counts the events."""

from typing import ClassVar

from runtime import Actor, Command, Event, Options, command, react
from tests.chaos.actors import OPTIONS, Total


class Take(Command[None], actor="desk"):
    """Take one thing in."""

    key: str


class Taken(Event, actor="desk", key="key"):
    key: str


class Desk(Actor):
    """Takes things in."""

    name = "desk"

    @command
    async def take(self, message: Take) -> None:
        self.emit(Taken(message.key))


class Shelf(Actor[Total]):
    """Holds what was taken in."""

    name = "shelf"
    options: ClassVar[Options] = OPTIONS

    @react
    async def on_taken(self, event: Taken) -> None:
        self.state = Total((self.state or Total()).count + 1)
