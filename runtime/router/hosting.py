"""The actors of the targets in one process: one for each target, started, changed and drained as the targets change.

Each target has streams, a consumer, lanes and dead letters of its own, since it is an actor (``target-<name>``). So a target that is
slow, down or paused delays no other, and its dead letters are listed and redriven as those of any actor.
"""

import asyncio
import logging
from typing import Any

from runtime.actor.base import Actor
from runtime.backoff import Backoff
from runtime.client.bus import Bus
from runtime.errors import ActorError
from runtime.faults import error_text
from runtime.host.host import served_with
from runtime.host.process import Runner
from runtime.nats.jetstream.client import JetStream
from runtime.router.delivery import delivery_actor
from runtime.router.following import Following, all_pages
from runtime.router.target import ListTargets, Target, TargetChanged, actor_of
from runtime.storage.streams import Streams
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.router")

_BACKOFF = Backoff(first=1.0, longest=30.0)
"""The pauses before the actor of a target that has failed starts again."""


class Hosting:
    """The actors of the targets in this process.

    Args:
        actor: The actor `targets`, which has the bus and the settings.
    """

    def __init__(self, actor: Actor[Any]) -> None:
        self._actor = actor
        self._bus = Bus.of(actor)
        self._targets: dict[str, Target] = {}
        """By name, also those that are paused or deleted."""
        self._served: dict[str, _ServedTarget] = {}
        self._following = Following(self._bus, TargetChanged, self._load, lambda change: self._apply(change.target))
        self._start: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to serve the targets, in the background."""
        self._start = asyncio.create_task(self._following.start(), name="actorloom targets")

    async def prepare(self, target: str) -> None:
        """Create the streams of a target's actor, so that deliveries are stored from now on. Raises the errors of `Streams.ensure`."""
        connection, _, deployment = served_with(self._actor)
        jetstream = JetStream(connection)
        names = Names(actor_of(target), deployment.namespace)
        await Streams(jetstream, names, deployment.replicas, told=True).ensure()

    async def stop(self) -> None:
        """Return when the actors of all targets have drained."""
        if self._start is not None:
            self._start.cancel()
        await self._following.stop()
        await asyncio.gather(*(each.stop() for each in self._served.values()))

    def _apply(self, target: Target) -> None:
        known = self._targets.get(target.name)
        if known is not None and target.version <= known.version:
            return
        self._targets[target.name] = target
        served = self._served.get(target.name)
        if served is None:
            served = self._served[target.name] = _ServedTarget(self._actor, target.name)
        served.want(None if target.paused or target.deleted else target)

    async def _load(self) -> None:
        for deleted in (False, True):
            for target in await all_pages(lambda page, deleted=deleted: self._bus.query(ListTargets(deleted, page))):
                self._apply(target)


class _ServedTarget:
    """The actor of one target. It runs while the target is there and not paused, with the settings that the target has."""

    def __init__(self, actor: Actor[Any], name: str) -> None:
        self._actor = actor
        self._name = name
        self._wanted: Target | None = None
        self._running: Target | None = None
        self._runner: Runner | None = None
        self._changed = asyncio.Event()
        self._stopped = False
        self._task = asyncio.create_task(self._run(), name=f"actorloom target {name}")

    def want(self, target: Target | None) -> None:
        """Have the actor run with the settings of a target; None to have it drained."""
        self._wanted = target
        self._renew()

    async def stop(self) -> None:
        """Return when the actor has drained."""
        self._stopped = True
        self._wanted = None
        self._renew()
        await asyncio.gather(self._task, return_exceptions=True)

    def _renew(self) -> None:
        self._changed.set()
        if self._runner is not None and self._wanted is not self._running:
            self._runner.stop()

    async def _run(self) -> None:
        failures = 0
        while not self._stopped:
            self._changed.clear()
            if self._wanted is None:
                await self._changed.wait()
                continue
            try:
                await self._serve(self._wanted)
                failures = 0
            except (ActorError, TimeoutError, OSError) as error:
                failures += 1
                pause = _BACKOFF.delay(failures)
                logger.error("target %s starts again in %.1f s: %s", self._name, pause, error_text(error))
                await self._pause(pause)

    async def _pause(self, seconds: float) -> None:
        """Wait for some seconds, or until the target changes."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def _serve(self, target: Target) -> None:
        self._running = target
        self._runner = Runner.beside(self._actor, [delivery_actor(target)])
        try:
            await self._runner.run()
        finally:
            self._runner = None
