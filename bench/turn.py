"""Cost of a durable turn: a command that changes the state of its key and emits one event."""

from bench.suite import Suite, exchange

SETTINGS = {"1 key": 1, "32 keys": 32, "256 keys": 256}


async def run(suite: Suite) -> None:
    """Compare the same steps by hand with raw nats-py and an actor. Every request in flight has its own key.

    The CPU of nats-server is measured too: if all processes together use all cores, a ratio of rates is one of CPU.
    """
    url = await suite.server()
    by_hand = await suite.side("raw:accounts", url=url, subject="raw.deposit")
    hand_caller = await suite.side("raw:caller", url=url, subject="raw.deposit")
    sides = {"raw nats-py by hand": (hand_caller, by_hand, False)}
    for name, share in (("", None), (" 100% traced", 1.0)):
        space = f"own{share or 0:g}"
        actor = await suite.side("actorloom:actor", trace=share, url=url, namespace=space, name="accounts")
        caller = await suite.side("actorloom:caller", trace=share, url=url, namespace=space)
        sides[f"actorloom{name}"] = caller, actor, share is not None
    for setting, keys in SETTINGS.items():
        rounds = {
            name: exchange(
                caller,
                actor,
                "deposits",
                spans=spans,
                server=suite.server_pid,
                in_flight=keys,
                seconds=suite.seconds,
                keys=keys,
            )
            for name, (caller, actor, spans) in sides.items()
        }
        await suite.compare("turn", setting, rounds)
