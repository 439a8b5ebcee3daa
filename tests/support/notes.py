"""Actors whose keys are in several partitions: notes, and a desk that asks for them."""

import msgspec

from runtime import Accepted, Actor, Command, Options, Query, command, new_key, query
from tests.support.handlers import gate

PARTITIONS = 4
"""Those of the notes."""


class Note(msgspec.Struct, frozen=True):
    text: str


class WriteNote(Command[int], actor="notes", key="name"):
    name: str
    text: str = ""


class HoldNote(Command[str], actor="notes", key="name"):
    name: str


class OpenNote(Command[str], actor="notes", key=new_key):
    text: str = ""


class KeepNote(Command[Accepted], actor="notes", key=new_key):
    text: str = ""


class GetNote(Query[str], actor="notes", key="name"):
    name: str
    size: int = 0


class AskSize(Query[int], actor="notes"):
    text: str = ""


class CopyNote(Command[str], actor="desk", key="name"):
    name: str
    by: str = "query"


class Notes(Actor[Note]):
    name = "notes"
    options = Options(partitions=PARTITIONS)

    @command
    async def write_note(self, message: WriteNote) -> int:
        self.state = Note(message.text)
        return len(message.text)

    @command
    async def hold_note(self, message: HoldNote) -> str:
        await gate(message.name).wait()
        self.state = Note("held")
        return self.key

    @command
    async def open_note(self, message: OpenNote) -> str:
        self.state = Note(message.text)
        return self.key

    @command(accept=True)
    async def keep_note(self, message: KeepNote) -> None:
        self.state = Note(message.text)

    @query
    async def get_note(self, message: GetNote) -> str:
        return (self.state.text if self.state else "") + "x" * message.size

    @query
    async def ask_size(self, message: AskSize) -> int:
        return len(message.text)


class Desk(Actor[Note]):
    name = "desk"
    options = Options(partitions=2)

    @command
    async def copy_note(self, message: CopyNote) -> str:
        await gate(message.name).wait()
        await self.query(AskSize())
        self.state = Note(await self.query(GetNote(message.by)))
        return self.state.text
