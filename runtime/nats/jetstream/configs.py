"""Configurations of streams and consumers, and the updates that bring an existing one in line with them."""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from runtime.nats.jetstream.errors import StreamConflict

SECOND: Final = 1_000_000_000
"""One second in nanoseconds, the unit of durations in JetStream's API."""

_LIMITS: Final = frozenset({"num_replicas", "duplicate_window", "subject_delete_marker_ttl"})
"""Limits for which a larger number is wider."""
_UNLIMITED: Final = frozenset({"max_age", "max_msgs", "max_bytes", "max_msgs_per_subject", "max_msg_size"})
"""Limits for which a larger number is wider, and zero or a negative number means no limit."""
_PERMISSIONS: Final = frozenset({"allow_direct", "allow_msg_ttl", "allow_msg_schedules", "allow_rollup_hdrs"})
"""Flags for which true is wider."""
_CREATED: Final = frozenset({"max_consumers", "first_seq"})
"""Stream fields that count at the creation only."""
_START: Final = frozenset({"deliver_policy", "opt_start_seq", "opt_start_time"})
"""Consumer fields that count at the creation only: an existing consumer keeps its start, and the server cannot change it."""
_FIXED: Final = frozenset({"ack_policy"})
"""Consumer fields that the server does not change after the creation, and that must be as wanted."""


class SubjectTransform(msgspec.Struct, frozen=True, rename={"source": "src", "destination": "dest"}):
    """The subject under which the server stores a message that it receives on another one."""

    source: str
    destination: str


class StreamConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"replicas": "num_replicas"}):
    """The wanted configuration of a stream. Durations are nanoseconds, sizes are bytes.

    The server's value applies to a field that is unset.
    """

    name: str
    subjects: tuple[str, ...]
    description: str | UnsetType = UNSET
    """A text for people. An existing stream keeps its own."""
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
    max_consumers: int | UnsetType = UNSET
    """It counts at the creation only."""
    first_seq: int | UnsetType = UNSET
    """The sequence of the first message. It counts at the creation only."""
    subject_transform: SubjectTransform | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


class ConsumerConfig(msgspec.Struct, frozen=True, kw_only=True, rename={"durable": "durable_name"}):
    """The wanted configuration of a pull consumer. Durations are nanoseconds.

    The server's value applies to a field that is unset.
    """

    durable: str
    filter_subjects: tuple[str, ...] | UnsetType = UNSET
    deliver_policy: Literal["all", "new", "last_per_subject", "by_start_sequence", "by_start_time"] = "all"
    opt_start_seq: int | UnsetType = UNSET
    opt_start_time: str | UnsetType = UNSET
    ack_policy: Literal["explicit", "none"] = "explicit"
    ack_wait: int | UnsetType = UNSET
    max_deliver: int | UnsetType = UNSET
    max_ack_pending: int | UnsetType = UNSET
    inactive_threshold: int | UnsetType = UNSET
    num_replicas: int | UnsetType = UNSET
    mem_storage: bool | UnsetType = UNSET
    metadata: dict[str, str] | UnsetType = UNSET


def kv_config(bucket: str, description: str, replicas: int) -> StreamConfig:
    """Return the stream of a KV bucket: it keeps the newest value of each key, with a TTL per value."""
    return StreamConfig(
        name=f"KV_{bucket}",
        subjects=(f"$KV.{bucket}.>",),
        description=description,
        replicas=replicas,
        max_msgs_per_subject=1,
        discard="new",
        allow_msg_ttl=True,
        allow_direct=True,
        allow_rollup_hdrs=True,
        deny_delete=True,
    )


def widen_stream(want: StreamConfig, have: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `have` widened so that it covers `want`, or None if it covers `want` already.

    Raises:
        StreamConflict: The change would narrow the existing stream, or the server cannot make it.
    """
    changes: dict[str, Any] = {}
    for field, value in _fields(want):
        current = have.get(field)
        if field == "description" or field in _CREATED:
            continue
        if field == "metadata":
            value = {**(current or {}), **value}
        if _covers(field, value, current):
            continue
        if not _is_wider(field, value, current):
            raise StreamConflict(f"stream {want.name}", field, current, value)
        changes[field] = value
    return {**have, **changes} if changes else None


def update_consumer(want: ConsumerConfig, have: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `have` with the fields of `want`, or None if they are equal already. The start of `have` stays as it is.

    Raises:
        StreamConflict: The two differ in the kind of acknowledgement, which the server cannot change.
    """
    now = dict(have)
    # The server reports a single filter in a field of its own.
    single = now.pop("filter_subject", None)
    if single is not None:
        now["filter_subjects"] = [single]
    changes: dict[str, Any] = {}
    for field, value in _fields(want):
        current = now.get(field)
        if field == "metadata":
            value = {**(current or {}), **value}
        if field in _START or _covers(field, value, current):
            continue
        if field in _FIXED:
            raise StreamConflict(f"consumer {want.durable}", field, current, value)
        changes[field] = value
    return {**now, **changes} if changes else None


def _fields(config: StreamConfig | ConsumerConfig) -> list[tuple[str, Any]]:
    fields: dict[str, Any] = msgspec.to_builtins(config)
    return list(fields.items())


def _covers(field: str, want: Any, have: Any) -> bool:
    """Return whether the value `have` of `field` needs no change."""
    if field == "subjects":
        # Further subjects belong to a newer version of the service that runs at the same time.
        return set(want) <= set(have or ())
    if field == "filter_subjects":
        return set(want) == set(have or ())
    if field in _UNLIMITED:
        return want == have or (want <= 0 and (have or 0) <= 0)
    return want == have or (not want and have is None)


def _is_wider(field: str, want: Any, have: Any) -> bool:
    """Return whether a change of `field` from `have` to `want` loses nothing that the stream holds or allows."""
    if field == "subjects":
        return set(want) > set(have or ())
    if field in _PERMISSIONS:
        return bool(want)
    if field == "discard":
        return want == "new"  # A full stream that refuses new messages keeps all that it holds.
    if field in _UNLIMITED:
        return want <= 0 or 0 < (have or 0) < want
    return field == "metadata" or (field in _LIMITS and want > (have or 0))
