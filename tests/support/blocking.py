"""Code of an application that blocks the event loop."""

import hashlib
import time
from collections.abc import Callable


def _sleep() -> None:
    time.sleep(1000)


def _spin() -> None:
    while True:
        pass


def _hash() -> None:
    """Run C code that releases the interpreter lock, and does not look for signals."""
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)


BLOCK: dict[str, Callable[[], None]] = {"sleeps": _sleep, "spins": _spin, "hashes": _hash}
"""By the name of the call that blocks."""
