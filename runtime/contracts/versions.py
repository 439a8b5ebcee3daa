"""The versions of schemas: which ones an actor has had, and how a start adds to them.

A version is *in force* from a start with it until a start with another one. While a new version replaces an old one, processes
of both start, and the newest version is the one of the last start. It is the last one in `History.versions`.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from runtime.contracts.entries import Entry, SchemaKind
from runtime.wire.schemas import Schema

KEPT: Final = 50
"""The versions of a schema that are kept."""
_SEEN: Final = 86_400.0
"""Seconds after which a start with the newest version is noted again."""


class Version(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A version of a schema."""

    version: str
    """The hash of the schema."""
    schema: Schema
    actor_version: str
    """The version of the actor that has registered it."""
    process: str
    """The process that has registered it: its host, its number, and a random end."""
    registered: float
    """Unix seconds of the server."""
    seen: float
    """Unix seconds of the last start with it that is noted: starts with the newest version are noted once a day."""
    until: float = 0.0
    """Unix seconds of the start with another version that came next; 0 for the newest."""


class History(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The versions of one schema."""

    kind: SchemaKind
    name: str
    versions: tuple[Version, ...] = ()
    """The newest one is the last, and those in front of it were in force before."""
    broken: float = 0.0
    """Unix seconds of the last start with a breaking change that was allowed; 0 if there was none."""

    @property
    def newest(self) -> Version | None:
        """The version of the last start; None if there was none."""
        return self.versions[-1] if self.versions else None

    def find(self, version: str) -> Version | None:
        """Return a version by the beginning of its hash, the newest one first; None if there is none."""
        return next((each for each in reversed(self.versions) if each.version.startswith(version)), None)

    def counted(self, version: str, since: float = 0.0) -> list[Version]:
        """Return the versions to which another one is compared, oldest first.

        Args:
            version: The hash of the other one, which is not compared to itself.
            since: Unix seconds. Versions that were not in force since then are left out. Those before a breaking change that was
                allowed are always left out.
        """
        return [
            each
            for each in self.versions
            if each.version != version and (not each.until or (each.until > self.broken and each.until >= since))
        ]


class Start(msgspec.Struct, frozen=True):
    """A start of an actor."""

    actor_version: str
    process: str
    time: float
    """Unix seconds of the server."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """All schemas that an actor has had."""

    histories: tuple[History, ...] = ()

    def history(self, kind: SchemaKind, name: str) -> History:
        """Return the versions of one schema; an empty history if it has none."""
        found = (each for each in self.histories if each.name == name and each.kind == kind)
        return next(found, History(kind=kind, name=name))

    def after(self, entries: Iterable[Entry], start: Start, broken: Iterable[tuple[SchemaKind, str]] = ()) -> "Record":
        """Return the record after a start with these schemas.

        Args:
            entries: The schemas.
            start: The start.
            broken: The kinds and names of schemas whose breaking change is allowed.
        """
        found = {(each.kind, each.name): each for each in self.histories}
        for entry in entries:
            history = _followed(self.history(entry.kind, entry.name), entry, start)
            found[entry.kind, entry.name] = history
        for each in broken:
            found[each] = replace(found[each], broken=start.time)
        return Record(tuple(found.values()))

    def without_oldest(self) -> "Record | None":
        """Return this record without the version that is out of force for the longest time; None if all are in force."""
        ended = [
            (each.until, place)
            for place, history in enumerate(self.histories)
            for each in history.versions
            if each.until
        ]
        if not ended:
            return None
        _, place = min(ended)
        oldest = min((each for each in self.histories[place].versions if each.until), key=lambda each: each.until)
        history = self.histories[place]
        kept = replace(history, versions=tuple(each for each in history.versions if each is not oldest))
        return Record((*self.histories[:place], kept, *self.histories[place + 1 :]))


def _followed(history: History, entry: Entry, start: Start) -> History:
    """Return a history after a start with a schema: itself, if nothing is to be noted."""
    newest, version = history.newest, entry.version
    if newest is not None and newest.version == version:
        if start.time - newest.seen < _SEEN:
            return history
        return replace(history, versions=(*history.versions[:-1], replace(newest, seen=start.time)))
    known = next((each for each in history.versions if each.version == version), None)
    others: Sequence[Version] = [
        replace(each, until=start.time) if each is newest else each for each in history.versions if each is not known
    ]
    again = Version(
        version=version,
        schema=entry.schema,
        actor_version=known.actor_version if known else start.actor_version,
        process=known.process if known else start.process,
        registered=known.registered if known else start.time,
        seen=start.time,
    )
    return replace(history, versions=(*others, again)[-KEPT:])
