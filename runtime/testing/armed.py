"""A process of actors with a fault, for `runtime.testing.faults`: ``python -m runtime.testing.armed shop.orders:Orders …``."""

import argparse
import asyncio
import os
import sys
from importlib import import_module
from operator import attrgetter
from typing import Any, Final

from runtime.actor.base import Actor, require_actor
from runtime.host.host import Deployment
from runtime.host.process import run
from runtime.nats.connection import ConnectionOptions
from runtime.telemetry import setup_logging
from runtime.testing.steps import arm, cut, kill, pause

ACTIONS: Final = {"kill": kill, "pause": pause, "cut": cut}
"""What may happen at a step."""
READY: Final = "actorloom: ready"
"""A line of the log: the process serves, or stands by."""
REACHED: Final = "actorloom: fault"
"""A line of the log: the fault happens now."""

_PING = 1.0
"""Seconds between two pings to the server, so that a cut is soon known."""


def main() -> None:
    """Serve until the fault, a signal, or the end of the test."""
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="+", metavar="module:Class")
    parser.add_argument("--nats", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--lease-ttl", type=float, required=True)
    parser.add_argument("--fault", metavar="ACTION STEP")
    arguments = parser.parse_args()
    setup_logging("INFO", "text")
    actors = [load(target) for target in arguments.targets]
    if arguments.fault:
        action, step = arguments.fault.split()

        def act() -> None:
            _write(REACHED)
            ACTIONS[action]()

        arm(actors, step, 1, act)
    deployment = Deployment(namespace=arguments.namespace, lease_ttl=arguments.lease_ttl)
    options = ConnectionOptions(url=arguments.nats, ping_interval=_PING)
    asyncio.run(run(actors, options, deployment, on_ready=lambda _: _write(READY)))


def load(target: str) -> type[Actor[Any]]:
    """Return the actor at ``module:Class``.

    Raises:
        ImportError, AttributeError: There is no such module or class.
        DeclarationError: It is no actor.
    """
    module, _, name = target.partition(":")
    found = attrgetter(name)(import_module(module))
    require_actor(found, target)
    return found


def _write(line: str) -> None:
    """Write a line to the log at once: the process may end or stop right after it."""
    os.write(sys.stderr.fileno(), f"{line}\n".encode())


if __name__ == "__main__":
    main()
