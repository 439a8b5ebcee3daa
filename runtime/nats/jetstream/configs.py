"""What JetStream's API speaks: the configurations we set, the answers we read, and when one covers the other."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from runtime.errors import ActorError, ConfigurationError

SECOND: Final = 1_000_000_000
"""Durations of JetStream are whole nanoseconds; multiply by this."""

NO_STREAM: Final = 10059
NO_CONSUMER: Final = 10014
"""The `err_code` of an API call that names what is not there."""

# Limits of which more is wider; those of the second set have none where they are zero or less.
_LIMITS: Final = frozenset({"num_replicas", "duplicate_window", "subject_delete_marker_ttl"})
_UNLIMITED: Final = frozenset({"max_age", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size"})
_PERMISSIONS: Final = frozenset({"allow_direct", "allow_msg_ttl", "allow_msg_schedules", "allow_rollup_hdrs"})


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"replicas": "num_replicas"}):
    """A stream as we want it; a field left out is as the server has it. Durations are nanoseconds, sizes bytes."""

    name: str
    subjects: tuple[str, ...]
    retention: Literal["limits", "interest", "workqueue"] = "limits"
    storage: Literal["file", "memory"] = "file"
    replicas: int | UnsetType = UNSET
    max_age: int | UnsetType = UNSET
    max_msgs: int | UnsetType = UNSET
    max_bytes: int | UnsetType = UNSET
    max_msgs_per_subject: int | UnsetType = UNSET
    max_msg_size: int | UnsetType = UNSET
    discard: Literal["old", "new"] | UnsetType = UNSET
    duplicate_window: int | UnsetType = UNSET
    subject_delete_marker_ttl: int | UnsetType = UNSET
    allow_direct: bool | UnsetType = UNSET
    allow_msg_ttl: bool | UnsetType = UNSET
    allow_msg_schedules: bool | UnsetType = UNSET
    allow_rollup_hdrs: bool | UnsetType = UNSET
    deny_delete: bool | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"durable": "durable_name"}):
    """A pull consumer as we want it; a field left out is as the server has it. Durations are nanoseconds."""

    durable: str
    filter_subjects: tuple[str, ...] | UnsetType = UNSET
    deliver_policy: Literal["all", "new", "last_per_subject", "by_start_sequence"] = "all"
    opt_start_seq: int | UnsetType = UNSET
    ack_policy: Literal["explicit", "none"] = "explicit"
    ack_wait: int | UnsetType = UNSET
    max_deliver: int | UnsetType = UNSET
    max_ack_pending: int | UnsetType = UNSET
    inactive_threshold: int | UnsetType = UNSET
    num_replicas: int | UnsetType = UNSET
    mem_storage: bool | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class Fault(msgspec.Struct, frozen=True):
    """The error of an API answer or a publish acknowledgement."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class Answer(msgspec.Struct):
    """What all answers of the API share."""

    error: Fault | None = None


class Ack(Answer, rename={"sequence": "seq"}):
    """The acknowledgement of a stored message; `duplicate` where its id was known and nothing was stored."""

    stream: str = ""
    sequence: int = 0
    duplicate: bool = False


class Stored(msgspec.Struct, frozen=True):
    """A message in a stream. `time` is when it was stored, in Unix seconds."""

    subject: str
    sequence: int
    headers: bytes | None
    payload: bytes
    time: float


class StreamState(msgspec.Struct):
    """What a stream holds."""

    messages: int = 0
    bytes: int = 0
    first_seq: int = 0
    last_seq: int = 0
    num_subjects: int = 0
    subjects: dict[str, int] = {}
    """Messages of each subject, where they were asked for."""


class Peer(msgspec.Struct):
    """Another server's copy of a stream; `active` is in nanoseconds since it was heard of, `lag` in operations."""

    name: str = ""
    current: bool = False
    offline: bool = False
    active: int = 0
    lag: int = 0


class Cluster(msgspec.Struct):
    """Where the copies of a stream are; without a name the server is alone."""

    name: str = ""
    leader: str = ""
    replicas: list[Peer] = []


class StreamInfo(Answer):
    """A stream: the configuration that the server reports, as it reports it, and its state."""

    config: dict[str, Any] = {}
    state: StreamState = msgspec.field(default_factory=StreamState)
    created: str = ""
    """When it was created, RFC 3339: another one of the same name has another time."""
    cluster: Cluster | None = None


class SequencePair(msgspec.Struct):
    """A place in a consumer: its own count of deliveries, and the stream's sequence."""

    consumer_seq: int = 0
    stream_seq: int = 0


class ConsumerInfo(Answer):
    """A consumer: the configuration that the server reports, and how far it is."""

    stream_name: str = ""
    name: str = ""
    config: dict[str, Any] = {}
    delivered: SequencePair = msgspec.field(default_factory=SequencePair)
    ack_floor: SequencePair = msgspec.field(default_factory=SequencePair)
    num_ack_pending: int = 0
    num_redelivered: int = 0
    num_waiting: int = 0
    num_pending: int = 0
    paused: bool = False
    created: str = ""
    """When it was created, RFC 3339."""


class ResetInfo(ConsumerInfo):
    """A consumer that was reset."""

    reset_seq: int = 0
    """The stream's sequence at which it goes on."""


class AccountLimits(msgspec.Struct):
    """What an account may store, in bytes; -1 for no limit of its own."""

    max_memory: int = -1
    max_storage: int = -1
    max_streams: int = -1
    max_consumers: int = -1


class ApiLevel(msgspec.Struct):
    """What JetStream can do: the API level of ADR-44."""

    level: int = 0


class AccountInfo(Answer):
    """An account's use of JetStream, in bytes."""

    storage: int = 0
    reserved_storage: int = 0
    streams: int = 0
    consumers: int = 0
    domain: str = ""
    limits: AccountLimits = msgspec.field(default_factory=AccountLimits)
    api: ApiLevel = msgspec.field(default_factory=ApiLevel)


class ApiError(ActorError):
    """JetStream's API refused a call. `code` is like HTTP's, `err_code` is JetStream's own (0 where it has none)."""

    def __init__(self, what: str, fault: Fault) -> None:
        super().__init__(f"{what}: {fault.description} ({fault.err_code or fault.code})")
        self.code = fault.code
        self.err_code = fault.err_code


class StreamConflict(ConfigurationError):
    """A stream or consumer stands on the server with a field that we need otherwise and will not change.

    `field`, `have` and `want` say which. Only widening changes are made by themselves: nothing stored is given up, and
    nothing that somebody else allowed is taken away.
    """

    def __init__(self, what: str, field: str, have: object, want: object) -> None:
        super().__init__(
            f"{what} has {field} {have!r} but {want!r} is needed; change it by hand, or configure the same"
        )
        self.field = field
        self.have = have
        self.want = want


def ack_fields(reply: bytes) -> list[bytes]:
    """Return the five counts in the reply subject of a delivery: times delivered, stream sequence, consumer sequence,
    time stored (Unix nanoseconds), messages pending after it.

    ``$JS.ACK.<stream>.<consumer>.<the five>``; newer servers put domain and account before the stream. Source: ADR-15.
    """
    tokens = reply.split(b".")
    return tokens[4:9] if len(tokens) < 11 else tokens[6:11]


def widen_stream(want: StreamConfig, have: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `have` changed so that it covers `want`, or None where it does already.

    Raises `StreamConflict` where the change would narrow what stands, or the server cannot make it.
    """
    changes: dict[str, Any] = {}
    for field, value in _fields(want):
        current = have.get(field)
        if field == "metadata":
            value = {**(current or {}), **value}
        if _same(field, value, current):
            continue
        if not _wider(field, value, current):
            raise StreamConflict(f"stream {want.name}", field, current, value)
        changes[field] = value
    return {**have, **changes} if changes else None


def changed_consumer(want: ConsumerConfig, have: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `have` with the fields of `want`, or None where they are the same.

    Raises `StreamConflict` for the two fields that decide where a consumer began and how it acknowledges.
    """
    now = dict(have)
    # The server keeps a single filter under another name.
    single = now.pop("filter_subject", None)
    if single is not None:
        now["filter_subjects"] = [single]
    changes: dict[str, Any] = {}
    for field, value in _fields(want):
        current = now.get(field)
        if field == "metadata":
            value = {**(current or {}), **value}
        if _same(field, value, current):
            continue
        if field in ("deliver_policy", "opt_start_seq", "ack_policy"):
            raise StreamConflict(f"consumer {want.durable}", field, current, value)
        changes[field] = value
    return {**now, **changes} if changes else None


def _fields(config: StreamConfig | ConsumerConfig) -> list[tuple[str, Any]]:
    fields: dict[str, Any] = msgspec.to_builtins(config)
    return list(fields.items())


def _same(field: str, want: Any, have: Any) -> bool:
    if field == "subjects":
        # More of them are a newer version's, which runs beside this one.
        return set(want) <= set(have or ())
    if field == "filter_subjects":
        return set(want) == set(have or ())
    if field in _UNLIMITED:
        return want == have or (want <= 0 and (have or 0) <= 0)
    return want == have or (not want and have is None)


def _wider(field: str, want: Any, have: Any) -> bool:
    if field == "subjects":
        return set(want) > set(have or ())
    if field in _PERMISSIONS:
        return bool(want)
    if field == "discard":
        return want == "new"  # a full stream that refuses what comes gives up nothing that it holds
    if field in _UNLIMITED:
        return want <= 0 or 0 < (have or 0) < want
    return field == "metadata" or (field in _LIMITS and want > (have or 0))
