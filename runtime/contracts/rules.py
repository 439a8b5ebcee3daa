"""Which change of a schema breaks whom: the versions to which a new one is compared, and in which direction.

- Events: with all versions that were in force in the last 30 days. Each version has to read the events of the other.
- Queries, commands and replies: with the version before. Each version has to read the messages of the other.
- States: with all versions of the same `state_version`. The new version has to read the states of the old one.

Events come again from the stream, in which they are for 30 days. Of requests and replies only the version before matters:
processes of both run while a new version replaces an old one. States are stored without an end.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

from runtime.contracts.compatibility import Break, breaks
from runtime.contracts.entries import Entry, SchemaKind
from runtime.contracts.versions import History, Record, Version
from runtime.errors import CodecError, ConfigurationError
from runtime.storage.streams import EVENTS_MAX_AGE

_BACKWARD: Final[dict[SchemaKind, str]] = {
    "event": "stored events of {} cannot be read",
    "query": "requests of callers with {} are refused",
    "command": "requests of callers with {} are refused",
    "reply": "callers with the new version cannot read replies of processes with {}",
    "state": "stored states of {} cannot be read",
}
"""Those whom a new version breaks that does not read the data of the old one."""
_FORWARD: Final[dict[SchemaKind, str]] = {
    "event": "reactions with {} cannot read new events",
    "query": "processes with {} refuse requests of callers with the new version",
    "command": "processes with {} refuse requests of callers with the new version",
    "reply": "callers with {} cannot read new replies",
}
"""Those whom a new version breaks whose data the old one does not read. A new state is read by the new version alone."""


class Broken(msgspec.Struct, frozen=True):
    """Somebody whom a change breaks."""

    type: str
    """The name of the schema: ``orders.OrderCreated``, ``orders.GetOrder.reply`` or ``orders.state.1``."""
    kind: SchemaKind
    victim: str
    """How it is broken: ``stored events of version 1f3a… cannot be read``."""
    version: str
    """The version to which the new one is compared."""
    registered: float
    """Unix seconds at which it was registered; 0 if that is not known."""
    actor_version: str
    process: str
    breaks: list[Break]

    def __str__(self) -> str:
        return f"{self.type}: {self.victim}: {'; '.join(map(str, self.breaks))}"


class ContractBroken(ConfigurationError):
    """An actor starts with a change of its contract that breaks others.

    Args:
        actor: The name of the actor.
        broken: Those whom it breaks.
    """

    def __init__(self, actor: str, broken: Sequence[Broken]) -> None:
        listed = "; ".join(f"({number}) {each}" for number, each in enumerate(broken, 1))
        state = any(each.kind == "state" for each in broken)
        upgrade = "give the state another state_version, with an upgrade, or " if state else ""
        super().__init__(
            f"{actor}: its contract has changed in a way that breaks others: {listed}. Change it in another way, {upgrade}"
            "allow it by --allow-breaking, or allow_breaking = true in the settings"
        )
        self.broken = broken


def broken_by(actor: str, entries: Iterable[Entry], record: Record, now: float) -> list[Broken]:
    """Return whom the schemas of an actor break.

    Args:
        actor: The name of the actor.
        entries: Its schemas now.
        record: The versions that are registered.
        now: Unix seconds.

    Raises:
        CodecError: A registered schema is no JSON Schema. The text names it.
    """
    return [each for entry in entries for each in _broken_by_entry(actor, entry, record, now)]


def _broken_by_entry(actor: str, entry: Entry, record: Record, now: float) -> Iterator[Broken]:
    history, version = record.history(entry.kind, entry.name), entry.version
    if history.newest is not None and history.newest.version == version:
        return  # It has passed this check, or it was allowed.
    for each in _compared(entry, history, version, now):
        yield from _between(actor, entry, each, both=True)
    if history.newest is None:
        for name in entry.former:
            if (former := record.history(entry.kind, name).newest) is not None:
                yield from _between(actor, entry, former, both=False)


def _compared(entry: Entry, history: History, version: str, now: float) -> list[Version]:
    match entry.kind:
        case "event":
            return history.counted(version, now - EVENTS_MAX_AGE)
        case "state":
            return history.counted(version)
        case _:
            return history.counted(version)[-1:]


def _between(actor: str, entry: Entry, old: Version, both: bool) -> Iterator[Broken]:
    """Yield whom a new schema breaks beside an old one. Unless `both`, only the data of the old version counts."""
    name = f"version {old.version}{_origin(old)}"
    try:
        found = [(_BACKWARD[entry.kind], breaks(old.schema, entry.schema))]
        if both and entry.kind in _FORWARD:
            found.append((_FORWARD[entry.kind], breaks(entry.schema, old.schema, newer="writer")))
    except CodecError as error:
        raise CodecError(f"{actor}.{entry.name}: {name}: {error}") from error
    for victim, each in found:
        if each:
            yield Broken(
                type=f"{actor}.{entry.name}",
                kind=entry.kind,
                victim=victim.format(name),
                version=old.version,
                registered=old.registered,
                actor_version=old.actor_version,
                process=old.process,
                breaks=each,
            )


def _origin(version: Version) -> str:
    if not version.registered:
        return ""
    time = datetime.fromtimestamp(version.registered, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return f" ({version.actor_version}, registered {time} by {version.process})"
