"""Rate at which an actor without state handles stored events."""

from bench.suite import Suite, exchange


async def run(suite: Suite) -> None:
    """Compare `fetch(64)` with one ack per event and an actor. Every round begins at the first event."""
    url = await suite.server()
    count = 5_000 if suite.quick else 20_000
    publisher = await suite.side("actorloom:publisher", url=url, namespace="own")
    await publisher.call("store", count=count)
    raw = await suite.side("raw:reactor", url=url)
    own = await suite.side("actorloom:reactor", url=url, namespace="own")
    source = {"stream": "own-accounts-events", "subject": "own.accounts.event.>"}
    rounds = {
        "raw nats-py fetch(64)": exchange(raw, None, "consume", count=count, **source),
        "actorloom": exchange(own, None, "consume", count=count),
    }
    await suite.compare("reaction", "stored events", rounds)
