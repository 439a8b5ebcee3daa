"""Handler control for tests: run counts that tests read, and gates that keep a handler waiting until the test opens them.

The actors of `counting`, `calling` and `partners` use both. Entries live for the whole session, so a test chooses
names that no other test uses.
"""

import asyncio
from collections import Counter as Tally

RUN_COUNTS: Tally[str] = Tally()
"""Number of runs of a handler, by the handler's action and its message's name: ``RUN_COUNTS["add a"]``.

A message that is answered from its dedup entry does not run its handler and is not counted.
"""

_GATES: dict[str, asyncio.Event] = {}


def gate(name: str) -> asyncio.Event:
    """Return the gate with this name, creating it closed. A handler awaits it; the test opens it with ``set()``."""
    return _GATES.setdefault(name, asyncio.Event())


def forget_gates() -> None:
    """Forget all gates. Tests of other files in the same process use the same names."""
    _GATES.clear()
