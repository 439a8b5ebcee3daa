"""The import of edited records into the streams of a stopped actor.

**Nobody else writes.** The import holds the leases of all partitions. An owner has the states of its keys in memory, and would go on
to answer with the old ones. A late commit of a former owner is refused, or refuses the edit, by the sequence that both carry.

**What stays.** A record keeps all that a line does not have: its outbox, as far as it may be unpublished, and fields of a newer
version of this package. The edited record is the newest message of its stream, so the next owner finds it above the checkpoint, and
publishes what is left.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from enum import StrEnum
from typing import NamedTuple

import msgspec

from runtime.admin.exported import Line, handled_of, same_json
from runtime.admin.leases import Leases, hold
from runtime.admin.refusal import Refused
from runtime.admin.stored import StoredActor, published_until
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.jetstream.responses import StoredMessage
from runtime.storage.layout import Layouts, counted
from runtime.storage.record import EDITED, Record, Unreadable, decode_record, encode_record, rewrite_record
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token


class Outcome(StrEnum):
    """What an import did with a line."""

    STORED = "stored"
    UNCHANGED = "unchanged"
    """The record has the values of the line already."""
    CONFLICT = "conflict"
    """The record is not the one that was exported. It stays as it is."""


class Imported(NamedTuple):
    """The outcome of an edited line."""

    number: int
    key: str
    outcome: Outcome
    detail: str = ""
    """The reason of a conflict."""


async def import_lines(
    actor: StoredActor, lines: Sequence[tuple[int, Line]], who: str, *, lease_ttl: float, report: Callable[[str], None]
) -> AsyncGenerator[Imported]:
    """Store edited records, one after another, and yield the outcome of each.

    An import that was interrupted can be repeated: the lines that it has stored are unchanged then.

    Args:
        actor: The actor.
        lines: The edited lines with their numbers.
        who: The person, for the field ``edited`` of the records.
        lease_ttl: Seconds of the leases that are held meanwhile.
        report: Called with a line of text if a lease has to expire.

    Raises:
        Refused: An owner lives, a repartition is not finished, or the actor has no state. Nothing has changed.
        PublishError: The server refuses a record, which is too large for example.
        ActorError, TimeoutError: The server does not answer, or the leases are lost.
    """
    jetstream, names, layout = actor.jetstream, actor.names, actor.layout
    if layout.to or layout.before:
        raise Refused(f"{names.actor}: a repartition is not finished: finish it by `actorloom repartition` first")
    if await _has_no_state(actor):
        raise Refused(f"{names.actor} has no state: there is nothing to import")
    info, total = await jetstream.find_stream(actor.parts[0].turns_stream), layout.partitions
    replicas = 1 if info is None else info.config["num_replicas"]
    async with hold(jetstream, names, total, total, lease_ttl, replicas, report, "import") as leases:
        if (await Layouts(jetstream, names).find())[0] != layout:
            raise Refused(f"{names.actor}: it is no longer stored in {counted(total)}: run the command again")
        published = {part.partition.number: await published_until(jetstream, part) for part in actor.parts}
        for number, line in lines:
            part = actor.part(key_token(line.key))
            outcome, detail = await _import(actor, part, line, who, leases, published[part.partition.number])
            yield Imported(number, line.key, outcome, detail)


async def _import(
    actor: StoredActor, names: Names, line: Line, who: str, leases: Leases, published: int
) -> tuple[Outcome, str]:
    subject = names.turn(key_token(line.key))
    stored = await actor.jetstream.get_last(names.turns_stream, subject)
    try:
        record = Record("") if stored is None else decode_record(stored.payload, subject)
    except Unreadable as error:
        return Outcome.CONFLICT, error.reason
    if stored is not None and _is_same(record, line):
        return Outcome.UNCHANGED, ""
    sequence = 0 if stored is None else stored.sequence
    if sequence != line.sequence:
        return Outcome.CONFLICT, _conflict(line.sequence, sequence)
    outbox = set[str]() if sequence <= published else {entry.id for entry in record.outbox}
    payload = _edited(stored, line, who, outbox)
    headers = header_block.join(header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % sequence))
    leases.require()
    try:
        await actor.jetstream.publish(subject, payload, headers=headers)
    except WrongSequence as error:
        return Outcome.CONFLICT, _conflict(line.sequence, error.last)
    except BaseException:
        leases.settled = False  # It may be stored later.
        raise
    return Outcome.STORED, ""


def _edited(stored: StoredMessage | None, line: Line, who: str, outbox: set[str]) -> bytes:
    """Return the record of a line, with all that the stored one has besides."""
    changes = {
        "state_version": msgspec.Raw(encode_record(line.version)),
        "state": line.state,
        "handled": msgspec.Raw(encode_record(handled_of(line))),
        EDITED: msgspec.Raw(encode_record(who)),
    }
    return rewrite_record(b"{}" if stored is None else stored.payload, f"import-{new_id()}", outbox, changes)


def _is_same(record: Record, line: Line) -> bool:
    remembered = encode_record(handled_of(line))
    return (
        record.state_version == line.version
        and same_json(record.state, line.state)
        and same_json(encode_record(record.handled), remembered)
    )


def _conflict(expected: int, found: int | None) -> str:
    if not expected:
        return "the key has a record already"
    if found == 0:
        return f"the record of sequence {expected} is gone"
    return f"the record has changed since the export: its sequence was {expected}" + (
        f", and is {found}" if found else ""
    )


async def _has_no_state(actor: StoredActor) -> bool:
    """Return whether the actor is one without state: its processes share a lease of another name."""
    names, bucket = actor.names, actor.names.lease_bucket
    if await actor.jetstream.find_stream(f"KV_{bucket}") is None:
        return False
    found = await actor.jetstream.subjects(f"KV_{bucket}", f"$KV.{bucket}.{names.actor}.*")
    parts = {subject.rpartition(".")[2] for subject in found}
    return "relay" in parts and "0" not in parts
