"""The streams of an actor: their configuration, their creation, and the check that they are still those that were found.

Anything that can be restored without giving something up, such as a setting or an empty stream of events, is restored and
logged. State is different. An actor that runs on an empty stream answers as if no key had ever existed, and accepts
messages that it has handled before. So if the turns stream of an actor was deleted, the actor does not create another one;
it stops with `StateLost`, and people decide whether to restore a backup or to begin again.

A fresh deployment and a deleted stream look alike: in both cases there is no turns stream. The dead-letter stream tells
them apart. It is created after the turns stream, so if it exists alone, the actor has run here and its state is gone.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar

from runtime.errors import ConfigurationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, StreamConfig, SubjectTransform, widen_stream
from runtime.nats.jetstream.domains import count_streams, name_domains, two_domains
from runtime.nats.jetstream.errors import ApiError, ErrorCode, StreamConflict
from runtime.nats.jetstream.responses import StreamInfo
from runtime.wire.buckets import BUCKETS
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.storage")

TIMERS: Final = "timers"
"""The consumer of due timers, on the turns stream."""

EVENTS_MAX_AGE: Final = 30 * 86_400.0
"""Seconds for which events are kept."""
_DUPLICATE_WINDOW = 120.0
"""Seconds for which the server drops a message whose id it has seen. Receivers recognize later repetitions themselves."""
_MAX_CONSUMERS = 10_000
"""Consumers that a stream of events may have. By default, the server refuses the 1,001st."""
_BUCKET = f"{{{{partition({BUCKETS},2)}}}}"
"""The place of the bucket in a subject under which the server stores a message: a hash of the token of the key."""
_RECORDS_KEPT = 1
"""Messages kept of each subject of the turns stream: the newest only.

With more, an older one would come back: a record when that of a deleted key expires, and a timer that was replaced when
the server restarts.
"""
_MISSING_PAUSES = (0.2, 0.5, 1.0)
"""Seconds between attempts to find a missing stream or consumer. A server that has just become leader may not know it yet."""

T = TypeVar("T")


class OldStream(ConfigurationError):
    """A stream was created by a version that stored its messages without buckets. Its reactions would find nothing."""


class StreamChanged(ConfigurationError):
    """A stream or consumer was deleted or changed while its actor ran. The host restarts the actor, which restores it."""


class StateLost(ConfigurationError):
    """The stream with the state of an actor was deleted or replaced. The actor does not run until people have decided."""


KINDS = ("turn", "dedup", "positions", "timer", "schedule", "parked")
"""The subjects of the turns stream below the names of its partition, besides those of the relay: its checkpoint, and the layout."""


def turns_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the configuration of the turns stream: records, dedup entries, positions, timers, parked commands and the
    checkpoint.

    The stream has no limits of its own. A full stream would have to drop states to make room, since the server allows
    message schedules only with the policy that discards old messages. The limits of the account apply.
    """
    return StreamConfig(
        name=names.turns_stream,
        description=f"Actorloom: states, dedup entries and timers of {names.actor}",
        subjects=tuple(f"{names.own}.{kind}.>" for kind in (*KINDS, "relay")),
        max_age=0,
        max_bytes=-1,
        max_msgs=-1,
        max_msgs_per_subject=_RECORDS_KEPT,
        duplicate_window=int(_DUPLICATE_WINDOW * SECOND),
        allow_msg_ttl=True,
        allow_msg_schedules=True,
        replicas=replicas,
    )


def events_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the configuration of the events stream.

    If somebody limits the stream and it is full, it refuses new events, which then wait in the records.
    """
    return StreamConfig(
        name=names.events_stream,
        description=f"Actorloom: events of {names.actor}",
        # A subject that the transform does not cover is refused, and so is a forged bucket.
        subjects=(names.event("*", "*"),),
        subject_transform=SubjectTransform(
            names.event("*", "*"), names.stored_event("{{wildcard(1)}}", _BUCKET, "{{wildcard(2)}}")
        ),
        max_consumers=_MAX_CONSUMERS,
        max_age=int(EVENTS_MAX_AGE * SECOND),
        discard="new",
        duplicate_window=int(_DUPLICATE_WINDOW * SECOND),
        replicas=replicas,
    )


def dead_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the configuration of the dead-letter stream, which also holds redriven dead letters."""
    redriven = names.redrive("*", "*")
    return StreamConfig(
        name=names.dead_stream,
        description=f"Actorloom: dead letters of {names.actor}",
        subjects=(names.dead(">"), redriven),
        subject_transform=SubjectTransform(
            redriven, f"{names.redriven('{{wildcard(1)}}')}.{_BUCKET}.{{{{wildcard(2)}}}}"
        ),
        max_consumers=_MAX_CONSUMERS,
        discard="new",
        replicas=replicas,
    )


def tells_config(names: Names, replicas: int = 1) -> StreamConfig:
    """Return the configuration of the stream of commands by `tell`.

    A command is deleted as soon as it is handled. The stream has no schedules: with them, anybody who may publish one subject
    could delete all messages by a header (``Nats-Rollup``).
    """
    told = names.tell("*", "*")
    return StreamConfig(
        name=names.tells_stream,
        description=f"Actorloom: commands that are told to {names.actor}",
        subjects=(told,),
        subject_transform=SubjectTransform(told, f"{names.told('{{wildcard(1)}}')}.{_BUCKET}.{{{{wildcard(2)}}}}"),
        max_consumers=_MAX_CONSUMERS,
        max_age=0,
        discard="new",
        duplicate_window=int(_DUPLICATE_WINDOW * SECOND),
        replicas=replicas,
    )


class Streams:
    """The streams that one host uses: those of its actor, which it creates, and those of other actors, which it finds.

    Args:
        jetstream: The client.
        names: The names of the actor.
        replicas: The number of replicas of streams that are created.
        told: Whether the actor has a stream of commands by `tell`: it handles commands.
    """

    def __init__(self, jetstream: JetStream, names: Names, replicas: int = 1, *, told: bool = False) -> None:
        self._jetstream = jetstream
        self._names = names
        self._turns, self._dead = turns_config(names, replicas), dead_config(names, replicas)
        # The turns stream is created first: a dead-letter stream without it means that state was deleted.
        self._configs = [self._turns, self._dead, events_config(names, replicas)]
        if told:
            self._configs.append(tells_config(names, replicas))
        self._sources: set[str] = set()
        """The streams of other actors that `find` has found since the last `ensure`."""
        self._created: dict[str, str] = {}
        """The creation time of each stream, as the server prints it. A stream that was created again has another."""

    async def refuse_other_domain(self) -> None:
        """Refuse to serve beside the streams of this actor in another JetStream domain. Called before `ensure`.

        Raises:
            ConfigurationError: Another domain has a stream for the records of this actor.
            NotConnected, ApiError, TimeoutError: The streams cannot be asked now.
        """
        subject, connection = self._names.turn("probe"), self._jetstream.connection
        count = await count_streams(connection, subject)
        if count > 1 or (count == 1 and await self._jetstream.find_stream(self._turns.name) is None):
            domains = await name_domains(connection, self._names.dedup_entry("probe", new_id()))
            raise ConfigurationError(
                f"{two_domains(subject, domains)}: the keys of {self._names.actor} would have two owners. Delete "
                f"{self._turns.name} in the wrong domain (`nats --js-domain`), or do not serve the actor here"
            )

    async def ensure(self) -> None:
        """Create the streams of this actor that are missing, and widen those with a narrower configuration.

        Called whenever the host begins.

        Raises:
            StateLost: The turns stream was deleted or replaced.
            OldStream: An existing stream stores its messages without buckets.
            StreamConflict: An existing stream has a setting that cannot be widened.
            ApiError, TimeoutError: The streams cannot be asked or created now.
        """
        self._sources.clear()
        known = await self._find_state()
        for config in self._configs:
            self._found(config.name, await self._ensure(config, known.get(config.name)))

    async def find(self, actor: str) -> StreamInfo | None:
        """Return the events stream of an actor, which is never created here; None if there is none.

        Raises:
            OldStream: It stores its messages without buckets.
            ApiError, PermissionDenied, TimeoutError: The stream cannot be asked for.
        """
        stream = Names(actor, self._names.namespace).events_stream
        info = await self._jetstream.find_stream(stream)
        if info is None:
            return None
        refuse_old(info.config, actor)
        self._found(stream, info)
        self._sources.add(stream)
        return info

    async def check(self) -> None:
        """Compare the streams with those that `ensure` and `find` found.

        Raises:
            StreamChanged: A stream was deleted, replaced or changed. The host then begins again.
            ApiError, TimeoutError: The streams cannot be asked now.
        """
        for config in self._configs:
            info = await self._same(config.name)
            changes = widen_stream(config, info.config)
            if changes is not None:
                fields = {key: value for key, value in info.config.items() if changes[key] != value}
                raise StreamChanged(f"stream {config.name} was changed: it has {fields}")
        for stream in tuple(self._sources):
            await self._same(stream)

    async def used(self) -> bool:
        """Return whether the turns stream exists and has ever had a message: an owner stores its positions first.

        Raises:
            ApiError, PublishError, TimeoutError: The stream cannot be asked now.
        """
        info = await self._info(self._turns.name)
        return info is not None and info.state.last_seq > 0

    def created(self, stream: str) -> str:
        """Return the creation time of a stream, as the server prints it; "" if the stream is not one of these."""
        return self._created.get(stream, "")

    async def _ensure(self, config: StreamConfig, known: StreamInfo | None) -> StreamInfo:
        try:
            return await self._jetstream.ensure_stream(config, known=known)
        except StreamConflict:
            if config.subject_transform:
                refuse_old((await self._jetstream.stream_info(config.name)).config, self._names.actor)
            raise

    async def _find_state(self) -> dict[str, StreamInfo]:
        """Return the streams by which lost state is noticed: those of them that exist, by name.

        Raises:
            StateLost: The turns stream was deleted or replaced.
        """
        name = self._turns.name
        if name in self._created:
            info = await self._info(name)
            if info is None or info.created != self._created[name]:
                raise StateLost(
                    f"stream {name} was deleted while its actor ran: its state is lost. It is not created again, empty; "
                    "restore it"
                )
            return {name: info}
        # The dead-letter stream is asked for first, since another process may be creating both streams right now. In the
        # other order, both could be created between the two requests.
        dead = await self._jetstream.find_stream(self._dead.name)
        if dead is None:
            return {}
        info = await self._info(name)
        if info is None:
            raise StateLost(
                f"stream {name} is missing, but {self._dead.name} shows that this actor has run here: its state was "
                f"deleted, or is not restored yet. Restore it; to begin with no state, delete {self._dead.name} too"
            )
        return {name: info, self._dead.name: dead}

    def _found(self, stream: str, info: StreamInfo) -> None:
        """Note the creation time of a stream, and log if it is another stream than before."""
        if self._created.get(stream, info.created) != info.created:
            logger.error("stream %s was deleted and is created again: its messages are lost", stream)
        self._created[stream] = info.created

    async def _same(self, stream: str) -> StreamInfo:
        info = await self._info(stream)
        if info is None or info.created != self._created[stream]:
            raise StreamChanged(f"stream {stream} was deleted")
        return info

    async def _info(self, stream: str) -> StreamInfo | None:
        return await unless_missing(lambda: self._jetstream.stream_info(stream))


def refuse_old(found: Mapping[str, Any], actor: str) -> None:
    """Raise `OldStream` if a stream of events or dead letters with the configuration `found` has no subject transform."""
    if not found.get("subject_transform"):
        raise OldStream(
            f"stream {found.get('name')}: an earlier version has created it, and its messages are stored without the bucket "
            f"of their key: stop all processes of {actor} and run `actorloom upgrade {actor}`"
        )


async def unless_missing(request: Callable[[], Awaitable[T]]) -> T | None:
    """Return the result of a request, or None if the stream or consumer is missing in each of several attempts."""
    for pause in (*_MISSING_PAUSES, None):
        try:
            return await request()
        except ApiError as error:
            if error.err_code not in (ErrorCode.STREAM_NOT_FOUND, ErrorCode.CONSUMER_NOT_FOUND):
                raise
        if pause is not None:
            await asyncio.sleep(pause)
    return None
