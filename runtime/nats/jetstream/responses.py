"""The structs of JetStream's responses: acknowledgements, streams, consumers, account, stored messages."""

from datetime import datetime
from typing import Any

import msgspec


class ApiErrorBody(msgspec.Struct, frozen=True):
    """The error in an API response or a publish acknowledgement.

    `code` is like an HTTP status, `err_code` is JetStream's own (see `ErrorCode`).
    """

    code: int = 0
    err_code: int = 0
    description: str = ""


class ApiResponse(msgspec.Struct):
    """The field that all responses of the API share."""

    error: ApiErrorBody | None = None


class Ack(ApiResponse, rename={"sequence": "seq"}):
    """The acknowledgement of a published message."""

    stream: str = ""
    sequence: int = 0
    """The sequence of the stored message, in the stream."""
    duplicate: bool = False
    """True if a message with the same id was stored before; `sequence` is then the sequence of that message."""
    domain: str = ""
    """The JetStream domain of the stream; empty if the server has none."""


class StoredMessage(msgspec.Struct, frozen=True):
    """A message in a stream."""

    subject: str
    sequence: int
    headers: bytes | None
    payload: bytes
    time: float
    """The time at which the server stored the message, in Unix seconds."""


class StreamState(msgspec.Struct):
    """The size and the extent of a stream."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    """The sequence of the oldest message; in an empty stream, the one after `last_seq`."""
    last_seq: int = 0
    subjects: dict[str, int] = {}
    """The number of messages on each subject; empty unless the caller asked for subjects."""


class Peer(msgspec.Struct):
    """A replica of a stream on another server."""

    name: str = ""
    current: bool = False
    offline: bool = False
    active: int = 0
    """Nanoseconds since the leader last heard from this replica."""
    lag: int = 0
    """Operations by which this replica is behind the leader."""


class Cluster(msgspec.Struct):
    """The servers that hold a stream; `name` is empty on a server without a cluster."""

    name: str = ""
    leader: str = ""
    replicas: list[Peer] = []


class StreamInfo(ApiResponse):
    """A stream: its configuration as the server reports it, and its state."""

    config: dict[str, Any] = {}
    state: StreamState = msgspec.field(default_factory=StreamState)
    created: str = ""
    """The time of creation (RFC 3339). A stream that was deleted and created again has another time."""
    cluster: Cluster | None = None
    total: int = 0
    """The number of subjects that match, if the caller asked for subjects. The response may have only a part of them."""


class SequencePair(msgspec.Struct):
    """A position of a consumer: its own count of deliveries, and the sequence in the stream."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(ApiResponse):
    """A consumer: its configuration as the server reports it, and its position in the stream."""

    stream_name: str = ""
    name: str = ""
    config: dict[str, Any] = {}
    delivered: SequencePair = msgspec.field(default_factory=SequencePair)
    ack_floor: SequencePair = msgspec.field(default_factory=SequencePair)
    num_ack_pending: int = 0
    num_pending: int = 0
    num_waiting: int = 0
    """The number of open pull requests."""
    paused: bool = False
    created: str = ""
    """The time of creation (RFC 3339)."""


class ResetInfo(ConsumerInfo):
    """A consumer after a reset."""

    reset_seq: int = 0
    """The stream sequence of the next delivery."""


class AccountLimits(msgspec.Struct):
    """The limits of an account."""

    max_storage: int = -1
    """Bytes in files; -1 if the account has no limit of its own."""


class AccountInfo(ApiResponse):
    """The use that an account makes of JetStream."""

    storage: int = 0
    """Bytes in files."""
    limits: AccountLimits = msgspec.field(default_factory=AccountLimits)


class RawMessage(msgspec.Struct):
    """A stored message in the encoding of the API: header block and payload in base64."""

    subject: str
    seq: int
    time: datetime
    hdrs: bytes | None = None
    data: bytes = b""


class MessageResponse(ApiResponse):
    """The response of ``STREAM.MSG.GET``."""

    message: RawMessage | None = None


class SuccessResponse(ApiResponse):
    """The response of a call that deletes or purges."""

    success: bool = False


class StreamNames(ApiResponse):
    """One page of ``STREAM.NAMES``."""

    total: int = 0
    streams: list[str] | None = None


class ConsumerList(ApiResponse):
    """One page of ``CONSUMER.LIST``."""

    total: int = 0
    consumers: list[ConsumerInfo] | None = None
