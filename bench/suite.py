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
from bench.process import Child, ChildError
from bench.results import Measure, Report, Sample

Round = Callable[[], Awaitable[Sample]]
"""Runs one contender once."""


class Suite:
    """One run of the bench. Figures go to `report` as they come."""

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

    @asynccontextmanager
    async def question(self) -> AsyncIterator[None]:
        """Whatever is started inside ends with the block."""
        async with AsyncExitStack() as stack:
            self._stack, self._sink = stack, None
            yield
            self._stack = None

    async def server(self, config: str = "") -> str:
        """Start a nats-server of this question's own; return its URL."""
        from runtime.nats.server import EmbeddedServer

        assert self._stack is not None
        store = self._stack.enter_context(
            tempfile.TemporaryDirectory(prefix="actorloom-bench-", ignore_cleanup_errors=True)
        )
        server = EmbeddedServer(port=0, store_dir=store, config=config)
        await self._stack.enter_async_context(server)
        return server.url

    async def side(self, where: str, *, trace: float | None = None, **spec: Any) -> Child:
        """Start one side; `trace` is the share of requests that are recorded and exported (None: tracing is off)."""
        env = spec.pop("env", {})
        if trace is not None:
            env = {**env, **await self._tracing(trace)}
        return await self.own(await Child.side(where, self.logs, env=env, **spec))

    async def own(self, child: Child) -> Child:
        """End `child` with the question."""
        assert self._stack is not None
        self._stack.push_async_callback(child.stop)
        return child

    async def peer(self, name: str, starting: Awaitable[Child]) -> Child | None:
        """Return a side of somebody else's library once it has started; None, with a word, where it does not."""
        try:
            return await starting
        except ChildError as error:
            self.skip(name, f"it does not start: {str(error).splitlines()[-1].strip()}")
            return None

    def skip(self, what: str, why: str) -> None:
        """Say that something cannot be measured here."""
        if (said := f"{what}: {why}") not in self.report.skipped:
            self.report.skipped.append(said)

    async def compare(
        self,
        question: str,
        setting: str,
        contenders: Mapping[str, Round],
        *,
        rounds: int | None = None,
        warm: bool = True,
    ) -> None:
        """Run all contenders in turns (A B C, A B C, …) after one round each that does not count."""
        if self.only and setting not in self.only:
            return
        wanted = rounds or self.rounds
        task = self.progress.add_task(f"{question}, {setting}", total=(wanted + warm) * len(contenders))
        measures = [Measure(question, setting, name, []) for name in contenders]
        for number in range(wanted + warm):
            for measure, run in zip(measures, contenders.values(), strict=True):
                sample = await run()
                if number or not warm:
                    measure.rounds.append(sample)
                self.progress.advance(task)
        self.report.measures += measures

    def note(self, question: str, setting: str, contender: str, **figures: float) -> None:
        """Add a figure that was found once, without rounds."""
        self.report.measures.append(Measure(question, setting, contender, [figures]))

    async def _tracing(self, share: float) -> dict[str, str]:
        if self._sink is None:
            self._sink = await self.own(await Child.side("sink:sink", self.logs))
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": await self._sink.call("address"),
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_TRACES_SAMPLER": "parentbased_always_on" if share >= 1 else "parentbased_traceidratio",
            "OTEL_TRACES_SAMPLER_ARG": str(share),
        }


POINTS = {"p50": 50.0, "p99": 99.0}


def exchange(
    caller: Child,
    actor: Child | None,
    method: str,
    *,
    spans: bool = False,
    points: Mapping[str, float] = POINTS,
    **arguments: Any,
) -> Round:
    """Return a round in which `caller` does `method` and `actor`, where there is one, answers.

    With `spans` both sides export all of theirs before the round is over: that is part of the work.
    """

    async def run() -> Sample:
        before = actor.cpu() if actor else 0.0
        found = await caller.call(method, **arguments)
        exported: Sample = {}
        if spans:
            begun = asyncio.get_running_loop().time()
            flushed = await asyncio.gather(*(side.call("flush") for side in (caller, actor) if side))
            found["seconds"] += asyncio.get_running_loop().time() - begun
            for name in ("exported", "dropped"):  # a peer's SDK does not say
                if counts := [one[name] for one in flushed if name in one]:
                    exported[name] = sum(counts) / found["count"]
        sample: Sample = {"rate": found["count"] / found["seconds"], **percentiles(found, points), **exported}
        sample["caller"] = found["cpu_us"] / found["count"]
        if actor is not None:
            sample["actor"] = (actor.cpu() - before) * 1e6 / found["count"]
            sample["cpu"] = sample["caller"] + sample["actor"]
        return sample

    return run


def percentiles(found: Mapping[str, Any], points: Mapping[str, float] = POINTS) -> Sample:
    """Return the percentiles `points`, in microseconds, of the latencies that a load generator handed over."""
    if not found.get("latencies"):
        return {}
    ticks = array("I", base64.b64decode(found["latencies"]))
    histogram = HdrHistogram(1, 1_000_000_000, 3)
    counts: dict[int, int] = {}
    for tick in ticks:
        counts[tick] = counts.get(tick, 0) + 1
    for tick, count in counts.items():
        histogram.record_value(max(tick, 1), count)
    scale = TICK * 1e6
    return {name: histogram.get_value_at_percentile(at) * scale for name, at in points.items()}


def has_uvloop() -> bool:
    """Whether uvloop is installed here."""
    from importlib.util import find_spec

    return find_spec("uvloop") is not None and os.name == "posix"
