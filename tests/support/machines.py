"""Runs `tests.support.skewed` on machines with wrong clocks."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support.process import ROOT


class Machine:
    """A process with a wrong clock."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    async def read(self) -> dict[str, Any]:
        """Return the next line of its output."""
        assert self._child.stdout is not None
        async with asyncio.timeout(30):
            return json.loads(await self._child.stdout.readline() or b"{}")

    async def call(self, namespaces: list[str]) -> dict[str, Any]:
        """Have it call the actors of namespaces; return its findings, by namespace."""
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(namespaces).encode() + b"\n")
        return await self.read()


@asynccontextmanager
async def machine(skew: float, url: str, namespace: str) -> AsyncIterator[Machine]:
    """Run a process whose clock is `skew` seconds ahead."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.wall_clock", str(skew), "tests.support.skewed", url, namespace, cwd=ROOT,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Machine(child)
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
