"""Tellers and boxes: tellers write slips, and boxes note them. The notes of a box are these numbers, in order."""

from typing import ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Options, RetryPolicy, command


class Written(Struct, frozen=True):
    """The slips of one teller: how many it has told each box."""

    told: dict[str, int] = {}


class Notes(Struct, frozen=True):
    """The notes of one box: the numbers that each teller has told it, in order."""

    noted: dict[str, tuple[int, ...]] = {}


class Write(Command[int], actor="tellers", key="teller"):
    """Tells a box the next number. The reply is this number."""

    teller: str
    box: str
    after: float = 0.0
    """Seconds; commands with a time are numbered from 1,000,000 on, and are in no order."""
    number: int = 0
    """Of a command with a time."""


class Note(Command[None], actor="boxes", key="box"):
    box: str
    teller: str
    number: int


class Tellers(Actor[Written]):
    """Tells each box the numbers 1, 2, 3 and so on."""

    name = "tellers"
    options: ClassVar[Options] = Options(retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))

    @command
    async def write(self, message: Write) -> int:
        state = self.state or Written()
        if message.after:
            self.tell(Note(message.box, message.teller, message.number), after=message.after)
            return message.number
        number = state.told.get(message.box, 0) + 1
        self.state = replace(state, told={**state.told, message.box: number})
        self.tell(Note(message.box, message.teller, number))
        return number


class Boxes(Actor[Notes]):
    """Notes each command."""

    name = "boxes"
    options: ClassVar[Options] = Options(retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))

    @command
    async def note(self, message: Note) -> None:
        state = self.state or Notes()
        noted = (*state.noted.get(message.teller, ()), message.number)
        self.state = replace(state, noted={**state.noted, message.teller: noted})
