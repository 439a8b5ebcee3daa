"""What a stream answers to a publish: an acknowledgement, or a refusal as an error."""

from typing import Final

import msgspec

from runtime.errors import PublishError
from runtime.nats.connection import Response
from runtime.nats.jetstream.configs import Ack, Fault

_WRONG_SEQUENCE: Final = (10071, 10164)
_IN_PROCESS: Final = 10158

_decoder = msgspec.json.Decoder(Ack)


class WrongSequence(PublishError):
    """Another message was stored on the subject since the sequence that was expected: nothing was stored now.

    `last` is the sequence that the server found, or None where it does not say.
    """

    def __init__(self, message: str, last: int | None) -> None:
        super().__init__(message)
        self.last = last


class InProcess(PublishError):
    """A message with this id is being replicated: whether it will be stored is not known yet."""


def decode_ack(response: Response, subject: str | bytes = "") -> Ack:
    """Return the acknowledgement in the reply to a publish on `subject` (named in errors only).

    Raises `WrongSequence` where an expected sequence was refused, and `PublishError` for any other refusal.
    """
    try:
        ack = _decoder.decode(response.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PublishError(f"{_text(subject)}: the reply is no acknowledgement of JetStream: {error}") from error
    if ack.error is not None:
        raise _refusal(ack.error, _text(subject))
    if not ack.stream:
        raise PublishError(f"{_text(subject)}: the reply is no acknowledgement of JetStream")
    return ack


def no_stream(subject: str | bytes) -> PublishError:
    """Return the error for a publish that nobody answered."""
    return PublishError(f"no stream takes {_text(subject)}, or JetStream is not enabled: nothing was stored")


def _refusal(fault: Fault, subject: str) -> PublishError:
    message = f"{subject} was not stored: {fault.description} ({fault.err_code})"
    if fault.err_code in _WRONG_SEQUENCE:
        last = fault.description.rpartition(": ")[2]
        return WrongSequence(message, int(last) if last.isdigit() else None)
    if fault.err_code == _IN_PROCESS:
        return InProcess(message)
    return PublishError(message)


def _text(subject: str | bytes) -> str:
    return subject if isinstance(subject, str) else subject.decode("utf-8", "replace")
