"""Rules during faults: each event reaches each target of each rule that matches it, commands once, and in order."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.storage.replays import Replay, Replays
from tests.chaos.audit import StoreReader, Verdict
from tests.chaos.cell import Cell, Result, Setting, single_cell
from tests.chaos.deliveries import Deliveries, Found, compare, compare_flips, compare_switches, wanted_of
from tests.chaos.faults import POINTS, occurrence
from tests.chaos.feeding import Feeding
from tests.chaos.fleet import Program, Worker, paused, until
from tests.chaos.hook import Hook, open_hook
from tests.chaos.rulebook import TARGETS, plain_rules
from tests.chaos.scenarios.kills import kill_at_random
from tests.chaos.scenarios.timers import move

KEEPERS = ("runtime.router:Rules", "runtime.router:Targets")
ROUTER = "runtime.router:Router"
FEEDS, BOOKS = "tests.chaos.feeds:Feeds", ("tests.chaos.feeds:Books", "tests.chaos.feeds:Hearers")
PARTITIONS = 4
LEASE = 2.0
"""Seconds of the leases."""
OUT = "out"
"""The stream of the target that is a subject."""

Start = Callable[[Cell], list[Worker]]
"""Starts the processes of the router, and returns those that the faults are for."""
Faults = Callable[[Cell, list[Worker], Random, float], Awaitable[str]]
"""Injects faults for some seconds, given the processes of the router, and returns a description of them."""


async def rules(setting: Setting) -> Result:
    """100 rules route events to commands, events, an endpoint and a subject, while two rules change, and all processes are killed."""
    return await route(setting, Result("rules", setting.seed), _armed(setting), _kill)


async def paused_rules(setting: Setting) -> Result:
    """The owner of the router is stopped past its lease, again and again. The clock of the other process is 10 s ahead."""

    def start(cell: Cell) -> list[Worker]:
        return [cell.start(*KEEPERS, ROUTER, lease_ttl=LEASE, skew=skew) for skew in (0.0, 10.0)]

    return await route(setting, Result("paused-rules", setting.seed), start, _pause)


async def partition_rules(setting: Setting) -> Result:
    """Three processes share four partitions of the router, and are killed, stopped and drained, as is the server."""

    def start(cell: Cell) -> list[Worker]:
        for _ in range(2):
            cell.start(*KEEPERS, lease_ttl=LEASE)
        return [cell.start(ROUTER, lease_ttl=LEASE, partitions=PARTITIONS) for _ in range(3)]

    return await route(setting, Result("partition-rules", setting.seed), start, move, partitions=PARTITIONS)


async def replay_rules(setting: Setting) -> Result:
    """As `rules`, while replays send all events so far to all targets again, in the mode *missing*, and are killed, too."""
    result = Result("replay-rules", setting.seed)
    return await route(setting, result, _armed(setting), _kill_and_replay, replayed=True)


async def control_rules(setting: Setting) -> Result:
    """A router that remembers no events routes them again: under the ids of deliveries without effects, under random ids with double ones."""
    result = Result("control-rules", setting.seed)
    for without in (["deduplication"], ["deduplication", "delivery-ids"]):
        part = replace(setting, short=True, directory=setting.directory / without[-1])
        found = await _route_again(part, without)
        if without == ["deduplication"]:
            result.problems += found.problems
            result.load = f"{found.load}, twice"
        else:
            result.twice, result.faults = found.twice, f"deduplication off, each time {found.faults}"
            result.require(
                found.twice > 0, "ids are random, but there are no double deliveries: the suite cannot detect this"
            )
    return result


async def _route_again(setting: Setting, without: list[str]) -> Result:
    """Kill a router before it acknowledges events that it has routed."""
    rng = setting.rng("control-rules")
    kills = [
        f"{point}:{rng.randint(5, 30)}" for point in ("commit.after",) * 3
    ]  # an event without deliveries has no commit

    def start(cell: Cell) -> list[Worker]:
        cell.start(*KEEPERS, lease_ttl=LEASE)
        return [cell.start(ROUTER, kills=kills, without=without)]

    async def wait(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
        await workers[0].killed_as_armed(60)
        return f"{len(kills)} kill -9 of the router before events are acknowledged"

    return await route(setting, Result("rules", setting.seed), start, wait, changing=False)


def _armed(setting: Setting) -> Start:
    """Start two processes of the router, which kill themselves at random steps of their turns."""
    rng = setting.rng("rules-armed")
    kills = [[f"{point}:{occurrence(rng, point, actors=3)}" for point in rng.sample(POINTS, 8)] for _ in range(2)]

    def start(cell: Cell) -> list[Worker]:
        return [cell.start(*KEEPERS, ROUTER, lease_ttl=LEASE, kills=each) for each in kills]

    return start


async def _kill(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    processes, servers = await kill_at_random(cell, rng, seconds, both=True)
    return f"{processes} kill -9 of processes at random, {servers} of the server; kill -9 of the router at armed steps"


async def _kill_and_replay(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    replays = asyncio.ensure_future(_replay(cell, Random(rng.random()), seconds))
    killed = await _kill(cell, workers, rng, seconds)
    ended, kills, sent = await replays
    return f"{killed}; {kills} kill -9 of {ended} replays, which sent {sent:,} events"


async def _replay(cell: Cell, rng: Random, seconds: float) -> tuple[int, int, int]:
    """Run one replay after another, and kill each three times.

    Returns:
        The numbers of the replays, of the kills, and of the events that were sent again.
    """
    end, number, kills, sent = time.monotonic() + seconds, 0, 0, 0
    replays = Replays(JetStream(cell.connection, timeout=3.0), cell.namespace)
    rules = [flag for rule in plain_rules() for flag in ("--rule", rule.name)]
    where = ["--nats", cell.servers.url, "--namespace", cell.namespace]
    while time.monotonic() < end:
        number += 1
        name, left = f"replay-{number}", 3
        while (stored := await _find(replays, name)) is None or stored.status != "done":
            what = ["resume", name] if stored else ["start", *rules, "--name", name, "--rate", "150", "--yes"]
            tool = cell.fleet.start(Program(name, ["-m", "runtime", "replay", *what, *where], keep=False))
            if not await _ends(tool, rng.uniform(1.0, 6.0) if left else 120.0):
                left -= 1
                kills += tool.kill()
                assert await _ends(tool, 30.0)
            cell.fleet.forget(tool)
            assert not tool.log_errors(), tool.log_errors()
        sent += stored.sent
    return number, kills, sent


async def _ends(tool: Worker, seconds: float) -> bool:
    """Wait for the end of a process; return False if it still runs after some seconds."""
    try:
        await until(lambda: bool(tool.exit_codes), seconds, tool.program.name)
    except TimeoutError:
        return False
    return True


async def _find(replays: Replays, name: str) -> Replay | None:
    """Return a replay; None if it has not begun."""
    while True:
        try:
            found = await replays.find(name)
        except (ActorError, TimeoutError):  # The server was killed just now.
            await asyncio.sleep(0.1)
        else:
            return found.replay if found else None


async def _pause(cell: Cell, workers: list[Worker], rng: Random, seconds: float) -> str:
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        # Each process is stopped in turn, so about every second stop is that of the owner.
        with paused([workers[count % len(workers)]]):
            await asyncio.sleep(rng.uniform(LEASE + 0.5, 2 * LEASE))
        await asyncio.sleep(rng.uniform(0.5, 2.0))
        count += 1
    return f"{count} SIGSTOP of 2.5 to 4 s past a lease of 2 s, then SIGCONT; one clock is 10 s ahead"


async def route(
    setting: Setting,
    result: Result,
    start: Start,
    faults: Faults,
    partitions: int = 1,
    changing: bool = True,
    replayed: bool = False,
) -> Result:
    """Emit events during faults, and fill in `result` with the deliveries that are lost, double, or out of order; return it."""
    rng = setting.rng(result.name)
    events, seconds, keys = setting.size(10_000, 150), setting.size(150, 5), setting.size(100, 10)
    async with single_cell(setting, result, "rules") as cell, open_hook(Random(rng.random())) as hook:
        feeding = Feeding(cell, rng, keys, partitions, changing)
        workers = await begin(cell, hook, feeding, start)
        work = asyncio.gather(feeding.run(events, seconds))
        result.faults = await faults(cell, workers, rng, seconds)
        await work
        await feeding.finish()
        await judge(cell, hook, feeding, result, replayed)
        cell.check_logs(result)
    return result


async def begin(cell: Cell, hook: Hook, feeding: Feeding, start: Start) -> list[Worker]:
    """Start all processes, and put the rules. Return the processes of the router."""
    await JetStream(cell.connection).ensure_stream(
        StreamConfig(name=OUT, subjects=(f"{OUT}.>",), replicas=cell.servers.replicas)
    )
    for _ in range(2):
        cell.start(FEEDS, *BOOKS, lease_ttl=LEASE)
    workers = start(cell)
    for worker in cell.fleet.workers:
        await worker.ready()
    await feeding.put(hook.url, OUT)
    return workers


async def judge(cell: Cell, hook: Hook, feeding: Feeding, result: Result, replayed: bool) -> Verdict:
    """Wait for the deliveries, and compare them with the events and the rules."""
    deliveries = Deliveries(StoreReader(cell.connection, cell.namespace), hook, OUT, feeding.windows)
    emitted = sum(span.last - span.first + 1 for spans in feeding.windows.values() for span in spans)
    events = await deliveries.events(emitted)
    wanted, count, changes = wanted_of(events), sum(map(len, events.values())), feeding.changes

    def check(found: Found) -> Verdict:
        verdict = Verdict()
        compare(verdict, wanted, found, replayed)
        compare_flips(verdict, changes, feeding.windows, found)
        compare_switches(verdict, changes, feeding.windows, events, found)
        return verdict

    verdict = await deliveries.wait(check)
    verdict.lost += emitted - count
    result.lost, result.twice = verdict.lost, verdict.twice
    if not verdict.good:
        result.problems.append(f"lost {verdict.lost}, twice {verdict.twice}, out of order {verdict.disorder}")
        result.problems += [f"  {line}" for line in verdict.problems]
    result.load = f"{count:,} events of {len(events)} feeds, 100 rules, {len(TARGETS)} targets"
    result.figures["deliveries"] = deliveries.count
    result.figures["changes of rules"] = changes.flips + changes.switches
    result.figures["requests that arrived again with their key"] = deliveries.repeated
    result.figures["requests refused, without an answer"] = f"{hook.failures}, {hook.cuts}"
    return verdict
