"""The steps of a repartition, in their order. The reasons are in the package's own text."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from runtime.admin.leases import Leases, hold, refuse_owner
from runtime.admin.refusal import Refused, UnknownActor
from runtime.admin.repartition.consumers import Consumers
from runtime.admin.repartition.copying import Copies, check_records, count
from runtime.bounds import Partitions, check
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.storage import record_streams
from runtime.storage.layout import Layout, Layouts
from runtime.storage.leftovers import Leftovers
from runtime.wire.buckets import Partition
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.admin")


class Plan(msgspec.Struct, frozen=True):
    """What a repartition would do."""

    actor: str
    partitions: int
    """The number of partitions now."""
    wanted: int
    records: int = 0
    dedup_entries: int = 0
    timers: int = 0
    consumers: int = 0
    """The consumers of the new layout."""
    bytes: int = 0
    """The size of the streams that are copied."""
    unfinished: int = 0
    """The number of partitions of a repartition that has begun and is not finished; 0 if there is none."""


async def examine(jetstream: JetStream, names: Names, partitions: int) -> Plan:
    """Return what `repartition` would do. Changes nothing.

    Raises:
        Refused, UnknownActor: `repartition` would refuse it.
        ActorError, TimeoutError: The server does not answer, or refuses a request.
    """
    _check_number(partitions)
    layout = await _find(jetstream, names)
    for number in range(layout.partitions):
        await refuse_owner(jetstream, names, number)
    if layout.partitions == partitions:
        return Plan(names.actor, partitions, partitions, unfinished=layout.to or layout.before)
    records, size = await check_records(jetstream, names, layout.partitions)
    replicas = (await _config(jetstream, names, layout.partitions))["num_replicas"]
    await _check_room(jetstream, names, size, replicas)
    return Plan(
        names.actor,
        layout.partitions,
        partitions,
        records,
        await count(jetstream, names, layout.partitions, "dedup"),
        await count(jetstream, names, layout.partitions, "schedule", "timer"),
        partitions * len(await Consumers(jetstream, names, layout.partitions, partitions).find()),
        size,
        layout.to or layout.before,
    )


async def repartition(
    jetstream: JetStream,
    names: Names,
    partitions: int,
    *,
    lease_ttl: float = 4.0,
    report: Callable[[str], None] = lambda line: None,
) -> bool:
    """Store the keys of an actor in another number of partitions. Return False if they are already.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        partitions: The wanted number.
        lease_ttl: Seconds of the leases that are held meanwhile.
        report: Called with a line of text before each step.

    Raises:
        Refused, UnknownActor: It cannot be done; nothing has changed.
        ActorError, TimeoutError: A step failed. The text says whether it is undone.
    """
    _check_number(partitions)
    layout = await _find(jetstream, names)
    stored = max(layout.partitions, layout.before, layout.to)
    replicas = (await _config(jetstream, names, layout.partitions))["num_replicas"]
    count = max(stored, partitions)
    async with hold(jetstream, names, layout.partitions, count, lease_ttl, replicas, report) as leases:
        run = _Run(jetstream, names, leases, report)
        if (await run.layouts.read())[0] != layout:
            raise Refused(f"{names.actor}: its layout has changed just now: run the command again")
        finished = await run.tidy(layout)
        if layout.partitions == partitions:
            return finished
        await run.change(layout.partitions, partitions)
        return True


class _Run:
    """One run of the tool, with the leases held."""

    def __init__(self, jetstream: JetStream, names: Names, leases: Leases, report: Callable[[str], None]) -> None:
        self.layouts = Layouts(jetstream, names)
        self._jetstream = jetstream
        self._names = names
        self._leases = leases
        self._report = report

    async def tidy(self, layout: Layout) -> bool:
        """Finish or undo an earlier attempt. Return whether there was one."""
        if layout.to:
            self._report(f"undoing a repartition to {layout.to} that was not finished")
            await self._undo()
        elif layout.before:
            await self._finish()
        else:
            for each in self._names.partitions(layout.partitions):
                await record_streams.reopen(self._jetstream, each, self._leases.require)
        return bool(layout.to or layout.before)

    async def change(self, before: int, after: int) -> None:
        """Copy everything from a layout with `before` partitions to one with `after`, and switch."""
        jetstream, names = self._jetstream, self._names
        self._report("reading all records")
        _, size = await check_records(jetstream, names, before)
        like = await _config(jetstream, names, before)
        await _check_room(jetstream, names, size, like["num_replicas"])
        await Consumers(jetstream, names, before, after).refuse_old()
        layout, sequence = await self.layouts.read()
        self._leases.require()
        sequence = await self.layouts.store(Layout(before, to=after, above=layout.above), sequence)
        try:
            await self._copy(before, after, like, layout.above, sequence)
        except BaseException as error:
            await self._undo_after(error, before, after)
            raise
        await self._finish()

    async def _copy(self, before: int, after: int, like: Mapping[str, Any], above: int, sequence: int) -> None:
        jetstream, names, require = self._jetstream, self._names, self._leases.require
        self._report("closing the old streams")
        for old in names.partitions(before):
            await record_streams.close(jetstream, old, require)
            if before > 1:
                above = max(above, (await jetstream.stream_info(old.turns_stream)).state.last_seq)
        self._report("creating the new streams")
        for new in names.partitions(after):
            await record_streams.create(jetstream, new, above + 1, like, require)
        self._report("copying records")
        copies = Copies(jetstream, names, before, after, self._leases, self._report)
        records = await copies.copy()
        self._report(f"creating consumers ({records} records are copied)")
        await Consumers(jetstream, names, before, after, require).create()
        self._report("comparing records")
        await copies.compare()
        self._report("switching")
        require()
        await self.layouts.store(Layout(after, before=before, above=above), sequence)

    async def _finish(self) -> None:
        """Move the timers, and delete the old streams. An error says what is left to do."""
        layout, _ = await self.layouts.read()
        try:
            await self._clear(layout)
        except (ActorError, TimeoutError) as error:
            actor, reason = self._names.actor, str(error) or type(error).__name__
            raise ActorError(
                f"{actor}: {reason}. Its keys are stored in the new layout already: run `actorloom repartition {actor} "
                f"{layout.partitions}` again to finish, or start it with partitions = {layout.partitions}"
            ) from error

    async def _clear(self, layout: Layout) -> None:
        leftovers = Leftovers(self._jetstream, self._names, layout.before, self._leases.held)
        self._report("moving timers")
        for number in range(layout.partitions):
            await leftovers.move(Partition(layout.partitions, number))
        self._report("deleting the old streams")
        if not await leftovers.clear():
            raise ActorError("a timer could not be moved: the log names it")

    async def _undo(self) -> bool:
        """Open the old streams, and delete the new ones. Return False if the layout has switched: that is not undone."""
        layout, sequence = await self.layouts.read()
        if not layout.to:
            return False
        require = self._leases.require
        require()
        # Another tool that was paused cannot switch from here on.
        sequence = await self.layouts.store(layout, sequence)
        for new in self._names.partitions(layout.to):
            await record_streams.remove(self._jetstream, new, require)
        await Consumers(self._jetstream, self._names, layout.partitions, layout.to, require).remove()
        for old in self._names.partitions(layout.partitions):
            await record_streams.reopen(self._jetstream, old, require)
        await self.layouts.store(Layout(layout.partitions, above=layout.above), sequence)
        return True

    async def _undo_after(self, error: BaseException, before: int, after: int) -> None:
        """Undo all steps after an error. If that fails too, the error names the commands that are left."""
        actor, reason = self._names.actor, str(error) or type(error).__name__
        self._report(f"undoing: {reason}")
        try:
            undone = await asyncio.shield(self._undo())
        except (ActorError, TimeoutError) as failure:
            raise ActorError(
                f"{actor}: {reason}. Undoing it failed as well: {failure}. Nothing is lost: run `actorloom repartition {actor} "
                f"{after}` again, or `actorloom repartition {actor} {before}` to undo it"
            ) from error
        if undone:
            self._report("everything is as it was")
        elif isinstance(error, Exception):
            raise ActorError(
                f"{actor}: {reason}. But the layout has switched to {after}: run `actorloom repartition {actor} {after}` again to "
                "finish it"
            ) from error


def _check_number(partitions: int) -> None:
    check("partitions", partitions, Partitions)
    if partitions & (partitions - 1):
        raise Refused(f"partitions = {partitions}: use a power of two, 64 at most")


async def _find(jetstream: JetStream, names: Names) -> Layout:
    """Return the layout of an actor that has run, and has a state."""
    layout, _ = await Layouts(jetstream, names).find()
    streams = [each.turns_stream for each in names.partitions(layout.partitions)]
    missing = [stream for stream in streams if await jetstream.find_stream(stream) is None]
    if len(missing) == len(streams):
        raise UnknownActor(
            f"{names.actor}: no actor of this name has run here, or its state is lost: there is no stream {missing[0]}"
        )
    if missing:
        raise Refused(f"{names.actor}: the stream {missing[0]} is missing: restore it first; nothing was changed")
    if await _has_lease(jetstream, names, "relay") and not await _has_lease(jetstream, names, "0"):
        raise Refused(
            f"{names.actor} has no state, so its keys are not partitioned: start as many processes as you need"
        )
    return layout


async def _has_lease(jetstream: JetStream, names: Names, part: str) -> bool:
    bucket = names.lease_bucket
    return await jetstream.find_last(f"KV_{bucket}", f"$KV.{bucket}.{names.actor}.{part}") is not None


async def _config(jetstream: JetStream, names: Names, partitions: int) -> dict[str, Any]:
    """Return the configuration of the stream of the first partition, of which the new ones keep what an operator has set."""
    first = names.partitions(partitions)[0]
    return (await jetstream.stream_info(first.turns_stream)).config


async def _check_room(jetstream: JetStream, names: Names, size: int, replicas: int) -> None:
    """Raise `Refused` if the account has no room for the copy."""
    account = await jetstream.account()
    most, needed = account.limits.max_storage, size * replicas
    if 0 < most < account.storage + needed:
        raise Refused(
            f"{names.actor}: the copy needs {needed:,} bytes, and the account has {most - account.storage:,} left of "
            f"{most:,}: nothing was changed"
        )
