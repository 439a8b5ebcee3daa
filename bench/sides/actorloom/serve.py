"""The answering side: an actor in its process, with access to its keys in memory and to a profiler."""

import cProfile
import pstats
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.process import ROOT
from bench.sides.actorloom.actors import Accounts, Pricing
from bench.sides.actorloom.spans import SpanExport
from runtime import Actor
from runtime.telemetry import Tracing
from runtime.testing import System, running


class ActorSide(SpanExport):
    """The actors of one process."""

    def __init__(self, system: System) -> None:
        super().__init__(system.tracing)
        self.system = system
        self._profile = cProfile.Profile(builtins=False)

    async def start_profile(self) -> None:
        """Start Python's profiler. C functions count as part of their caller."""
        self._profile.enable()

    async def stop_profile(self) -> list[tuple[str, int, float]]:
        """Stop the profiler; return the name, calls and own seconds of each function. Waiting for the socket is left out."""
        self._profile.disable()
        profile: Any = pstats.Stats(self._profile)
        return [
            (f"{_short(file)} {name}", calls, seconds)
            for (file, _, name), (_, calls, seconds, _, _) in profile.stats.items()
            if not file.endswith("selectors.py")
        ]

    async def evict(self, name: str, idle: float) -> int:
        """Evict the keys of an actor that were idle for `idle` seconds; return how many stay in memory."""
        turns = self._serving(name).turns
        turns.keys.evict(idle, 10_000_000)
        return len(turns.keys)

    async def keys(self, name: str) -> int:
        """Return how many keys of an actor are in memory."""
        return len(self._serving(name).turns.keys)

    def _serving(self, name: str) -> Any:
        return next(host for host in self.system.runner.hosts if host.name == name).serving[0]


@asynccontextmanager
async def actor(url: str, namespace: str, name: str, lease_ttl: float = 4.0) -> AsyncIterator[ActorSide]:
    """Serve ``pricing`` or ``accounts``. The environment configures tracing."""
    kind: type[Actor[Any]] = {"pricing": Pricing, "accounts": Accounts}[name]
    async with running(kind, url=url, namespace=namespace, tracing=Tracing.from_env(), lease_ttl=lease_ttl) as system:
        yield ActorSide(system)


def _short(file: str) -> str:
    """Return a module's path within the repository, or within its package if it is not part of the repository."""
    path = Path(file)
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT / "runtime") else "/".join(path.parts[-2:])
