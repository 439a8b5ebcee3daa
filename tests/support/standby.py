"""A process in standby: it runs an actor that another process owns."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from runtime.actor.base import Actor
from runtime.bounds import Replicas
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.telemetry import Tracing
from tests.support.probe import Probe
from tests.support.waiting import until


@asynccontextmanager
async def standby(
    actor: type[Actor[Any]], *, url: str, namespace: str, lease_ttl: float, replicas: Replicas = 1
) -> AsyncIterator[Probe]:
    """Run an actor on a connection of its own, and begin the block when it is in standby."""
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        deployment = Deployment(namespace=namespace, lease_ttl=lease_ttl, replicas=replicas)
        runner = Runner([actor], connection, Tracing(in_memory=True), deployment)
        work = asyncio.ensure_future(runner.run())
        try:
            await until(lambda: runner.hosts[0].standby)
            yield Probe.of(runner)
        finally:
            runner.stop()
            await asyncio.wait_for(work, 30)
