"""The end of a span, with the status and attributes that the RPC and messaging conventions ask for."""

from opentelemetry.trace import SpanKind
from opentelemetry.trace.span import Span
from opentelemetry.trace.status import StatusCode

from runtime.telemetry import semconv
from runtime.telemetry.spans.lean_span import LeanSpan


def finish(span: Span, code: int | None = None, error: str | None = None, message: str | None = None) -> None:
    """End a span with the outcome of its operation.

    A code below 500 is a refusal, which the caller is responsible for: it sets the status of a CLIENT span to ERROR,
    and leaves that of a SERVER span unset.

    Args:
        span: The span, recorded or not.
        code: The code of the error reply; None if the operation succeeded or its error has no code.
        error: The class of the error. It is the `error.type` if the error has no code.
        message: The description of the error.
    """
    if (code is not None or error is not None) and isinstance(span, LeanSpan):
        kind = span.spec.kind
        if code is not None and kind in (SpanKind.SERVER, SpanKind.CLIENT):
            span.set_attribute(semconv.RPC_RESPONSE_STATUS_CODE, str(code))
        span.set_attribute(semconv.ERROR_TYPE, str(error) if code is None else str(code))
        if code is not None and error is not None:
            span.set_attribute(semconv.ERROR_KIND, error)
        if kind is not SpanKind.SERVER or code is None or code >= 500:
            span.set_status(StatusCode.ERROR, message)
    span.end()
