"""The choice of events of several actors by subjects with wildcards, by types, or by classes."""

from collections.abc import Iterable
from itertools import combinations
from typing import Final, NamedTuple

from runtime.actor.message import contract_of
from runtime.errors import DeclarationError
from runtime.wire.subjects import Names, snake_case, valid_name

_ANY: Final = "*"
_WANTED: Final = "write a subject as orders.event.*, a type as orders.OrderCreated, or > for all events"


class EventSubject(NamedTuple):
    """Events by actor, name and key. Each field is a token of the subject on which they are published, or ``*``."""

    actor: str = _ANY
    name: str = _ANY
    key: str = _ANY

    def covers(self, other: "EventSubject") -> bool:
        """Return whether this has all events of `other`."""
        return all(mine in (_ANY, its) for mine, its in zip(self, other, strict=True))

    def overlaps(self, other: "EventSubject") -> bool:
        """Return whether an event can belong to both."""
        return all(mine == its or _ANY in (mine, its) for mine, its in zip(self, other, strict=True))


ALL: Final = EventSubject()


def read_event_subject(given: object, label: str) -> EventSubject:
    """Return the events that a caller names.

    Args:
        given: A subject without the namespace, with the wildcards of NATS: ``orders.event.*``, ``*.event.order_created.7``,
            ``>``. The tokens that are missing at its end, the name and the key, may be any. Or the CloudEvents type
            ``orders.OrderCreated``, or the class of an event.
        label: The name of the caller in error texts.

    Raises:
        DeclarationError: `given` is none of these.
    """
    if isinstance(given, type):
        contract = contract_of(given)
        if contract.op != "event":
            raise DeclarationError(f"{label}: {given.__name__} is not the class of an event")
        return EventSubject(contract.actor, contract.name)
    if not isinstance(given, str):
        raise DeclarationError(f"{label}: {given!r}: {_WANTED}")
    tokens = given.split(".")
    if len(tokens) == 2 and valid_name(tokens[0]) and tokens[1][:1].isupper() and tokens[1].isidentifier():
        return EventSubject(tokens[0], snake_case(tokens[1]))
    if tokens[-1] == ">":
        tokens = [*tokens[:-1], *[_ANY] * (5 - len(tokens))]
    if not 3 <= len(tokens) <= 4 or not all(map(_is_token, tokens)) or tokens[1] not in ("event", _ANY):
        raise DeclarationError(f"{label}: {given[:80]!r}: {_WANTED}")
    return EventSubject(tokens[0], *tokens[2:])


def filters_of(chosen: Iterable[EventSubject], names: Names) -> list[str]:
    """Return the filters of a consumer for the chosen events of one actor, empty if it has none of them.

    The server refuses filters that overlap. If two do, the only filter is that of all events, and `is_chosen` tells them apart.
    """
    own = {each._replace(actor=names.actor) for each in chosen if each.actor in (_ANY, names.actor)}
    if any(one.overlaps(other) for one, other in combinations(own, 2)):
        own = {next((each for each in own if all(map(each.covers, own))), EventSubject(names.actor))}
    return sorted(names.stored_event(each.name, token=each.key) for each in own)


def subject_of(published: str) -> EventSubject:
    """Return the tokens of the subject on which an event was published: ``orders.event.order_created.<key token>``."""
    head, _, name, key = published.rsplit(".", 3)
    return EventSubject(head.rpartition(".")[2], name, key)


def _is_token(token: str) -> bool:
    return bool(token) and token.isprintable() and (token == _ANY or not set(token) & set("*> "))
