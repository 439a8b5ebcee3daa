"""How fast are tell and ask within one process, beside an `asyncio.Queue` actor and the actor libraries of Python?

Ours validates, copies and refuses as the wire does, also where the loopback skips the server; an object handed over does
not (casty copies, too). A tell is shown by its floor, the mailbox: over the wire there is none, as every command is
answered.
"""

from bench.environments import Environment, made
from bench.process import Child
from bench.suite import Round, Suite, exchange

_MSGSPEC = "msgspec==0.22.0"
LIBRARIES = (
    Environment("pykka", ("pykka>=4,<5", _MSGSPEC)),
    Environment("casty", ("casty>=0.30,<0.31", _MSGSPEC), (3, 12)),
    Environment("thespian", ("thespian>=4,<5", _MSGSPEC)),
)


async def run(suite: Suite) -> None:
    """Asks, one and 32 in flight, and tells in bursts of 64."""
    url = await suite.server()
    floor = await suite.side("near:floor")
    peers: dict[str, Child] = {}
    for library in LIBRARIES:
        python = await made(suite, library)
        if python is None:
            continue
        side = await suite.peer(library.name, suite.side(f"{library.name}:near", python=str(python)))
        if side is not None:
            peers[library.name] = side
    near = await suite.side("near:own", url=url, namespace="near", loopback=True)
    far = await suite.side("near:own", url=url, namespace="far", loopback=False)
    asked = {"asyncio.Queue actor": floor, **peers, "actorloom, loopback": near, "actorloom, through NATS": far}
    for in_flight in (1, 32):
        rounds: dict[str, Round] = {
            name: exchange(side, None, "asks", in_flight=in_flight, seconds=suite.seconds)
            for name, side in asked.items()
        }
        await suite.compare("in process", f"ask, {in_flight} in flight", rounds)
    rounds = {"asyncio.Queue actor": exchange(floor, None, "tells_to_queue", seconds=suite.seconds)}
    for name, side in peers.items():
        rounds[name] = exchange(side, None, "tells", seconds=suite.seconds)
    rounds["actorloom, mailbox"] = exchange(floor, None, "tells_to_mailbox", seconds=suite.seconds)
    await suite.compare("in process", "tell", rounds)
