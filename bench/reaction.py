"""How fast are stored events reacted to, by an actor without state?"""

from bench.suite import Suite, exchange


async def run(suite: Suite) -> None:
    """`fetch(64)` with an ack each, and ours; every round begins at the first event."""
    url = await suite.server()
    count = 5_000 if suite.quick else 20_000
    publisher = await suite.side("own:publisher", url=url, namespace="own")
    await publisher.call("store", count=count)
    raw = await suite.side("raw:reactor", url=url)
    own = await suite.side("own:reactor", url=url, namespace="own")
    where = {"stream": "own-accounts-events", "subject": "own.accounts.event.>"}
    rounds = {
        "raw nats-py fetch(64)": exchange(raw, None, "consume", count=count, **where),
        "actorloom": exchange(own, None, "consume", count=count),
    }
    await suite.compare("reaction", "stored events", rounds)
