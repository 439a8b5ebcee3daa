"""Actors and their nats-server in one process, for a first step, a script or a notebook."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from runtime.actor.base import Actor
from runtime.client.bus import Bus
from runtime.host.process import serving, shut_down
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
    """Run `actors` for the duration of the block, and yield a bus to call them. They are drained at its end.

        async with local(Hello) as bus:
            await bus.query(Greet("Ada"))

    Args:
        actors: The classes of the actors.
        url: The URL of NATS. If it is None, a nats-server is started on a free port; its data is deleted at the end.
        namespace: The prefix of every subject and stream.
        service: The name of the caller in traces.
        options: Options by actor name.
        tracing: The receiver of spans; if None, spans are exported as the `OTEL_*` variables configure it.

    Raises:
        ActorError: There is no nats-server, or an actor cannot be served.
        TimeoutError: The actors do not start within 120 s, or do not drain within 30 s.
    """
    async with AsyncExitStack() as stack:
        if url is None:
            url = (await stack.enter_async_context(EmbeddedServer(port=0))).url
        traces = tracing or Tracing.from_env()
        traces.install()
        stack.push_async_callback(shut_down, traces)
        connection = await Connection.connect(ConnectionOptions(url=url), name="local")
        stack.push_async_callback(connection.close)
        await stack.enter_async_context(serving(actors, connection, traces, namespace=namespace, options=options))
        yield Bus(connection, traces.service(service), namespace=namespace)
