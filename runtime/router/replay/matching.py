"""The events of a replay to targets, and the rules that match them."""

from collections.abc import Sequence
from urllib.parse import unquote

import msgspec

from runtime.actor.any_event import AnyEvent
from runtime.admin.replay.reading import id_of
from runtime.errors import CodecError
from runtime.intake.any_events import read_any
from runtime.nats.jetstream.responses import StoredMessage
from runtime.router.index import Index
from runtime.storage.replays import ReplayedRule, Source
from runtime.wire import header_block
from runtime.wire.cloudevents import opened
from runtime.wire.codec import UNDECODABLE
from runtime.wire.subjects import published, snake_case
from runtime.wire.tokens import NO_KEY, key_token


class Matcher:
    """The rules of a replay.

    Args:
        rules: The rules. They match whether or not they are enabled.
        key: The key of the events; None for those of all keys.
    """

    def __init__(self, rules: Sequence[ReplayedRule], key: str | None) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._key = key
        self._index = Index()
        for rule in rules:
            self._index.add(rule.name, rule.types, rule.where)

    def find(self, source: Source, stored: StoredMessage) -> tuple[AnyEvent, list[ReplayedRule]] | None:
        """Return an event and the rules that match it, by name. None if none does, or the message cannot be read."""
        event = read_event(source, stored)
        if event is None or (self._key is not None and event.key != self._key):
            return None
        rules = [self._rules[name] for name in self._index.match(event.type, event.data)]
        rules = [rule for rule in rules if not rule.sources or event.source in rule.sources]
        return (event, rules) if rules else None


def read_event(source: Source, stored: StoredMessage) -> AnyEvent | None:
    """Return the event of a message, as the router receives it; None if the message is no event that can be read."""
    _, payload, unreadable = opened(stored.headers, stored.payload)
    subject = _named(stored.headers) if source.by_headers else published(stored.subject)
    if unreadable is not None or subject is None:
        return None
    try:
        return read_any(stored, id_of(source, stored), payload, (subject, source.stream, stored.sequence))
    except (msgspec.DecodeError, *UNDECODABLE):
        return None


def _named(headers: bytes | None) -> str | None:
    """Return the subject on which an event was published, as its headers name it; None if they name no event."""
    actor, _, name = (header_block.get(headers, b"ce-type") or "").rpartition(".")
    key = header_block.get(headers, b"ce-subject")
    if not actor or not name:
        return None
    try:
        return f"{actor}.event.{snake_case(name)}.{NO_KEY if key is None else key_token(unquote(key))}"
    except CodecError:
        return None
