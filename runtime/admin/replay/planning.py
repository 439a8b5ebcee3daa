"""The plan of a replay: which reaction gets which events, and how many they are."""

import math
from collections.abc import Sequence
from difflib import get_close_matches

import msgspec

from runtime.actor.metadata import Reaction, ServiceMetadata
from runtime.admin import discovery
from runtime.admin.archives import has_events_of
from runtime.admin.replay.reading import read_events
from runtime.admin.replay.refusal import NotFound, Refused, taken
from runtime.admin.replay.stretches import archive_of, of_archive, of_stream
from runtime.nats.jetstream.client import JetStream
from runtime.storage.replays import Mode, Part, Replay, Replays, Source
from runtime.wire.buckets import bucket_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The wish for a replay. The fields are those of `Replay`."""

    name: str
    reaction: str
    mode: Mode = "missing"
    since: float
    until: float | None = None
    """None for the time of the server at the start."""
    key: str | None = None
    rate: float
    archive: str | None = None


class Count(msgspec.Struct, frozen=True):
    """The events of one type that a replay would send."""

    event: str
    stream: str
    reaction: str
    events: int
    first: float
    """Unix seconds at which the first of them was stored."""
    last: float
    forgotten: int
    """Those that are stored for longer than the actor remembers handled messages. It may handle them again, whatever the
    mode is."""


class Plan(msgspec.Struct, frozen=True):
    """A replay that has not begun, and the counts of its events."""

    replay: Replay
    remember: float
    """Seconds for which the actor remembers a handled message; 0 if it has no state, and so remembers none."""
    counts: tuple[Count, ...]
    """One for each type of which there are events."""

    @property
    def forgotten(self) -> int:
        """The events that may be handled again, whatever the mode is."""
        return sum(each.forgotten for each in self.counts)


async def prepare(jetstream: JetStream, names: Names, request: Request) -> Plan:
    """Return the plan of a replay. All of its events are read once, and counted.

    Args:
        jetstream: The client.
        names: The names of the actor whose reaction is to get the events, as one whole.
        request: The replay.

    Raises:
        NotFound: The actor does not run, has no such reaction, there are no events to send, or no such archive.
        Refused: There is a replay of this name, or the processes of the actor announce different reactions.
        CodecError: The key is too long, or the entry of a replay of this name cannot be read.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    if await Replays(jetstream, names.namespace).find(request.name) is not None:
        raise taken(request.name)
    metadata = await _announced(jetstream, names, request.reaction)
    now = jetstream.connection.clock.now()
    until = now if request.until is None else request.until
    sources = await _sources(jetstream, names, request, metadata)
    counts = await _count(jetstream, sources, now - metadata.remember)
    if not counts:
        of_key = "" if request.key is None else f" of key {request.key!r}"
        raise NotFound(f"{names.actor}.{request.reaction}: no event{of_key} is stored in this time")
    replay = Replay(
        name=request.name,
        actor=names.actor,
        reaction=request.reaction,
        mode=request.mode,
        since=request.since,
        until=until,
        key=request.key,
        rate=request.rate,
        archive=request.archive,
        started=now,
        total=sum(each.events for each in counts),
        sources=tuple(sources),
    )
    return Plan(replay, metadata.remember, tuple(counts))


async def _announced(jetstream: JetStream, names: Names, wanted: str) -> ServiceMetadata:
    """Return the metadata of an actor, with the reactions of the wanted name only."""
    services = await discovery.services(jetstream.connection, names.actor)
    services = [each for each in services if each.metadata.namespace == names.namespace]
    if not services:
        raise NotFound(
            f"{names.actor} does not run: a process of it must run, since it tells which reactions there are"
        )
    announced = [each.metadata.reacts for each in services]
    found = [_named(reactions, wanted) for reactions in announced]
    if not any(found):
        known = sorted(
            {name for reactions in announced for each in reactions for name in (each.reaction, each.method) if name}
        )
        nearest = get_close_matches(wanted, known, 3) or known
        hint = f": did you mean {' or '.join(nearest)}?" if nearest else ": it has none"
        raise NotFound(f"{names.actor} has no reaction {wanted}{hint}")
    if any(each != found[0] for each in found):
        raise Refused(
            f"the processes of {names.actor} have different reactions {wanted}: wait until all run one version"
        )
    return msgspec.structs.replace(services[0].metadata, reacts=found[0])


def _named(reactions: Sequence[Reaction], wanted: str) -> list[Reaction]:
    """Return the reaction of a name, or those of a method with this name. Their descriptions are left out."""
    found = [each for each in reactions if each.reaction == wanted] or [
        each for each in reactions if each.method == wanted
    ]
    return [msgspec.structs.replace(each, description="") for each in found]


async def _sources(jetstream: JetStream, names: Names, request: Request, metadata: ServiceMetadata) -> list[Source]:
    by_stream: dict[str, list[Part]] = {}
    for reaction in metadata.reacts:
        part = Part(reaction.event, reaction.reaction, reaction.method, _filter(reaction, request.key), reaction.where)
        by_stream.setdefault(reaction.stream, []).append(part)
    archive = None if request.archive is None else await archive_of(jetstream, names.namespace, request.archive)
    sources: list[Source] = []
    for stream, parts in by_stream.items():
        if archive is None:
            source = await of_stream(jetstream, stream, request.since, request.until, parts)
        elif has_events_of(archive.archive, names.namespace, stream):
            source = await of_archive(jetstream, archive, request.since, request.until, parts)
        else:
            source = None
        if source is None:
            raise NotFound(
                f"{names.actor}.{request.reaction}: there is no stream {stream}: its actor has never run here"
                if archive is None
                else f"{names.actor}.{request.reaction}: the archive {request.archive} has no events of {stream}"
            )
        sources.append(source)
    return sources


def _filter(reaction: Reaction, key: str | None) -> str:
    """Return the subjects of the events of a reaction, or of those of one key."""
    if key is None:
        return reaction.filter
    token = key_token(key)
    return f"{reaction.filter.removesuffix('.*.*')}.{bucket_of(token)}.{token}"


async def _count(jetstream: JetStream, sources: Sequence[Source], remembered_from: float) -> list[Count]:
    """Return the counts of the events of some sources. Those before the time `remembered_from` may be forgotten."""
    counts: dict[str, Count] = {}
    async for found in read_events(jetstream, sources):
        part, time = found.part, found.stored.time
        before = counts.get(part.reaction) or Count(
            part.event, sources[found.source].stream, part.reaction, 0, math.inf, 0.0, 0
        )
        counts[part.reaction] = msgspec.structs.replace(
            before,
            events=before.events + 1,
            first=min(before.first, time),
            last=max(before.last, time),
            forgotten=before.forgotten + (time < remembered_from),
        )
    return list(counts.values())
