"""Cost of an acknowledged publish, with 64 in flight."""

from bench.suite import Suite, exchange


async def run(suite: Suite) -> None:
    """Compare `js.publish` of nats-py, with and without an event's headers, with our JetStream client and `emit`."""
    url = await suite.server()
    raw = await suite.side("raw:publisher", url=url)
    own = await suite.side("actorloom:publisher", url=url, namespace="own")
    load = {"in_flight": 64, "seconds": suite.seconds, "server": suite.server_pid}
    rounds = {
        "js.publish": exchange(raw, None, "events", headers=False, **load),
        "js.publish, same headers": exchange(raw, None, "events", headers=True, **load),
        "actorloom publish": exchange(own, None, "bare", **load),
        "actorloom emit": exchange(own, None, "events", **load),
    }
    await suite.compare("emit", "64 in flight", rounds)
