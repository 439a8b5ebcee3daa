"""The command line again, in a child process: for `run --reload` and `run --workers`."""

import sys
from collections.abc import Sequence


def again(*more: str, without: Sequence[str] = ()) -> list[str]:
    """Return the command line that runs this one again.

    Args:
        more: Further options of the command `run`.
        without: Flags that are left out.
    """
    arguments = [argument for argument in sys.argv[1:] if argument not in without]
    place = arguments.index("run") + 1
    # -P: a runtime.py of the working directory does not replace this library.
    return [sys.executable, "-P", "-m", "runtime", *arguments[:place], *more, *arguments[place:]]
