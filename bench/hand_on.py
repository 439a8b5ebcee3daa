"""The cost of handing on: events that act on a key of another partition, beside events that act on their own key."""

import asyncio

from bench.process import Child, cpu_of
from bench.results import Sample
from bench.suite import Round, Suite

WHOLE, OWN, OTHER = "own key, 1 partition", "own key, 8 partitions", "key of another partition, 8 partitions"
SHARES = {WHOLE: (1, 1), OWN: (2, 8), OTHER: (2, 8)}
"""Processes and partitions by the name of the contender."""

_EVENTS = 2_000
_LOOK = 0.01
"""Seconds between two looks at the number of handled events."""


async def run(suite: Suite) -> None:
    """Compare durable turns that events cause, from the first emit to the end of the last turn."""
    url = await suite.server()
    rounds: dict[str, Round] = {}
    for number, (contender, (processes, partitions)) in enumerate(SHARES.items()):
        spec = {"url": url, "namespace": f"handon{number}", "partitions": partitions, "other": contender == OTHER}
        ledgers = [await suite.side("actorloom.ledger:ledger", **spec) for _ in range(processes)]
        for ledger in ledgers:
            await ledger.call("own", number=partitions // processes)
        payer = await suite.side("actorloom.ledger:payer", url=url, namespace=f"handon{number}", partitions=partitions)
        rounds[contender] = _round(suite.server_pid, payer, ledgers)
    await suite.compare("scale", "reactions", rounds)


def _round(server: int, payer: Child, ledgers: list[Child]) -> Round:
    async def run() -> Sample:
        clock = asyncio.get_running_loop().time
        handled = await _handled(ledgers)
        before = sum(ledger.cpu() for ledger in ledgers), cpu_of(server), payer.cpu()
        begun = clock()
        await payer.call("pay", count=_EVENTS)
        async with asyncio.timeout(60):
            while await _handled(ledgers) < handled + _EVENTS:
                await asyncio.sleep(_LOOK)
        seconds = clock() - begun
        actor = (sum(ledger.cpu() for ledger in ledgers) - before[0]) * 1e6 / _EVENTS
        of_server = (cpu_of(server) - before[1]) * 1e6 / _EVENTS
        caller = (payer.cpu() - before[2]) * 1e6 / _EVENTS
        return {
            "rate": _EVENTS / seconds, "caller": caller, "actor": actor, "server": of_server, "both": actor + of_server
        }  # fmt: skip

    return run


async def _handled(ledgers: list[Child]) -> int:
    return sum([await ledger.call("handled") for ledger in ledgers])
