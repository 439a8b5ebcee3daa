"""The version of the installed distribution, as reported in `telemetry.sdk.version` and in instrumentation scopes."""

from importlib.metadata import PackageNotFoundError, version
from typing import Final


def _installed_version() -> str:
    try:
        return version("actorloom")
    except PackageNotFoundError:
        return "unknown"


VERSION: Final = _installed_version()
"""The version of `actorloom`; "unknown" if the package is imported from a source tree that is not installed."""
