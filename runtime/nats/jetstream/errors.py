"""JetStream's error codes by name, and the exceptions that carry them.

Code that reacts to an error compares `err_code` with an `ErrorCode`; the texts of the server are for people only.
"""

from enum import IntEnum
from typing import Final

from runtime.errors import ActorError, ConfigurationError, PublishError
from runtime.nats.errors import NoResponders, PermissionDenied
from runtime.nats.jetstream.responses import ApiErrorBody


class ErrorCode(IntEnum):
    """The error codes of nats-server that this package reacts to, under the server's names."""

    CLUSTER_NO_PEERS = 10005
    CLUSTER_NOT_ACTIVE = 10006
    CONSUMER_NOT_FOUND = 10014
    INSUFFICIENT_RESOURCES = 10023
    MESSAGE_NOT_FOUND = 10037
    SEQUENCE_NOT_FOUND = 10043
    MESSAGE_TOO_LARGE = 10054
    """The message is larger than the stream's own limit, ``max_msg_size``."""
    MESSAGE_DELETE_FAILED = 10057
    """A message was not deleted. The server uses this code for an absent message and for failures of the storage."""
    STREAM_NAME_IN_USE = 10058
    STREAM_NOT_FOUND = 10059
    STREAM_REPLICAS_NOT_SUPPORTED = 10074
    WRONG_LAST_MESSAGE_ID = 10070
    WRONG_LAST_SEQUENCE = 10071
    STORE_FAILED = 10077
    CONSUMER_ALREADY_EXISTS = 10148
    DUPLICATE_MESSAGE_CONFLICT = 10158
    """Another message with this id is being replicated."""
    WRONG_LAST_SEQUENCE_CONSTANT = 10164
    """As `WRONG_LAST_SEQUENCE`; sent without the sequence that the server found."""
    SCHEDULE_PATTERN_INVALID = 10189
    SCHEDULE_TIME_ZONE_INVALID = 10223


WRONG_SEQUENCE_CODES: Final = frozenset({ErrorCode.WRONG_LAST_SEQUENCE, ErrorCode.WRONG_LAST_SEQUENCE_CONSTANT})
"""The refusals of an expected sequence."""

STORAGE_CODES: Final = frozenset({ErrorCode.INSUFFICIENT_RESOURCES, ErrorCode.STORE_FAILED})
"""The failures of the storage of a leader. Other replicas may have stored the message."""

INVALID_SCHEDULE_CODES: Final = frozenset({ErrorCode.SCHEDULE_PATTERN_INVALID, ErrorCode.SCHEDULE_TIME_ZONE_INVALID})
"""The refusals of a schedule that no retry can cure."""


_NEED_A_CLUSTER: Final = frozenset({ErrorCode.CLUSTER_NOT_ACTIVE, ErrorCode.STREAM_REPLICAS_NOT_SUPPORTED})
"""The refusals of a single server that is asked for replicas. Their status is that of a failure."""

_FAILURE: Final = 500
"""The first status of failures of the server. Those below are refusals of the request."""


class ApiError(ActorError):
    """JetStream refused a call of its API, or its response was unreadable.

    `code` is like an HTTP status. `err_code` is JetStream's own code (see `ErrorCode`), 0 if the error has none.
    """

    def __init__(self, operation: str, body: ApiErrorBody) -> None:
        super().__init__(f"{operation}: {body.description} ({body.err_code or body.code})")
        self.code = body.code
        self.err_code = body.err_code


class NoStream(PublishError):
    """No stream takes the subject of a publish, or JetStream is not enabled. Nothing was stored."""


class StreamConflict(ConfigurationError):
    """A stream or consumer exists with a field that conflicts with the wanted configuration.

    Fields are only ever widened: an update never discards stored messages and never withdraws a permission that
    somebody else has granted. `field`, `have` and `want` name the conflict.
    """

    def __init__(self, name: str, field: str, have: object, want: object) -> None:
        super().__init__(
            f"{name} has {field} {have!r} but {want!r} is needed; change it by hand, or configure the same"
        )
        self.field = field
        self.have = have
        self.want = want


class OtherDomain(TimeoutError):
    """A stream of another JetStream domain acknowledged a message. Whether our own stored it is unknown."""


class NotJetStream(PublishError):
    """The reply to a publish is not from JetStream. Whether a stream stored the message is unknown."""


class WrongSequence(PublishError):
    """The stream refused the expected sequence: a later message exists on the subject. Nothing was stored.

    `last` is the sequence of that message, None if the server does not send it.
    """

    def __init__(self, message: str, err_code: int, last: int | None) -> None:
        super().__init__(message, err_code)
        self.last = last


class DuplicateInProcess(PublishError):
    """A message with this id is being replicated. Whether that message will be stored is not known yet."""


def is_passing(error: BaseException) -> bool:
    """Return whether an error passes by itself: the server did not answer, or cannot serve the request now.

    A cluster without a leader, with too few nodes for the replicas, or just started answers in this way.
    """
    if isinstance(error, ApiError):
        return error.err_code == ErrorCode.CLUSTER_NO_PEERS or (
            error.code >= _FAILURE and error.err_code not in _NEED_A_CLUSTER
        )
    if isinstance(error, PublishError):
        return not error.err_code and not isinstance(error, PermissionDenied)
    return isinstance(error, (TimeoutError, NoResponders))
