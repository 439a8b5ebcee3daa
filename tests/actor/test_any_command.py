"""Commands by names, and ids that a handler chooses."""

import msgspec
import pytest

from runtime import (
    Actor,
    AnyCommand,
    Command,
    DeclarationError,
    HandlerFailed,
    IdReused,
    InvalidMessage,
    Query,
    RemoteError,
    command,
    query,
    testing,
)
from runtime.nats.server import EmbeddedServer
from runtime.wire.ids import MAX_ID
from tests.support.till import Book, GetEntries, Ledger


class Sent(msgspec.Struct, frozen=True):
    ids: tuple[str, ...] = ()


class Pass(Command[None], actor="agent", key="agent"):
    agent: str
    id: str
    amount: int
    by: str = "tell"


class Note(Command[None], actor="agent", key="agent"):
    agent: str
    text: str


class GetNotes(Query[tuple[str, ...]], actor="agent", key="agent"):
    agent: str


class Agent(Actor[Sent]):
    """Sends commands by names, under ids of its own."""

    name = "agent"

    @command
    async def pass_on(self, message: Pass) -> None:
        named = AnyCommand("ledger", "Book", {"account": "a", "amount": message.amount}, key="a")
        if message.by == "tell":
            assert self.tell(named, id=message.id) == message.id
        elif message.by == "command":
            await self.command(named, id=message.id)
        else:
            await self.command(Book("a", message.amount), id=message.id)

    @command(by_id=True)
    async def note(self, message: Note) -> None:
        self.state = Sent((*(self.state or Sent()).ids, message.text))

    @query
    async def get_notes(self, message: GetNotes) -> tuple[str, ...]:
        return (self.state or Sent()).ids


@pytest.mark.parametrize("by", ["tell", "command", "class"])
async def test_commands_under_one_id_take_effect_once(nats_server: EmbeddedServer, namespace: str, by: str) -> None:
    async with testing.running(Agent, Ledger, url=nats_server.url, namespace=namespace) as system:
        for _ in range(2):
            await system.bus.command(Pass("x", "one", 5, by))
        await system.bus.command(Pass("y", "one", 5, by))
        await system.bus.command(Pass("x", "two", 6, by))

        async def found() -> bool:
            return await system.bus.query(GetEntries("a")) == ("5", "6")

        await system.until(found)
        assert not await system.dead_letters("ledger")


async def test_a_program_sends_commands_by_names(nats_server: EmbeddedServer, namespace: str) -> None:
    async with testing.running(Ledger, url=nats_server.url, namespace=namespace) as system:
        named = AnyCommand("ledger", "Book", {"account": "a", "amount": 5, "text": ""}, key="a")
        assert await system.bus.command(named, id="one") is None
        assert await system.bus.command(Book("a", 5), id="one") is None  # the same command
        with pytest.raises(RemoteError, match="-1 is negative"):
            await system.bus.command(AnyCommand("ledger", "book", {"account": "a", "amount": -1}))
        with pytest.raises(InvalidMessage, match="amount"):
            await system.bus.command(AnyCommand("ledger", "Book", {"account": "a"}))
        with pytest.raises(DeclarationError, match="is not a query"):
            await system.bus.query(named)  # type: ignore[arg-type]
        await system.bus.tell(named, id="two")

        async def found() -> bool:
            return await system.bus.query(GetEntries("a")) == ("5", "5")

        await system.until(found)


async def test_with_by_id_another_body_under_a_known_id_is_a_repetition(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with testing.running(Agent, Ledger, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Note("n", "first"), id="one")
        await system.bus.command(Note("n", "second"), id="one")
        await system.bus.tell(Note("n", "third"), id="one")
        await system.bus.tell(Note("n", "fourth"), id="two")

        async def noted() -> bool:
            return await system.bus.query(GetNotes("n")) == ("first", "fourth")

        await system.until(noted)
        await system.bus.command(Book("b", 1), id="one")
        with pytest.raises(IdReused):
            await system.bus.command(Book("b", 2), id="one")


async def test_a_chosen_id_is_checked(nats_server: EmbeddedServer, namespace: str) -> None:
    async with testing.running(Agent, Ledger, url=nats_server.url, namespace=namespace) as system:
        for wrong in ("", "a\nb", "x" * (MAX_ID + 1)):
            with pytest.raises(HandlerFailed):
                await system.bus.command(Pass("x", wrong, 5))
        assert await system.bus.query(GetEntries("a")) == ()
