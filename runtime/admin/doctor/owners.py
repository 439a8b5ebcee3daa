"""The doctor's checks of who owns the keys of a service: layout, leases, members, and leftovers of a repartition."""

import asyncio
from collections.abc import AsyncIterator, Collection
from typing import Final

from runtime.admin.doctor.finding import Finding, fail, ok, warn
from runtime.admin.ownership import Ownership, read_ownership
from runtime.nats.jetstream.client import JetStream
from runtime.storage.layout import Layout, counted, finish, unfinished
from runtime.wire.subjects import Names, partition_in

_LOOK_AGAIN: Final = 0.5
"""Seconds until a second look for the owner of a partition. It has none for a moment while it moves."""


async def check_owners(jetstream: JetStream, names: Names, configured: Collection[int]) -> AsyncIterator[Finding]:
    """Check who owns the keys of a service with state, and yield the findings.

    Args:
        jetstream: The client.
        names: The names of the service, as one whole.
        configured: The numbers of partitions for which its running processes are configured; empty if none runs.
    """
    ownership = await read_ownership(jetstream, names)
    if configured and ownership.unowned:
        await asyncio.sleep(_LOOK_AGAIN)
        ownership = await read_ownership(jetstream, names)
    layout = ownership.layout
    for number in sorted({*configured, *(each.partitions for each in ownership.members)} - {layout.partitions}):
        text = f"a process is configured for {counted(number)}, but the keys are stored in {counted(layout.partitions)}"
        yield fail(names.actor, text, f"restart it with partitions = {layout.partitions}")
    if layout.to:
        text = f"{unfinished(layout)}: its processes do not start"
        yield fail(names.actor, text, f"if no tool does it now: {finish(names.actor, layout)}")
    if layout.before:
        text = f"the repartition from {counted(layout.before)} to {counted(layout.partitions)} has not ended"
        yield warn(
            names.actor, text, f"stop its processes and run `actorloom repartition {names.actor} {layout.partitions}`"
        )
    async for finding in _left_streams(jetstream, names, layout):
        yield finding
    if layout.partitions == 1:
        for finding in _whole(jetstream, names, ownership, bool(configured)):
            yield finding
    else:
        for finding in _parts(jetstream, names, ownership, bool(configured)):
            yield finding


async def _left_streams(jetstream: JetStream, names: Names, layout: Layout) -> AsyncIterator[Finding]:
    """Yield a warning for the streams of another number of partitions than those that the layout tells."""
    totals = {layout.partitions, layout.before or 1, layout.to or 1}
    known = {each.turns_stream for total in totals for each in names.partitions(total)}
    found = await jetstream.stream_names(f"{names.own}.*.turn.>")
    head = f"{names.turns_stream}-"
    others = [stream for stream in found if stream.startswith(head) and stream not in known]
    parts = [(stream, partition_in(stream.removeprefix(head))) for stream in others]
    left = [(stream, partition.total) for stream, partition in parts if partition is not None]
    if left:
        more = f" and {len(left) - 1} more" if len(left) > 1 else ""
        stream, total = left[0]
        yield warn(
            names.actor,
            f"a repartition that was broken off has left stream {stream}{more}; they are not used",
            f"run the repartition again: `actorloom repartition {names.actor} {total}`, or delete these streams",
        )


def _whole(jetstream: JetStream, names: Names, ownership: Ownership, running: bool) -> list[Finding]:
    if found := [*_faults(jetstream, names, ownership), *_overdue(jetstream, names, ownership)]:
        return found
    for lease in ownership.leases:
        if (holder := lease.holder) is not None:
            age = duration(jetstream.connection.clock.now() - holder.since)
            return [ok(names.actor, f"its keys are owned by process {holder.pid} on {holder.host}, for {age}")]
    return [fail(names.actor, "it answers, but no process owns its keys", "see its log")] if running else []


def _parts(jetstream: JetStream, names: Names, ownership: Ownership, running: bool) -> list[Finding]:
    found = [*_faults(jetstream, names, ownership), *_overdue(jetstream, names, ownership)]
    if running and ownership.unowned:
        numbers = " ".join(map(str, ownership.unowned))
        text = f"it answers, but no process owns {len(ownership.unowned)} of its {ownership.layout.partitions} partitions: {numbers}"
        found.append(fail(names.actor, text, "see the logs of its processes, and `/readyz`"))
    for member in ownership.members:
        if member.unable:
            text = f"process {member.pid} on {member.host} has failed to serve {_numbered(member.unable)}"
            found.append(warn(names.actor, text, "see its log: others try them"))
    if ownership.owners:
        found.append(ok(names.actor, f"its {ownership.layout.partitions} partitions are owned by {_owners(ownership)}"))
    return found


def _owners(ownership: Ownership) -> str:
    """Return the processes with their partitions: ``process 71 on a (0 2) and process 72 on a (1 3)``."""
    shown: list[str] = []
    holders = {lease.holder.holder: lease.holder for lease in ownership.leases if lease.holder is not None}
    for name, partitions in ownership.owners.items():
        shown.append(f"process {holders[name].pid} on {holders[name].host} ({' '.join(map(str, partitions))})")
    text = ", ".join(shown)
    if standbys := ownership.standbys:
        text += f"; on standby: {', '.join(f'process {each.pid} on {each.host}' for each in standbys)}"
    return text


def _faults(jetstream: JetStream, names: Names, ownership: Ownership) -> list[Finding]:
    """Return a failure for each lease that no actor wrote."""
    found: list[Finding] = []
    for lease in ownership.leases:
        if lease.fault:
            age = duration(jetstream.connection.clock.now() - lease.stored_at)
            todo = "no actor wrote it: find out who may publish on that subject; an actor takes it over when it starts"
            found.append(fail(names.actor, f"the value of its lease ({lease.subject}), {age} old, {lease.fault}", todo))
    return found


def _overdue(jetstream: JetStream, names: Names, ownership: Ownership) -> list[Finding]:
    """Return a warning for each process that renews its leases no more. It does so four times in their lifetime."""
    now, found = jetstream.connection.clock.now(), list[Finding]()
    for partitions in ownership.owners.values():
        leases = [each for each in ownership.leases if each.partition in partitions]
        late = [each for each in leases if each.lifetime is not None and now - each.stored_at > each.lifetime / 2]
        if not late or (holder := late[0].holder) is None:
            continue
        which = (
            "lease" if ownership.layout.partitions == 1 else f"lease of {_numbered([each.partition for each in late])}"
        )
        age = duration(now - min(each.stored_at for each in late))
        left = duration(max(each.stored_at + (each.lifetime or 0.0) for each in late) - now)
        text = f"process {holder.pid} on {holder.host} has not renewed its {which} for {age}"
        found.append(
            warn(names.actor, text, f"it is stopped or has died: another one takes over within {left}, if one runs")
        )
    return found


def _numbered(partitions: Collection[int]) -> str:
    """Return the numbers of partitions as text: ``partitions 1 2``."""
    return f"partition{'s' * (len(partitions) > 1)} {' '.join(map(str, partitions))}"


def duration(seconds: float) -> str:
    """Return a number of seconds in a unit for people."""
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{max(seconds, 0):.0f} s"
