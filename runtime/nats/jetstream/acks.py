"""Publish acknowledgements: the stream's reply to a publish, decoded or raised as an error."""

from collections.abc import Callable

import msgspec

from runtime.errors import PublishError
from runtime.nats.connection import NoResponders, ReplyCallback, Response
from runtime.nats.jetstream.errors import (
    WRONG_SEQUENCE_CODES,
    DuplicateInProcess,
    ErrorCode,
    NoStream,
    NotJetStream,
    OtherDomain,
    WrongSequence,
)
from runtime.nats.jetstream.responses import Ack, ApiErrorBody
from runtime.wire.codec import UNDECODABLE

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
    except UNDECODABLE as error:
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


class AckCallback(ReplyCallback):
    """Calls ``callback(sequence, None)`` with the acknowledgement of a publish, or ``callback(0, error)`` without one.

    The errors are those of `decode_ack` and `no_stream`, and those of a request.
    """

    __slots__ = ("_domain", "_subject")

    def __init__(
        self, callback: Callable[[int, Exception | None], None], subject: str, domain: str | None = None
    ) -> None:
        self._callback = callback
        self._done = False
        self._subject = subject
        self._domain = domain

    def set_result(self, response: Response) -> None:
        """Call the function with the sequence in an acknowledgement."""
        try:
            sequence = decode_ack(response, self._subject, self._domain).sequence
        except (PublishError, OtherDomain) as refusal:
            self.call(0, refusal)
        else:
            self.call(sequence, None)

    def set_exception(self, error: Exception) -> None:
        """Call the function with an error."""
        self.call(0, no_stream(self._subject) if isinstance(error, NoResponders) else error)


def no_stream(subject: str | bytes) -> NoStream:
    """Return the error for a publish to a subject without subscribers."""
    return NoStream(f"no stream takes {_text(subject)}, or JetStream is not enabled: nothing was stored")


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
