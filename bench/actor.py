"""CPU time of the actor's process per query, under load from a fast client in another language."""

from bench.sides import go
from bench.suite import Suite, exchange

SUBJECT = "pricing.query.get_quote"


async def run(suite: Suite) -> None:
    """Compare a raw nats-py callback with an actor, untraced and traced, with 64 requests of nats.go in flight."""
    url = await suite.server()
    raw = await suite.side("raw:pricing", url=url, subject="raw.quote")
    sides = {"raw nats-py": (raw, await go.caller(suite, url, "raw.quote"), False)}
    for name, share in (("", None), (" 1% sampled", 0.01), (" 100% traced", 1.0)):
        space = f"own{share or 0:g}".replace(".", "_")
        actor = await suite.side("actorloom:actor", trace=share, url=url, namespace=space, name="pricing")
        load = await go.caller(suite, url, f"{space}.{SUBJECT}", share)
        sides[f"actorloom{name}"] = actor, load, share is not None
    rounds = {
        name: exchange(load, actor, "quotes", spans=spans, in_flight=64, seconds=suite.seconds)
        for name, (actor, load, spans) in sides.items()
    }
    await suite.compare("actor", "64 in flight", rounds)
