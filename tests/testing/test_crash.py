"""Crashes: the remains of a process, and the work after its restart."""

import asyncio
from collections import Counter
from time import monotonic
from typing import Any

import pytest
from msgspec import Struct

from runtime import Actor, Command, Event, NotDelivered, Options, Query, RequestError, command, query, react
from runtime.nats.jetstream.client import JetStream
from runtime.testing import Actors, System

RUNS: Counter[str] = Counter()
"""Runs of handlers and hooks, by name and key."""
GATES: dict[str, asyncio.Event] = {}
"""Events for which handlers wait, by key."""


class Stock(Struct, frozen=True):
    count: int = 0


class Buy(Command[int], actor="stocks", key="name"):
    name: str
    wait: bool = False
    later: bool = False


class GetStock(Query[int], actor="stocks", key="name"):
    name: str


class Bought(Event, actor="stocks", key="name"):
    name: str


class GetSales(Query[int], actor="sales", key="name"):
    name: str


class Stocks(Actor[Stock]):
    name = "stocks"

    async def on_stop(self) -> None:
        RUNS["on_stop"] += 1

    @command
    async def buy(self, message: Buy) -> int:
        RUNS[message.name] += 1
        if message.wait:
            await GATES[message.name].wait()
        self.state = Stock((self.state or Stock()).count + 1)
        self.emit(Bought(message.name))
        if message.later:
            self.remind(3600, Buy(message.name))
        return self.state.count

    @query
    async def get_stock(self, message: GetStock) -> int:
        return (self.state or Stock()).count


class Sales(Actor[Stock]):
    name = "sales"

    @react
    async def on_bought(self, event: Bought) -> None:
        self.state = Stock((self.state or Stock()).count + 1)

    @query
    async def get_sales(self, message: GetSales) -> int:
        return (self.state or Stock()).count


class Parts(Stocks):
    options = Options(partitions=4)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A key that no other test has."""
    GATES[request.node.name] = asyncio.Event()
    return request.node.name


@pytest.mark.parametrize("kind", [Stocks, Parts], ids=["one whole", "partitions"])
async def test_a_crash_loses_nothing_and_the_restart_does_not_wait_for_the_lease(
    actors: Actors, name: str, kind: type[Stocks]
) -> None:
    stopped = RUNS["on_stop"]
    async with actors(kind, Sales, lease_ttl=30.0) as system:
        for number in range(1, 4):
            await system.bus.command(Buy(name), id=f"{name}-{number}")
        await system.crash()
        with pytest.raises(NotDelivered):
            await system.bus.query(GetStock(name), timeout=1.0)
        begun = monotonic()
        await system.restart()
        assert monotonic() - begun < 5
        assert await system.bus.command(Buy(name), id=f"{name}-3") == 3, "its id is remembered"
        assert await system.bus.command(Buy(name)) == 4

        async def sold() -> bool:
            return await system.bus.query(GetSales(name)) == 4

        await system.until(sold)
        assert RUNS["on_stop"] == stopped
    assert RUNS["on_stop"] == stopped + 1


async def test_a_message_in_hand_is_lost_with_the_process_and_its_retry_takes_effect_once(
    actors: Actors, name: str
) -> None:
    async with actors(Stocks) as system:
        asked = asyncio.ensure_future(system.bus.retry(Buy(name, wait=True), id=f"{name}-1", timeout=1.0))
        await system.until(lambda: RUNS[name] == 1)
        await system.crash()
        GATES[name].set()
        await system.restart()
        assert await asked == 1 and RUNS[name] == 2
        assert await system.bus.query(GetStock(name)) == 1


async def test_nothing_leaves_a_process_after_its_crash(actors: Actors, name: str) -> None:
    """Without a wait before the crash: some commands are stored, and the outboxes of some are not published."""
    async with actors(Stocks, Sales) as system:
        for _ in range(5):
            asked = [asyncio.ensure_future(system.bus.command(Buy(name), timeout=1.0)) for _ in range(20)]
            await asyncio.sleep(0)
            await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            await system.crash()
            before = await _last(system)
            replies = await asyncio.gather(*asked, return_exceptions=True)
            assert all(isinstance(each, int | RequestError) for each in replies), replies
            assert await _last(system) == before
            await system.restart()

            async def sold() -> bool:
                return await system.bus.query(GetSales(name)) == await system.bus.query(GetStock(name))

            await system.until(sold)


async def _last(system: System) -> list[int]:
    """Return the last sequence of each stream in the namespace."""
    jetstream, prefix = JetStream(system.bus.connection), system.bus.namespace
    streams = await jetstream.stream_names(f"{prefix}.>")
    return [(await jetstream.stream_info(each)).state.last_seq for each in streams]


async def test_a_timer_that_is_due_in_a_crash_runs_after_the_restart(actors: Actors, name: str) -> None:
    async with actors(Stocks) as system:
        await system.bus.command(Buy(name, later=True))
        await system.skip(60)
        await system.crash()
        assert await system.skip(3600) == 1
        await system.restart()

        async def bought() -> bool:
            return await system.bus.query(GetStock(name)) == 2

        await system.until(bought)


async def test_one_of_several_actors_crashes_if_they_run_apart(actors: Actors, name: str) -> None:
    async with actors(Stocks, Sales, apart=True) as system:
        await system.crash("sales")
        assert await system.bus.command(Buy(name)) == 1
        with pytest.raises(NotDelivered):
            await system.bus.query(GetSales(name), timeout=1.0)
        await system.restart()

        async def sold() -> bool:
            return await system.bus.query(GetSales(name)) == 1

        await system.until(sold)
    async with actors(Stocks, Sales, namespace="together") as system:
        with pytest.raises(ValueError, match="sales runs in one process with stocks: run them with apart=True"):
            await system.crash("sales")
        with pytest.raises(ValueError, match="no actor 'nobody' runs here"):
            await system.crash("nobody")


async def test_a_standby_takes_over_as_soon_as_the_lease_has_expired(actors: Actors, name: str) -> None:
    async with actors(Stocks, lease_ttl=1.0) as system:
        standby: Any = asyncio.ensure_future(_serve(actors, name))
        assert await system.bus.command(Buy(name)) == 1
        await system.crash()
        assert await standby == 2


async def _serve(actors: Actors, name: str) -> int:
    async with actors(Stocks, lease_ttl=1.0) as system:
        return await system.bus.command(Buy(name))


async def test_a_crash_may_be_the_end(actors: Actors, name: str) -> None:
    async with actors(Stocks) as system:
        await system.crash()
        await system.crash()


async def test_actors_that_skip_nats_cannot_crash(actors: Actors) -> None:
    async with actors(Stocks, loopback=True) as system:
        with pytest.raises(ValueError, match="loopback=True cannot crash"):
            await system.crash()
