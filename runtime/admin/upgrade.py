"""The streams of events and dead letters of an earlier version, copied to the form of this one.

An earlier version stores an event under the subject on which it is published. This one stores it with the bucket of its key
(`runtime.wire.buckets`). Sequences stay as they are, so each consumer continues where it was, and nothing is handled twice.

A stream cannot be renamed, and a mirror alone keeps sequences. So the events are mirrored twice, and nothing is deleted that is
not complete elsewhere:

1. The dead-letter stream changes in place. Its new form has no transform until the end, so processes of all versions refuse it.
   Dead letters on their way back get their new subject.
2. The events stream is closed, and mirrored to ``<actor>-events-upgrade`` with the new subjects. The consumers are created there
   as well, so that their places are stored. The copy is complete as soon as it is no mirror any more.
3. The events stream is deleted, and created again as a mirror of the copy, with the consumers.
4. The saved positions of the consumers get the creation times of the new stream and consumers.
5. The events stream takes events again, and the copy is deleted. The dead-letter stream gets its transform.

Each step finds out what is done already, so the command can be run again after it was killed.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from runtime import clocks
from runtime.admin.refusal import Refused, UnknownActor
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import ConsumerInfo, StreamInfo
from runtime.nats.lease import Lease
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.positions import ConsumerPosition
from runtime.storage.streams import dead_config, events_config
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names

_LOOK: Final = 0.1
"""Seconds between two looks at a copy, or at a consumer from which a process may pull."""

_PULL: Final = 6.0
"""Seconds after which a pull request of a process that has died has expired."""

_STALLED: Final = 30.0
"""Seconds without a further message after which a copy counts as failed."""


async def upgrade(
    jetstream: JetStream, names: Names, *, lease_ttl: float = 4.0, report: Callable[[str], None] = lambda line: None
) -> bool:
    """Bring the streams of events and dead letters of an actor to the form of this version. Return False if they have it.

    Args:
        jetstream: The client.
        names: The names of the actor, as one whole.
        lease_ttl: Seconds of the lease that keeps other runs of this command away.
        report: Called with a line of text before each step.

    Raises:
        Refused: A process of the actor, or of an actor that reacts to its events, still runs.
        UnknownActor: The actor has no such streams.
        ActorError, TimeoutError: A step failed. It can be run again.
    """
    run = _Upgrade(jetstream, names, report)
    if not await run.is_needed():
        return False
    await run.refuse_processes()
    lease = Lease(
        jetstream, bucket=names.lease_bucket, key=f"{names.actor}.upgrade", holder=f"upgrade-{new_id()}", ttl=lease_ttl
    )
    try:
        async with asyncio.timeout(3 * lease_ttl):
            await lease.acquire()
    except TimeoutError:
        raise Refused(f"{names.actor}: another upgrade is under way") from None
    run.lease = lease
    try:
        await run.run()
    finally:
        await lease.release()
    return True


class _Upgrade:
    def __init__(self, jetstream: JetStream, names: Names, report: Callable[[str], None]) -> None:
        self._jetstream = jetstream
        self._names = names
        self._report = report
        self._copy = f"{names.events_stream}-upgrade"
        self.lease: Lease | None = None
        """Held during `run`."""

    async def is_needed(self) -> bool:
        events, dead, copy = [
            await self._jetstream.find_stream(stream)
            for stream in (self._names.events_stream, self._names.dead_stream, self._copy)
        ]
        if events is None and dead is None and copy is None:
            raise UnknownActor(f"{self._names.actor}: no actor of this name has run here")
        return copy is not None or any(each is not None and not _is_new(each) for each in (events, dead))

    async def refuse_processes(self) -> None:
        """Raise `Refused` if a process pulls from a consumer of the actor's streams."""
        names, until = self._names, clocks.elapsed() + _PULL
        for stream in (names.turns_stream, names.dead_stream, names.events_stream):
            while pulled := [info.name for info in await self._consumers(stream) if info.num_waiting]:
                if clocks.elapsed() > until:
                    raise Refused(
                        f"a process pulls from the consumer {pulled[0]} of {stream}: stop all processes of {names.actor}, and "
                        "of the actors that react to its events, first"
                    )
                await asyncio.sleep(_LOOK)

    async def run(self) -> None:
        names = self._names
        dead = await self._jetstream.find_stream(names.dead_stream)
        if dead is not None and not _is_new(dead):
            self._report("changing the dead-letter stream")
            guarded = [names.dead(">"), f"{names.redriven('*')}.*.*"]
            await self._change().update_stream({**dead.config, "subjects": guarded})
            await DeadLetters(self._jetstream, names).move_redriven()
        events = await self._jetstream.find_stream(names.events_stream)
        copy = await self._jetstream.find_stream(self._copy)
        if copy is not None or (events is not None and not _is_new(events)):
            await self._copy_events(events, copy)
        if dead is not None and not _is_new(dead):
            wanted = msgspec.to_builtins(dead_config(names, dead.config["num_replicas"]))
            wanted.pop("max_consumers")  # it counts at the creation only
            await self._change().update_stream({**dead.config, **wanted})

    def _change(self) -> JetStream:
        """Return the client, directly before a change. Raises `ActorError` if the lease is lost.

        The streams may be those of running actors by then: another run has come to its end.
        """
        if self.lease is None or not self.lease.held():
            raise ActorError(
                f"{self._names.actor}: the lease was lost: was this process paused, or the server away? Run the command again"
            )
        return self._jetstream

    async def _copy_events(self, events: StreamInfo | None, copy: StreamInfo | None) -> None:
        names = self._names
        if copy is None or copy.config.get("mirror"):
            assert events is not None, "it is deleted after the copy is complete"
            self._report("copying events")
            await self._mirror_old(events, copy)
        if events is None or not _is_new(events):
            self._report("creating the new stream of events")
            await self._mirror_copy(await self._jetstream.find_stream(names.events_stream))
            self._report("saving the positions of consumers")
            await self._save_positions()
            await self._open()
        self._report("deleting the copy")
        await self._change().delete_stream(self._copy)

    async def _mirror_old(self, events: StreamInfo, copy: StreamInfo | None) -> None:
        """Copy the closed stream and its consumers. The copy is then a stream of its own."""
        names, jetstream = self._names, self._jetstream
        closed = names.events("closed")  # a token too few for an event
        if events.config["subjects"] != [closed]:
            await self._change().update_stream({**events.config, "subjects": [closed]})
        if copy is None:
            transform = msgspec.to_builtins(events_config(names).subject_transform)
            mirror = {"name": names.events_stream, "subject_transforms": [transform]}
            await self._change().create_stream(_mirroring(events.config, self._copy, mirror))
        await self._wait_for(self._copy, names.events_stream, names.event("*", "*"))
        last = await self._last(self._copy)
        for info in await self._consumers(names.events_stream):
            if info.config.get("durable_name"):
                await self._copy_consumer(self._copy, info, last)
        config = (await jetstream.stream_info(self._copy)).config
        await self._change().update_stream({field: value for field, value in config.items() if field != "mirror"})

    async def _mirror_copy(self, events: StreamInfo | None) -> None:
        """Replace the former stream of events by a copy of the complete copy, with its consumers."""
        names, jetstream = self._names, self._jetstream
        if events is not None and not events.config.get("mirror"):
            await self._change().delete_stream(names.events_stream)
            events = None
        if events is None:
            config = (await jetstream.stream_info(self._copy)).config
            mirroring = _mirroring(config, names.events_stream, {"name": self._copy})
            wanted = events_config(names)
            await self._change().create_stream({**mirroring, "max_consumers": wanted.max_consumers})
        await self._wait_for(names.events_stream, self._copy, ">")
        for info in await self._consumers(self._copy):
            await self._copy_consumer(names.events_stream, info, info.config["opt_start_seq"] - 1)

    async def _copy_consumer(self, stream: str, info: ConsumerInfo, last: int) -> None:
        """Create a consumer at the place of another one, in front of the next message at most: `last` is the last one."""
        config = dict(info.config)
        single = config.pop("filter_subject", None)
        filters = [self._stored(each) for each in ([single] if single else config.pop("filter_subjects", None) or [])]
        config.pop("opt_start_time", None)
        start = min(info.ack_floor.stream_seq, last) + 1
        config |= {"filter_subjects": filters, "deliver_policy": "by_start_sequence", "opt_start_seq": start}
        await self._change().create_consumer(stream, config)

    def _stored(self, subject: str) -> str:
        """Return the filter of stored events for one of the earlier version."""
        tokens = subject.removeprefix(prefix := self._names.events("")).split(".")
        if not subject.startswith(prefix) or len(tokens) != 2:
            return subject
        return self._names.stored_event(tokens[0], "*", tokens[1]) if tokens[1] != ">" else subject

    async def _save_positions(self) -> None:
        """Give each saved position the creation times of the new stream and of the new consumer."""
        names, jetstream = self._names, self._jetstream
        created = (await jetstream.stream_info(names.events_stream)).created
        for info in await self._consumers(names.events_stream):
            reacting = Names(info.name.partition("@")[0], names.namespace)
            subject = reacting.position(names.events_stream, info.name)
            stored = await jetstream.find_last(reacting.turns_stream, subject)
            if stored is None:
                continue  # perhaps it is no consumer of an actor
            position = msgspec.json.decode(stored.payload, type=ConsumerPosition)
            position = msgspec.structs.replace(
                position, stream_created=created, created=info.created, floor=info.config["opt_start_seq"] - 1
            )
            expected = header_block.join(header_block.line(header_block.EXPECTED_SEQUENCE, b"%d" % stored.sequence))
            await self._change().publish(subject, msgspec.json.encode(position), headers=expected)

    async def _open(self) -> None:
        """Let the new stream take events."""
        config = (await self._jetstream.stream_info(self._names.events_stream)).config
        wanted = msgspec.to_builtins(events_config(self._names, config["num_replicas"]))
        changed = {"subjects": wanted["subjects"], "subject_transform": wanted["subject_transform"]}
        kept = {field: value for field, value in config.items() if field != "mirror"}
        await self._change().update_stream({**kept, **changed})

    async def _wait_for(self, stream: str, origin: str, subjects: str) -> None:
        """Wait until a mirror has the last message of its origin."""
        last = await self._jetstream.get_last(origin, subjects)
        seen, changed = -1, clocks.elapsed()
        while last is not None and (now := await self._last(stream)) < last.sequence:
            if now != seen:
                seen, changed = now, clocks.elapsed()
            if clocks.elapsed() - changed > _STALLED:
                raise TimeoutError(f"stream {stream} does not get the messages of {origin}: run the command again")
            await asyncio.sleep(_LOOK)

    async def _last(self, stream: str) -> int:
        return (await self._jetstream.stream_info(stream)).state.last_seq

    async def _consumers(self, stream: str) -> list[ConsumerInfo]:
        return await self._jetstream.consumers(stream) if await self._jetstream.find_stream(stream) is not None else []


def _is_new(info: StreamInfo) -> bool:
    return bool(info.config.get("subject_transform"))


def _mirroring(config: Mapping[str, Any], name: str, mirror: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of a mirror with the limits of another stream."""
    kept = {field: value for field, value in config.items() if field not in ("subjects", "mirror", "first_seq")}
    metadata = {key: text for key, text in (config.get("metadata") or {}).items() if not key.startswith("_nats.")}
    return {**kept, "name": name, "mirror": mirror, "metadata": metadata}
