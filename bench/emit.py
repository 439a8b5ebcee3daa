"""What does an acknowledged publish cost, 64 in flight?"""

from bench.suite import Suite, exchange


async def run(suite: Suite) -> None:
    """`js.publish` of nats-py, without and with an event's headers, our JetStream floor, and `emit`."""
    url = await suite.server()
    raw = await suite.side("raw:publisher", url=url)
    own = await suite.side("own:publisher", url=url, namespace="own")
    given = {"in_flight": 64, "seconds": suite.seconds}
    rounds = {
        "js.publish": exchange(raw, None, "events", headers=False, **given),
        "js.publish, same headers": exchange(raw, None, "events", headers=True, **given),
        "actorloom publish": exchange(own, None, "bare", **given),
        "actorloom emit": exchange(own, None, "events", **given),
    }
    await suite.compare("emit", "64 in flight", rounds)
