"""Publish acknowledgements: the stream's reply to a publish, decoded or raised as an error."""

import msgspec

from runtime.errors import PublishError
from runtime.nats.connection import Response
from runtime.nats.jetstream.errors import (
    WRONG_SEQUENCE_CODES,
    DuplicateInProcess,
    ErrorCode,
    NotJetStream,
    OtherDomain,
    WrongSequence,
)
from runtime.nats.jetstream.responses import Ack, ApiErrorBody

_decoder = msgspec.json.Decoder(Ack)


def decode_ack(response: Response, subject: str | bytes = "", domain: str | None = None) -> Ack:
    """Decode the reply to a publish.

    Args:
        response: The reply.
        subject: The subject of the message; used in error texts only.
        domain: The JetStream domain of the stream; None accepts any.

    Raises:
        OtherDomain: The acknowledgement is from another domain.
        WrongSequence: The stream refused the expected sequence.
        DuplicateInProcess: A message with the same id is being replicated.
        NotJetStream: The reply is not from JetStream.
        PublishError: The stream refused the message for another reason.
    """
    try:
        ack = _decoder.decode(response.payload)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJetStream(f"{_text(subject)}: the reply is not a JetStream acknowledgement: {error}") from error
    if ack.error is not None:
        raise _refusal(ack.error, _text(subject))
    if not ack.stream:
        raise NotJetStream(f"{_text(subject)}: the reply is not a JetStream acknowledgement")
    if ack.domain != domain and domain is not None:
        raise OtherDomain(
            f"{_text(subject)} was acknowledged by JetStream domain {ack.domain!r}, and not by {domain!r}: see "
            "`actorloom doctor`"
        )
    return ack


def no_stream(subject: str | bytes) -> PublishError:
    """Return the error for a publish to a subject without subscribers."""
    return PublishError(f"no stream takes {_text(subject)}, or JetStream is not enabled: nothing was stored")


def _refusal(body: ApiErrorBody, subject: str) -> PublishError:
    message = f"{subject} was not stored: {body.description} ({body.err_code})"
    if body.err_code in WRONG_SEQUENCE_CODES:
        return WrongSequence(message, body.err_code, _last_sequence(body.description))
    if body.err_code == ErrorCode.DUPLICATE_MESSAGE_CONFLICT:
        return DuplicateInProcess(message, body.err_code)
    return PublishError(message, body.err_code)


def _last_sequence(description: str) -> int | None:
    """Return the sequence that the server found. ``wrong last sequence: 5``: it is sent in the description only."""
    last = description.rpartition(": ")[2]
    return int(last) if last.isdigit() else None


def _text(subject: str | bytes) -> str:
    return subject if isinstance(subject, str) else subject.decode("utf-8", "replace")
