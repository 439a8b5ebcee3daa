"""Work by numbers of processes and partitions, moves of partitions, start-up and memory, and lists."""

import asyncio
from collections.abc import Sequence

from bench.process import Child, cpu_of
from bench.results import Sample
from bench.suite import Round, Suite, percentiles

CHEAP, LONG = "cheap handlers", "handlers of 1 ms"
ONE, ONE_OF_8, TWO_OF_8 = "1 process, 1 partition", "1 process, 8 partitions", "2 processes, 8 partitions"
SHARES = {ONE: (1, 1), ONE_OF_8: (1, 8), TWO_OF_8: (2, 8)}
"""Processes and partitions by the name of the contender."""

JOIN, LEAVE, KILL = "a process joins", "a process leaves", "kill -9 of one of two"
BOUND = "the bound"
_LEASE = 2.0
"""Seconds of the lease, for the kill of an owner."""
BOUNDS = {JOIN: (1000.0, 500.0), LEAVE: (1000.0, 500.0), KILL: ((_LEASE + 1) * 1000, (_LEASE + 1.5) * 1000)}
"""Milliseconds in which all partitions have moved, and that a caller waits at most."""

_KEYS = 64
_STORED = 5_000
"""Accounts in the lists."""
_WATCHED = 5.0
"""Seconds of load around a move of partitions."""


async def run(suite: Suite) -> None:
    """Measure turns and queries by processes and partitions, moves, start-up and memory, and lists."""
    for name, work in ((CHEAP, 0.0), (LONG, 0.001)):
        await _rates(suite, name, work)
    await _moves(suite)
    await _starts(suite)
    await _lists(suite)


async def _rates(suite: Suite, name: str, work: float) -> None:
    """Compare turns and queries of one and two processes, with one and with eight partitions."""
    url = await suite.server()
    turns: dict[str, Round] = {}
    queries: dict[str, Round] = {}
    for contender, (processes, partitions) in SHARES.items():
        space = f"scale{processes}of{partitions}"
        actors = await _actors(suite, url, space, processes, partitions, work=work)
        caller = await suite.side("actorloom.scale:caller", url=url, namespace=space)
        await caller.call("fill", first=0, count=_KEYS)
        load = {"in_flight": _KEYS, "keys": _KEYS, "seconds": suite.seconds * (1 if work else 2)}
        turns[contender] = _shared(suite, caller, actors, "deposits", **load)
        queries[contender] = _shared(suite, caller, actors, "reads", **load)
    await suite.compare("scale", f"turns, {name}", turns)
    await suite.compare("scale", f"queries, {name}", queries)


async def _moves(suite: Suite) -> None:
    """Measure how long callers wait, and how long all moves take, if a process joins, leaves or is killed."""
    url = await suite.server()
    spec = {"url": url, "namespace": "moves", "partitions": 8, "lease_ttl": _LEASE}
    first = await suite.side("actorloom.scale:accounts", **spec)
    caller = await suite.side("actorloom.scale:caller", url=url, namespace="moves")
    await caller.call("fill", first=0, count=_KEYS)
    task = suite.progress.add_task("scale, moves", total=3)

    async def watch(setting: str) -> None:
        loading = asyncio.ensure_future(
            caller.call("patient_deposits", in_flight=_KEYS, keys=_KEYS, seconds=_WATCHED, timeout=_WATCHED + 60)
        )
        await asyncio.sleep(1.0)
        seconds = await changes[setting]()
        load = await loading
        longest = percentiles(load, {"longest": 100.0})["longest"] / 1000
        suite.add_figures("scale", setting, "8 partitions", moved_ms=seconds * 1000, longest_ms=longest)
        moved, waited = BOUNDS[setting]
        suite.add_figures("scale", setting, BOUND, moved_ms=moved, longest_ms=waited)
        suite.progress.advance(task)

    sides = [first]

    async def join() -> float:
        sides.append(await suite.side("actorloom.scale:accounts", **spec))
        return await sides[-1].call("seconds_to_own")

    async def leave() -> float:
        begun = asyncio.get_running_loop().time()
        await sides.pop(0).stop(30.0)
        await sides[0].call("own_all", number=8)
        return asyncio.get_running_loop().time() - begun

    async def kill() -> float:
        sides.append(await suite.side("actorloom.scale:accounts", **spec))
        begun = asyncio.get_running_loop().time()
        sides.pop(0).process.kill()
        await sides[0].call("own_all", number=8)
        return asyncio.get_running_loop().time() - begun

    changes = {JOIN: join, LEAVE: leave, KILL: kill}
    for setting in changes:
        await watch(setting)


async def _starts(suite: Suite) -> None:
    """Measure start-up and memory by the number of partitions."""
    url = await suite.server()
    for partitions in (1, 8, 64):
        spec = {"url": url, "namespace": f"start{partitions}", "partitions": partitions}
        for setting in ("first start", "start"):
            begun = asyncio.get_running_loop().time()
            actor = await suite.side("actorloom.scale:accounts", timeout=120, **spec)
            seconds = asyncio.get_running_loop().time() - begun
            mib = actor.resident() / 2**20
            suite.add_figures("scale", setting, f"{partitions} partitions", seconds=seconds, mib=mib)
            await actor.stop(30.0)


async def _lists(suite: Suite) -> None:
    """Compare pages of a list over one and over eight partitions."""
    url = await suite.server()
    rounds: dict[str, Round] = {}
    for contender, (processes, partitions) in SHARES.items():
        space = f"lists{processes}of{partitions}"
        actors = await _actors(suite, url, space, processes, partitions)
        caller = await suite.side("actorloom.scale:caller", url=url, namespace=space)
        await caller.call("fill", first=0, count=_STORED, timeout=120)
        rounds[contender] = _shared(suite, caller, actors, "lists", in_flight=16, limit=20, seconds=suite.seconds)
    await suite.compare("scale", "lists of 20", rounds)


async def _actors(
    suite: Suite, url: str, namespace: str, processes: int, partitions: int, work: float = 0.0
) -> list[Child]:
    """Start processes that share partitions; return them when each owns its share."""
    spec = {"url": url, "namespace": namespace, "partitions": partitions, "work": work}
    actors = [await suite.side("actorloom.scale:accounts", **spec) for _ in range(processes)]
    for actor in actors:
        await actor.call("own_all", number=partitions // processes)
    return actors


def _shared(suite: Suite, caller: Child, actors: Sequence[Child], method: str, **arguments: float) -> Round:
    """Return a round in which several processes answer one caller. `server` is the CPU of nats-server per message."""
    server = suite.server_pid

    async def run() -> Sample:
        before = sum(actor.cpu() for actor in actors), cpu_of(server)
        load = await caller.call(method, **arguments)
        count = load["count"]
        return {
            "rate": count / load["seconds"],
            **percentiles(load),
            "caller": load["cpu_us"] / count,
            "actor": (actor_cpu := (sum(actor.cpu() for actor in actors) - before[0]) * 1e6 / count),
            "server": (server_cpu := (cpu_of(server) - before[1]) * 1e6 / count),
            "both": actor_cpu + server_cpu,
        }

    return run
