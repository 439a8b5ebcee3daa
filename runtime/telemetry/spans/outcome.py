"""How a span ends: which answers are errors, by the RPC and messaging conventions."""

from opentelemetry.trace import SpanKind
from opentelemetry.trace.span import Span
from opentelemetry.trace.status import StatusCode

from runtime.telemetry import semconv
from runtime.telemetry.spans.lean_span import LeanSpan


def finish(span: Span, code: int | None = None, error: str | None = None, message: str | None = None) -> None:
    """End `span`, with the outcome of what it stands for. `code` is None where all went well.

    `error` names the error's type (`error.type`; the code where it is not given), `message` describes it. A refusal (a
    code below 500) is the caller's fault: it is an error of the CLIENT span, and leaves the SERVER span's status unset.
    """
    if (code is not None or error is not None) and isinstance(span, LeanSpan):
        kind = span.spec.kind
        if code is not None and kind in (SpanKind.SERVER, SpanKind.CLIENT):
            span.set_attribute(semconv.RPC_RESPONSE_STATUS_CODE, str(code))
        span.set_attribute(semconv.ERROR_TYPE, error or str(code))
        if kind is not SpanKind.SERVER or code is None or code >= 500:
            span.set_status(StatusCode.ERROR, message)
    span.end()
