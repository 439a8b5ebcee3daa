"""Processes of the bench: started, called by JSON lines, their CPU time read from the kernel, ended by pid."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent


class ChildError(Exception):
    """A child of the bench failed; the text is its traceback or the end of what it said."""


class Child:
    """One process that answers calls. Made by `start` or `side`; `stop` ends it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, log: Path) -> None:
        self.process = process
        self.name = name
        self.log = log

    @classmethod
    async def start(
        cls, argv: list[str], name: str, logs: Path, env: dict[str, str] | None = None, timeout: float = 30.0
    ) -> Self:
        """Start a program, and return when it has said that it is ready."""
        log = logs / f"{name.replace('/', '-').replace(' ', '-')}-{time.monotonic_ns()}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=output,
                cwd=ROOT,
                env=env,
                limit=1 << 28,
            )
        child = cls(process, name, log)
        try:
            await child._answer(timeout)
        except BaseException:
            await child.stop()
            raise
        return child

    @classmethod
    async def side(
        cls,
        where: str,
        logs: Path,
        *,
        python: str = sys.executable,
        env: dict[str, str] | None = None,
        timeout: float = 60.0,
        under: tuple[str, ...] = (),
        **spec: Any,
    ) -> Self:
        """Start a side (``raw:pricing``) with `spec`, `under` another program where given. It sees none of the developer's OpenTelemetry or NATS variables."""
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "NATS_", "ACTORLOOM_"))
        }
        # Identical hashing in every process: one source of noise less.
        given = {**clean, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), **(env or {})}
        argv = [*under, python, "-m", "bench.child", f"bench.sides.{where}", json.dumps(spec)]
        return await cls.start(argv, where.replace(":", "-"), logs, given, timeout)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    async def call(self, method: str, timeout: float = 60.0, **arguments: Any) -> Any:
        """Call a method of the side and return its result. Raises `ChildError`."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": method, "with": arguments}).encode() + b"\n")
        return (await self._answer(timeout)).get("result")

    def cpu(self) -> float:
        """Return the seconds of CPU time that the process has used, all its threads, by the kernel's accounting."""
        # The clock id of another process (clock_getcpuclockid(3)) on Linux; nanoseconds, where /proc/stat has 10 ms.
        return time.clock_gettime((~self.pid << 3) | 2)

    def resident(self) -> int:
        """Return the bytes of memory that are this process's own (not shared with others)."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))

    async def stop(self, grace: float = 5.0) -> None:
        """End it: first by closing its stdin, after `grace` seconds by its pid."""
        if self.process.returncode is not None:
            return
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            async with asyncio.timeout(grace):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    async def _answer(self, timeout: float) -> dict[str, Any]:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(timeout):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise ChildError(f"{self.name} did not answer within {timeout:g} s{self._said()}") from None
        if not line:
            await self.process.wait()
            raise ChildError(f"{self.name} ended with code {self.process.returncode}{self._said()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(f"{self.name}: {answer['error']}")
        return answer

    def _said(self) -> str:
        return "".join(f"\n  {line}" for line in self.log.read_text(errors="replace").splitlines()[-15:])
