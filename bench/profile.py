"""Where does an actor's time go in a traced query? A table of its functions, by Python's own profiler.

The profiler makes each call of a Python function dearer, so small functions look larger than they are; what a function calls
in C is in its own time. How often each is called does not depend on the machine.
"""

from bench.suite import Suite

_LEAST = 0.01
"""The smallest share of the time that has a line of its own."""


async def run(suite: Suite) -> None:
    """Profile an actor that exports the span of every query, 64 in flight."""
    url = await suite.server()
    task = suite.progress.add_task("profile", total=2)
    actor = await suite.side("own:actor", trace=1.0, url=url, namespace="own", name="pricing")
    caller = await suite.side("own:caller", trace=1.0, url=url, namespace="own")
    await caller.call("quotes", in_flight=64, seconds=suite.seconds)
    suite.progress.advance(task)
    await actor.call("profile_from_here")
    found = await caller.call("quotes", in_flight=64, seconds=4 * suite.seconds)
    functions = await actor.call("profiled")
    suite.progress.advance(task)
    whole = sum(seconds for _, _, seconds in functions)
    rest = 0.0
    for name, calls, seconds in sorted(functions, key=lambda each: -each[2]):
        if seconds < _LEAST * whole:
            rest += seconds
            continue
        suite.note("profile", "traced query", name, share=100 * seconds / whole, calls=calls / found["count"])
    suite.note("profile", "traced query", "all others", share=100 * rest / whole)
