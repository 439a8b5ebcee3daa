"""The soak: every kind of fault in a seeded mix, for a chosen time. No effect is lost or doubled, and no resource grows."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random

from tests.chaos.cell import Cell, Result, Setting, open_cell, timed
from tests.chaos.fleet import Worker, paused
from tests.chaos.proxy import Proxy
from tests.chaos.servers import Servers

GROWTH_RSS = 0.25
GROWTH_HANDLES = 0.25
"""Largest growth over the second half of the run, as a share of the level there."""

NOISE_RSS = 8 * 1024 * 1024
NOISE_HANDLES = 6
"""Growth below this is noise, such as the buffers of a new connection or arenas of the allocator."""

LEAST_SAMPLES = 12
"""Number of samples below which growth is not judged."""


@dataclass
class Samples:
    """Memory in bytes and open handles of one process, with the time of each sample in seconds."""

    times: list[float] = field(default_factory=list)
    rss: list[float] = field(default_factory=list)
    handles: list[float] = field(default_factory=list)

    def take(self, worker: Worker, now: float) -> None:
        """Add a sample, unless the process has just ended."""
        try:
            rss, handles = worker.rss(), worker.handles()
        except (ProcessLookupError, FileNotFoundError):  # the process has just ended
            return
        self.times.append(now)
        self.rss.append(rss)
        self.handles.append(handles)

    def second_half(self, values: list[float]) -> tuple[float, float, float]:
        """Return level, slope per minute and growth over the second half. During the first one, caches fill up."""
        half = len(values) // 2
        times, values = self.times[half:], values[half:]
        per_second = slope(times, values)
        return sum(values) / len(values), per_second * 60, per_second * (times[-1] - times[0])


def slope(times: list[float], values: list[float]) -> float:
    """Return the median of the slopes between all pairs of samples (Theil-Sen), which single peaks do not change."""
    slopes = sorted(
        (values[b] - values[a]) / (times[b] - times[a])
        for a in range(len(times))
        for b in range(a + 1, len(times))
        if times[b] > times[a]
    )
    return slopes[len(slopes) // 2] if slopes else 0.0


async def soak(setting: Setting) -> Result:
    """All faults in a seeded mix, for --seconds: no effect is lost or doubled, and neither memory nor handles grow."""
    result = Result("soak", setting.seed)
    seconds = 12.0 if setting.short else setting.seconds
    async with (
        timed(result),
        Servers(setting.directory) as servers,
        Proxy(servers.nodes[0].port) as proxy,
        open_cell(setting, servers, "soak-ledger", keys=10, callers=4, pause=0.01) as ledger,
        open_cell(setting, servers, "soak-counter", keys=10, callers=4, pause=0.01) as counter,
    ):
        # A survivor is the only owner of its actors and is never killed, so that its memory and handles can be measured.
        # Faults of the server, of the network and of other processes affect it as well.
        cells = [ledger, counter]
        survivors = [ledger.start("ledger", url=proxy.url), counter.start("counter", "receipts", url=proxy.url)]
        victims = [ledger.start("counter", "receipts") for _ in range(2)] + [counter.start("ledger") for _ in range(2)]
        for worker in survivors:
            await worker.ready()
        for cell in cells:
            cell.load.start()
        mixed = _Mixed(cells, victims, survivors, proxy, setting.rng("soak"))
        await mixed.run(seconds, setting.progress)
        for cell in cells:
            cell.report(result, await cell.verdict())
        for worker in survivors:
            result.require(
                not worker.exit_codes,
                f"{worker.program.name} ended with {worker.exit_codes}, although no fault kills it",
            )
    result.load = f"8 callers over 20 keys for {seconds:.0f} s"
    result.faults = ", ".join(f"{number} {name}" for name, number in sorted(mixed.count.items()))
    for worker, samples in mixed.samples.items():
        judge(result, worker.program.name, samples)
    return result


def judge(result: Result, name: str, samples: Samples) -> None:
    """Add level and slope of memory and handles to the result, and a problem if one clearly grows.

    Growth is not judged with fewer than `LEAST_SAMPLES` samples.
    """
    if len(samples.times) < 2:
        result.require(False, f"{name} could not be measured")
        return
    rss, rss_slope, rss_growth = samples.second_half(samples.rss)
    handles, handles_slope, handles_growth = samples.second_half(samples.handles)
    result.figures[f"{name}, memory"] = f"{rss / 2**20:.1f} MiB, slope {rss_slope / 2**20:+.2f} MiB a minute"
    result.figures[f"{name}, open handles"] = f"{handles:.0f}, slope {handles_slope:+.2f} a minute"
    result.figures["samples"] = len(samples.times)
    if len(samples.times) < LEAST_SAMPLES:
        return
    result.require(
        rss_growth < max(GROWTH_RSS * rss, NOISE_RSS),
        f"{name}: memory grew by {rss_growth / 2**20:.1f} MiB in half the time",
    )
    result.require(
        handles_growth < max(GROWTH_HANDLES * handles, NOISE_HANDLES),
        f"{name}: open handles grew by {handles_growth:.0f} in half the time",
    )


class _Mixed:
    """Injects faults of all kinds, one after another, and takes samples of the survivors in between."""

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

    async def run(self, seconds: float, progress: Callable[[str], None]) -> None:
        """Inject faults for `seconds`. After each one, wait until commands succeed again, and take samples."""
        loop = asyncio.get_running_loop()
        begun = printed = loop.time()
        weights = [weight for weight, _ in self._faults.values()]
        first = list(self._faults)
        self._rng.shuffle(first)  # each kind once, then at random by weight
        while loop.time() - begun < seconds:
            name = first.pop() if first else self._rng.choices(list(self._faults), weights)[0]
            await self._faults[name][1]()
            self.count[name] = self.count.get(name, 0) + 1
            for cell in self.cells:
                await cell.load.wait_for_more(self._rng.randint(20, 200))
            for worker, samples in self.samples.items():
                samples.take(worker, loop.time() - begun)
            await asyncio.sleep(self._rng.uniform(0, 0.5))
            if loop.time() - printed > 30:
                printed = loop.time()
                progress(f"{printed - begun:.0f} s: {sum(self.count.values())} faults; {self._usage()}")

    def _usage(self) -> str:
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
