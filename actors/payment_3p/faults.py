"""Faults of the payment provider, configured by environment variables.

- `ACTORLOOM_PAYMENT_3P_FAIL`: operations that fail, separated by commas. ``process_payment:2`` fails the first two calls,
  ``cancel_payment`` fails every call.
- `ACTORLOOM_PAYMENT_3P_DELAY`: milliseconds to wait before every operation.
"""

import asyncio
from collections.abc import Mapping

from runtime import ConfigurationError, RemoteError

FAIL = "ACTORLOOM_PAYMENT_3P_FAIL"
DELAY = "ACTORLOOM_PAYMENT_3P_DELAY"
OPERATIONS = ("preauth", "check", "process_payment", "cancel_payment", "update_amount")


class ProviderUnavailable(RemoteError):
    """The provider is out of order. Nothing was carried out."""

    code = 500
    executed = False


class Faults:
    """The remaining faults of one running service. Each failed call uses up one."""

    def __init__(self, failures: Mapping[str, float], delay: float) -> None:
        """Create the faults.

        Args:
            failures: The number of calls that fail, by operation.
            delay: Seconds to wait before every operation.
        """
        self._failures = dict(failures)
        self._delay = delay

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> "Faults":
        """Read the faults from environment variables. Raises `ConfigurationError` for an invalid one."""
        failures = dict(_failure(entry) for entry in environ.get(FAIL, "").split(",") if entry.strip())
        return cls(failures, _number(DELAY, environ.get(DELAY) or "0") / 1000)

    async def inject(self, operation: str) -> None:
        """Wait for the configured delay, then raise `ProviderUnavailable` if this call of `operation` should fail."""
        if self._delay:
            await asyncio.sleep(self._delay)
        if self._failures.get(operation, 0) > 0:
            self._failures[operation] -= 1
            raise ProviderUnavailable(f"{operation} is out of order, as configured")


def _failure(entry: str) -> tuple[str, float]:
    operation, _, count = entry.strip().partition(":")
    if operation not in OPERATIONS:
        raise ConfigurationError(f"{FAIL}: unknown operation {operation!r}; known operations: {', '.join(OPERATIONS)}")
    return operation, _number(FAIL, count) if count else float("inf")


def _number(variable: str, text: str) -> int:
    if not text.isdecimal():
        raise ConfigurationError(f"{variable}: expected a whole number, got {text!r}")
    return int(text)
