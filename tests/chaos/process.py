"""An actor process of the suite: ``python -m tests.chaos.process counter receipts --nats URL --namespace N …``."""

import argparse
import asyncio
import ctypes
import importlib
import logging
import signal
import sys
from typing import Any

import msgspec

from runtime.actor.base import Actor
from runtime.errors import ActorError
from runtime.host import checks, drain
from runtime.host.host import Deployment
from runtime.host.process import run
from runtime.nats.options import ConnectionOptions
from runtime.telemetry import setup_logging
from tests.chaos import faults, older, safeguards, suspension
from tests.chaos.actors import ACTORS

logger = logging.getLogger("chaos")

_PR_SET_PDEATHSIG = 1
"""The option of prctl(2) that sets a signal for the death of the parent process."""


def main() -> int:
    """Serve until SIGTERM, the armed fault, or the end of the suite."""
    parser = argparse.ArgumentParser()
    parser.add_argument("actors", nargs="+", help="names of tests.chaos.actors, or module:Class")
    parser.add_argument("--nats", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--lease-ttl", type=float, default=1.0)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--kill", metavar="POINT:N", help="kill this process when it reaches POINT for the N-th time")
    parser.add_argument("--without", action="append", default=[], choices=safeguards.SAFEGUARDS)
    parser.add_argument("--ping", type=float, default=1.0, help="seconds between pings to the server")
    parser.add_argument("--tick", type=float, default=5.0, help="seconds between checks of the relay")
    parser.add_argument("--suspendable", action="store_true", help="see tests.chaos.suspension")
    parser.add_argument("--partitions", type=int, default=1, help="partitions of the keys of each actor")
    parser.add_argument("--older", action="store_true", help="want the streams of the version before partitions")
    parser.add_argument("--drain", type=float, default=20.0, help="seconds that a drain may take")
    arguments = parser.parse_args()

    die_with_parent()
    setup_logging("INFO", "text")
    checks._TICK = arguments.tick
    if arguments.suspendable:
        suspension.install()
    if arguments.older:
        older.install()
    drain._DRAIN_TIMEOUT = arguments.drain
    actors = [_find(name) for name in arguments.actors]
    if arguments.kill:
        point, _, times = arguments.kill.partition(":")
        faults.arm(actors, point, int(times))
    # After arming: a safeguard that is off may change the steps before an armed point.
    for safeguard in arguments.without:
        safeguards.switch_off(safeguard)
    serve = run(
        actors,
        ConnectionOptions(url=arguments.nats, ping_interval=arguments.ping),
        Deployment(namespace=arguments.namespace, lease_ttl=arguments.lease_ttl, replicas=arguments.replicas),
        options={
            actor.name: msgspec.structs.replace(actor.options, partitions=arguments.partitions) for actor in actors
        },
        on_ready=lambda _: logger.info("ready"),
    )
    try:
        asyncio.run(serve)
    except (ActorError, TimeoutError) as error:
        logger.error("cannot serve: %r", error)
        return 1
    return 0


def _find(name: str) -> type[Actor[Any]]:
    if ":" not in name:
        return ACTORS[name]
    module, _, cls = name.partition(":")
    return getattr(importlib.import_module(module), cls)


def die_with_parent() -> None:
    """Have the kernel kill this process when the suite dies, even if the process is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
