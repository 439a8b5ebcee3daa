"""The stretches of streams and archives that a replay sends."""

from collections.abc import Sequence
from typing import Final

from runtime.admin.archives import Stored, UnknownArchive, find_archive
from runtime.admin.replay.reading import first_from
from runtime.admin.replay.refusal import NotFound
from runtime.nats.jetstream.client import JetStream
from runtime.storage.replays import Part, Source

_CLOCKS: Final = 3600.0
"""Seconds by which the clock of a machine that emits events may be ahead of the server's."""
_EVER: Final = 1e12
"""Unix seconds that no event has."""


async def archive_of(jetstream: JetStream, namespace: str, name: str) -> Stored:
    """Return an archive. Raises `NotFound` if there is none of this name."""
    try:
        return await find_archive(jetstream, namespace, name)
    except UnknownArchive as error:
        raise NotFound(str(error)) from None


async def of_stream(
    jetstream: JetStream, stream: str, since: float, until: float | None, parts: Sequence[Part]
) -> Source | None:
    """Return the stretch of a stream; None if there is no such stream.

    Args:
        jetstream: The client.
        stream: The name of the stream.
        since: Unix seconds. Earlier events are left out.
        until: Unix seconds. Events of this time and later ones are left out. None for all that are stored now.
        parts: The events.
    """
    info = await jetstream.find_stream(stream)
    if info is None:
        return None
    end = info.state.last_seq
    first = await first_from(jetstream, stream, since, end)
    last = end if until is None else await first_from(jetstream, stream, until, end) - 1
    return Source(stream, first, last, first - 1, tuple(parts))


async def of_archive(
    jetstream: JetStream,
    archive: Stored,
    since: float,
    until: float | None,
    parts: Sequence[Part],
    *,
    by_headers: bool = False,
) -> Source:
    """Return the stretch of an archive. The arguments are those of `of_stream`, and `Source.by_headers`.

    An archive stores an event after it was emitted, and possibly long after. So the stretch begins by the times of the archive,
    and goes on to its end.
    """
    end = (await jetstream.stream_info(archive.stream)).state.last_seq
    first = await first_from(jetstream, archive.stream, since - _CLOCKS, end)
    window = (since, _EVER if until is None else until)
    return Source(archive.stream, first, end, first - 1, tuple(parts), window, by_headers)
