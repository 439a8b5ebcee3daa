"""Values: nothing is stored or sent that its own type cannot read."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import msgspec
import pytest

from runtime import (
    Accepted,
    Actor,
    Command,
    Event,
    HandlerFailed,
    Options,
    Query,
    RetryPolicy,
    command,
    query,
    react,
)
from runtime.errors import InvalidValue
from runtime.nats.server import EmbeddedServer
from runtime.testing import worker
from runtime.wire import header_block
from runtime.wire.subjects import snake_case
from tests.support.probe import Probe, running


class Goods(msgspec.Struct, frozen=True, rename="camel"):
    left: Annotated[int, msgspec.Meta(ge=0)] = 0
    unit_price: float = 1.5
    ratio: float | None = None
    sold_at: Annotated[datetime, msgspec.Meta(tz=True)] = datetime(2026, 1, 1, tzinfo=UTC)
    kind: Literal["new", "used"] = "new"
    label: str = ""
    sizes: tuple[int, ...] = ()
    extra: Any = None


BAD: dict[str, tuple[str, Any]] = {
    "below a bound": ("left", -12),
    "a text for a number": ("left", "3"),
    "a truth value for a number": ("left", True),
    "a float for an integer": ("left", 3.0),
    "NaN": ("unit_price", math.nan),
    "infinity": ("unit_price", -math.inf),
    "NaN that may be None": ("ratio", math.nan),
    "a naive time": ("sold_at", datetime(2026, 1, 1)),  # noqa: DTZ001 - the bad value
    "outside a literal": ("kind", "stolen"),
    "None for a text": ("label", None),
    "a lone surrogate": ("label", "\ud800"),
    "a wrong item": ("sizes", (1, "2")),
    "a float among integers": ("sizes", (1, 2.5)),
    "NaN anywhere": ("extra", {"deep": [1, math.nan]}),
    "no JSON": ("extra", {"deep": [1, 1j]}),
    "too many digits": ("extra", 10**5000),
    "Raw that is no JSON": ("extra", msgspec.Raw(b"{")),
    "too deep": ("extra", None),
}


def value_of(kind: type, name: str, **more: Any) -> Any:
    """Return a value of `kind` whose bad field is the one that `name` names in `BAD`; a good one for an empty name."""
    if not name:
        return kind(**more)
    field, bad = BAD[name]
    if name == "too deep":
        for _ in range(100_000):
            bad = [bad]
    return kind(**{field: bad, **more})


class GoodsMoved(Goods, Event, actor="stock", key="label", frozen=True):
    pass


class Send(Command[None], actor="stock", key="label"):
    label: str = ""
    left: Annotated[int, msgspec.Meta(ge=0)] = 0
    unit_price: float = 1.5
    ratio: float | None = None
    sold_at: Annotated[datetime, msgspec.Meta(tz=True)] = datetime(2026, 1, 1, tzinfo=UTC)
    kind: Literal["new", "used"] = "new"
    sizes: tuple[int, ...] = ()
    extra: Any = None


class Leave(Command[Goods | None], actor="stock", key="key"):
    """Leaves a bad value at one place: as state, event, timer, nested command or reply."""

    key: str
    place: str
    bad: str = ""


class LeaveLater(Command[Accepted], actor="stock", key="key"):
    key: str
    bad: str = ""


class Return(Query[Goods | None], actor="stock", key="key"):
    key: str
    bad: str = ""
    nothing: bool = False


class GetState(Query[Goods], actor="stock", key="key"):
    key: str


class GetGoods(Query[Goods], actor="stock", key="key"):
    key: str


class Stock(Actor[Goods]):
    name = "stock"
    options = Options(retry=RetryPolicy(attempts=2, first=0.001))

    @command
    async def leave(self, message: Leave) -> Goods | None:
        match message.place:
            case "state":
                self.state = value_of(Goods, message.bad)
            case "event":
                self.emit(value_of(GoodsMoved, message.bad))
            case "timer":
                self.remind(0, value_of(Send, message.bad, label=message.key))
            case "nested command":
                await self.command(value_of(Send, message.bad))
            case "reply":
                return value_of(Goods, message.bad)
        return None

    @command(accept=True)
    async def leave_later(self, message: LeaveLater) -> None:
        self.state = value_of(Goods, message.bad)

    @command
    async def send(self, message: Send) -> None:
        self.state = Goods(message.left)

    @query
    async def give(self, message: Return) -> Goods | None:
        return None if message.nothing else value_of(Goods, message.bad)

    @query
    async def get_state(self, message: GetState) -> Goods:
        return self.state  # type: ignore[return-value]

    @query
    async def get(self, message: GetGoods) -> Goods:
        return self.state or Goods(99)

    @react
    async def on_goods_moved(self, event: GoodsMoved) -> None:
        self.state = value_of(Goods, event.extra or "")


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Stock, People, url=nats_server.url, namespace=namespace) as running_system:
        yield running_system


async def refused(system: Probe, message: Command[Any] | Query[Any], id: str | None = None) -> HandlerFailed:
    """Send a message that must fail with 500 and without effect."""
    with pytest.raises(HandlerFailed) as caught:
        await (system.bus.command(message, id=id) if isinstance(message, Command) else system.bus.query(message))
    assert (caught.value.code, caught.value.executed) == (500, False) and str(caught.value).endswith("handler failed")
    return caught.value


@pytest.mark.parametrize("place", ["state", "event", "timer", "nested command", "reply"])
async def test_a_value_that_its_type_refuses_is_refused_before_the_commit(
    system: Probe, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    await system.bus.command(Leave("k", "state"))
    before = await system.record("stock", "k")
    for name, (field, _) in BAD.items():
        if place == "timer" and field == "label":
            continue  # its key
        caplog.clear()
        await refused(system, Leave("k", place, name), id=f"{place} {name}")
        wire_name = {"state": "Goods", "reply": "", "event": "GoodsMoved"}.get(place, "Send")
        assert f"does not fit {wire_name}" in caplog.text, name
        wire_field = (
            field if wire_name == "Send" else {"unit_price": "unitPrice", "sold_at": "soldAt"}.get(field, field)
        )
        assert name in ("too deep", "Raw that is no JSON") or f"`$.{wire_field}" in caplog.text, name
    assert await system.record("stock", "k") == before, "nothing was stored"
    assert not await system.stored_events("stock")
    for name in BAD:  # the id of a refused command is free
        assert await system.bus.command(Leave("k", place), id=f"{place} {name}") == (
            Goods() if place == "reply" else None
        )
    system.forget("stock")
    assert (await system.bus.query(GetGoods("k"))).left == 0


async def test_a_bad_state_of_a_reaction_is_a_dead_letter_and_of_a_job_too(system: Probe) -> None:
    await system.bus.emit(GoodsMoved(label="k", extra="NaN"))
    await system.bus.command(LeaveLater("k", "below a bound"))

    async def letters() -> list[bytes]:
        return [letter.headers or b"" for letter in await system.stored_dead_letters("stock")]

    await system.until(lambda: _has_length(letters, 2))
    found = b"".join(await letters())
    assert b"`$.unitPrice`" in found and b"`$.left`" in found and found.count(b"Dead-Attempts: 2") == 2
    system.forget("stock")
    assert (await system.bus.query(GetGoods("k"))).left == 99, "the key has no state"


async def _has_length(read: Any, length: int) -> bool:
    return len(await read()) == length


async def test_good_and_bad_turns_of_one_key_at_once(system: Probe) -> None:
    """The turns behind a commit share the next one. A bad one among them fails alone."""
    outcomes = await asyncio.gather(
        *(system.bus.command(Leave("k", "state", "NaN" if n % 3 else "")) for n in range(60)), return_exceptions=True
    )
    for number, outcome in enumerate(outcomes):
        assert isinstance(outcome, HandlerFailed) and outcome.executed is False if number % 3 else outcome is None


async def test_a_reply_that_its_type_refuses_is_a_failure_of_the_service(
    system: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    for name in BAD:
        caplog.clear()
        await refused(system, Return("k", name))
        assert "the reply does not fit" in caplog.text, name
    await refused(system, GetState("k"))
    assert await system.bus.query(Return("k", nothing=True)) is None
    assert await system.bus.query(Return("k")) == Goods()


async def test_a_sender_is_told_of_a_message_that_its_type_refuses(system: Probe) -> None:
    received = system.requests("stock")
    for name in BAD:
        with pytest.raises(InvalidValue, match="the command does not fit Send"):
            await system.bus.command(value_of(Send, name))
        with pytest.raises(InvalidValue, match="the event does not fit GoodsMoved"):
            await system.bus.emit(value_of(GoodsMoved, name))
    with pytest.raises(InvalidValue, match=r"the query does not fit GetGoods: .* - at `\$.key`"):
        await system.bus.query(GetGoods(None))  # type: ignore[arg-type]
    assert system.requests("stock") == received and not await system.stored_events("stock")


async def test_a_reply_has_no_other_fields_than_its_type(system: Probe, namespace: str) -> None:
    """A struct of a subclass has its declared fields only, also inside of another one; another struct is refused."""
    secret = "s3cret"
    for name in ("GetPublic", "ListPublic"):
        reply = await system.connection.request(f"{namespace}.people.query.{snake_case(name)}", b"{}", timeout=5)
        assert secret.encode() not in reply.payload and b'"ann"' in reply.payload, name
    assert await system.bus.query(GetPublic()) == Public("ann")
    assert await system.bus.query(ListPublic()) == [Public("ann")]
    made = await system.connection.request(f"{namespace}.people.command.make_public", b"{}", timeout=5)
    assert made.payload == b'{"name":"ann"}'
    packed = header_block.encode([("Content-Type", "application/msgpack")])
    for subject in ("query.get_public", "query.list_public", "command.make_public"):
        reply = await system.connection.request(f"{namespace}.people.{subject}", b"\x80", headers=packed, timeout=5)
        assert secret.encode() not in reply.payload and b"ann" in reply.payload, subject
    await refused(system, GetPublic(wrong=True))


class Public(msgspec.Struct, frozen=True):
    name: str = ""


class Private(Public, frozen=True):
    password: str = ""


class GetPublic(Query[Public], actor="people"):
    wrong: bool = False


class ListPublic(Query[list[Public]], actor="people"):
    pass


class MakePublic(Command[Public], actor="people"):
    pass


class People(Actor):
    name = "people"

    @query
    async def get_public(self, message: GetPublic) -> Public:
        return Goods() if message.wrong else Private("ann", "s3cret")  # type: ignore[return-value]

    @query
    async def list_public(self, message: ListPublic) -> list[Public]:
        return [Private("ann", "s3cret")]

    @command
    async def make_public(self, message: MakePublic) -> Public:
        return Private("ann", "s3cret")


class Priced(msgspec.Struct, frozen=True):
    price: Decimal


class SetPrice(Command[None], actor="prices", key="name"):
    name: str
    price: str


class Prices(Actor[Priced]):
    name = "prices"

    @command
    async def set_price(self, message: SetPrice) -> None:
        self.state = Priced(Decimal(message.price))


async def test_a_signaling_nan_in_a_state_fails_no_later_turn() -> None:
    prices = worker(Prices, key="a")
    for price in ("sNaN", "1.5", "sNaN", "sNaN", "1.50", "1.5"):
        await prices.set_price(SetPrice("a", price))
        assert str(prices.state.price) == price
