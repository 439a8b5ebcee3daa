"""A place in the events stream of an actor, and the messages after it without an end, over reconnects and restarts of the server."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Final

from runtime.actor.since import FIRST, NEW
from runtime.backoff import Backoff
from runtime.errors import ActorError, ConfigurationError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError, ErrorCode, is_passing
from runtime.nats.jetstream.following import Following
from runtime.nats.jetstream.responses import StoredMessage, StreamInfo
from runtime.wire.subjects import Names

logger = logging.getLogger("actorloom.client")

_BACKOFF: Final = Backoff(first=0.05, longest=2.0)
"""The pauses between two passes without a message."""

_MISSING: Final = 6
"""Looks in a row that find no stream, or not its end, after which it is gone. A server that has just become leader may not know
it yet."""


class Place:
    """Where a follower is in the stream of an actor: its next pass begins there.

    Args:
        jetstream: The client.
        names: The names of the actor.
        subjects: The filters of the stored events, which do not overlap.
        since: The start, as `read_since` returns it; or a stream sequence, after which the first pass begins.
        report: Called with a line about events that may be missing, come again, or wait. The default logs a warning.
    """

    def __init__(
        self,
        jetstream: JetStream,
        names: Names,
        subjects: Sequence[str],
        since: str | int,
        report: Callable[[str], object] = logger.warning,
    ) -> None:
        self.jetstream = jetstream
        self.names = names
        self.stream = names.events_stream
        self.subjects = tuple(subjects)
        self.report = report
        self.sequence = 0 if since == FIRST else since if isinstance(since, int) else None
        """The stream sequence of the last event that was taken; None at a start by time, or at the end of the stream until it is found."""
        self.time = None if isinstance(since, int) or since in (FIRST, NEW) else since
        self.created = ""
        """The creation time of the stream; empty until it is found."""
        self.short = 0
        """Looks in a row that find an end of the stream before this place."""
        self.following: Following | None = None
        """The last pass."""
        self._reached = since if isinstance(since, int) else None
        """All events up to this sequence were taken, or are not wanted. None until the stream is found."""
        self._reported = 0
        """The last sequence of the events that were reported as removed."""
        self._end = 0
        """The last sequence of the stream at the last look."""

    async def find(self) -> bool:
        """Find the stream, and what the next pass needs to know of it. Return False if there is none.

        Raises:
            ConfigurationError: An earlier version has created the stream.
            ActorError, TimeoutError: The stream cannot be asked for.
        """
        info = await self.jetstream.find_stream(self.stream)
        if info is None:
            return False
        if not info.config.get("subject_transform"):
            raise ConfigurationError(
                f"stream {self.stream}: an earlier version has created it, and its events cannot be followed: run "
                f"`actorloom upgrade {self.names.actor}`"
            )
        if self.created and self.created != info.created:
            self.report(f"stream {self.stream} was deleted and created again: all of its events follow")
            self.sequence = self._reached = self._reported = self._end = 0
        elif self.sequence is None and self.time is None:
            self.sequence = self._reached = info.state.last_seq
        self.created = info.created
        self._shorten(info)
        self.compare(info)
        return True

    def compare(self, info: StreamInfo) -> None:
        """Report events that the stream has removed before they were taken: at its limits, or by a purge.

        It is called from time to time. It does not know which of them the filters would have let pass.
        """
        first, following = info.state.first_seq, self.following
        if self._reached is None:
            self._reached = max(first - 1, 0)
        taken = self.sequence or 0
        if following is not None and following.is_caught_up:
            taken = max(taken, self._end)
        start = self._reached = max(self._reached, taken)
        if following is not None and following.skipped is not None:
            start, following.skipped = max(following.skipped, self._reported), None
        if first - 1 > start:
            self.report(
                f"stream {self.stream} has removed its events {start + 1} to {first - 1} before they were read: some may be "
                "missing"
            )
            self._reported = first - 1
            self._reached = max(self._reached, first - 1)
        self._end = info.state.last_seq

    def _shorten(self, info: StreamInfo) -> None:
        """Go back to the end of a stream that has lost messages. A new leader of several replicas may not know all of them yet."""
        end = info.state.last_seq
        self.short = self.short + 1 if self.sequence is not None and self.sequence > end else 0
        if self.short >= (_MISSING if info.config.get("num_replicas", 1) > 1 else 1):
            self.report(
                f"stream {self.stream} has lost messages: it ended at {self.sequence}, and ends at {end} now; the events that "
                "follow come from there"
            )
            self.sequence, self.short = end, 0
            self._reached = self._end = end


async def follow(place: Place) -> AsyncGenerator[StoredMessage]:
    """Yield the messages after a place, without an end, and move the place to each.

    This is a function, and no method of a follower: the two would refer to each other, and `break` would not end it at once.

    Raises:
        ConfigurationError: The stream is missing.
        ActorError, TimeoutError: The server refuses, or did not answer at the start.
    """
    failures, missing, noted = 0, 0, False
    while True:
        try:
            found = await place.find()
            if found and not place.short:
                missing = 0
                following = Following(place.jetstream, place.stream, place.subjects, place.sequence, place.time)
                async with following as messages:
                    place.following = following
                    async for stored in messages:
                        failures, noted = 0, False
                        place.sequence = stored.sequence
                        yield stored
            elif not found:
                missing += 1
                if not place.created or missing >= _MISSING:
                    raise no_stream(place)
        except (ActorError, TimeoutError) as error:
            if not place.created or place.jetstream.connection.is_closed or not _passes(error):
                raise
            if not noted:
                place.report(f"events of {place.stream}: {error}; trying again")
            noted = True
        failures += 1
        await asyncio.sleep(_BACKOFF.delay(failures))


def _passes(error: Exception) -> bool:
    """Return whether an error passes by itself. A stream may be deleted between the look for it and the consumer."""
    return is_passing(error) or (isinstance(error, ApiError) and error.err_code == ErrorCode.STREAM_NOT_FOUND)


def no_stream(place: Place) -> ConfigurationError:
    """Return the error for a stream that is missing."""
    actor, namespace = place.names.actor, place.names.namespace
    where = f" in namespace {namespace!r}" if namespace else ""
    return ConfigurationError(f"there is no stream {place.stream}: {actor} creates it when it first starts{where}")
