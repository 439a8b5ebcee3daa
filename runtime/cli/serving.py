"""Runs actors as configured: logging, the event loop, and an embedded nats-server if no other is configured."""

import logging
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from runtime.actor.base import Actor
from runtime.cli.event_loop import run_loop
from runtime.cli.failures import INTERRUPTED
from runtime.cli.link import Link
from runtime.host import process
from runtime.host.config import Configuration
from runtime.host.health import Health, HealthServer
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.options import ConnectionOptions
from runtime.nats.server import DEFAULT_PORT, EmbeddedServer
from runtime.telemetry import setup_logging

logger = logging.getLogger("actorloom.cli")


def serve(configuration: Configuration, actors: Sequence[type[Actor[Any]]], link: Link | None = None) -> None:
    """Serve `actors` until a signal.

    Args:
        configuration: The settings.
        actors: The classes of the actors.
        link: The link to the parent, if this process is a worker. The parent then has the health port.

    Raises:
        ActorError: The actors cannot be served, or not any more.
    """
    settings = configuration.settings
    setup_logging(settings.log_level, settings.log_format, worker=None if link is None else link.number)
    options = {actor.name: configuration.options(actor) for actor in actors}
    for name in sorted(configuration.actors - options.keys()):
        logger.info("the settings of %s are not used: the actor does not run in this process", name)

    deployment = Deployment(
        namespace=settings.namespace,
        lease_ttl=settings.lease_ttl,
        replicas=settings.replicas,
        allow_breaking=settings.allow_breaking,
    )
    port, host = settings.health_port, settings.health_host

    def open_port(_: Runner, health: Health) -> HealthServer:
        assert port is not None
        return HealthServer(host, port, health)

    async def main() -> None:
        async with connection_options(configuration) as connection:
            await process.run(
                actors,
                connection,
                deployment,
                options=options,
                on_ready=_announce if link is None else link.ready,
                report=link.reporting if link is not None else open_port if port is not None else None,
                scraped=port is not None,
            )
            logger.info("stopped")

    try:
        run_loop(main, uvloop=settings.uvloop)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


@asynccontextmanager
async def connection_options(configuration: Configuration) -> AsyncGenerator[ConnectionOptions]:
    """Yield the options of the configured NATS server, or start an embedded one for the duration of the block."""
    if not configuration.embedded:
        yield configuration.connection
        return
    settings = configuration.settings
    server = EmbeddedServer(store_dir=settings.data, binary=settings.nats_server, sync_always=settings.sync_always)
    async with server:
        logger.info("embedded nats-server on %s, its data in %s", server.url, server.store_dir)
        if server.port != DEFAULT_PORT:
            text = "port %d is taken: clients outside this directory need --nats %s (nats: --server %s)"
            logger.warning(text, DEFAULT_PORT, server.url, server.url)
        yield ConnectionOptions(url=server.url, loopback=configuration.connection.loopback)


def _announce(running: Runner) -> None:
    standby = [host.name for host in running.hosts if host.standby]
    names = ", ".join(host.name for host in running.hosts)
    host, port = running.connection.server_address
    logger.info("ready: %s on nats://%s:%d (Ctrl-C to drain and stop)", names, host, port)
    if standby:
        logger.info("on standby, because other processes own all keys: %s", ", ".join(standby))
