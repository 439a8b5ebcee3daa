"""The same work done by other libraries, each used as its own documentation advises, in an environment of its own.

The environments are created in the user's cache by the first run. A peer that cannot be installed is skipped, with the
reason in the report.
"""

from bench.environments import Environment, ensure_environment
from bench.sides import go, node
from bench.suite import Suite, exchange

_COMMON = (
    "nats-py==2.16.0",
    "msgspec==0.22.0",
    "opentelemetry-sdk>=1.38,<2",
    "opentelemetry-exporter-otlp-proto-http>=1.38,<2",
)
FASTSTREAM = Environment("faststream", ("faststream[nats,otel]>=0.6,<0.8", *_COMMON))
CLIFFRACER = Environment("cliffracer", ("cliffracer>=1.0,<2", "cliffracer-otel>=1.0,<2", *_COMMON), (3, 12))


async def run(suite: Suite) -> None:
    """Compare throughput and CPU time of queries, traced and untraced, with 64 in flight; and of reactions."""
    url = await suite.server()
    sides = {}
    actor = await suite.side("raw:pricing", url=url, subject="raw.quote")
    sides["raw nats-py"] = actor, "raw.quote", None
    actor = await suite.side("raw:micro", url=url)
    sides["nats.micro"] = actor, "micro.quote", None
    for name, share in (("actorloom", None), ("actorloom 100% traced", 1.0)):
        space = f"own{share or 0:g}"
        actor = await suite.side("actorloom:actor", trace=share, url=url, namespace=space, name="pricing")
        sides[name] = actor, f"{space}.pricing.query.get_quote", share
    if (binary := await go.build(suite)) is not None:
        sides["nats.go"] = await go.side(suite, binary, "pricing", url, "go.quote", True), "go.quote", None
    if (program := await node.install(suite)) is not None:
        actor = await suite.peer("nats.js", node.side(suite, program, "pricing", url, "node.quote"))
        if actor is not None:
            sides["nats.js"] = actor, "node.quote", None
    for environment in (FASTSTREAM, CLIFFRACER):
        python = await ensure_environment(suite, environment)
        if python is None:
            continue
        for name, share in ((environment.name, None), (f"{environment.name} 100% traced", 1.0)):
            token = f"{environment.name}{share or 0:g}"
            address = {"subject": token} if environment is FASTSTREAM else {"name": token}
            starting = suite.side(
                f"{environment.name}:pricing",
                trace=share,
                python=str(python),
                url=url,
                traced=share is not None,
                **address,
            )
            actor = await suite.peer(name, starting)
            if actor is not None:
                sides[name] = actor, token if environment is FASTSTREAM else f"{token}.rpc.get_quote", share
    rounds = {}
    for name, (actor, subject, share) in sides.items():
        load = await go.caller(suite, url, subject, share)
        rounds[name] = exchange(
            load, actor, "quotes", spans=share is not None, in_flight=64, seconds=max(0.5, suite.seconds)
        )
    await suite.compare("peers", "64 in flight", rounds)
    await _reactions(suite, url)


async def _reactions(suite: Suite, url: str) -> None:
    python = await ensure_environment(suite, FASTSTREAM)
    if python is None:
        return
    count = 2_000 if suite.quick else 5_000
    publisher = await suite.side("actorloom:publisher", url=url, namespace="own")
    await publisher.call("store", count=count)
    source = {"stream": "own-accounts-events", "subject": "own.accounts.event.>", "count": count}
    own = await suite.side("actorloom:reactor", url=url, namespace="own")
    raw = await suite.side("raw:reactor", url=url)
    peer = await suite.side("faststream:reactor", python=str(python), url=url)
    rounds = {
        "faststream pull": exchange(peer, None, "consume", **source),
        "raw nats-py fetch(64)": exchange(raw, None, "consume", **source),
        "actorloom": exchange(own, None, "consume", count=count),
    }
    await suite.compare("peers", "stored events", rounds, rounds=min(3, suite.rounds))
