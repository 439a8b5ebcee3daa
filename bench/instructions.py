"""How many instructions does a query, a turn or a reaction cost the actor's process? Without noise, by valgrind's callgrind.

The absolute figures are of one build of Python; what a change to the hot path does to them shows on the busiest machine.
"""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any

from bench.process import Child
from bench.sides import go
from bench.suite import Suite

_TOTALS = re.compile(r"^(?:totals|summary): (\d+)", re.MULTILINE)
_ENDPOINTS = (10, 10_000)
_EVENTS = (500, 3_500)
"""Of two processes, one after the other: what differs is not their start."""
_PATIENT = 'ping_interval: "20m"\nwrite_deadline: "2m"\n'
"""Of the server, with a process that valgrind makes fifty times slower: it says nothing while it starts."""

_SHARES = (("", None), (" 1% sampled", 0.01), (" 100% traced", 1.0))


async def run(suite: Suite) -> None:
    """A raw nats-py callback and ours, untraced and traced, 64 in flight; a turn by hand and ours, on 32 keys; an event by
    `fetch(64)` and ours; a query among few and many endpoints, each asked in its turn.
    """
    valgrind, control = shutil.which("valgrind"), shutil.which("callgrind_control")
    if valgrind is None or control is None:
        suite.skip("instructions", "valgrind is not installed")
        return
    url = await suite.server(_PATIENT)
    count = Counting(suite, url, valgrind, control)
    suite.progress.update(count.task, total=11)
    raw = await go.caller(suite, url, "raw.quote")
    await count.one("queries", "raw nats-py", raw, "raw:pricing", subject="raw.quote")
    for name, share in _SHARES:
        space = f"own{share or 0:g}".replace(".", "_")
        load = await go.caller(suite, url, f"{space}.pricing.query.get_quote", share)
        await count.one("queries", f"actorloom{name}", load, "own:actor", share, namespace=space, name="pricing")
    raw = await suite.side("raw:caller", url=url, subject="raw.deposit")
    await count.one("turns", "raw nats-py by hand", raw, "raw:accounts", subject="raw.deposit")
    for name, share in (_SHARES[0], _SHARES[2]):
        space = f"own{share or 0:g}"
        own = await suite.side("own:caller", trace=share, url=url, namespace=space)
        await count.one("turns", f"actorloom{name}", own, "own:actor", share, namespace=space, name="accounts")
    await count.reactions()
    for number in _ENDPOINTS:
        asks = await suite.side("wide:caller", url=url, namespace=f"wide{number}", count=number)
        wide = {"namespace": f"wide{number}", "count": number}
        await count.one("endpoints", f"{number} endpoints", asks, "wide:actor", **wide)


class Counting:
    """Runs one side after another under callgrind."""

    def __init__(self, suite: Suite, url: str, valgrind: str, control: str) -> None:
        self.suite = suite
        self.url = url
        self.valgrind = valgrind
        self.control = control
        self.task = suite.progress.add_task("instructions", total=None)
        self._sides = 0

    async def one(
        self, setting: str, contender: str, load: Child, where: str, share: float | None = None, **spec: Any
    ) -> None:
        """Count the instructions per message of one side, spans that it exports in the background included."""
        actor, output = await self._under(where, share, **spec)
        given = {"in_flight": 32, "keys": 32} if setting == "turns" else {"in_flight": 64}
        method = "deposits" if setting == "turns" else "quotes"
        await load.call(method, seconds=1.0, **given)
        await self._switch("on", actor)
        found = await load.call(method, seconds=5.0, timeout=120, **given)
        if share is not None:
            await actor.call("flush")
        await self._switch("off", actor)
        await actor.stop(60.0)
        await load.stop()
        self._note(setting, contender, _read(output) / found["count"])

    async def reactions(self) -> None:
        """Count the instructions per stored event, each acknowledged."""
        publisher = await self.suite.side("own:publisher", url=self.url, namespace="own")
        stream = {"stream": "own-accounts-events", "subject": "own.accounts.event.>"}
        contenders = {
            "raw nats-py fetch(64)": ("raw:reactor", {}, stream),
            "actorloom": ("own:reactor", {"namespace": "own"}, {}),
        }
        totals: dict[str, list[int]] = {name: [] for name in contenders}
        for events in _EVENTS:
            await publisher.call("store", count=events)
            for name, (where, spec, given) in contenders.items():
                reactor, output = await self._under(where, None, **spec)
                await self._switch("on", reactor)
                await reactor.call("consume", timeout=120, count=events, **given)
                await self._switch("off", reactor)
                await reactor.stop(60.0)
                totals[name].append(_read(output))
        await publisher.stop()
        for name, (few, many) in totals.items():
            self._note("reactions", name, (many - few) / (_EVENTS[1] - _EVENTS[0]))

    async def _under(self, where: str, share: float | None, **spec: Any) -> tuple[Child, Path]:
        """Start a side under callgrind, which does not count yet; return it and where the counts will be."""
        self._sides += 1
        output = self.suite.logs / f"callgrind-{self._sides}"
        under = (self.valgrind, "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={output}")
        return await self.suite.side(where, trace=share, under=under, timeout=300, url=self.url, **spec), output

    def _note(self, setting: str, contender: str, instructions: float) -> None:
        self.suite.note("instructions", setting, contender, thousands=instructions / 1000)
        self.suite.progress.advance(self.task)

    async def _switch(self, state: str, actor: Child) -> None:
        process = await asyncio.create_subprocess_exec(
            self.control,
            f"--instr={state}",
            str(actor.pid),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(60):
            await process.wait()


def _read(output: Path) -> int:
    return max(int(total) for total in _TOTALS.findall(output.read_text()))
