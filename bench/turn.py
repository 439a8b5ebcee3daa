"""What does a durable turn cost: a command that changes its key's state and emits one event?"""

from bench.suite import Suite, exchange

SETTINGS = {"1 key": 1, "32 keys": 32, "256 keys": 256}


async def run(suite: Suite) -> None:
    """Raw nats-py doing the same steps by hand, and ours, each in flight on a key of its own."""
    url = await suite.server()
    by_hand = await suite.side("raw:accounts", url=url, subject="raw.deposit")
    tells = await suite.side("raw:caller", url=url, subject="raw.deposit")
    sides = {"raw nats-py by hand": (tells, by_hand, False)}
    for name, share in (("", None), (" 100% traced", 1.0)):
        space = f"own{share or 0:g}"
        actor = await suite.side("own:actor", trace=share, url=url, namespace=space, name="accounts")
        caller = await suite.side("own:caller", trace=share, url=url, namespace=space)
        sides[f"actorloom{name}"] = caller, actor, share is not None
    for setting, keys in SETTINGS.items():
        rounds = {
            name: exchange(caller, actor, "deposits", spans=spans, in_flight=keys, seconds=suite.seconds, keys=keys)
            for name, (caller, actor, spans) in sides.items()
        }
        await suite.compare("turn", setting, rounds)
