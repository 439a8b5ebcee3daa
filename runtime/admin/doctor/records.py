"""The doctor's check of stored records: which keys of a service cannot be read."""

from collections.abc import Sequence

from runtime.admin.doctor.finding import Finding, fail, warn
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode
from runtime.storage.record import Unreadable, check_subject, decode_record
from runtime.wire.subjects import Names

_MOST = 100_000
"""Records that are read at most."""
_NAMED = 3
"""Unreadable records that are named."""


async def check_records(jetstream: JetStream, parts: Sequence[Names]) -> list[Finding]:
    """Read the records of all partitions of a service, and return a finding for those that cannot be read and for a check that ended early.

    The type of the states is known to the service only. A state that does not fit it is in the service's log.
    """
    unreadable: list[Unreadable] = []
    actor, most = parts[0].actor, max(_MOST // len(parts), 1)
    found: list[Finding] = []
    try:
        for names in parts:
            if not await _read(jetstream, names, most, unreadable):
                text = f"only the {most} oldest records of {names.turns_stream} were read, to see if they can be read"
                found.append(warn(actor, text))
    except (ActorError, TimeoutError) as error:
        found.append(warn(actor, f"its records cannot be read: {error}", "is a permission missing?"))
    newer = [error for error in unreadable if error.newer_format]
    damaged = [error for error in unreadable if not error.newer_format]
    if damaged:
        todo = "restore these subjects from a backup, or purge them to begin these keys without state"
        found.append(fail(actor, _text(damaged), todo))
    if newer:
        found.append(warn(actor, _text(newer), "a process of that version serves these keys"))
    return found


async def _read(jetstream: JetStream, names: Names, most: int, unreadable: list[Unreadable]) -> bool:
    """Read the records of one stream. Return whether that were all. An unreadable one is added to the list."""
    count = 0
    try:
        async for stored in jetstream.read(names.turns_stream, names.turn(">")):
            count += 1
            if count > most:
                return False
            try:
                check_subject(stored.subject, names.turn(""))
                decode_record(stored.payload, stored.subject)
            except Unreadable as error:
                unreadable.append(error)
    except ApiError as error:
        if error.err_code != ErrorCode.STREAM_NOT_FOUND:
            raise
    return True


def _text(errors: list[Unreadable]) -> str:
    more = f"; and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    reasons = "; ".join(error.reason for error in errors[:_NAMED])
    records = "1 record cannot" if len(errors) == 1 else f"{len(errors)} records cannot"
    return f"{records} be read: {reasons}{more}"
