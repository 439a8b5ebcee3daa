"""Instructions per query, turn and reaction in the actor's process, counted by valgrind's callgrind: figures without noise.

Absolute figures depend on the build of Python. The effect of a change to the hot path shows on the busiest machine.
"""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

from bench import before
from bench.process import Child
from bench.sides import go
from bench.suite import Suite

_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_ENDPOINTS = (10, 10_000)
"""Numbers of endpoints in one process."""

_EVENTS = (500, 3_500)
"""Numbers of events that two processes of one contender handle. The difference of their counts excludes start-up."""

_SPANS = 6_400
"""Runs of each part of a traced query."""
_UNSHOWN = 2
"""The first parts are there for the difference to others."""
_STARTS = 5
"""Starts of an actor that are counted, each with its end."""

_LEASE = 60.0
"""Seconds of the lease: valgrind must not cost the actor its keys."""
_PATIENT = 'ping_interval: "20m"\nwrite_deadline: "2m"\n'
"""Server settings for a process that is silent while it starts: valgrind makes it fifty times slower."""

_HEADERS = (("query", ""), ("query with one more header", "X-Header: 1\r\n"))
"""Name of the contender, and header lines beside the deadline. `envelope.read_plain` declines every other header."""

_SHARES = (("", None), (" 1% sampled", 0.01), (" 100% traced", 1.0))
"""Suffix of the contender's name, and the share of requests that are traced."""


async def run(suite: Suite) -> None:
    """Count instructions of queries, turns, reactions, and queries among few and many endpoints.

    Queries run with 64 in flight, untraced and traced, beside a raw nats-py callback. Turns run on 32 keys, beside the
    same steps by hand, and reactions beside `fetch(64)`. Queries, turns and starts are also beside those of the version
    before partitions.
    """
    valgrind, control = shutil.which("valgrind"), shutil.which("callgrind_control")
    if valgrind is None or control is None:
        suite.skip("instructions", "valgrind is not installed")
        return
    url = await suite.server(_PATIENT)
    count = InstructionCounts(suite, url, valgrind, control)
    suite.progress.update(count.task, total=20)
    raw = await go.caller(suite, url, "raw.quote")
    await count.requests("queries", "raw nats-py", raw, "raw:pricing", subject="raw.quote")
    for name, share in _SHARES:
        space = f"own{share or 0:g}".replace(".", "_")
        load = await go.caller(suite, url, f"{space}.pricing.query.get_quote", share)
        await count.requests(
            "queries", f"actorloom{name}", load, "actorloom:actor", share, namespace=space, name="pricing"
        )
    for name, extra in _HEADERS:
        subject = "headers.pricing.query.get_quote"
        load = await suite.side("headers:sender", url=url, subject=subject, extra=extra)
        await count.requests("headers", name, load, "actorloom:actor", namespace="headers", name="pricing")
    raw = await suite.side("raw:caller", url=url, subject="raw.deposit")
    await count.requests("turns", "raw nats-py by hand", raw, "raw:accounts", subject="raw.deposit")
    for name, share in (_SHARES[0], _SHARES[2]):
        space = f"own{share or 0:g}"
        own = await suite.side("actorloom:caller", trace=share, url=url, namespace=space)
        await count.requests(
            "turns",
            f"actorloom{name}",
            own,
            "actorloom:actor",
            share,
            namespace=space,
            name="accounts",
            lease_ttl=_LEASE,
        )
    await count.starts()
    await count.parts()
    await count.reactions()
    for number in _ENDPOINTS:
        caller = await suite.side("wide:caller", url=url, namespace=f"wide{number}", count=number)
        wide = {"namespace": f"wide{number}", "count": number}
        await count.requests("endpoints", f"{number} endpoints", caller, "wide:actor", **wide)
    before.add(suite.report)


class InstructionCounts:
    """Runs one side after another under callgrind and adds the counts to the report."""

    def __init__(self, suite: Suite, url: str, valgrind: str, control: str) -> None:
        self.suite = suite
        self.url = url
        self.valgrind = valgrind
        self.control = control
        self.task = suite.progress.add_task("instructions", total=None)
        self._sides = 0

    async def requests(
        self, setting: str, contender: str, load: Child, target: str, share: float | None = None, **spec: Any
    ) -> None:
        """Count one side's instructions per request, including the export of its spans in the background.

        Args:
            setting: ``turns`` sends deposits on 32 keys; any other setting sends quotes with 64 in flight. In ``endpoints``,
                each endpoint is used once before the count begins.
            contender: Name of the contender in the report.
            load: The side that sends the requests. It is stopped afterwards.
            target: The side that is counted, such as ``actorloom:actor``.
            share: Share of requests that are traced; None turns tracing off.
            spec: Further arguments of the counted side.
        """
        actor, output = await self._start(target, share, **spec)
        given = {"in_flight": 32, "keys": 32} if setting == "turns" else {"in_flight": 64}
        method = "deposits" if setting == "turns" else "quotes"
        await load.call(method, seconds=1.0, **given)
        if setting == "endpoints":
            await load.call("use_all", timeout=120)
        await self._switch("--instr=on", actor)
        found = await load.call(method, seconds=5.0, timeout=120, **given)
        if share is not None:
            await actor.call("flush")
        await self._switch("--instr=off", actor)
        await actor.stop(60.0)
        await load.stop()
        self._add(setting, contender, _read_total(output) / found["count"])

    async def starts(self) -> None:
        """Count the instructions of an actor's start and end, without those of the interpreter and the imports."""
        side, output = await self._start("actorloom:starter", None, namespace="starts")
        await self._switch("--instr=on", side)
        await side.call("start", timeout=300, count=_STARTS)
        await self._switch("--instr=off", side)
        await side.stop(60.0)
        self._add("starts", "actorloom", _read_total(output) / _STARTS)

    async def parts(self) -> None:
        """Count the parts of a traced query that an untraced one does not have, each by itself, without the loop around it."""
        side, output = await self._start("actorloom.parts:parts", None)
        included = await side.call("names")
        totals: dict[str, int] = {}
        for number, part in enumerate(included, 1):
            await self._switch("--instr=on", side)
            await side.call("run", timeout=300, part=part, count=_SPANS)
            await self._switch("--instr=off", side)
            await self._switch("--dump", side)
            totals[part] = _read_total(output.with_name(f"{output.name}.{number}"))
        for part in list(included)[_UNSHOWN:]:
            self._add("parts of a traced query", part, (totals[part] - totals[included[part]]) / _SPANS)
        await side.stop(60.0)

    async def reactions(self) -> None:
        """Count the instructions per stored event, each of which is acknowledged."""
        publisher = await self.suite.side("actorloom:publisher", url=self.url, namespace="own")
        stream = {"stream": "own-accounts-events", "subject": "own.accounts.event.>"}
        contenders = {
            "raw nats-py fetch(64)": ("raw:reactor", {}, stream),
            "actorloom": ("actorloom:reactor", {"namespace": "own"}, {}),
        }
        totals: dict[str, list[int]] = {name: [] for name in contenders}
        for events in _EVENTS:
            await publisher.call("store", count=events)
            for name, (target, spec, given) in contenders.items():
                reactor, output = await self._start(target, None, **spec)
                await self._switch("--instr=on", reactor)
                await reactor.call("consume", timeout=120, count=events, **given)
                await self._switch("--instr=off", reactor)
                await reactor.stop(60.0)
                totals[name].append(_read_total(output))
        await publisher.stop()
        for name, (few, many) in totals.items():
            self._add("reactions", name, (many - few) / (_EVENTS[1] - _EVENTS[0]))

    async def _start(self, target: str, share: float | None, **spec: Any) -> tuple[Child, Path]:
        """Start a side under callgrind with counting off; return it and the path of callgrind's output."""
        self._sides += 1
        output = self.suite.logs / f"callgrind-{self._sides}"
        under = (self.valgrind, "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}")
        return await self.suite.side(target, trace=share, under=under, timeout=300, url=self.url, **spec), output

    def _add(self, setting: str, contender: str, instructions: float) -> None:
        self.suite.add_figures("instructions", setting, contender, thousands=instructions / 1000)
        self.suite.progress.advance(self.task)

    async def _switch(self, option: str, actor: Child) -> None:
        process = await asyncio.create_subprocess_exec(
            self.control,
            option,
            str(actor.pid),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(60):
            await process.wait()


def _read_total(output: Path) -> int:
    return max(int(total) for total in _TOTALS.findall(output.read_text()))
