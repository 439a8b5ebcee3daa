"""Runs questions: starts servers and sides, interleaves the contenders round by round, and shows progress."""

import asyncio
import base64
import os
import tempfile
from array import array
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from hdrh.histogram import HdrHistogram
from rich.progress import Progress

from bench.load import TICK
from bench.process import Child, ChildError, cpu_of
from bench.results import Measure, Report, Sample

Round = Callable[[], Awaitable[Sample]]
"""Runs one contender for one round."""


class Suite:
    """One run of the bench, which adds its figures to `report` as it measures them.

    Args:
        report: The report of this run.
        progress: Shows the progress bars.
        logs: Directory for the log files of child processes.
        only: Settings to measure; all if empty.
        large: Measure a million stored keys as well.
    """

    def __init__(
        self,
        report: Report,
        progress: Progress,
        logs: Path,
        only: frozenset[str] = frozenset(),
        large: bool = False,
    ) -> None:
        self.report = report
        self.progress = progress
        self.logs = logs
        self.quick = report.quick
        self.only = only
        self.large = large
        self.rounds = 3 if report.quick else 5
        self.seconds = 0.25 if report.quick else 0.5
        self._stack: AsyncExitStack | None = None
        self._sink: Child | None = None
        self.server_pid = 0
        """The process id of the nats-server that was started last."""

    @asynccontextmanager
    async def question(self) -> AsyncIterator[None]:
        """Run the block of one question. Servers and sides that it starts are stopped at its end."""
        async with AsyncExitStack() as stack:
            self._stack, self._sink = stack, None
            yield
            self._stack = None

    async def server(self, config: str = "") -> str:
        """Start a nats-server for this question, with `config` added to its configuration; return its URL."""
        from runtime.nats.server import EmbeddedServer

        assert self._stack is not None
        store = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="actorloom-bench-", ignore_cleanup_errors=True)
        )
        server = EmbeddedServer(port=0, store_dir=store, config=config)
        await self._stack.enter_async_context(server)
        self.server_pid = server.pid
        return server.url

    async def side(self, target: str, *, trace: float | None = None, **spec: Any) -> Child:
        """Start one side, which is stopped at the end of the question.

        Args:
            target: Module and factory below ``bench.sides``, such as ``raw:pricing``.
            trace: Share of requests that are recorded and exported; None turns tracing off.
            spec: Arguments of the factory, or of `Child.side`.
        """
        env = spec.pop("env", {})
        if trace is not None:
            env = {**env, **await self._tracing(trace)}
        return await self.adopt(await Child.side(target, self.logs, env=env, **spec))

    async def adopt(self, child: Child) -> Child:
        """Stop `child` at the end of the question; return it."""
        assert self._stack is not None
        self._stack.push_async_callback(child.stop)
        return child

    async def peer(self, name: str, starting: Awaitable[Child]) -> Child | None:
        """Return a side of another library. If it fails to start, skip it in the report and return None."""
        try:
            return await starting
        except ChildError as error:
            self.skip(name, f"it does not start: {str(error).splitlines()[-1].strip()}")
            return None

    def skip(self, name: str, reason: str) -> None:
        """Add a contender or question that cannot be measured here to the report, once."""
        if (line := f"{name}: {reason}") not in self.report.skipped:
            self.report.skipped.append(line)

    async def compare(
        self,
        question: str,
        setting: str,
        contenders: Mapping[str, Round],
        *,
        rounds: int | None = None,
        warm: bool = True,
    ) -> None:
        """Measure all contenders, interleaved round by round (A B C, A B C, …).

        Args:
            question: Name of the question in the report.
            setting: Name of the setting. Nothing runs if the suite is limited to others.
            contenders: The round of each contender, by name. Ratios are taken to the first one.
            rounds: Number of rounds; the suite's default if None.
            warm: Run one round per contender first that is not recorded.
        """
        if self.only and setting not in self.only:
            return
        count = rounds or self.rounds
        task = self.progress.add_task(f"{question}, {setting}", total=(count + warm) * len(contenders))
        measures = [Measure(question, setting, name, []) for name in contenders]
        for number in range(count + warm):
            for measure, run in zip(measures, contenders.values(), strict=True):
                sample = await run()
                if number or not warm:
                    measure.rounds.append(sample)
                self.progress.advance(task)
        self.report.measures += measures

    def add_figures(self, question: str, setting: str, contender: str, **figures: float) -> None:
        """Add figures that were measured once, without rounds."""
        self.report.measures.append(Measure(question, setting, contender, [figures]))

    async def _tracing(self, share: float) -> dict[str, str]:
        if self._sink is None:
            self._sink = await self.adopt(await Child.side("sink:sink", self.logs))
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": await self._sink.call("address"),
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_TRACES_SAMPLER": "parentbased_always_on" if share >= 1 else "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(share),
        }


POINTS = {"p50": 50.0, "p99": 99.0}
"""The percentiles that a sample has by default."""


def exchange(
    caller: Child,
    actor: Child | None,
    method: str,
    *,
    spans: bool = False,
    points: Mapping[str, float] = POINTS,
    server: int = 0,
    **arguments: Any,
) -> Round:
    """Return a round in which `caller` runs a load method and `actor` answers.

    Args:
        caller: The side that generates the load.
        actor: The side that answers; None if there is only one process.
        method: The load method of `caller`.
        spans: Let both sides export all their spans before the round is over, as a part of the measured work.
        points: The percentiles of the sample.
        server: The process id of nats-server, to measure its CPU and the cores that all of them use; 0 does not.
        arguments: Arguments of the method.
    """

    async def run() -> Sample:
        before, of_server = actor.cpu() if actor else 0.0, cpu_of(server) if server else 0.0
        load = await caller.call(method, **arguments)
        exported: Sample = {}
        if spans:
            begun = asyncio.get_running_loop().time()
            flushed = await asyncio.gather(*(side.call("flush") for side in (caller, actor) if side))
            load["seconds"] += asyncio.get_running_loop().time() - begun
            for name in ("exported", "dropped"):  # the SDK that peers use does not count them
                if counts := [each[name] for each in flushed if name in each]:
                    exported[name] = sum(counts) / load["count"]
        sample: Sample = {"rate": load["count"] / load["seconds"], **percentiles(load, points), **exported}
        sample["caller"] = load["cpu_us"] / load["count"]
        if actor is not None:
            sample["actor"] = (actor.cpu() - before) * 1e6 / load["count"]
            sample["cpu"] = sample["caller"] + sample["actor"]
        if server:
            sample["server"] = (cpu_of(server) - of_server) * 1e6 / load["count"]
            sample["cores"] = (sample.get("cpu", sample["caller"]) + sample["server"]) * sample["rate"] / 1e6
        return sample

    return run


def percentiles(load: Mapping[str, Any], points: Mapping[str, float] = POINTS) -> Sample:
    """Return percentiles, in microseconds, of the latencies in a load generator's result; empty if it has none."""
    if not load.get("latencies"):
        return {}
    ticks = array("I", base64.b64decode(load["latencies"]))
    histogram = HdrHistogram(1, 1_000_000_000, 3)
    counts: dict[int, int] = {}
    for tick in ticks:
        counts[tick] = counts.get(tick, 0) + 1
    for tick, count in counts.items():
        histogram.record_value(max(tick, 1), count)
    scale = TICK * 1e6
    return {name: histogram.get_value_at_percentile(at) * scale for name, at in points.items()}


def has_uvloop() -> bool:
    """Return whether uvloop is installed."""
    from importlib.util import find_spec

    return find_spec("uvloop") is not None and os.name == "posix"
