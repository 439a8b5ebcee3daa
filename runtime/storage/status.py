"""The status of the processes of an actor: what does not work, for `actorloom doctor`.

A process that cannot receive requests cannot be asked. So it writes what is wrong beside its lease, under
``<actor>.status.<process>`` in the bucket of leases, without waiting for a confirmation. A process without a problem has
no entry. An entry is repeated as long as there is a problem, and expires soon after the process has ended.
"""

import re
from typing import Final

import msgspec

from runtime.nats.jetstream.client import JetStream
from runtime.wire import header_block
from runtime.wire.subjects import Names

REPEAT: Final = 5.0
"""Seconds after which a process repeats its entry."""

_TTL: Final = 15
"""Seconds for which the server keeps an entry."""
_MARKER_TTL: Final = 1
"""Seconds for which the server keeps the marker of an entry that was removed."""
_REMOVED: Final = ("KV-Operation", "DEL")

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class ProcessStatus(msgspec.Struct, frozen=True, omit_defaults=True):
    """What does not work in one process of an actor."""

    host: str
    pid: int
    problems: list[str] = []
    """Why the process is not ready."""
    warnings: list[str] = []
    """What does not work although the process is ready."""


def write_status(jetstream: JetStream, names: Names, process: str, status: ProcessStatus | None) -> None:
    """Store the status of a process, or remove it. Raises `PublishError` if it cannot be sent."""
    subject = f"{_prefix(names)}{_UNSAFE.sub('-', process)}"
    headers = [(header_block.TTL.decode(), f"{_TTL if status is not None else _MARKER_TTL}s")]
    if status is None:
        jetstream.connection.publish(subject, headers=header_block.encode([*headers, _REMOVED]))
    else:
        jetstream.connection.publish(subject, msgspec.json.encode(status), headers=header_block.encode(headers))


async def read_statuses(jetstream: JetStream, names: Names) -> list[ProcessStatus]:
    """Return the statuses that the processes of an actor have written."""
    stream = f"KV_{names.lease_bucket}"
    found: list[ProcessStatus] = []
    info = await jetstream.find_stream(stream, subjects=f"{_prefix(names)}*")
    if info is None:
        return []
    for subject in sorted(info.state.subjects):
        stored = await jetstream.get_last(stream, subject)
        if stored is not None and stored.payload:
            try:
                found.append(msgspec.json.decode(stored.payload, type=ProcessStatus))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # Somebody else has written there.
    return found


def _prefix(names: Names) -> str:
    return f"$KV.{names.lease_bucket}.{names.actor}.status."
