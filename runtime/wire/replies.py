"""Replies: the bytes of replies and errors, as docs/wire.md defines them.

An error is a JSON body and headers: ``{"error": {"code", "kind", "message", "executed"}}`` with `Nats-Service-Error` and
`Nats-Service-Error-Code`. The text of an unexpected exception stays in the log and in the span of its service; the caller
learns only that the handler failed.
"""

from typing import Any

import msgspec

from runtime.clocks import is_duration
from runtime.errors import (
    CallCycle,
    CodecError,
    HandlerFailed,
    InvalidMessage,
    InvalidValue,
    Overloaded,
    Rejected,
    RemoteError,
    RequestError,
    Retry,
    from_wire,
)
from runtime.faults import error_text
from runtime.wire import header_block
from runtime.wire.codec import JSON, Codec, Format, format_of

_MAX_TEXT = 512
"""Characters of an error's text that a reply holds."""

_CODES = range(400, 600)
"""The codes of errors: those of HTTP."""

_PRINTABLE = bytes(code if 32 <= code < 127 else 32 for code in range(256))
"""A translation table that makes control characters spaces: the text of an error is the value of a header, too."""


class ErrorBody(msgspec.Struct, rename="camel", omit_defaults=True):
    """The error in the body of an error reply."""

    code: int
    kind: str
    message: str
    executed: bool | None
    retry_after: float | None = None


class ErrorReply(msgspec.Struct):
    """The body of an error reply."""

    error: ErrorBody


_ERROR_REPLY = Codec[ErrorReply](ErrorReply)


def error_body(error: BaseException, subject: str) -> ErrorBody:
    """Return the error that the caller receives for an exception of a handler.

    The caller receives a `RequestError` of the handler itself as it is. A failed nested call is a failure of the handler, and
    its text stays in the log; only a `CallCycle` travels on, so that the first caller learns the path of the cycle. Every
    other exception is a `HandlerFailed` without details.
    """
    if isinstance(error, CallCycle) or (isinstance(error, RequestError) and not error.remote):
        own = _own_body(error)
        if own is not None:
            return own
    executed = error.executed if isinstance(error, InvalidValue) else None
    return ErrorBody(500, HandlerFailed.__name__, f"{subject}: the handler failed", executed)


def _own_body(error: RequestError) -> ErrorBody | None:
    """Return the error of a handler as it is; None if an attribute of it has no form on the wire."""
    name = type(error).__name__
    try:
        fields = {
            "code": error.code,
            "kind": getattr(error, "kind", name) if isinstance(error, RemoteError) else name,
            "message": error_text(error)[:_MAX_TEXT],
            "executed": error.executed,
            "retryAfter": error.retry_after
            if isinstance(error, Overloaded | Rejected) and is_duration(error.retry_after)
            else None,
        }
        body = msgspec.convert(fields, ErrorBody)
        body.kind.encode()  # raises for half a character
    except BaseException:  # noqa: BLE001 - a subclass has any attributes, which may be properties that raise
        return None
    return body if body.code in _CODES else None


def error_reply(body: ErrorBody, lines: bytes = b"", format: Format = JSON) -> tuple[bytes, bytes]:
    """Return the header block and the payload of an error reply.

    Args:
        body: The error.
        lines: More header lines, each with its line end.
        format: The format of the payload.
    """
    text = body.message.encode("ascii", "replace").translate(_PRINTABLE)
    block = header_block.join(
        header_block.line(header_block.SERVICE_ERROR, text),
        header_block.line(header_block.SERVICE_ERROR_CODE, b"%d" % body.code),
        format.header_line,
        lines,
    )
    return block, format.encode(_with_null(body))


def _with_null(body: ErrorBody) -> dict[str, Any]:
    error: dict[str, Any] = {"code": body.code, "kind": body.kind, "message": body.message, "executed": body.executed}
    if body.retry_after is not None:
        error["retryAfter"] = body.retry_after
    return {"error": error}


def read_error(block: bytes, payload: bytes) -> RequestError:
    """Return the exception of an error reply.

    The reply of another framework may have headers only. Its outcome is known if its code implies that nothing was executed.
    """
    code = header_block.number(header_block.get(block, header_block.SERVICE_ERROR_CODE)) or 500
    try:
        body = _ERROR_REPLY.decode(payload, format_of(header_block.get(block, header_block.CONTENT_TYPE))).error
    except CodecError:
        text = header_block.get(block, header_block.SERVICE_ERROR) or "the service answered with an error"
        return from_wire(code, "", text, False if code in (400, 403, 404, 409, 413, 429, 503, 508) else None, None)
    return from_wire(code, body.kind, body.message, body.executed, body.retry_after)


def invalid_message(subject: str, text: str) -> InvalidMessage:
    """Return the error of a message that does not match its contract. `text` names the field."""
    return InvalidMessage(f"{subject}: {text}")


def is_internal(error: BaseException) -> bool:
    """Return whether an exception is a fault of the actor, to be logged with its traceback, and was not raised on purpose.

    An error that cannot be sent, such as one with a text as its code, is a fault too.
    """
    if isinstance(error, RequestError):
        return not error.remote and _own_body(error) is None
    return not isinstance(error, Retry)


_TRACE_START = header_block.START + header_block.TRACERESPONSE + b": 00-"
_TRACE_SIZE = len(
    header_block.join(header_block.line(header_block.TRACERESPONSE, b"00-%b-%b-01" % (b"0" * 32, b"0" * 16)))
)


def has_only_trace(block: bytes) -> bool:
    """Return whether a reply has no other header than the `traceresponse` of this package, as every traced reply.

    This takes a third of the instructions of the searches for the names of the other headers.
    """
    return len(block) == _TRACE_SIZE and block.startswith(_TRACE_START) and block.count(b"\n") == 3
