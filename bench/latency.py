"""Latency at fixed request rates, in an open loop: a stall delays every request that is due while it lasts."""

from bench.process import Child
from bench.results import Sample
from bench.sides import go
from bench.suite import Round, Suite, exchange

SHARES = (0.25, 0.5, 0.75, 1.0, 1.25)
"""Request rates, as shares of the raw callback's capacity."""

POINTS = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
"""The percentiles in the report."""


async def run(suite: Suite) -> None:
    """Compare a raw nats-py callback with an actor, under load from nats.go at rates around the callback's capacity."""
    url = await suite.server()
    sides = {"raw nats-py": (await suite.side("raw:pricing", url=url, subject="raw.quote"), "raw.quote", None)}
    for name, share in (("actorloom", None), ("actorloom 100% traced", 1.0)):
        space = f"own{share or 0:g}"
        actor = await suite.side("actorloom:actor", trace=share, url=url, namespace=space, name="pricing")
        sides[name] = actor, f"{space}.pricing.query.get_quote", share
    loads = {
        name: (await go.caller(suite, url, subject, share), actor, share)
        for name, (actor, subject, share) in sides.items()
    }
    raw, _, _ = loads["raw nats-py"]
    found = [await raw.call("quotes", in_flight=64, seconds=suite.seconds) for _ in range(4)]
    capacity = sorted(run["count"] / run["seconds"] for run in found[1:])[1]
    for share in SHARES:
        rate = round(capacity * share, -2)
        rounds = {
            name: _open_round(
                load, actor, traced is not None, rate, max(1.5, suite.seconds) if not suite.quick else 0.5
            )
            for name, (load, actor, traced) in loads.items()
        }
        await suite.compare("latency", f"{share:.0%} of raw", rounds, rounds=3, warm=False)


def _open_round(load: Child, actor: Child, spans: bool, rate: float, seconds: float) -> Round:
    """Return a round at a fixed rate. Its sample leaves out the caller's CPU time, which depends on the rate alone."""
    measure = exchange(load, actor, "open", spans=spans, points=POINTS, rate=rate, seconds=seconds)

    async def run_round() -> Sample:
        sample = await measure()
        return {"asked": rate, **{name: value for name, value in sample.items() if name not in ("caller", "cpu")}}

    return run_round
