"""Throughput of requests and one-way messages within one process, beside Python's actor libraries.

Actorloom validates and copies each message and applies its limits as over the wire, even if the loopback skips the
server. The libraries hand over the object itself (casty copies it). Actorloom answers every command, so one-way messages
are measured at its mailbox.
"""

from bench.environments import Environment, ensure_environment
from bench.process import Child
from bench.suite import Round, Suite, exchange

_MSGSPEC = "msgspec==0.22.0"
LIBRARIES = (
    Environment("pykka", ("pykka>=4,<5", _MSGSPEC)),
    Environment("casty", ("casty>=0.30,<0.31", _MSGSPEC), (3, 12)),
    Environment("thespian", ("thespian>=4,<5", _MSGSPEC)),
)


async def run(suite: Suite) -> None:
    """Compare requests, with one and 32 in flight, and one-way messages in bursts of 64."""
    url = await suite.server()
    primitives = await suite.side("local:primitives")
    peers: dict[str, Child] = {}
    for library in LIBRARIES:
        python = await ensure_environment(suite, library)
        if python is None:
            continue
        side = await suite.peer(library.name, suite.side(f"{library.name}:local", python=str(python)))
        if side is not None:
            peers[library.name] = side
    loopback = await suite.side("local:actor", url=url, namespace="loopback", loopback=True)
    through_nats = await suite.side("local:actor", url=url, namespace="nats", loopback=False)
    sides = {"asyncio.Queue actor": primitives, **peers}
    sides |= {"actorloom, loopback": loopback, "actorloom, through NATS": through_nats}
    for in_flight in (1, 32):
        rounds: dict[str, Round] = {
            name: exchange(side, None, "asks", in_flight=in_flight, seconds=suite.seconds)
            for name, side in sides.items()
        }
        await suite.compare("in process", f"ask, {in_flight} in flight", rounds)
    rounds = {"asyncio.Queue actor": exchange(primitives, None, "tells_to_queue", seconds=suite.seconds)}
    for name, side in peers.items():
        rounds[name] = exchange(side, None, "tells", seconds=suite.seconds)
    rounds["actorloom, mailbox"] = exchange(primitives, None, "tells_to_mailbox", seconds=suite.seconds)
    await suite.compare("in process", "tell", rounds)
