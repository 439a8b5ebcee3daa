"""CPU time per layer in the actor's process: each rung adds one layer, under the same load."""

from bench.sides import go
from bench.suite import Suite, exchange

RUNGS = {"our transport": "transport", "+ codec": "codec", "+ mailbox": "mailbox"}
ACTORS = {
    "+ dispatch (a whole query)": (None, "query.get_quote"),
    "+ turn, nothing to store (a command)": (None, "command.make_quote"),
    "query + trace context, 1% sampled": (0.01, "query.get_quote"),
    "query + spans, 100% exported": (1.0, "query.get_quote"),
}


async def run(suite: Suite) -> None:
    """Compare the rungs from a raw nats-py callback up to a traced query."""
    url = await suite.server()
    sides = {
        "raw nats-py, bytes only": (await suite.side("ladder:raw", url=url, subject="raw.bytes"), "raw.bytes", None)
    }
    sides["raw nats-py with codec"] = await suite.side("raw:pricing", url=url, subject="raw.quote"), "raw.quote", None
    for name, height in RUNGS.items():
        subject = f"rung.{height}"
        sides[name] = await suite.side("ladder:rung", url=url, subject=subject, height=height), subject, None
    for name, (share, operation) in ACTORS.items():
        space = f"own{share or 0:g}".replace(".", "_")
        actor = await suite.side("actorloom:actor", trace=share, url=url, namespace=space, name="pricing")
        sides[name] = actor, f"{space}.pricing.{operation}", share
    rounds = {}
    for name, (actor, subject, share) in sides.items():
        load = await go.caller(suite, url, subject, share)
        rounds[name] = exchange(load, actor, "quotes", spans=share is not None, in_flight=64, seconds=suite.seconds)
    await suite.compare("ladder", "64 in flight", rounds)
