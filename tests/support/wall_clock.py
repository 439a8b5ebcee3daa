"""Run a module on a machine with a wrong clock: ``python -m tests.support.wall_clock SECONDS MODULE ARGUMENTS``.

The wall clock of the process is ahead by that many seconds. Other clocks are right, as on such a machine.
"""

import runpy
import sys
import time


def shift(seconds: float) -> None:
    """Set the wall clock. Call it before the runtime is imported, since its modules keep references to these functions."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + int(seconds * 1e9)


if __name__ == "__main__":
    skew, module, *arguments = sys.argv[1:]
    shift(float(skew))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
