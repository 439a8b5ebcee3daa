"""Runs a program that the kernel ends together with its parent: a script, and the function that makes its command line.

The script replaces itself by the program, so the process id, the open files and the process group stay. A `preexec_fn`
would do the same, but it forks the interpreter, and runs what any library registered for forks.
"""

import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def end_with_parent(command: Sequence[str], number: signal.Signals = signal.SIGTERM) -> list[str]:
    """Return the command line that runs `command` and ends it by a signal when the thread that starts it ends.

    The kernel may send the signal several times: once for each thread of a parent that is killed. Outside Linux it is
    `command` itself, which then outlives a parent that was killed.
    """
    if sys.platform != "linux":
        return list(command)
    # -I and -S: neither the environment nor installed packages change the script, and it starts in half the time.
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(number)), *command]


def _main(parent: int, number: int, command: list[str]) -> None:
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:  # the parent ended before the call
        sys.exit(1)
    # Python ignores two of these, and nohup the third one. A program would inherit that.
    for ignored in {signal.SIGPIPE, signal.SIGXFSZ, number} - {signal.SIGKILL}:
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    _main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
