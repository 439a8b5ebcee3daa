"""The soak: every kind of fault, mixed by the seed, for as long as wished; nothing lost or doubled, and nothing that grows."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from tests.chaos.cell import Cell, Result, Setting, cell, measured
from tests.chaos.fleet import Worker, paused
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers

GROWTH_RSS = 0.25
GROWTH_HANDLES = 0.25
"""Over the second half of a life that no fault ends: more than this share of its level there is a clear upward slope."""
LEAST_RSS = 8 * 1024 * 1024
LEAST_HANDLES = 6
"""Growth below this is not told from noise: a reconnect's buffers, the allocator's arenas."""
LEAST_SAMPLES = 12


@dataclass
class Samples:
    """What one process used, and when, in seconds; taken while it serves."""

    times: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    handles: list[float] = field(default_factory=list)

    def take(self, worker: Worker, now: float) -> None:
        try:
            rss, handles = worker.rss(), worker.handles()
        except (ProcessLookupError, FileNotFoundError):  # it has just ended; only this sample is missing
            return
        self.times.append(now)
        self.rss.append(rss)
        self.handles.append(handles)

    def settled(self, values: list[float]) -> tuple[float, float, float]:
        """Return level, slope per minute and growth of the second half: a process that starts fills its caches first."""
        half = len(values) // 2
        times, values = self.times[half:], values[half:]
        per_second = slope(times, values)
        return sum(values) / len(values), per_second * 60, per_second * (times[-1] - times[0])


def slope(times: list[float], values: list[float]) -> float:
    """Return the median of the slopes between all pairs (Theil and Sen): what single peaks do not move."""
    slopes = sorted(
        (values[b] - values[a]) / (times[b] - times[a])
        for a in range(len(times))
        for b in range(a + 1, len(times))
        if times[b] > times[a]
    )
    return slopes[len(slopes) // 2] if slopes else 0.0


async def soak(setting: Setting) -> Result:
    """All faults mixed with a fixed seed, for --seconds: nothing lost or twice, no upward slope of memory or handles."""
    result = Result("soak", setting.seed)
    seconds = 12.0 if setting.short else setting.minutes * 60
    async with (
        measured(result),
        Servers(setting.directory) as servers,
        Proxy(servers.nodes[0].port) as proxy,
        cell(setting, servers, "soak-ledger", keys=10, callers=4, pause=0.01) as ledger,
        cell(setting, servers, "soak-counter", keys=10, callers=4, pause=0.01) as counter,
    ):
        # A survivor is the only owner of what it runs and is never killed, so that what it uses can be followed; all that
        # happens to its server, its connection and the others happens to it.
        cells = [ledger, counter]
        survivors = [ledger.start("ledger", url=proxy.url), counter.start("counter", "receipts", url=proxy.url)]
        victims = [ledger.start("counter", "receipts") for _ in range(2)] + [counter.start("ledger") for _ in range(2)]
        for worker in survivors:
            await worker.ready()
        for here in cells:
            here.load.start()
        mixed = _Mixed(cells, victims, survivors, proxy, setting.rng("soak"))
        await mixed.go_on(seconds, setting.say)
        for here in cells:
            here.report(result, await here.verdict())
        for worker in survivors:
            result.require(not worker.deaths, f"{worker.program.name}, which nobody killed, ended with {worker.deaths}")
    result.load = f"8 callers over 20 keys for {seconds:.0f} s"
    result.faults = ", ".join(f"{number} {name}" for name, number in sorted(mixed.count.items()))
    for worker, samples in mixed.samples.items():
        judge(result, worker.program.name, samples)
    return result


def judge(result: Result, name: str, samples: Samples) -> None:
    """Print level and slope of memory and handles, and fail where they clearly grow; too few samples tell nothing."""
    if len(samples.times) < 2:
        result.require(False, f"{name} could not be measured")
        return
    rss, rss_slope, rss_growth = samples.settled(samples.rss)
    handles, handles_slope, handles_growth = samples.settled(samples.handles)
    result.figures[f"{name}, memory"] = f"{rss / 2**20:.1f} MiB, slope {rss_slope / 2**20:+.2f} MiB a minute"
    result.figures[f"{name}, open handles"] = f"{handles:.0f}, slope {handles_slope:+.2f} a minute"
    result.figures["samples"] = len(samples.times)
    if len(samples.times) < LEAST_SAMPLES:
        return
    result.require(
        rss_growth < max(GROWTH_RSS * rss, LEAST_RSS),
        f"{name}: memory grew by {rss_growth / 2**20:.1f} MiB in half the time",
    )
    result.require(
        handles_growth < max(GROWTH_HANDLES * handles, LEAST_HANDLES),
        f"{name}: open handles grew by {handles_growth:.0f} in half the time",
    )


class _Mixed:
    """Faults of all kinds, one after the other, and samples of the survivors between them."""

    def __init__(
        self, cells: list[Cell], victims: list[Worker], survivors: list[Worker], proxy: Proxy, rng: Random
    ) -> None:
        self.cells = cells
        self.victims = victims
        self.proxy = proxy
        self.samples = {worker: Samples() for worker in survivors}
        self.count: dict[str, int] = {}
        self._rng = rng
        self._faults: dict[str, tuple[float, Callable[[], Awaitable[object]]]] = {
            "kill -9 of a process": (6, self._kill),
            "kill -9 of the server": (1, self._restart),
            "kill -9 of both": (1, self._both),
            "SIGTERM of a process": (2, self._drain),
            "SIGSTOP of a process": (2, self._pause),
            "SIGSTOP of a survivor": (1, self._pause_survivor),
            "SIGSTOP of the server": (1, self._pause_server),
            "silence of the network": (1, self._freeze),
        }

    async def go_on(self, seconds: float, say: Callable[[str], None]) -> None:
        """Let something happen again and again; between faults all goes on, and is measured."""
        loop = asyncio.get_running_loop()
        begun = said = loop.time()
        weights = [weight for weight, _ in self._faults.values()]
        first = list(self._faults)
        self._rng.shuffle(first)  # each kind once, then by weight
        while loop.time() - begun < seconds:
            name = first.pop() if first else self._rng.choices(list(self._faults), weights)[0]
            await self._faults[name][1]()
            self.count[name] = self.count.get(name, 0) + 1
            for here in self.cells:
                await here.load.reached(self._rng.randint(20, 200))
            for worker, samples in self.samples.items():
                samples.take(worker, loop.time() - begun)
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            if loop.time() - said > 30:
                said = loop.time()
                say(f"{said - begun:.0f} s: {sum(self.count.values())} faults; {self._used()}")

    def _used(self) -> str:
        return ", ".join(
            f"{worker.program.name} {samples.rss[-1] / 2**20:.1f} MiB, {samples.handles[-1]:.0f} handles"
            for worker, samples in self.samples.items()
            if samples.times
        )

    async def _kill(self) -> None:
        self._rng.choice(self.victims).kill()

    async def _restart(self) -> None:
        await self.cells[0].servers.restart(self.cells[0].servers.nodes[0])

    async def _both(self) -> None:
        await self._kill()
        await self._restart()

    async def _drain(self) -> None:
        self._rng.choice(self.victims).signal(signal.SIGTERM)

    async def _pause(self) -> None:
        with paused([self._rng.choice(self.victims)]):
            await asyncio.sleep(self._rng.uniform(0.5, 2.5))

    async def _pause_survivor(self) -> None:
        with paused([self._rng.choice(list(self.samples))]):
            await asyncio.sleep(self._rng.uniform(1.5, 2.5))

    async def _pause_server(self) -> None:
        [node] = self.cells[0].servers.nodes
        self.cells[0].servers.pause(node)
        await asyncio.sleep(self._rng.uniform(0.5, 3.0))
        self.cells[0].servers.resume(node)

    async def _freeze(self) -> None:
        self.proxy.freeze()
