"""Commands per second of a single key, whose turns run one after another."""

from bench.suite import Suite, exchange

TWO = "two round trips"
"""The contender that is two round trips and nothing else: a request to another process, and a publish to the stream."""


async def run(suite: Suite) -> None:
    """Compare a loop of CAS publishes, the steps of a turn written by hand, and an actor, with 32 callers and with one.

    With 32 callers the key's turns still run one after another. With one caller, each command also waits for the reply to
    the one before it: that is compared with the two round trips that it waits for.
    """
    url = await suite.server()
    raw = await suite.side("raw:publisher", url=url)
    by_hand = await suite.side("raw:accounts", url=url, subject="raw.deposit")
    hand_caller = await suite.side("raw:caller", url=url, subject="raw.deposit")
    actor = await suite.side("actorloom:actor", url=url, namespace="own", name="accounts")
    caller = await suite.side("actorloom:caller", url=url, namespace="own")
    echo = await suite.side("actorloom.round_trips:echo", url=url, subject="echo")
    trips = await suite.side("actorloom.round_trips:round_trips", url=url, subject="echo")
    for setting, in_flight in (("32 callers", 32), ("1 caller", 1)):
        load = {"in_flight": in_flight, "seconds": suite.seconds, "keys": 1}
        rounds = {
            "raw nats-py CAS publish": exchange(raw, None, "one_key", in_flight=1, seconds=suite.seconds),
            "raw nats-py by hand": exchange(hand_caller, by_hand, "deposits", **load),
            "actorloom": exchange(caller, actor, "deposits", **load),
        }
        if in_flight == 1:
            rounds[TWO] = exchange(trips, echo, "both", seconds=suite.seconds)
        await suite.compare("hot key", setting, rounds)
