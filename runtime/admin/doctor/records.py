"""The doctor's check of stored records: which keys of a service cannot be read."""

from runtime.admin.doctor.finding import Finding, fail, warn
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.storage.record import Unreadable, check_subject, decode_record
from runtime.wire.subjects import Names

_MOST = 100_000
"""Records that are read at most."""
_NAMED = 3
"""Unreadable records that are named."""


async def check_records(jetstream: JetStream, names: Names) -> list[Finding]:
    """Read the records of a service, and return a finding for those that cannot be read and for a check that ended early.

    The type of the states is known to the service only. A state that does not fit it is in the service's log.
    """
    unreadable: list[Unreadable] = []
    count = 0
    found: list[Finding] = []
    try:
        async for stored in jetstream.read(names.turns_stream, names.turn(">")):
            count += 1
            if count > _MOST:
                found.append(
                    warn(names.actor, f"only the {_MOST} oldest records were read, to see if they can be read")
                )
                break
            try:
                check_subject(stored.subject, names.turn(""))
                decode_record(stored.payload, stored.subject)
            except Unreadable as error:
                unreadable.append(error)
    except (ActorError, TimeoutError) as error:
        found.append(warn(names.actor, f"its records cannot be read: {error}", "is a permission missing?"))
    newer = [error for error in unreadable if error.newer_format]
    damaged = [error for error in unreadable if not error.newer_format]
    if damaged:
        todo = "restore these subjects from a backup, or purge them to begin these keys without state"
        found.append(fail(names.actor, _text(damaged), todo))
    if newer:
        found.append(warn(names.actor, _text(newer), "a process of that version serves these keys"))
    return found


def _text(errors: list[Unreadable]) -> str:
    more = f"; and {len(errors) - _NAMED} more" if len(errors) > _NAMED else ""
    reasons = "; ".join(error.reason for error in errors[:_NAMED])
    records = "1 record cannot" if len(errors) == 1 else f"{len(errors)} records cannot"
    return f"{records} be read: {reasons}{more}"
