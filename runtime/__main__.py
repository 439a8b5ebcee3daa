"""The start of the command line: ``actorloom``, and ``python -m runtime``."""

import os
import signal
from types import FrameType


def _interrupted(signum: int, frame: FrameType | None) -> None:
    os._exit(130)


def main() -> None:
    """Run the command line and exit with its code. Ctrl-C while it is imported ends the process at once and in silence."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupted)
    from runtime import cli

    cli.main()


if __name__ == "__main__":
    main()
