"""The faults that the provider is told to have, from its configuration.

`ACTORLOOM_PAYMENT_3P_FAIL`: operations, comma-separated, each with how many calls of it fail from the start on
(``process_payment:2``), or without a number for all of them (``cancel_payment``).
`ACTORLOOM_PAYMENT_3P_DELAY`: milliseconds that every operation takes longer.
"""

import asyncio
from collections.abc import Mapping

from runtime import ConfigurationError, RemoteError

FAIL = "ACTORLOOM_PAYMENT_3P_FAIL"
DELAY = "ACTORLOOM_PAYMENT_3P_DELAY"
OPERATIONS = ("preauth", "check", "process_payment", "cancel_payment", "update_amount")


class ProviderUnavailable(RemoteError):
    """The provider is out of order for now: nothing was done."""

    code = 500
    executed = False


class Faults:
    """What is left of the faults; one for the life of the service, counted down by its calls."""

    def __init__(self, failures: Mapping[str, float], delay: float) -> None:
        """`failures`: calls that fail, by operation; `delay` in seconds."""
        self._failures = dict(failures)
        self._delay = delay

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Faults":
        """Read the configuration; `ConfigurationError` where it is wrong."""
        failures = dict(_failure(entry) for entry in environ.get(FAIL, "").split(",") if entry.strip())
        return cls(failures, _number(DELAY, environ.get(DELAY) or "0") / 1000)

    async def befall(self, operation: str) -> None:
        """Take the configured time, then raise `ProviderUnavailable` if this call of `operation` is to fail."""
        if self._delay:
            await asyncio.sleep(self._delay)
        if self._failures.get(operation, 0) > 0:
            self._failures[operation] -= 1
            raise ProviderUnavailable(f"{operation} is out of order, as configured")


def _failure(entry: str) -> tuple[str, float]:
    operation, _, count = entry.strip().partition(":")
    if operation not in OPERATIONS:
        raise ConfigurationError(f"{FAIL}: unknown operation {operation!r}; there are {', '.join(OPERATIONS)}")
    return operation, _number(FAIL, count) if count else float("inf")


def _number(variable: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(f"{variable}: expected a whole number, got {text!r}")
    return int(text)
