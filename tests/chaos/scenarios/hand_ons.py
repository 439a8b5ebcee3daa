"""Events that act on a key of another partition: once and in order, whatever happens to the owners of both."""

import asyncio
import random
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token
from tests.chaos.bank_cell import BankCell, open_bank
from tests.chaos.cell import Result, Setting, timed
from tests.chaos.depositors import Crowd
from tests.chaos.fleet import Worker, paused
from tests.chaos.namespaces import Namespace, unavailable
from tests.chaos.scenarios.bank import observe
from tests.chaos.senders import Pair, open_pairs, start_senders
from tests.chaos.servers import Servers

PARTITIONS = 8
_PAIRS = 10
_CROWD = Crowd(holders=3, waiters=2, hasty=0, readers=3)
_FAULTS = ("kill", "stop", "cut", "terminate", "both")
_CLUSTER_BOUND = 30.0
"""Those on a cluster."""
_BOUND = 15.0
"""Seconds that an operation may wait. After a cut, TCP repeats what was lost after ever longer pauses."""


async def hand_ons(setting: Setting) -> Result:
    """Money is sent to accounts of other partitions by events, while the owner of either side is killed, stopped, cut off or drained."""
    result = Result("hand-ons", setting.seed)
    rng = setting.rng("hand-ons")
    faults = [each for each in _FAULTS for _ in range(setting.size(2, 1))]
    rng.shuffle(faults)
    async with _open(setting, result, "handons") as (bank, pairs, spaces):
        if not spaces:
            faults = ["stop" if each == "cut" else each for each in faults]
        for number, fault in enumerate(faults):
            pair = rng.choice(pairs)
            account = pair.target if number % 2 else pair.source
            worker = await bank.owner(partition_of(key_token(account), PARTITIONS))
            await asyncio.sleep(rng.uniform(0.0, 0.1))
            await _cause(bank, worker, fault, rng, spaces)
            await observe(bank, rng.uniform(0.5, 2.0))
        await bank.finish(result, _bound(setting))
    result.faults = f"{len(faults)} faults of senders and receivers: " + ", ".join(
        f"{faults.count(one)} {one}" for one in sorted(set(faults))
    )
    return result


async def control_hand_on(setting: Setting) -> Result:
    """If events are handed on without the order of their key, some must overtake others."""
    result = Result("control-hand-on", setting.seed)
    rng = setting.rng("control-hand-on")
    stops = 3
    short = replace(setting, short=True)
    async with _open(short, result, "unordered", without=["hand-on-order"]) as (bank, pairs, _):
        for _ in range(stops):
            pair = rng.choice(pairs)
            worker = await bank.owner(partition_of(key_token(pair.target), PARTITIONS))
            with paused([worker]):
                await asyncio.sleep(2.5)
            await observe(bank, 0.5)
        verdict = await bank.finish(result, 60.0)
    result.problems.clear()
    result.faults = f"hand-on-order off: {stops} receivers stopped (SIGSTOP) for 2.5 s; {verdict.disorder} out of order"
    result.require(
        verdict.disorder > 0, "events are handed on without order, but none is out of order: the suite cannot see it"
    )
    return result


@asynccontextmanager
async def _open(
    setting: Setting, result: Result, namespace: str, without: Iterable[str] = ()
) -> AsyncIterator[tuple[BankCell, list[Pair], list[Namespace]]]:
    """Run a bank of three members with senders. Each is in a network namespace, if there are such on this machine."""
    result.load = f"{_PAIRS} senders, 3 holders, 2 customers who send once, 3 readers, a lister"
    async with timed(result), Servers(setting.directory, setting.nodes) as servers, AsyncExitStack() as stack:
        spaces: list[Namespace] = []
        if not unavailable() and setting.nodes == 1 and not without:
            spaces = [await stack.enter_async_context(Namespace(servers.nodes[0].port)) for _ in range(3)]
        # Pings as seldom as by default: a connection that is closed during a cut loses what it has not sent.
        members = [{"url": space.url, "inside": space.inside, "ping": 5.0, "tick": 1.0} for space in spaces]
        bank = await stack.enter_async_context(
            open_bank(
                setting, result, namespace, servers=servers, crowd=_CROWD, banks=members or [{}] * 3,
                partitions=PARTITIONS, without=without,
            )
        )  # fmt: skip
        pairs = open_pairs(bank.depositors, _PAIRS, PARTITIONS)
        start_senders(bank.depositors, pairs)
        await bank.depositors.wait_for_more(100)
        yield bank, pairs, spaces


async def _cause(bank: BankCell, worker: Worker, fault: str, rng: random.Random, spaces: list[Namespace]) -> None:
    """Cause a fault of a member. ``both`` kills it while another one is stopped."""
    match fault:
        case "kill":
            worker.kill()
        case "stop":
            with paused([worker]):
                await asyncio.sleep(rng.uniform(2.2, 3.4))
        case "cut":
            space = spaces[bank.banks.index(worker)]
            await space.cut(*rng.choice((("out",), ("in",), ("out", "in"))))
            await asyncio.sleep(rng.uniform(2.0, 3.0))
            await space.heal()
        case "both":
            others = [each for each in bank.banks if each.alive and each is not worker]
            with paused(rng.sample(others, min(1, len(others)))):
                worker.kill()
                await asyncio.sleep(rng.uniform(1.5, 2.5))
        case _:
            worker.signal(signal.SIGTERM)


def _bound(setting: Setting) -> float:
    """Return the seconds that an operation may wait. A cluster elects leaders of streams after the kill of a node."""
    return _BOUND if setting.nodes == 1 else _CLUSTER_BOUND
