"""A desk without state, each of whose commands emits an event; and a shelf that counts the events.

No later message has the key of a command of the desk, so no later turn carries its outbox on.
"""

from typing import ClassVar

from runtime import Actor, Command, Event, Options, command, react
from tests.chaos.actors import OPTIONS, Total


class Take(Command[None], actor="desk"):
    """Emits `Taken` for the key."""

    key: str


class Taken(Event, actor="desk", key="key"):
    key: str


class Desk(Actor):
    """Emits one event per command."""

    name = "desk"

    @command
    async def take(self, message: Take) -> None:
        self.emit(Taken(message.key))


class Shelf(Actor[Total]):
    """Counts the events of each key."""

    name = "shelf"
    options: ClassVar[Options] = OPTIONS

    @react
    async def on_taken(self, event: Taken) -> None:
        self.state = Total((self.state or Total()).count + 1)
