"""Actors and their NATS server in one process, for a first step, a script or a notebook."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from runtime.actor.base import Actor
from runtime.client.bus import Bus
from runtime.host.process import serving
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.options import Options
from runtime.telemetry import Tracing


@asynccontextmanager
async def local(
    *actors: type[Actor[Any]],
    url: str | None = None,
    namespace: str = "",
    service: str = "local",
    options: Mapping[str, Options] | None = None,
    tracing: Tracing | None = None,
) -> AsyncGenerator[Bus]:
    """Run `actors` until the block ends, then drain them: ``async with local(Hello) as bus: await bus.query(Greet("Ada"))``.

    Without `url` it starts a nats-server of its own on a free port, whose data ends with the block. `service` names in
    traces who sends through the bus; spans go where the `OTEL_*` variables say, unless `tracing` is given. Raises
    `ActorError` where there is no server, or the actors fail.
    """
    async with AsyncExitStack() as stack:
        if url is None:
            url = (await stack.enter_async_context(EmbeddedServer(port=0))).url
        traces = tracing or Tracing.from_env()
        traces.install()
        stack.push_async_callback(asyncio.to_thread, traces.shutdown)
        connection = await Connection.connect(ConnectionOptions(url=url), name="local")
        stack.push_async_callback(connection.close)
        await stack.enter_async_context(serving(actors, connection, traces, namespace=namespace, options=options))
        yield Bus(connection, traces.service(service), namespace=namespace)
