"""`run --reload`: runs the actors in a child process and restarts it when a file changes."""

import asyncio
import logging
import os
from asyncio.subprocess import Process
from collections.abc import Mapping
from pathlib import Path

from runtime.cli.again import again
from runtime.cli.serving import connection_options
from runtime.errors import ConfigurationError
from runtime.host.config import Configuration
from runtime.host.signals import drain_on_signals
from runtime.telemetry import setup_logging

logger = logging.getLogger("actorloom.cli")

_DRAIN = 25.0
"""Seconds that a child process may take to drain before it is killed."""


def serve_and_reload(configuration: Configuration) -> None:
    """Run this command line without ``--reload`` in a child process until a signal. Each change restarts the child."""
    settings = configuration.settings
    setup_logging(settings.log_level, settings.log_format)
    logging.getLogger("watchfiles").setLevel("WARNING")  # this module logs the changed files
    asyncio.run(_serve(configuration))


async def _serve(configuration: Configuration) -> None:
    try:
        from watchfiles import PythonFilter, awatch
    except ImportError:
        raise ConfigurationError("--reload needs watchfiles: run `pip install actorloom[reload]`") from None
    stop = asyncio.Event()
    async with connection_options(configuration) as connection:
        # An embedded server runs in this process, so that it survives restarts of the child.
        environ = {**os.environ, "NATS_URL": connection.url} if configuration.embedded else os.environ
        child = await _start(environ)

        def kill_child() -> None:
            if child.returncode is None:
                child.kill()

        with drain_on_signals(lambda _: stop.set(), kill_child):
            here = Path.cwd()
            logger.info("watching %s", here)
            async for changes in awatch(here, watch_filter=PythonFilter(extra_extensions=(".toml",)), stop_event=stop):
                logger.info("changed: %s", ", ".join(sorted({os.path.relpath(path) for _, path in changes})))
                await _end(child)
                child = await _start(environ)
            await _end(child)


async def _start(environ: Mapping[str, str]) -> Process:
    return await asyncio.create_subprocess_exec(
        *again(without=("--reload",)),
        env=environ,
        process_group=0,  # Ctrl-C reaches this process only, which sends SIGTERM to the child
    )


async def _end(child: Process) -> None:
    if child.returncode is None:
        child.terminate()
    try:
        async with asyncio.timeout(_DRAIN):
            await child.wait()
    except TimeoutError:
        logger.warning("the actors did not drain within %.0f s: killed", _DRAIN)
        child.kill()
        await child.wait()
