"""An actor's time in traced queries, function by function, as measured by Python's profiler.

The profiler adds a cost to each call of a Python function, so small functions look larger than they are. C functions count
as part of their caller. The numbers of calls do not depend on the machine.
"""

from bench.suite import Suite

_SMALLEST_SHARE = 0.01
"""Functions below this share of the time are added up in one line."""


async def run(suite: Suite) -> None:
    """Profile an actor that exports the span of every query, with 64 in flight."""
    url = await suite.server()
    task = suite.progress.add_task("profile", total=2)
    actor = await suite.side("actorloom:actor", trace=1.0, url=url, namespace="own", name="pricing")
    caller = await suite.side("actorloom:caller", trace=1.0, url=url, namespace="own")
    await caller.call("quotes", in_flight=64, seconds=suite.seconds)
    suite.progress.advance(task)
    await actor.call("start_profile")
    found = await caller.call("quotes", in_flight=64, seconds=4 * suite.seconds)
    functions = await actor.call("stop_profile")
    suite.progress.advance(task)
    total = sum(seconds for _, _, seconds in functions)
    remaining = 0.0
    for name, calls, seconds in sorted(functions, key=lambda each: -each[2]):
        if seconds < _SMALLEST_SHARE * total:
            remaining += seconds
            continue
        suite.add_figures("profile", "traced query", name, share=100 * seconds / total, calls=calls / found["count"])
    suite.add_figures("profile", "traced query", "all others", share=100 * remaining / total)
