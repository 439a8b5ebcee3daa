"""Sampling: the standard OpenTelemetry samplers, as decisions that are made before the first span.

The standard samplers look at the parent only: at whether there is one, and whether it was sampled. There are three such
situations, and the decision in each of them is known when the process starts. So starting a span reads an attribute
and calls no sampler. Only the ratio of new traces and the samplers of the SDK's interface are asked for each span.

The settings are `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`.
"""

import logging
from collections.abc import Mapping, Sequence
from enum import IntEnum
from importlib.metadata import entry_points
from typing import Any, Protocol

from opentelemetry.context.context import Context
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

logger = logging.getLogger("actorloom.telemetry")
_HALF_IDS = 1 << 64
"""The number of values of half a trace id. The lower half is compared with the ratio, as in the SDK."""


class SamplingDecision(IntEnum):
    """The decision for a span in one situation."""

    PROPAGATE = 0
    """Record nothing and pass on the context that arrived; the process exports no spans."""
    DROP = 1
    """Do not record the span, and mark its trace as not sampled."""
    RECORD = 2
    PER_SPAN = 3
    """Decide for each span, by the ratio or by asking the sampler."""


class Sampler(Protocol):
    """The method of the SDK's `Sampler` that the runtime calls. The protocol avoids an import of the SDK."""

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> Any:
        """Return a `SamplingResult`: `.decision.is_sampled()`, `.attributes`, `.trace_state`."""


class Sampling:
    """The decisions for root spans, for spans under a sampled parent, and for spans under an unsampled one.

    Args:
        root: The decision for spans without a parent.
        sampled: The decision for spans whose parent was sampled.
        unsampled: The decision for spans whose parent was not sampled.
        ratio: The share of traces that PER_SPAN records, from 0 to 1, if there is no sampler.
        sampler: The sampler that PER_SPAN asks.
    """

    __slots__ = ("bound", "root", "sampled", "sampler", "unsampled")

    def __init__(
        self,
        root: SamplingDecision,
        sampled: SamplingDecision,
        unsampled: SamplingDecision,
        *,
        ratio: float = 1.0,
        sampler: Sampler | None = None,
    ) -> None:
        self.root = root
        self.sampled = sampled
        self.unsampled = unsampled
        self.bound = round(ratio * _HALF_IDS)
        """Traces are recorded if the lower half of their id is below this number."""
        self.sampler = sampler

    @classmethod
    def disabled(cls) -> "Sampling":
        """Return the decisions of a process that exports no spans."""
        return cls(SamplingDecision.PROPAGATE, SamplingDecision.PROPAGATE, SamplingDecision.PROPAGATE)

    @classmethod
    def by(cls, sampler: Sampler) -> "Sampling":
        """Return decisions that ask a sampler for each span."""
        return cls(SamplingDecision.PER_SPAN, SamplingDecision.PER_SPAN, SamplingDecision.PER_SPAN, sampler=sampler)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Sampling":
        """Return the decisions of `OTEL_TRACES_SAMPLER`, by default those of `parentbased_always_on`.

        A name that is not one of the standard ones is looked up among the entry points of SDK samplers. If it is not
        found, a warning is logged and the default applies.
        """
        name = env.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        argument = env.get("OTEL_TRACES_SAMPLER_ARG", "")
        ratio = _ratio(argument) if name.endswith("traceidratio") else 1.0
        drop, record, per_span = SamplingDecision.DROP, SamplingDecision.RECORD, SamplingDecision.PER_SPAN
        match name:
            case "always_on":
                return cls(record, record, record)
            case "always_off":
                return cls(drop, drop, drop)
            case "traceidratio":
                return cls(per_span, per_span, per_span, ratio=ratio)
            case "parentbased_always_on":
                return cls(record, record, drop)
            case "parentbased_always_off":
                return cls(drop, record, drop)
            case "parentbased_traceidratio":
                return cls(per_span, record, drop, ratio=ratio)
            case _:
                for entry in entry_points(group="opentelemetry_traces_sampler", name=name):
                    return cls.by(entry.load()(argument))
                logger.warning("unknown sampler OTEL_TRACES_SAMPLER=%s; using parentbased_always_on", name)
                return cls(record, record, drop)

    def in_ratio(self, trace: bytes) -> bool:
        """Return whether the ratio includes a trace (hex id). Every service with the same ratio decides the same."""
        return int(trace[16:], 16) < self.bound


def _ratio(text: str) -> float:
    try:
        ratio = float(text) if text else 1.0
    except ValueError:
        ratio = -1.0
    if 0.0 <= ratio <= 1.0:
        return ratio
    logger.warning("OTEL_TRACES_SAMPLER_ARG=%s is not a number from 0 to 1; using 1", text)
    return 1.0
