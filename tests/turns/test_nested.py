"""Nested commands: they leave only if the state on which their handler runs is stored, and what they did is never denied."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime import CallCycle, DeadlineExceeded, NotDelivered, Options, TooLarge
from runtime.nats.server import EmbeddedServer
from runtime.storage.draft import Draft
from runtime.storage.settlement import Conflict, NotStored, Unsettled
from tests.support.bank import FORMS, LEFT_BEHIND, Bank, Deposit, GetBalance, TooPoor, Transfer
from tests.support.commits import replace_commit
from tests.support.handlers import RUN_COUNTS
from tests.support.probe import Probe, running

TOO_LONG = "x" * 20_000


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    """A bank whose stream refuses each record with a memo of `TOO_LONG`."""
    async with running(Bank, url=nats_server.url, namespace=namespace) as running_system:
        stream = f"{namespace}-bank-turns"
        info = await running_system.jetstream.stream_info(stream)
        config = msgspec.json.encode({**info.config, "max_msg_size": 10_000})
        await running_system.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", config, timeout=5)
        yield running_system


class Held:
    """Holds the first commit of each key back until `release`."""

    def __init__(self, system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
        self.keys: set[str] = set()
        self._failures: list[Exception] = []
        self._released = asyncio.Event()
        self._commit = system.journal("bank").commit
        replace_commit(monkeypatch, system.journal("bank"), self._hold)

    def release(self, failure: Exception | None = None) -> None:
        """Let the commits go on; `failure` ends the one that was held first."""
        self._failures = [] if failure is None else [failure]
        self._released.set()

    async def _hold(self, draft: Draft) -> int:
        key = draft.key
        if key.key not in self.keys:
            self.keys.add(key.key)
            await self._released.wait()
            if self._failures:
                raise self._failures.pop()
        return await self._commit(draft)


async def outcomes(*requests: Any) -> list[Any]:
    return await asyncio.gather(*requests, return_exceptions=True)


async def test_nothing_leaves_a_handler_whose_state_is_not_stored(system: Probe, namespace: str) -> None:
    bus = system.bus
    for form in FORMS:
        poor, other = f"poor {form} {namespace}", f"other {form} {namespace}"
        refused, transfer = await outcomes(
            bus.command(Deposit(poor, 100, TOO_LONG)), bus.command(Transfer(poor, other, 100, form))
        )
        assert isinstance(refused, TooLarge) and isinstance(transfer, TooPoor) and transfer.executed is False
        assert await bus.query(GetBalance(other)) == 0, f"money was made of nothing: {form}"
        assert RUN_COUNTS[f"transfer {poor}"] == 2, "first on the state that was not stored, then on the stored one"
        assert await bus.command(Deposit(poor, 1)) == 1


@pytest.mark.parametrize("failure", [NotStored("refused"), Unsettled("nobody knows"), Conflict("another writer")])
async def test_money_is_neither_made_nor_lost_whatever_ends_the_commit(
    system: Probe, namespace: str, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    held, bus, first, second = Held(system, monkeypatch), system.bus, f"first {namespace}", f"second {namespace}"
    deposit = asyncio.ensure_future(bus.command(Deposit(first, 100)))
    await system.until(lambda: held.keys)
    transfer = asyncio.ensure_future(bus.command(Transfer(first, second, 100, "group")))
    await system.until(lambda: RUN_COUNTS[f"transfer {first}"])
    held.release(failure)
    told, moved = await outcomes(deposit, transfer)
    paid = 100 if told == 100 else 0
    assert moved == 0 if paid else isinstance(moved, TooPoor) and moved.executed is False
    assert [await bus.query(GetBalance(each)) for each in (first, second)] == [0, paid]


async def test_a_nested_command_waits_for_the_commit_under_way_and_then_leaves(system: Probe, namespace: str) -> None:
    bus = system.bus
    for form in FORMS:
        rich, other = f"rich {form} {namespace}", f"other {form} {namespace}"
        deposits = [bus.command(Deposit(rich, 100)) for _ in range(3)]
        transfers = [bus.command(Transfer(rich, other, 100, form)) for _ in range(4)]
        told = await outcomes(*deposits, *transfers)
        assert told[:-1] == [100, 200, 300, 200, 100, 0] and isinstance(told[-1], TooPoor), form
        assert await bus.query(GetBalance(other)) == 300


async def test_the_deadline_of_the_caller_holds_while_a_nested_command_waits(
    system: Probe, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, bus = Held(system, monkeypatch), system.bus
    deposit = asyncio.ensure_future(bus.command(Deposit("late", 100)))
    await system.until(lambda: held.keys)
    waiting = asyncio.ensure_future(bus.command(Transfer("late", "other", 100, "impatient"), timeout=0.4))
    await system.until(lambda: RUN_COUNTS["transfer late"])
    [told] = await outcomes(waiting)
    assert isinstance(told, DeadlineExceeded) and told.executed is not True
    held.release()
    assert await deposit == 100 and await bus.command(Deposit("late", 1)) == 101
    assert await bus.query(GetBalance("other")) == 0, "the command never left"


async def test_a_waiting_command_is_told_that_it_was_not_executed_if_the_owner_stops(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, bus = Held(system, monkeypatch), system.bus
    deposit = asyncio.ensure_future(bus.command(Deposit("stopped", 100), timeout=20))
    await system.until(lambda: held.keys)
    waiting = asyncio.ensure_future(bus.command(Transfer("stopped", "other", 100, "stubborn"), timeout=20))
    await system.until(lambda: RUN_COUNTS["transfer stopped"])
    system.crash("bank")
    first, second = await outcomes(deposit, waiting)
    assert isinstance(first, DeadlineExceeded) and first.executed is None, "its commit may be under way"
    assert isinstance(second, NotDelivered) and second.executed is False
    await system.until_ready("bank")
    assert await bus.query(GetBalance("other")) == 0


async def test_a_command_to_the_own_key_is_a_cycle_while_a_commit_is_under_way(system: Probe) -> None:
    bus = system.bus
    told = await outcomes(bus.command(Deposit("self", 100)), bus.command(Transfer("self", "self", 100)))
    assert told[0] == 100 and isinstance(told[1], CallCycle) and told[1].executed is False
    assert await bus.query(GetBalance("self")) == 100


async def test_waiting_handlers_and_commits_need_no_more_than_their_workers(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    """Each transfer holds one of two workers, and the nested deposits need another one."""
    async with running(Bank, url=nats_server.url, namespace=namespace, options={"bank": Options(concurrency=2)}) as few:
        requests = [few.bus.command(Deposit("a", 100)) for _ in range(5)]
        requests += [few.bus.command(Transfer("a", "b", 100)) for _ in range(5)]
        assert (await outcomes(*requests))[5:] == [400, 300, 200, 100, 0]


async def test_a_command_whose_handler_has_ended_does_not_leave_after_the_wait(system: Probe) -> None:
    """The handler leaves a task behind, which waits for the commit."""
    bus = system.bus
    told = await outcomes(
        bus.command(Deposit("left", 100)), bus.command(Transfer("left", "behind", 100, "left behind"))
    )
    assert told == [100, 0]
    [error] = await outcomes(*LEFT_BEHIND)
    assert isinstance(error, RuntimeError) and "the handler has ended: it cannot command any more" in str(error)
    assert await bus.query(GetBalance("behind")) == 0
