"""States of several types: a union of structs, and structs with type arguments."""

import types
from enum import StrEnum
from typing import Any, Generic, TypeVar

import msgspec
import pytest

from runtime import Actor, Command, DeclarationError, HandlerFailed, Index, NotDelivered, Query, command, query
from runtime.nats.server import EmbeddedServer
from runtime.testing import running, worker

T = TypeVar("T")


class Draft(msgspec.Struct, frozen=True, tag=True):
    user: str


class Paid(msgspec.Struct, frozen=True, tag=True):
    user: str
    amount: int = 0


class Shipped(msgspec.Struct, frozen=True, tag=True):
    user: str
    parcel: str = ""


class Begin(Command[None], actor="trades", key="id"):
    id: str
    user: str


class Pay(Command[str], actor="trades", key="id"):
    id: str
    amount: int


class Ship(Command[str], actor="trades", key="id"):
    id: str


class FindTrades(Query[list[str]], actor="trades"):
    type: str = ""
    user: str = ""


class Trades(Actor[Draft | Paid | Shipped], indexes=[Index("type"), Index("user", order="type")]):
    name = "trades"

    @command
    async def begin(self, message: Begin) -> None:
        self.state = Draft(message.user)

    @command
    async def pay(self, message: Pay) -> str:
        match self.state:
            case Draft(user):
                self.state = Paid(user, message.amount)
            case found:
                return type(found).__name__
        return "paid"

    @command
    async def ship(self, message: Ship) -> str:
        match self.state:
            case Paid(user):
                self.state = Shipped(user, message.id)
                return "shipped"
            case found:
                return type(found).__name__

    @query
    async def find_trades(self, message: FindTrades) -> list[str]:
        filters = {"type": message.type} if message.type else {"user": message.user}
        page = await self.list(**filters, order=None if message.type else "-type")
        return [f"{type(each).__name__} of {each.user}" for each in page.items]


async def test_a_state_may_be_of_one_of_several_types(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Trades, url=nats_server.url, namespace=namespace) as system:
        for number, user in enumerate("abc"):
            await system.bus.command(Begin(f"t{number}", user))
        assert await system.bus.command(Ship("t0")) == "Draft"
        assert await system.bus.command(Pay("t0", 5)) == "paid"
        assert await system.bus.command(Pay("t0", 5)) == "Paid"
        assert await system.bus.command(Pay("t1", 5)) == "paid"
        assert await system.bus.command(Ship("t1")) == "shipped"
    async with running(Trades, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.query(FindTrades("Paid")) == ["Paid of a"]
        assert await system.bus.query(FindTrades("Shipped")) == ["Shipped of b"]
        assert await system.bus.query(FindTrades("Draft")) == ["Draft of c"]
        await system.bus.command(Begin("t3", "a"))
        assert await system.bus.query(FindTrades(user="a")) == ["Paid of a", "Draft of a"], "ordered by the tag"
        assert await system.bus.command(Ship("t0")) == "shipped"


async def test_a_test_lists_states_by_their_type() -> None:
    trades = worker(Trades, states=[Paid("a"), Draft("b"), Paid("c")])
    assert await trades.find_trades(FindTrades("Paid")) == ["Paid of a", "Paid of c"]


class Trade(msgspec.Struct, frozen=True):
    user: str


class OldTrades(Actor[Trade]):
    name = "trades"

    @command
    async def begin(self, message: Begin) -> None:
        self.state = Trade(message.user)

    @command
    async def pay(self, message: Pay) -> str:
        return "" if self.state is None else self.state.user


class NewTrades(Trades):
    name = "trades"
    state_version = 2
    upgrades = {1: lambda state: {"type": "Draft", **state}}


async def test_a_struct_becomes_one_of_several_types_by_an_upgrade(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(OldTrades, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Begin("t1", "a"))
    async with running(NewTrades, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.query(FindTrades("Draft")) == ["Draft of a"]
        assert await system.bus.command(Pay("t1", 5)) == "paid"
    async with running(OldTrades, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(NotDelivered, match="written by a newer version of this service"):
            await system.bus.command(Pay("t1", 5))


class Basket(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]


class Fill(Command[int], actor="baskets", key="id"):
    id: str
    items: list[Any]


class Baskets(Actor[Basket[int]]):
    name = "baskets"

    @command
    async def fill(self, message: Fill) -> int:
        self.state = Basket([*(self.state.items if self.state else ()), *message.items])
        return len(self.state.items)


async def test_a_state_may_have_type_arguments(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Baskets, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.command(Fill("b", [1, 2])) == 2
        with pytest.raises(HandlerFailed):
            await system.bus.command(Fill("b", ["x"]))
        assert "the state does not fit Basket[int]: Expected `int`, got `str` - at `$.items[2]`" in caplog.text
    async with running(Baskets, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.command(Fill("b", [4])) == 3


class Plain(msgspec.Struct, frozen=True):
    user: str


class Loose(msgspec.Struct, tag=True):
    user: str


class Numbered(msgspec.Struct, frozen=True, tag=1):
    user: int


class Again(msgspec.Struct, frozen=True, tag="Draft"):
    other: str


class Kinded(msgspec.Struct, frozen=True, tag=True, tag_field="kind"):
    user: str


def declare(state: Any, **arguments: Any) -> None:
    """Declare an actor with this type of states."""
    types.new_class("Wrong", (Actor[state],), arguments, lambda namespace: namespace.update(name="wrong"))


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (Draft | None, r"the state Draft \| None: leave None out"),
        (Draft | Plain, "Plain is one of several types of states, and needs a tag"),
        (Draft | Loose, "the state Loose must be a msgspec.Struct with frozen=True"),
        (Draft | str, "the state str must be a msgspec.Struct with frozen=True"),
        (Draft | Again, r"the state Draft \| Again: .*tag"),
        (Draft | Numbered, r"the state Draft \| Numbered: .*tag"),
        (Draft | Kinded, r"the state Draft \| Kinded: .*tag"),
    ],
)
def test_types_that_cannot_be_told_apart_are_refused(state: Any, text: str) -> None:
    with pytest.raises(DeclarationError, match=f"Wrong: {text}"):
        declare(state)


@pytest.mark.parametrize(
    ("state", "field", "text"),
    [
        (Draft | Paid, "amount", "an index names the field 'amount', which Draft does not have"),
        (Draft | Kinded, "type", ".*tag"),
        (Plain, "type", "an index names the field 'type', which Plain does not have"),
        (Kinded, "type", "an index names the field 'type', which Kinded does not have"),
    ],
)
def test_an_index_names_a_field_of_each_type(state: Any, field: str, text: str) -> None:
    with pytest.raises(DeclarationError, match=text):
        declare(state, indexes=[Index(field)])


def test_a_field_of_an_index_has_values_of_one_kind_in_each_type() -> None:
    class Counted(msgspec.Struct, frozen=True, tag=True):
        user: int

    state: Any = Draft | Counted
    with pytest.raises(DeclarationError, match=r"an index names Draft \| Counted\.user, whose values have no order"):
        declare(state, indexes=[Index("user")])


def test_two_enums_of_one_name_are_no_values_of_one_kind() -> None:
    one, two = (
        msgspec.defstruct(name, [("status", StrEnum("Status", values))], frozen=True, tag=True)
        for name, values in (("A", "OPEN"), ("B", "DONE"))
    )
    state: Any = one | two
    with pytest.raises(DeclarationError, match=r"an index names A \| B\.status, whose values have no order"):
        declare(state, indexes=[Index("status")])


async def test_a_state_of_none_of_the_types_is_refused() -> None:
    trades = worker(Trades, key="1")
    with pytest.raises(DeclarationError, match=r"self\.state must be a Draft \| Paid \| Shipped or None, not a Plain"):
        trades.state = Plain("a")  # type: ignore[assignment]
