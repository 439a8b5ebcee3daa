"""A process of callers: ``python -m tests.chaos.caller --nats URL --namespace N …``.

They send each command once, until SIGTERM. The process then prints a line of JSON with the deadlines and the outcomes.
`tests.support.wall_clock` runs it on a machine with a wrong clock.
"""

import argparse
import asyncio
import json
import signal
import sys

from runtime import connect
from runtime.nats.options import ConnectionOptions
from tests.chaos import safeguards
from tests.chaos.actors import Add
from tests.chaos.load import OneShotLoad
from tests.chaos.process import die_with_parent


def main() -> None:
    """Call until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--nats", required=True)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--timeout", type=float, required=True, help="seconds that a caller waits")
    parser.add_argument("--skew", type=float, default=0.0, help="seconds by which the clock of this process is ahead")
    parser.add_argument("--without", action="append", default=[], choices=safeguards.SAFEGUARDS)
    arguments = parser.parse_args()
    die_with_parent()
    for safeguard in arguments.without:
        safeguards.switch_off(safeguard)
    asyncio.run(_call(arguments))


async def _call(arguments: argparse.Namespace) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    async with connect(options=ConnectionOptions(url=arguments.nats), namespace=arguments.namespace) as bus:
        load = OneShotLoad(bus, Add, callers=8, timeout=arguments.timeout, name="skewed")
        load.start()
        print("calling", flush=True)
        await ended.wait()
        await load.stop()
    true = {key: deadline - arguments.skew for key, deadline in load.sent.items()}
    print(json.dumps({"sent": true, "done": sorted(load.done)}), flush=True)


if __name__ == "__main__":
    sys.exit(main())
