"""Child processes of the bench: started, called over JSON lines, measured by the kernel's accounting, and stopped by pid."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).parent.parent


class ChildError(Exception):
    """A child process failed. The text is its traceback, or the end of its log."""


class Child:
    """A process that answers calls. `start` or `side` creates it, and `stop` ends it."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, log: Path) -> None:
        self.process = process
        self.name = name
        self.log = log

    @classmethod
    async def start(
        cls, argv: list[str], name: str, logs: Path, env: dict[str, str] | None = None, timeout: float = 30.0
    ) -> Self:
        """Start a program and wait until it reports that it is ready.

        Args:
            argv: The command line.
            name: Name of the log file and in error texts.
            logs: Directory for the log file, which gets stderr.
            env: The environment; None inherits the current one.
            timeout: Seconds within which the program must be ready.

        Raises:
            ChildError: The program failed or was not ready in time.
        """
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
        target: str,
        logs: Path,
        *,
        python: str = sys.executable,
        env: dict[str, str] | None = None,
        timeout: float = 60.0,
        under: tuple[str, ...] = (),
        **spec: Any,
    ) -> Self:
        """Start a side, without the developer's OpenTelemetry, NATS and Actorloom variables.

        Args:
            target: Module and factory below ``bench.sides``, such as ``raw:pricing``.
            logs: Directory for the log file.
            python: The interpreter.
            env: Additional environment variables.
            timeout: Seconds within which the side must be ready.
            under: Command line of a program that runs the side, such as valgrind's.
            spec: Arguments of the factory.
        """
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "NATS_", "ACTORLOOM_"))
        }
        # The same hash seed in every process removes a source of noise.
        given = {**clean, "PYTHONHASHSEED": "0", "PYTHONPATH": str(ROOT), **(env or {})}
        argv = [*under, python, "-m", "bench.child", f"bench.sides.{target}", json.dumps(spec)]
        return await cls.start(argv, target.replace(":", "-"), logs, given, timeout)

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    async def call(self, method: str, timeout: float = 60.0, **arguments: Any) -> Any:
        """Call a method of the side and return its result.

        Raises:
            ChildError: The method raised, the process ended, or no answer came within `timeout` seconds.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": method, "with": arguments}).encode() + b"\n")
        return (await self._answer(timeout)).get("result")

    def cpu(self) -> float:
        """Return the seconds of CPU time that all threads of the process have used, as the kernel counts them."""
        return cpu_of(self.pid)

    def resident(self) -> int:
        """Return the bytes of memory that the process does not share with others."""
        rollup = Path(f"/proc/{self.pid}/smaps_rollup").read_text()
        return 1024 * sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_"))

    async def stop(self, grace: float = 5.0) -> None:
        """Stop the process by closing its stdin, and kill it after `grace` seconds."""
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
            raise ChildError(f"{self.name} did not answer within {timeout:g} s{self._log_tail()}") from None
        if not line:
            await self.process.wait()
            raise ChildError(f"{self.name} ended with code {self.process.returncode}{self._log_tail()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ChildError(f"{self.name}: {answer['error']}")
        return answer

    def _log_tail(self) -> str:
        return "".join(f"\n  {line}" for line in self.log.read_text(errors="replace").splitlines()[-15:])


def cpu_of(pid: int) -> float:
    """Return the seconds of CPU time that all threads of a process have used, as the kernel counts them."""
    # The clock id of another process on Linux (clock_getcpuclockid(3)) has nanoseconds; /proc/<pid>/stat has 10 ms.
    return time.clock_gettime((~pid << 3) | 2)
