"""Network namespaces, in which connections can be cut in one direction. They need root, and `ip` of iproute2.

A namespace has a loopback interface of its own, so a process in it reaches nothing else. A relay in it listens on `PORT`, and
forwards connections to a Unix socket of the suite. A cut is a routing rule that drops the packets to that port, or from it:
established connections stay open, what is sent is repeated by TCP, and it arrives after the cut.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from types import TracebackType

from tests.chaos.fleet import ROOT
from tests.chaos.proxy import Proxy

PORT = 4222
"""The port of the relay in each namespace."""

_numbers = count()


def unavailable() -> str:
    """Return why there can be no namespace; empty if there can."""
    if os.geteuid():
        return "this needs root"
    if shutil.which("ip") is None:
        return "there is no `ip` command"
    name = f"chaos-{os.getpid()}-probe"
    commands = (
        ["ip", "netns", "add", name],
        ["ip", "-n", name, "rule", "add", "pref", "10", "ipproto", "tcp", "dport", str(PORT), "blackhole"],
    )
    try:
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"`{' '.join(command)}`: {done.stderr.strip()}"
        return ""
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


class Namespace:
    """A network namespace whose relay forwards to `port` of the suite's loopback interface."""

    def __init__(self, port: int) -> None:
        self.name = f"chaos-{os.getpid()}-{next(_numbers)}"
        self.inside = ("ip", "netns", "exec", self.name)
        """The beginning of the command line of a process in the namespace."""
        self.url = f"nats://127.0.0.1:{PORT}"
        """The URL of the server, in the namespace."""
        self._directory = Path(mkdtemp(prefix="chaos-"))
        self._proxy = Proxy(port, str(self._directory / "socket"))
        self._relay: asyncio.subprocess.Process | None = None
        self._cuts: list[str] = []

    async def cut(self, *directions: str) -> None:
        """Drop all packets to the server (``out``), from it (``in``), or both, until `heal`."""
        for direction in directions:
            self._cuts.append("dport" if direction == "out" else "sport")
            await self._rule("add", self._cuts[-1])

    async def heal(self) -> None:
        while self._cuts:
            await self._rule("del", self._cuts.pop())

    async def __aenter__(self) -> "Namespace":
        await self._proxy.__aenter__()
        await _run("ip", "netns", "add", self.name)
        await _run("ip", "-n", self.name, "link", "set", "lo", "up")
        # The rules of cuts must come before the one for local addresses.
        await _run("ip", "-n", self.name, "rule", "add", "pref", "100", "lookup", "local")
        await _run("ip", "-n", self.name, "rule", "del", "pref", "0")
        self._relay = await asyncio.create_subprocess_exec(
            *self.inside,
            sys.executable,
            "-m",
            "tests.chaos.proxy",
            str(PORT),
            str(self._directory / "socket"),
            cwd=ROOT,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._relay is not None:
            self._relay.kill()
            await self._relay.wait()
        await self._proxy.__aexit__(kind, error, trace)
        await _run("ip", "netns", "del", self.name)
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _rule(self, action: str, selector: str) -> None:
        pref = "10" if selector == "dport" else "11"
        await _run(
            "ip", "-n", self.name, "rule", action, "pref", pref, "ipproto", "tcp", selector, str(PORT), "blackhole"
        )


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    if process.returncode:
        raise OSError(f"`{' '.join(command)}` failed: {output.decode(errors='replace').strip()}")
