"""The environment variables of OpenTelemetry: reading their values, and naming those that have no effect.

An empty variable is one that is not set. A value that cannot be used is ignored with a warning that names the variable.
"""

import logging
import math
from collections.abc import Mapping

logger = logging.getLogger("actorloom.telemetry")

LONGEST = 86_400.0
"""Seconds: a longer time is shortened to this one, which also stands for no limit."""


class Variables:
    """The variables of a process.

    Args:
        env: The names and values.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._named: set[str] = set()
        """Variables that a warning has named."""

    @classmethod
    def of(cls, env: "Mapping[str, str] | Variables") -> "Variables":
        """Return the variables of `env`. Pass the result on, so that a warning is logged once."""
        return env if isinstance(env, Variables) else cls(env)

    def text(self, *names: str) -> tuple[str, str]:
        """Return the value of the first variable that is set, and its name; an empty value with the first name if none is."""
        for name in names:
            if value := self._env.get(name, "").strip():
                return value, name
        return "", names[0]

    def flag(self, name: str) -> bool:
        """Return whether a variable is ``true``."""
        value, _ = self.text(name)
        if value.lower() not in ("", "true", "false"):
            self.warn(name, "%s=%s is neither true nor false, and is ignored", name, value)
        return value.lower() == "true"

    def integer(self, default: int, *names: str, least: int = 1) -> int:
        """Return a number of things, which is not below `least`, from the first of the variables that is set."""
        value, name = self.text(*names)
        try:
            number = int(value) if value else default
        except ValueError:
            number = least - 1
        if number < least:
            self.warn(name, "%s=%s is not an integer of at least %d; using %d", name, value, least, default)
            return default
        return number

    def seconds(self, default: float, *names: str, unit: float = 0.001, shortest: float = 0.0) -> float:
        """Return a time from the first of the variables that is set.

        Args:
            default: The seconds if none is set or its value cannot be used.
            names: The variables.
            unit: Seconds of the unit of the variables.
            shortest: The shortest time in seconds; a shorter one is lengthened.
        """
        value, name = self.text(*names)
        try:
            number = float(value) if value else default / unit
        except ValueError:
            number = -1.0
        if number < 0 or not math.isfinite(number):
            self.warn(name, "%s=%s is not a number of zero or more; using %g", name, value, default / unit)
            return default
        return min(max(number * unit, shortest), LONGEST)

    def limit(self, default: float, *names: str, unit: float = 0.001) -> float:
        """Return a time-out in seconds. Zero means no limit (`LONGEST`), as the specification demands."""
        return self.seconds(default, *names, unit=unit) or LONGEST

    def warn(self, name: str, text: str, *arguments: object) -> None:
        """Log a warning about a variable, unless one was logged before."""
        if name not in self._named:
            self._named.add(name)
            logger.warning(text, *arguments)

    def warn_of_ignored(self) -> None:
        """Log one warning that names the standard variables which are set and have no effect here."""
        ignored = [name for name in IGNORED if self.text(name)[0]]
        for name, without_effect in _IGNORED_VALUES.items():
            value, _ = self.text(name)
            parts = {part.strip().lower() for part in value.split(",")}
            if value and without_effect(parts):
                ignored.append(f"{name}={value}")
        if ignored:
            logger.warning("these settings have no effect in this program: %s", ", ".join(sorted(ignored)))


_IGNORED_VALUES = {
    "OTEL_PROPAGATORS": lambda names: names != {"tracecontext", "baggage"},
    "OTEL_LOGS_EXPORTER": lambda names: names != {"none"},
    "OTEL_METRICS_EXPORTER": lambda names: bool(names - {"otlp", "none"}),
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": lambda names: names != {"cumulative"},
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": lambda names: names != {"explicit_bucket_histogram"},
}
"""Variables of which only some values have an effect, with a test that is true for the other ones."""

IGNORED = (
    "OTEL_ENTITIES", "OTEL_LOG_LEVEL", "OTEL_CONFIG_FILE", "OTEL_EXPERIMENTAL_CONFIG_FILE",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "OTEL_METRICS_EXEMPLAR_FILTER",
    "OTEL_BLRP_SCHEDULE_DELAY", "OTEL_BLRP_EXPORT_TIMEOUT", "OTEL_BLRP_MAX_QUEUE_SIZE", "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
    "OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT",
    "OTEL_EXPORTER_PROMETHEUS_HOST", "OTEL_EXPORTER_PROMETHEUS_PORT",
    "OTEL_EXPORTER_OTLP_INSECURE", "OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_METRICS_INSECURE",
    *(f"OTEL_EXPORTER_OTLP_LOGS_{part}" for part in (
        "ENDPOINT", "HEADERS", "TIMEOUT", "PROTOCOL", "COMPRESSION", "CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY",
        "INSECURE",
    )),
)  # fmt: skip
"""The standard variables that never have an effect: the runtime exports no logs, and uses no gRPC."""
