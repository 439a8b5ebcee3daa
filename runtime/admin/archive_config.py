"""The definition of an archive, and the configuration of its stream.

The configuration is the only place where a definition is stored. nats-server fills the stream from those of the actors, its
``sources``, each with the filters of the wanted events.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from runtime.errors import ConfigurationError
from runtime.nats.jetstream.configs import SECOND
from runtime.wire.buckets import bucket_of
from runtime.wire.subjects import Names, published, valid_name
from runtime.wire.tokens import is_token

_NAME: Final = "actorloom.archive"
"""The metadata of an archive: its name, by which it differs from other streams."""
_GENERATION: Final = "actorloom.generation"
"""The metadata of an archive: how often its sources were changed."""
_WINDOW: Final = 120 * SECOND
"""Nanoseconds for which an archive that rules fill drops a message whose id it has seen.

One with sources drops none: two programs may use the same ids in the streams of two actors.
"""
_UNITS: Final = ((86_400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """The definition of an archive."""

    name: str
    events: tuple[str, ...] = ()
    """The subjects of its events as `event_subject` returns them. Without any, rules fill the archive."""
    keep: float | None = None
    """Seconds for which the archive keeps a message that it has stored; None for ever."""
    max_bytes: int | None = None
    """The size at which the oldest messages are dropped, in bytes; None for no limit."""


def event_subject(text: str) -> str:
    """Return the subjects of events in their full form: ``orders.event.order_paid`` is ``orders.event.order_paid.*``.

    Args:
        text: A subject on which events are published, without the namespace. Its last tokens may be wildcards, or missing.

    Raises:
        ConfigurationError: It is no such subject.
    """
    actor, *tokens = text.removesuffix(".>").split(".")
    if actor in ("*", ">"):
        raise ConfigurationError(
            f"{text[:80]!r}: name the actor: an archive is filled from the stream of each actor that it names"
        )
    kind, name, key = (*tokens, *("*",) * (3 - len(tokens)))[:3]
    wrong = kind != "event" or len(tokens) > 3 or not all(each == "*" or is_token(each) for each in (name, key))
    if wrong or not valid_name(actor):
        raise ConfigurationError(
            f"{text[:80]!r} is no subject of events: write orders.event.order_paid, orders.event.order_paid.<key> or "
            "orders.event.*"
        )
    return f"{actor}.event.{name}.{key}"


def merged(subjects: Iterable[str]) -> tuple[str, ...]:
    """Return subjects in order, without those that another one covers.

    Raises:
        ConfigurationError: Two of them overlap: events of both would be stored twice.
    """
    every = sorted(set(subjects))
    found = [each for each in every if not any(_covers(other, each) for other in every if other != each)]
    for place, one in enumerate(found):
        for other in found[place + 1 :]:
            if all(a == b or "*" in (a, b) for a, b in zip(one.split("."), other.split("."), strict=True)):
                raise ConfigurationError(f"{one} and {other} overlap: write one subject for both")
    return tuple(found)


def stream_name(namespace: str, name: str) -> str:
    """Return the name of the stream of an archive: ``archive-<name>`` in the namespace."""
    return f"{Names('', namespace).stream_prefix}archive-{name}"


def rule_subject(namespace: str, name: str) -> str:
    """Return the subjects of an archive that rules fill: ``archive.<name>.>`` in the namespace."""
    return f"{Names('', namespace).prefix}archive.{name}.>"


def events_stream(namespace: str, subject: str) -> str:
    """Return the name of the stream that has the events of a subject in `Archive.events`."""
    return Names(subject.partition(".")[0], namespace).events_stream


def read_archive(namespace: str, config: Mapping[str, Any]) -> Archive | None:
    """Return the archive of a stream; None if it is the stream of something else.

    Args:
        namespace: The namespace.
        config: The configuration of the stream as the server reports it.
    """
    name = (config.get("metadata") or {}).get(_NAME, "")
    if not name or config["name"] != stream_name(namespace, name):
        return None
    prefix = Names("", namespace).prefix
    filters = [each for source in config.get("sources") or () for each in filters_of(source)]
    return Archive(
        name=name,
        events=tuple(sorted(published(each.removeprefix(prefix)) for each in filters)),
        keep=config["max_age"] / SECOND if config.get("max_age") else None,
        max_bytes=config["max_bytes"] if config.get("max_bytes", -1) > 0 else None,
    )


def settings(namespace: str, archive: Archive, generation: int) -> dict[str, Any]:
    """Return the fields of the configuration of an archive that a change may change, apart from its sources."""
    age = 0 if archive.keep is None else int(archive.keep * SECOND)
    return {
        "subjects": [] if archive.events else [rule_subject(namespace, archive.name)],
        "max_age": age,
        "max_bytes": archive.max_bytes or -1,
        "duplicate_window": 0 if archive.events else min(_WINDOW, age or _WINDOW),
        "metadata": {_NAME: archive.name, _GENERATION: str(generation)},
    }


def generation_of(config: Mapping[str, Any]) -> int:
    """Return how often the sources of an archive were changed."""
    return int((config.get("metadata") or {}).get(_GENERATION, "0"))


def wanted_filters(namespace: str, events: Sequence[str]) -> dict[str, list[str]]:
    """Return the filters of an archive by stream: the subjects under which the streams of the actors store its events."""
    found: dict[str, list[str]] = {}
    for subject in events:
        actor, _, name, key = subject.split(".")
        bucket = "*" if key == "*" else bucket_of(key)
        stored = Names(actor, namespace).stored_event(name, bucket, key)
        found.setdefault(events_stream(namespace, subject), []).append(stored)
    return found


def filters_of(source: Mapping[str, Any]) -> list[str]:
    """Return the filters of a source of an archive."""
    return [each["src"] for each in source["subject_transforms"] if ".event." in each["src"]]


def source(stream: str, filters: Sequence[str], generation: int, start: int) -> dict[str, Any]:
    """Return a source of an archive.

    If the stream had a source with the same filters before, the server goes on behind the last message of that one, and stores a
    second time the messages that other filters have taken since then. So a changed source has a filter more, which is like no
    earlier one and matches nothing.

    Args:
        stream: The name of the source.
        filters: The subjects of the wanted messages.
        generation: How often the sources of the archive were changed.
        start: The first sequence that is wanted.
    """
    mark = [f"{filters[0].partition('.event.')[0]}.archive.{generation}"] if generation else []
    transforms = [{"src": each, "dest": ""} for each in (*filters, *mark)]
    return {"name": stream, "subject_transforms": transforms} | ({"opt_start_seq": start} if start > 1 else {})


def difference(before: Archive | None, after: Archive) -> tuple[str, ...]:
    """Return the lines of a change, with ``+`` and ``-``; none if nothing changes."""
    old = before or Archive(name=after.name)
    known = {subject.partition(".")[0] for subject in old.events}
    late = {each: " (later events only)" for each in after.events if each.partition(".")[0] in known}
    lines = [f"- {each}" for each in old.events if each not in after.events]
    lines += [f"+ {each}{late.get(each, '')}" for each in after.events if each not in old.events]
    pairs = [("keep", keep_text(old.keep), keep_text(after.keep))]
    pairs.append(("max-bytes", str(old.max_bytes or "no limit"), str(after.max_bytes or "no limit")))
    lines += [f"{name}: {to}" if before is None else f"{name}: {was} -> {to}" for name, was, to in pairs if was != to]
    return tuple(lines)


def keep_text(seconds: float | None) -> str:
    """Return the time for which an archive keeps messages, for people: ``365d``, or ``forever``."""
    if seconds is None:
        return "forever"
    return next((f"{int(seconds // size)}{unit}" for size, unit in _UNITS if seconds % size == 0), f"{seconds:g}s")


def _covers(wide: str, narrow: str) -> bool:
    return all(a in ("*", b) for a, b in zip(wide.split("."), narrow.split("."), strict=True))
