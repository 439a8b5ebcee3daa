"""Events matched by 1, 100 and 10,000 rules: the index of the router beside a loop over all patterns. Decoding is included.

Nothing waits here, so rates are those of a second of CPU time. And the time until a rule is in force in another process.
"""

from bench.suite import Suite, exchange

COUNTS = (1, 100, 10_000)
"""Numbers of rules."""
MIXES = ("A", "B")
"""In mix A, ranges, `anything-but` and `exists` are alone in their patterns; in mix B, a value is beside each of them."""

NAIVE, OF_TYPE, INDEXED = "loop over all rules", "loop over the rules of the type", "actorloom index"
"""Names of contenders."""
CONTENDERS = {NAIVE: "naive", OF_TYPE: "of_type", INDEXED: "indexed"}
"""The contenders, with the names that their process gives them."""
IN_FORCE = "rules put one by one"
"""The setting of the times until rules are in force."""
CHANGES = ("compile_us", "add_us", "replace_us", "remove_us")
"""The metrics of the changes of an index, in the order in which they are measured."""


def setting(count: int, mix: str) -> str:
    """Return the name of a setting: "100 rules, mix B"."""
    return f"{count} {'rule' if count == 1 else 'rules'}, mix {mix}"


async def run(suite: Suite) -> None:
    """Compare the contenders, which must find the same rules, and measure the changes of an index."""
    side = await suite.side("rules:matching")
    for mix in MIXES:
        for count in COUNTS:
            figures = await side.call("prepare", count=count, mix=mix, timeout=60)
            suite.add_figures("rules", f"events, {setting(count, mix)}", INDEXED, **figures)
            rounds = {
                name: exchange(side, None, "match", name=method, count=count, mix=mix, seconds=suite.seconds)
                for name, method in CONTENDERS.items()
            }
            await suite.compare("rules", setting(count, mix), rounds)
    for mix in MIXES:
        count = COUNTS[-1]
        side = await suite.side(
            "rules:matching"
        )  # a new process: Python's collector walks over all rules of the one above
        figures = await side.call("changes", count=count, mix=mix, timeout=60)
        suite.add_figures("rules", f"changes, {setting(count, mix)}", INDEXED, **figures)
    url = await suite.server()
    keeper = await suite.side("rules:keeping", url=url)
    await suite.side("rules:routing", url=url)
    figures = await keeper.call("put", count=100 if suite.quick else 1000, timeout=120)
    suite.add_figures("rules", IN_FORCE, INDEXED, **figures)
