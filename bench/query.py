"""Throughput, latency and CPU time of a query with both ends in Python, at 1, 32 and 256 in flight."""

from bench.sides import go, node
from bench.suite import Round, Suite, exchange, has_uvloop

IN_FLIGHT = (1, 32, 256)
SHARES = (("", None), (" 1% sampled", 0.01), (" 100% traced", 1.0))


async def run(suite: Suite) -> None:
    """Compare raw nats-py, Actorloom (untraced, 1% and 100% traced; asyncio and uvloop), nats.go and nats.js."""
    url = await suite.server()
    loops = [("", False), (" uvloop", True)]
    if not has_uvloop():
        suite.skip("query uvloop", "uvloop is not installed")
        loops.pop()
    pairs: dict[str, tuple] = {}
    for suffix, uvloop in loops:
        subject = f"raw{uvloop}.quote"
        actor = await suite.side("raw:pricing", url=url, subject=subject, uvloop=uvloop)
        pairs["raw nats-py" + suffix] = (
            await suite.side("raw:caller", url=url, subject=subject, uvloop=uvloop),
            actor,
            False,
        )
        for name, share in SHARES[:: 2 if uvloop else 1]:
            space = f"own{uvloop}{share or 0:g}".replace(".", "_")
            actor = await suite.side(
                "actorloom:actor", trace=share, url=url, namespace=space, name="pricing", uvloop=uvloop
            )
            caller = await suite.side("actorloom:caller", trace=share, url=url, namespace=space, uvloop=uvloop)
            pairs[f"actorloom{name}{suffix}"] = caller, actor, share is not None
    if (binary := await go.build(suite)) is not None:
        for name, decodes in (("nats.go", True), ("nats.go, bytes only", False)):
            subject = f"go{decodes}.quote"
            actor = await go.side(suite, binary, "pricing", url, subject, decodes)
            pairs[name] = await go.side(suite, binary, "caller", url, subject, decodes), actor, False
    if (program := await node.install(suite)) is not None:
        actor = await suite.peer("nats.js", node.side(suite, program, "pricing", url, "node.quote"))
        caller = await suite.peer("nats.js", node.side(suite, program, "caller", url, "node.quote"))
        if actor is not None and caller is not None:
            pairs["nats.js"] = caller, actor, False
    for in_flight in IN_FLIGHT:
        rounds: dict[str, Round] = {
            name: exchange(caller, actor, "quotes", spans=spans, in_flight=in_flight, seconds=suite.seconds)
            for name, (caller, actor, spans) in pairs.items()
        }
        await suite.compare("query", f"{in_flight} in flight", rounds)
