"""Archives: streams that keep events for longer than the streams of the actors do, or only some of them.

nats-server fills an archive by itself, from before its creation on, as far as the streams have the events. The messages keep
their subjects, their headers and, for each actor, their order. They do not keep the time at which they were stored.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from runtime.admin.archive_config import (
    Archive,
    difference,
    event_subject,
    events_stream,
    filters_of,
    generation_of,
    keep_text,
    merged,
    read_archive,
    settings,
    source,
    stream_name,
    wanted_filters,
)
from runtime.admin.refusal import Refused
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage, StreamInfo
from runtime.wire import header_block
from runtime.wire.cloudevents import is_structured, unix_time
from runtime.wire.codec import UNDECODABLE

_SOURCE: Final = b"Nats-Stream-Source"
"""The header by which nats-server notes the origin of a message: the stream, the sequence there, filters and subject."""


class UnknownArchive(ActorError):
    """There is no archive of this name."""


class Stored(msgspec.Struct, frozen=True):
    """An archive and its contents."""

    archive: Archive
    stream: str
    messages: int
    bytes: int
    first: float | None
    """Unix seconds at which the first of its events was emitted; None if it holds none."""
    last: float | None
    """The same of the last one."""


class Change(msgspec.Struct, frozen=True):
    """The work of `put`, or of its dry run."""

    archive: Archive
    """The definition, with its subjects in full."""
    lines: tuple[str, ...]
    """The difference, for people; empty if there is none."""
    created: bool
    missing: tuple[str, ...]
    """The streams that do not exist yet. The server looks for them again and again, every two minutes at least."""


async def list_archives(jetstream: JetStream, namespace: str) -> list[Stored]:
    """Return all archives of a namespace, by name. Raises the errors of `JetStream`."""
    found: list[Stored] = []
    for stream in await jetstream.stream_names():
        if not stream.startswith(stream_name(namespace, "")):
            continue
        info = await jetstream.find_stream(stream)
        if info is not None and (archive := read_archive(namespace, info.config)) is not None:
            found.append(await _stored(jetstream, archive, info))
    return found


async def find_archive(jetstream: JetStream, namespace: str, name: str) -> Stored:
    """Return the archive of a name.

    Raises:
        UnknownArchive: There is none.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    info = await jetstream.find_stream(stream_name(namespace, name))
    archive = None if info is None else read_archive(namespace, info.config)
    if info is None or archive is None:
        raise UnknownArchive(f"there is no archive {name}")
    return await _stored(jetstream, archive, info)


async def put(
    jetstream: JetStream, namespace: str, archive: Archive, *, force: bool = False, dry_run: bool = False
) -> Change:
    """Create an archive, or bring an existing one to this definition. No message is dropped without `force`.

    If the command is killed in the middle of a change, put the archive again: no event is missing or stored twice then.

    Args:
        jetstream: The client.
        namespace: The namespace.
        archive: The definition.
        force: Change it even if that drops messages at once.
        dry_run: Only return the difference.

    Raises:
        ConfigurationError: A subject is none of events, two of them overlap, the change would drop messages (`Refused`), or the
            stream exists and is no archive of this name (`Refused`).
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    archive = msgspec.structs.replace(archive, events=merged(map(event_subject, archive.events)))
    stream = stream_name(namespace, archive.name)
    info = await jetstream.find_stream(stream)
    before = None if info is None else read_archive(namespace, info.config)
    if info is not None and before is None:
        raise Refused(f"the stream {stream} exists and is no archive {archive.name}: use another name")
    origins = {each: await jetstream.find_stream(each) for each in wanted_filters(namespace, archive.events)}
    missing = tuple(each for each, found in origins.items() if found is None)
    change = Change(archive, difference(before, archive), before is None, missing)
    if info is not None and not force:
        await _refuse_loss(jetstream, archive, info)
    if dry_run:
        return change
    if info is not None:
        await _update(jetstream, namespace, archive, info)
        return change
    replicas = max((each.config.get("num_replicas", 1) for each in origins.values() if each is not None), default=1)
    sources = [source(each, filters, 0, 1) for each, filters in wanted_filters(namespace, archive.events).items()]
    config = {
        **settings(namespace, archive, 0),
        "name": stream,
        "description": f"Actorloom: archive {archive.name}",
        "storage": "file",
        "num_replicas": replicas,
        "sources": sources,
    }
    await jetstream.create_stream(config)
    return change


async def delete(jetstream: JetStream, namespace: str, name: str) -> Stored:
    """Delete an archive with all its messages, and return it as it was.

    Raises:
        UnknownArchive: There is none.
        ActorError, TimeoutError: The server does not answer, or refuses it.
    """
    found = await find_archive(jetstream, namespace, name)
    await jetstream.delete_stream(found.stream)
    return found


def origin_of(stored: StoredMessage) -> tuple[str, int] | None:
    """Return the stream of a message of an archive, and its sequence there; None if no stream was its source."""
    stream, _, rest = (header_block.get(stored.headers, _SOURCE) or "").partition(" ")
    sequence = header_block.number(rest.partition(" ")[0])
    return None if not stream or sequence is None else (stream, sequence)


class _Timed(msgspec.Struct, frozen=True):
    time: str = ""


def event_time(stored: StoredMessage) -> float:
    """Return Unix seconds at which the event of a message was emitted, or was stored if the event has no valid time."""
    text = header_block.get(stored.headers, b"ce-time") or ""
    try:
        if is_structured(stored.headers):
            text = msgspec.json.decode(stored.payload, type=_Timed).time
    except UNDECODABLE:
        return stored.time
    found = unix_time(text)
    return stored.time if found is None else found


async def _stored(jetstream: JetStream, archive: Archive, info: StreamInfo) -> Stored:
    stream = info.config["name"]
    first, last = await jetstream.get_next(stream, ">", 1), await jetstream.get_last(stream, ">")
    times = [None if each is None else event_time(each) for each in (first, last)]
    return Stored(archive, stream, info.state.messages, info.state.bytes, *times)


async def _refuse_loss(jetstream: JetStream, archive: Archive, info: StreamInfo) -> None:
    """Raise `Refused` if messages would be dropped at once."""
    first = await jetstream.get_next(info.config["name"], ">", 1)
    now = jetstream.connection.clock.now()
    reasons: list[str] = []
    if first is not None and archive.keep is not None and first.time < now - archive.keep:
        reasons.append(f"messages that it stores for longer than {keep_text(archive.keep)}")
    if archive.max_bytes is not None and info.state.bytes > archive.max_bytes:
        reasons.append(f"all but the newest {archive.max_bytes} of its {info.state.bytes} bytes")
    if reasons:
        raise Refused(f"the archive {archive.name} would drop {' and '.join(reasons)}: give --force if that is right")


async def _update(jetstream: JetStream, namespace: str, archive: Archive, info: StreamInfo) -> None:
    """Update the stream. A source with other filters is first taken away, so that its last message is known for certain."""
    wanted = wanted_filters(namespace, archive.events)
    have: dict[str, Mapping[str, Any]] = {each["name"]: each for each in info.config.get("sources") or ()}
    changed = [each for each in wanted if each not in have or filters_of(have[each]) != wanted[each]]
    kept = [have[each] for each in wanted if each not in changed]
    if any(each in have for each in changed):
        await jetstream.update_stream({**info.config, "sources": kept})
    generation = generation_of(info.config) + bool(changed)
    sources = list(kept)
    for each in changed:
        start = await _next(jetstream, info.config["name"], wanted[each][0].partition(".event.")[0])
        sources.append(source(each, wanted[each], generation, start))
    new = settings(namespace, archive, generation)
    new["metadata"] = (info.config.get("metadata") or {}) | new["metadata"]
    await jetstream.update_stream({**info.config, **new, "sources": sources})


async def _next(jetstream: JetStream, stream: str, actor: str) -> int:
    """Return the sequence, in the stream of an actor, behind the last of its events that an archive has."""
    last = await jetstream.get_last(stream, f"{actor}.event.>")
    origin = None if last is None else origin_of(last)
    return 1 if origin is None else origin[1] + 1


def has_events_of(archive: Archive, namespace: str, stream: str) -> bool:
    """Return whether a stream of events is one of those that fill an archive."""
    return any(events_stream(namespace, each) == stream for each in archive.events)
