"""One actor process of the suite: ``python -m tests.chaos.process counter receipts --nats URL --namespace N …``."""

import argparse
import asyncio
import ctypes
import importlib
import logging
import signal
import sys
from typing import Any

from runtime.actor.base import Actor
from runtime.errors import ActorError
from runtime.host import serving
from runtime.host.host import Deployment
from runtime.host.process import run
from runtime.nats.options import ConnectionOptions
from runtime.telemetry import setup_logging
from tests.chaos import faults
from tests.chaos.actors import ACTORS

log = logging.getLogger("chaos")

_PR_SET_PDEATHSIG = 1


def main() -> int:
    """Serve until SIGTERM, the armed fault or the end of the suite."""
    parser = argparse.ArgumentParser()
    parser.add_argument("actors", nargs="+", help="names of tests.chaos.actors, or module:Class")
    parser.add_argument("--nats", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--lease-ttl", type=float, default=1.0)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument(
        "--kill", metavar="POINT:N", help="kill this process when it reaches the point for the n-th time"
    )
    parser.add_argument("--without", action="append", default=[], choices=faults.SWITCHES)
    parser.add_argument("--ping", type=float, default=1.0, help="seconds between pings to the server")
    parser.add_argument("--tick", type=float, default=5.0, help="seconds between looks at the relay's checkpoint")
    arguments = parser.parse_args()

    _die_with_parent()
    setup_logging("INFO", "text")
    serving._TICK = arguments.tick
    actors = [_find(name) for name in arguments.actors]
    if arguments.kill:
        point, _, times = arguments.kill.partition(":")
        faults.arm(actors, point, int(times))
    # After that: a switch may move what comes before an armed point.
    for switch in arguments.without:
        faults.without(switch)
    serve = run(
        actors,
        ConnectionOptions(url=arguments.nats, ping_interval=arguments.ping),
        Deployment(namespace=arguments.namespace, lease_ttl=arguments.lease_ttl, replicas=arguments.replicas),
        on_ready=lambda _: log.info("ready"),
    )
    try:
        asyncio.run(serve)
    except (ActorError, TimeoutError) as error:
        log.error("cannot serve: %r", error)
        return 1
    return 0


def _find(name: str) -> type[Actor[Any]]:
    if ":" not in name:
        return ACTORS[name]
    module, _, cls = name.partition(":")
    return getattr(importlib.import_module(module), cls)


def _die_with_parent() -> None:
    """A suite that is killed leaves nothing behind, not even what it had stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
