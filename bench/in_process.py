"""How fast are tell and ask within one process, beside an `asyncio.Queue` actor and pykka?"""

from bench.suite import Suite


async def run(suite: Suite) -> None:
    """Nothing to measure yet: every call goes through NATS, also to an actor in the same process."""
    suite.skip("in-process tell and ask", "the runtime sends every call through NATS")
