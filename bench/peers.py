"""How do peers do the same work? Each as its own documentation advises, in an environment of its own.

The environments lie in the user's cache and are made at the first run; what cannot be had is skipped with a word.
"""

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

from bench.process import ChildError
from bench.sides import go
from bench.suite import Suite, exchange


class Environment(msgspec.Struct, frozen=True):
    """A virtual environment of a peer: what is installed, and the Python it needs at least."""

    name: str
    packages: tuple[str, ...]
    python: tuple[int, int] = (3, 11)


_COMMON = (
    "nats-py==2.16.0",
    "msgspec==0.22.0",
    "opentelemetry-sdk>=1.38,<2",
    "opentelemetry-exporter-otlp-proto-http>=1.38,<2",
)
FASTSTREAM = Environment("faststream", ("faststream[nats,otel]>=0.6,<0.8", *_COMMON))
CLIFFRACER = Environment("cliffracer", ("cliffracer>=1.0,<2", "cliffracer-otel>=1.0,<2", *_COMMON), (3, 12))

_INSTALL_TIMEOUT = 240.0


async def run(suite: Suite) -> None:
    """Throughput and CPU of a query under one neutral load, 64 in flight, traced and not; and reactions."""
    url = await suite.server()
    sides = {}
    actor = await suite.side("raw:pricing", url=url, subject="raw.quote")
    sides["raw nats-py"] = actor, "raw.quote", None
    actor = await suite.side("raw:micro", url=url)
    sides["nats.micro"] = actor, "micro.quote", None
    for name, share in (("actorloom", None), ("actorloom 100% traced", 1.0)):
        space = f"own{share or 0:g}"
        actor = await suite.side("own:actor", trace=share, url=url, namespace=space, name="pricing")
        sides[name] = actor, f"{space}.pricing.query.get_quote", share
    for environment in (FASTSTREAM, CLIFFRACER):
        python = await made(suite, environment)
        if python is None:
            continue
        for name, share in ((environment.name, None), (f"{environment.name} 100% traced", 1.0)):
            where = (
                {"subject": f"fs{share or 0:g}.quote"} if environment is FASTSTREAM else {"name": f"cr{share or 0:g}"}
            )
            subject = where.get("subject") or f"{where['name']}.rpc.get_quote"
            side = f"{environment.name}:pricing"
            try:
                actor = await suite.side(
                    side, trace=share, python=str(python), url=url, traced=share is not None, **where
                )
            except ChildError as error:
                suite.skip(name, f"it does not start: {str(error).splitlines()[-1].strip()}")
                continue
            sides[name] = actor, subject, share
    rounds = {}
    for name, (actor, subject, share) in sides.items():
        load = await go.caller(suite, url, subject, share)
        rounds[name] = exchange(
            load, actor, "quotes", spans=share is not None, in_flight=64, seconds=max(0.5, suite.seconds)
        )
    await suite.compare("peers", "64 in flight", rounds)
    await _reactions(suite, url)


async def _reactions(suite: Suite, url: str) -> None:
    python = await made(suite, FASTSTREAM)
    if python is None:
        return
    count = 2_000 if suite.quick else 5_000
    publisher = await suite.side("own:publisher", url=url, namespace="own")
    await publisher.call("store", count=count)
    where = {"stream": "own-accounts-events", "subject": "own.accounts.event.>", "count": count}
    own = await suite.side("own:reactor", url=url, namespace="own")
    raw = await suite.side("raw:reactor", url=url)
    peer = await suite.side("faststream:reactor", python=str(python), url=url)
    rounds = {
        "faststream pull": exchange(peer, None, "consume", **where),
        "raw nats-py fetch(64)": exchange(raw, None, "consume", **where),
        "actorloom": exchange(own, None, "consume", count=count),
    }
    await suite.compare("peers", "stored events", rounds, rounds=min(3, suite.rounds))


async def made(suite: Suite, environment: Environment) -> Path | None:
    """Return the Python of a peer's environment, made if need be; None, with a word, where that cannot be done."""
    home = go.cache() / "environments" / environment.name
    python = home / "bin" / "python"
    wanted = "\n".join(environment.packages)
    stamp = home / "installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    base = _interpreter(environment.python)
    if base is None:
        suite.skip(environment.name, f"no Python {environment.python[0]}.{environment.python[1]} or later is at hand")
        return None
    task = suite.progress.add_task(f"installing {environment.name}", total=None)
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    try:
        for argv in ([base, "-m", "venv", str(home)], [*pip, *environment.packages]):
            process = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            try:
                async with asyncio.timeout(_INSTALL_TIMEOUT):
                    said, _ = await process.communicate()
            except TimeoutError:
                process.kill()
                said = b"it takes too long"
            if process.returncode:
                last = said.decode(errors="replace").strip().splitlines()[-1:]
                suite.skip(environment.name, f"it cannot be installed: {''.join(last)}")
                return None
    finally:
        suite.progress.remove_task(task)
    stamp.write_text(wanted)
    return python


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
