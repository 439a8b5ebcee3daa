"""Environments and programs that only peers need. They are built once, in the user's cache.

A peer that cannot be built here is skipped, with the reason in the report.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from bench.suite import Suite

_TIMEOUT = 300.0
"""Seconds for one step: an installation from the network, or a build."""


class Environment(msgspec.Struct, frozen=True):
    """A peer's virtual environment: its packages, and the lowest version of Python that they support."""

    name: str
    packages: tuple[str, ...]
    python: tuple[int, int] = (3, 11)


def cache_directory() -> Path:
    """Return the directory, outside the repository, that holds everything the bench builds."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actorloom" / "bench"


async def ensure_environment(suite: Suite, environment: Environment) -> Path | None:
    """Return the Python of a peer's environment, creating the environment if needed; None if that fails."""
    home = cache_directory() / "environments" / environment.name
    python = home / "bin" / "python"
    wanted = "\n".join(environment.packages)
    stamp = home / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    base = _interpreter(environment.python)
    if base is None:
        suite.skip(environment.name, f"there is no Python {environment.python[0]}.{environment.python[1]} or later")
        return None
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    if not await run_steps(suite, environment.name, [[base, "-m", "venv", str(home)], [*pip, *environment.packages]]):
        return None
    stamp.write_text(wanted)
    return python


async def run_steps(suite: Suite, name: str, steps: list[list[str]], folder: Path | None = None) -> bool:
    """Run the commands that build `name`, in order. If one fails, skip `name` in the report and return False."""
    task = suite.progress.add_task(f"building {name}", total=len(steps))
    try:
        for argv in steps:
            process = await asyncio.create_subprocess_exec(
                *argv, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            try:
                async with asyncio.timeout(_TIMEOUT):
                    output, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                await process.wait()
                output = f"not finished within {_TIMEOUT:.0f} s".encode()
            if process.returncode:
                last = output.decode(errors="replace").strip().splitlines()[-1:]
                suite.skip(name, f"it cannot be built here: {''.join(last)}")
                return False
            suite.progress.advance(task)
    finally:
        suite.progress.remove_task(task)
    return True


def _interpreter(at_least: tuple[int, int]) -> str | None:
    """Return a Python of that version or later: this one, one on PATH, or one of pyenv."""
    candidates = [sys.executable]
    candidates += [path for minor in range(at_least[1], at_least[1] + 3) if (path := shutil.which(f"python3.{minor}"))]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates += [str(path) for path in sorted(pyenv.glob("3.*/bin/python"))] if pyenv.is_dir() else []
    for candidate in candidates:
        try:
            version = subprocess.run(
                [candidate, "-c", "import sys; print(*sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
                timeout=10,
            )
        except OSError:
            continue
        if version.returncode == 0 and tuple(map(int, version.stdout.split())) >= at_least:
            return candidate
    return None
