"""Work by numbers of processes and partitions, moves of partitions, handing on, start-up and memory, and lists."""

from collections.abc import Sequence

from bench import cluster, hand_on, moves
from bench.process import Child, cpu_of
from bench.results import Sample
from bench.suite import Round, Suite, percentiles

CHEAP, LONG = "cheap handlers", "handlers of 1 ms"
ONE, ONE_OF_8, TWO_OF_8 = "1 process, 1 partition", "1 process, 8 partitions", "2 processes, 8 partitions"
SHARES = {ONE: (1, 1), ONE_OF_8: (1, 8), TWO_OF_8: (2, 8)}
"""Processes and partitions by the name of the contender."""

PARTITIONS = (1, 8, 64)
"""Numbers of partitions at the start of a process."""

_KEYS = 64
_STORED = 5_000
"""Accounts in the lists."""


async def run(suite: Suite) -> None:
    """Measure turns and queries by processes and partitions, moves, handing on, starts, lists, and turns on three nodes."""
    for name, work in ((CHEAP, 0.0), (LONG, 0.001)):
        await _rates(suite, name, work)
    await moves.run(suite)
    await hand_on.run(suite)
    await _starts(suite)
    await _lists(suite)
    await cluster.run(suite)


async def _rates(suite: Suite, name: str, work: float) -> None:
    """Compare turns and queries of one and two processes, with one and with eight partitions."""
    url = await suite.server()
    turns: dict[str, Round] = {}
    queries: dict[str, Round] = {}
    started: list[Child] = []
    for contender, (processes, partitions) in SHARES.items():
        space = f"scale{processes}of{partitions}"
        actors = await _actors(suite, url, space, processes, partitions, work=work)
        caller = await suite.side("actorloom.scale:caller", url=url, namespace=space)
        await caller.call("fill", first=0, count=_KEYS)
        load = {"in_flight": _KEYS, "keys": _KEYS, "seconds": suite.seconds * (1 if work else 2)}
        turns[contender] = _shared(suite, caller, actors, "deposits", **load)
        queries[contender] = _shared(suite, caller, actors, "reads", **load)
        started += [caller, *actors]
    await suite.compare("scale", f"turns, {name}", turns)
    await suite.compare("scale", f"queries, {name}", queries)
    await _stop(started)


async def _starts(suite: Suite) -> None:
    """Measure start-up and memory by the number of partitions: first the start that creates the streams, then another one."""
    url = await suite.server()
    task = suite.progress.add_task("scale, starts", total=2 * len(PARTITIONS))
    for partitions in PARTITIONS:
        spec = {"url": url, "namespace": f"start{partitions}", "partitions": partitions}
        name = "1 partition" if partitions == 1 else f"{partitions} partitions"
        for setting in ("first start", "start"):
            actor = await suite.side("actorloom.scale:accounts", timeout=120, **spec)
            seconds, cpu = await actor.call("start_up")
            mib = actor.resident() / 2**20
            suite.add_figures("scale", setting, name, seconds=seconds, start_cpu=cpu, mib=mib)
            await actor.stop(30.0)
            suite.progress.advance(task)


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
        await actor.call("own", number=partitions // processes)
    return actors


async def _stop(sides: Sequence[Child]) -> None:
    """Stop sides that are not needed any more, so that they do not take time from the next ones."""
    for side in sides:
        await side.stop(30.0)


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
