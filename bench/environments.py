"""What peers need and the product does not: environments and programs, made once in the user's cache.

What cannot be had is skipped with a word in the report.
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
"""Seconds for one step of making something: an installation from the network, a build."""


class Environment(msgspec.Struct, frozen=True):
    """A virtual environment of a peer: what is installed, and the Python it needs at least."""

    name: str
    packages: tuple[str, ...]
    python: tuple[int, int] = (3, 11)


def cache() -> Path:
    """Where what the bench makes is kept, outside of the repository."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "actorloom" / "bench"


async def made(suite: Suite, environment: Environment) -> Path | None:
    """Return the Python of a peer's environment, made if need be; None where that cannot be done."""
    home = cache() / "environments" / environment.name
    python = home / "bin" / "python"
    wanted = "\n".join(environment.packages)
    stamp = home / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    base = _interpreter(environment.python)
    if base is None:
        suite.skip(environment.name, f"no Python {environment.python[0]}.{environment.python[1]} or later is at hand")
        return None
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    if not await ran(suite, environment.name, [[base, "-m", "venv", str(home)], [*pip, *environment.packages]]):
        return None
    stamp.write_text(wanted)
    return python


async def ran(suite: Suite, name: str, steps: list[list[str]], folder: Path | None = None) -> bool:
    """Run the programs that make something, one after another; False, with a word, where one of them fails."""
    task = suite.progress.add_task(f"making {name}", total=len(steps))
    try:
        for argv in steps:
            process = await asyncio.create_subprocess_exec(
                *argv, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            try:
                async with asyncio.timeout(_TIMEOUT):
                    said, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                await process.wait()
                said = b"it takes too long"
            if process.returncode:
                last = said.decode(errors="replace").strip().splitlines()[-1:]
                suite.skip(name, f"it cannot be made here: {''.join(last)}")
                return False
            suite.progress.advance(task)
    finally:
        suite.progress.remove_task(task)
    return True


def _interpreter(at_least: tuple[int, int]) -> str | None:
    """Return a Python of that version or later: this one, one on PATH, or one that pyenv keeps."""
    found = [sys.executable]
    found += [path for minor in range(at_least[1], at_least[1] + 3) if (path := shutil.which(f"python3.{minor}"))]
    kept = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    found += [str(path) for path in sorted(kept.glob("3.*/bin/python"))] if kept.is_dir() else []
    for candidate in found:
        try:
            said = subprocess.run(
                [candidate, "-c", "import sys; print(*sys.version_info[:2])"],
                capture_output=True,
                text=True,
                check=False,
                timeout=10,
            )
        except OSError:
            continue
        if said.returncode == 0 and tuple(map(int, said.stdout.split())) >= at_least:
            return candidate
    return None
