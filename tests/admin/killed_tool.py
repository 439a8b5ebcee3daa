"""A repartition in a process of its own, which kills itself: at a step, at the beginning of its report, or at a request."""

import asyncio
import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

from runtime.admin.repartition import repartition
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.wire.subjects import Names
from tests.support.waiting import until


def dying(number: int) -> Callable[[], None]:
    """Return a function that kills the process at its call with this number, from 0 on."""
    calls = itertools.count()

    def die() -> None:
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    return die


async def main(url: str, namespace: str, actor: str, partitions: int, what: str, number: int, lease_ttl: float) -> None:
    """Repartition until the given step or request."""
    connection = await Connection.connect(ConnectionOptions(url=url), name="tool")
    jetstream, die = JetStream(connection), dying(number)
    if what == "request":
        for name in ("publish", "publish_callback", "_call"):
            call = getattr(jetstream, name)

            def counted(*arguments: Any, _call: Callable[..., Any] = call, **others: Any) -> Any:
                die()
                return _call(*arguments, **others)

            setattr(jetstream, name, counted)

    def report(line: str) -> None:
        if what == "step" or line.startswith(what):
            die()

    await repartition(jetstream, Names(actor, namespace), partitions, lease_ttl=lease_ttl, report=report)
    await connection.close()


def run(*arguments: Any) -> None:
    """Run `main`, as the target of a process."""
    asyncio.run(main(*arguments))


async def kill(
    url: str, namespace: str, actor: str, partitions: int, what: str, number: int, lease_ttl: float = 4.0
) -> bool:
    """Run the tool until it kills itself. Return False if it came to its end before.

    Args:
        url: The URL of the server.
        namespace: The namespace.
        actor: The name of the actor.
        partitions: The wanted number of partitions.
        what: ``step`` or ``request``, or the beginning of the report of a step.
        number: How many of them are passed.
        lease_ttl: Seconds of the leases that the tool holds.
    """
    processes = multiprocessing.get_context("forkserver")  # a fork of a small process, which has imported this module
    processes.set_forkserver_preload([__name__])
    tool = processes.Process(target=run, args=(url, namespace, actor, partitions, what, number, lease_ttl))
    tool.start()
    # Not in a thread: the start of another tool reads the exit codes of all that have ended, and two readers lose one.
    await until(lambda: tool.exitcode is not None, timeout=60)
    assert tool.exitcode in (0, -signal.SIGKILL), tool.exitcode
    return tool.exitcode != 0
