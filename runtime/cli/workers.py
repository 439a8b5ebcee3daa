"""`run --workers N`: a parent that starts N worker processes, and does nothing else.

Each worker runs this command line again, with its number and one end of a channel. The parent

- passes SIGTERM and SIGINT on. A second signal kills the workers at once;
- starts a worker again that ends, after a growing pause. If more than five end within a minute, the others drain, and the
  parent ends with the exit code of the last one;
- ends with the exit code of a worker whose settings or actors are wrong, or that fails before all are ready: a restart would
  not help;
- has the health port (`runtime.cli.workers_health`) and the embedded nats-server.

If the parent is killed, its workers drain and end: by the kernel's signal on Linux, and by the end of the channel everywhere.
"""

import asyncio
import logging
import os
import signal
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Final

from runtime.backoff import Backoff
from runtime.cli.channel import Ready
from runtime.cli.failures import FAILED, USAGE, Failure
from runtime.cli.serving import connection_options
from runtime.cli.worker_process import Worker
from runtime.cli.workers_health import WorkersHealth
from runtime.host.config import Configuration
from runtime.host.health import Health, HealthServer
from runtime.host.signals import drain_on_signals
from runtime.telemetry import setup_logging
from runtime.wire.printable import printable

logger = logging.getLogger("actorloom.cli")

_RESTARTS: Final = 5
"""Restarts of workers within `_WINDOW`. One more end of a worker ends the parent."""
_WINDOW: Final = 60.0
"""Seconds over which restarts are counted."""
_BACKOFF: Final = Backoff(first=0.25, longest=8.0)
"""The pauses before a restart, by the number of restarts within `_WINDOW`."""


def serve_by_workers(configuration: Configuration) -> None:
    """Run this command line in workers until a signal.

    Raises:
        Failure: A worker failed for good.
    """
    settings = configuration.settings
    setup_logging(settings.log_level, settings.log_format)
    asyncio.run(_serve(configuration))


async def _serve(configuration: Configuration) -> None:
    async with connection_options(configuration) as connection:
        # An embedded server runs in this process only.
        environ = {**os.environ, "NATS_URL": connection.url} if configuration.embedded else os.environ
        workers = Workers(configuration.settings.workers, environ)

        def stop(received: signal.Signals) -> None:
            logger.info("%s: draining (a second signal ends all processes at once)", received.name)
            workers.stop()

        with drain_on_signals(stop, workers.kill):
            async with _health_port(configuration, workers):
                await workers.run()
        logger.info("stopped")


@asynccontextmanager
async def _health_port(configuration: Configuration, workers: "Workers") -> AsyncGenerator[None]:
    settings = configuration.settings
    if settings.health_port is None:
        yield
        return
    async with Health(reasons=list, metrics=lambda: ("", "")) as own:
        health = WorkersHealth(workers.members, own, lambda: workers.stopping)
        async with HealthServer(settings.health_host, settings.health_port, health):
            yield


class Workers:
    """All workers of a parent, from `run` to `stop`.

    Args:
        count: The number of workers.
        environ: The environment of the processes.
    """

    def __init__(self, count: int, environ: Mapping[str, str]) -> None:
        self.members = [Worker(number) for number in range(count)]
        self._environ = environ
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self._announced = False
        self._ended: deque[float] = deque(maxlen=_RESTARTS)
        """The times at which workers ended that were started again."""
        self._failure: Failure | None = None

    @property
    def stopping(self) -> bool:
        """Whether all workers drain, or have ended."""
        return self._stopping.is_set()

    async def run(self) -> None:
        """Run the workers until `stop`, and return when all have drained.

        Raises:
            Failure: A worker failed for good, or at its end. It has an exit code.
        """
        announcing = asyncio.ensure_future(self._announce())
        try:
            async with asyncio.TaskGroup() as group:
                for worker in self.members:
                    group.create_task(self._keep(worker))
        finally:
            announcing.cancel()
            await asyncio.gather(announcing, return_exceptions=True)
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Drain all workers. `run` returns when they have ended."""
        self._stopping.set()
        for worker in self.members:
            worker.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill all workers at once. Any thread may call this."""
        for worker in self.members:
            worker.signal(signal.SIGKILL)

    async def _keep(self, worker: Worker) -> None:
        """Run one worker until `stop`, and start it again whenever it ends before."""
        while not self._stopping.is_set():
            try:
                process = await worker.start(self._environ)
                if self._stopping.is_set():
                    worker.signal(signal.SIGTERM)  # The signal came while it was started.
                code = await worker.listen(process, self._changed)
            except OSError as error:
                code, worker.failure = FAILED, f"it cannot be started: {error}"
            if self._stopping.is_set():
                self._note_end(worker, code)
                return
            pause = self._note_death(worker, code)
            if pause is None:
                self.stop()
                return
            try:
                async with asyncio.timeout(pause):
                    await self._stopping.wait()
            except TimeoutError:
                worker.restarts += 1

    def _note_end(self, worker: Worker, code: int) -> None:
        """Take note of the end of a worker that was to end. SIGTERM ends one that has not installed its handler yet."""
        if code not in (0, -signal.SIGTERM) and self._failure is None:
            self._failure = Failure(_text(worker, code), _exit_code(code))

    def _note_death(self, worker: Worker, code: int) -> float | None:
        """Return the seconds until a worker that has ended is started again; None if all are to end."""
        if code == USAGE or (code > 0 and not self._announced):
            self._failure = Failure(worker.failure or _text(worker, code), _exit_code(code))
            return None
        now = time.monotonic()
        while self._ended and now - self._ended[0] >= _WINDOW:
            self._ended.popleft()
        if len(self._ended) == _RESTARTS:
            text = f"workers ended {_RESTARTS + 1} times within {_WINDOW:.0f} s, last: {_text(worker, code)}"
            self._failure = Failure(text, _exit_code(code))
            return None
        self._ended.append(now)
        pause = _BACKOFF.nominal(len(self._ended))
        logger.error("%s; it is started again in %g s", printable(_text(worker, code)), pause)
        return pause

    async def _announce(self) -> None:
        """Log once that all workers are ready, and whenever one that was started again is."""
        known: list[Ready | None] = [None] * len(self.members)
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not self._announced:
                ready = [worker.ready for worker in self.members if worker.ready is not None]
                self._announced = len(ready) == len(self.members)
                if self._announced:
                    _log_ready(ready)
            else:
                for worker, before in zip(self.members, known, strict=True):
                    if worker.ready is not None and worker.ready is not before:
                        logger.info("worker %d is ready again", worker.number)
            known = [worker.ready for worker in self.members]


def _log_ready(workers: list[Ready]) -> None:
    """Log that all workers are ready, and which of them have no keys to own."""
    actors = workers[0].actors
    names, count = ", ".join(actor.name for actor in actors), len(workers)
    logger.info("ready: %s on %s by %d workers (Ctrl-C to drain and stop)", names, workers[0].server, count)
    if few := [f"{actor.name} ({actor.partitions})" for actor in actors if actor.keyed and actor.partitions < count]:
        text = "on standby, because there are fewer partitions than workers: some of the workers for %s"
        logger.info(text, ", ".join(few))
    standby = [
        actor.name
        for place, actor in enumerate(actors)
        if actor.keyed and all(worker.actors[place].standby for worker in workers)
    ]
    if standby:
        logger.info("on standby, because other processes own all keys: %s", ", ".join(standby))


def _text(worker: Worker, code: int) -> str:
    """Return how a worker ended."""
    try:
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
    except ValueError:
        how = f"by signal {-code}"
    return f"worker {worker.number} ended {how}" + (f": {worker.failure}" if worker.failure else "")


def _exit_code(code: int) -> int:
    """Return the exit code of the parent for that of a worker. It is not 0."""
    return 128 - code if code < 0 else code or FAILED
