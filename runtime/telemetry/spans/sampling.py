"""Whether a span is recorded: the standard samplers as three answers that are ready before the first span.

`OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`; any SDK sampler object works too, and is asked per span.
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
_RATIO_BITS = (1 << 64) - 1


class SamplingDecision(IntEnum):
    """The answer for one situation: carry on what came, refuse, record, or decide for each span."""

    PROPAGATE = 0
    DROP = 1
    RECORD = 2
    PER_SPAN = 3


class Sampler(Protocol):
    """What is asked of a sampler: the SDK's `Sampler`, without importing the SDK."""

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
        """A `SamplingResult`: `.decision.is_sampled()`, `.attributes`, `.trace_state`."""


class Sampling:
    """The answers for a root span, and for a span whose parent was sampled or not.

    `bound` serves a ratio (an id below it is recorded), `sampler` everything else that has to be asked.
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
        self.bound = round(ratio * (_RATIO_BITS + 1))
        self.sampler = sampler

    @classmethod
    def nothing(cls) -> "Sampling":
        """Nobody wants spans: the context that comes is carried on."""
        return cls(SamplingDecision.PROPAGATE, SamplingDecision.PROPAGATE, SamplingDecision.PROPAGATE)

    @classmethod
    def of(cls, sampler: Sampler) -> "Sampling":
        """Ask this sampler for each span."""
        return cls(SamplingDecision.PER_SPAN, SamplingDecision.PER_SPAN, SamplingDecision.PER_SPAN, sampler=sampler)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Sampling":
        """The sampler of `OTEL_TRACES_SAMPLER`; an unknown name is looked up among the SDK's sampler entry points."""
        name = env.get("OTEL_TRACES_SAMPLER", "").strip().lower() or "parentbased_always_on"
        argument = env.get("OTEL_TRACES_SAMPLER_ARG", "")
        ratio = _ratio(argument) if name.endswith("traceidratio") else 1.0
        match name:
            case "always_on":
                return cls(SamplingDecision.RECORD, SamplingDecision.RECORD, SamplingDecision.RECORD)
            case "always_off":
                return cls(SamplingDecision.DROP, SamplingDecision.DROP, SamplingDecision.DROP)
            case "traceidratio":
                return cls(SamplingDecision.PER_SPAN, SamplingDecision.PER_SPAN, SamplingDecision.PER_SPAN, ratio=ratio)
            case "parentbased_always_on":
                return cls(SamplingDecision.RECORD, SamplingDecision.RECORD, SamplingDecision.DROP)
            case "parentbased_always_off":
                return cls(SamplingDecision.DROP, SamplingDecision.RECORD, SamplingDecision.DROP)
            case "parentbased_traceidratio":
                return cls(SamplingDecision.PER_SPAN, SamplingDecision.RECORD, SamplingDecision.DROP, ratio=ratio)
            case _:
                for entry in entry_points(group="opentelemetry_traces_sampler", name=name):
                    return cls.of(entry.load()(argument))
                logger.warning("OTEL_TRACES_SAMPLER=%s is not known: parentbased_always_on is used", name)
                return cls(SamplingDecision.RECORD, SamplingDecision.RECORD, SamplingDecision.DROP)

    def below(self, trace: bytes) -> bool:
        """True where the ratio takes this trace (hex id): the same answer in every service."""
        return int(trace[16:], 16) < self.bound


def _ratio(text: str) -> float:
    try:
        ratio = float(text) if text else 1.0
    except ValueError:
        ratio = -1.0
    if 0.0 <= ratio <= 1.0:
        return ratio
    logger.warning("OTEL_TRACES_SAMPLER_ARG=%s is not a ratio between 0 and 1: 1 is used", text)
    return 1.0
