"""How fast are tell and ask within one process, beside an `asyncio.Queue` actor and pykka?

Ours validates, copies and refuses as the wire does, also where the loopback skips the server; an object handed over does
not. A tell is shown by its floor, the mailbox: over the wire there is none, as every command is answered.
"""

from bench.peers import Environment, made
from bench.process import Child
from bench.suite import Round, Suite, exchange

PYKKA = Environment("pykka", ("pykka>=4,<5", "msgspec>=0.20,<1"))


async def run(suite: Suite) -> None:
    """Asks, one and 32 in flight, and tells in bursts of 64."""
    url = await suite.server()
    floor = await suite.side("near:floor")
    near = await suite.side("near:own", url=url, namespace="near", loopback=True)
    far = await suite.side("near:own", url=url, namespace="far", loopback=False)
    python = await made(suite, PYKKA)
    pykka = await suite.side("pykka:near", python=str(python)) if python else None
    asked: dict[str, Child] = {"asyncio.Queue actor": floor}
    if pykka is not None:
        asked["pykka"] = pykka
    asked |= {"actorloom, loopback": near, "actorloom, through NATS": far}
    for in_flight in (1, 32):
        rounds: dict[str, Round] = {
            name: exchange(side, None, "asks", in_flight=in_flight, seconds=suite.seconds)
            for name, side in asked.items()
        }
        await suite.compare("in process", f"ask, {in_flight} in flight", rounds, rounds=3)
    rounds = {"asyncio.Queue actor": exchange(floor, None, "tells_to_queue", seconds=suite.seconds)}
    if pykka is not None:
        rounds["pykka"] = exchange(pykka, None, "tells", seconds=suite.seconds)
    rounds["actorloom, mailbox"] = exchange(floor, None, "tells_to_mailbox", seconds=suite.seconds)
    await suite.compare("in process", "tell", rounds, rounds=3)
