"""A handler that runs again and decides otherwise: the commands of all its runs take effect, each of them once."""

import asyncio
import random
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from runtime import RequestError, connect
from runtime.nats.server import EmbeddedServer
from tests.support.bank import Bank, Deposit, GetBalance, Tip, TooPoor
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running
from tests.support.process import running_command


async def write_balance(system: Probe, account: str, before: int, balance: int) -> None:
    """Write the record of an account with another balance, as another owner does."""
    stored = await system.stored_turn("bank", account)
    assert stored is not None
    old, new = (b'"state":{"balance":%d' % each for each in (before, balance))
    assert old in stored.payload
    await system.jetstream.publish(stored.subject, stored.payload.replace(old, new))


@pytest.mark.parametrize("seed", range(6))
async def test_another_owner_has_written_in_between(nats_server: EmbeddedServer, namespace: str, seed: int) -> None:
    rng = random.Random(seed)
    balances = [rng.choice((50, 150)), *rng.choices((0, 50, 150), k=2)]
    account, rich, poor, hold = (f"{name} {namespace}" for name in ("tipping", "rich", "poor", "hold"))
    async with running(Bank, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        await bus.command(Deposit(account, balances[0]))
        tip = Tip(account, rich, poor, hold)
        tipping = asyncio.ensure_future(outcome(bus.command(tip, id="tip", timeout=20)))
        expected: list[str] = []
        for number, balance in enumerate(balances, 1):
            if not balance:
                break
            expected.append(rich if balance >= 100 else poor)
            await system.until(lambda at=number: RUN_COUNTS[f"tip {account}"] == at)
            await system.until(lambda: received(bus, expected))
            if number < len(balances):
                await write_balance(system, account, balance, balances[number])
            gate(f"{hold} {number}").set()
        told = await tipping
        if 0 in balances:
            assert isinstance(told, TooPoor) and told.executed is None, "the commands of its first run stay"
        else:
            assert told == expected[-1] == await bus.command(tip, id="tip")
            assert await bus.query(GetBalance(account)) == balances[-1] - 1
        assert await received(bus, expected)


async def test_its_process_was_killed_in_between(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    account, rich, poor, hold = (f"{name} {namespace}" for name in ("tipping", "rich", "poor", "hold"))
    tip = Tip(account, rich, poor, hold)
    arguments = ("run", "tests.support.bank:Bank", "--namespace", namespace, "--nats", nats_server.url)
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command(*arguments, "--lease-ttl", "1", cwd=tmp_path) as process,
    ):
        await bus.command(Deposit(account, 120))
        tipping = asyncio.ensure_future(outcome(bus.command(tip, id="tip", timeout=2)))
        async with asyncio.timeout(20):
            while not await received(bus, [rich]):
                await asyncio.sleep(0.001)
        process.signal(SIGKILL)
        async with running(Bank, url=nats_server.url, namespace=namespace, lease_ttl=1.0):
            told = await tipping
            assert isinstance(told, RequestError) and told.executed is None
            await bus.command(Deposit(account, -70))
            gate(f"{hold} 1").set()
            assert [await bus.command(tip, id="tip") for _ in range(2)] == [poor, poor]
            assert await bus.query(GetBalance(account)) == 49
            assert await received(bus, [rich, poor])


async def received(bus: Any, tipped: list[str]) -> bool:
    """Return whether each of these accounts has got 1, however often it was chosen."""
    balances = [await bus.query(GetBalance(account)) for account in set(tipped)]
    assert max(balances) <= 1
    return min(balances) == 1


async def outcome(request: Any) -> Any:
    [told] = await asyncio.gather(request, return_exceptions=True)
    return told
