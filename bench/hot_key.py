"""How many commands a second does one key take, one after another?"""

from bench.suite import Suite, exchange


async def run(suite: Suite) -> None:
    """A loop of CAS publishes of raw nats-py; the steps of a turn by hand, and ours, with 32 callers and with one.

    With 32 callers the key's own turns still run one after another; with one, each waits for the reply before it.
    """
    url = await suite.server()
    raw = await suite.side("raw:publisher", url=url)
    by_hand = await suite.side("raw:accounts", url=url, subject="raw.deposit")
    tells = await suite.side("raw:caller", url=url, subject="raw.deposit")
    actor = await suite.side("own:actor", url=url, namespace="own", name="accounts")
    caller = await suite.side("own:caller", url=url, namespace="own")
    for setting, in_flight in (("32 callers", 32), ("1 caller", 1)):
        busy = {"in_flight": in_flight, "seconds": suite.seconds, "keys": 1}
        rounds = {
            "raw nats-py CAS publish": exchange(raw, None, "one_key", in_flight=1, seconds=suite.seconds),
            "raw nats-py by hand": exchange(tells, by_hand, "deposits", **busy),
            "actorloom": exchange(caller, actor, "deposits", **busy),
        }
        await suite.compare("hot key", setting, rounds)
