"""Feeds, and the actors at which deliveries of rules arrive: books get commands, and hearers react to events.

The events of a feed are numbered. A rule sends each of its targets these fields: `Note`.
"""

from random import Random
from typing import Any, ClassVar

from msgspec import Struct
from msgspec.structs import replace

from runtime import Actor, Command, Event, Options, RetryPolicy, command, react

KINDS, LETTERS, AMOUNTS = 60, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMN", 2000

_OPTIONS = Options(retry=RetryPolicy(attempts=1000, first=0.05, longest=0.5))


class Fields(Struct, frozen=True, omit_defaults=True):
    """The fields of an event that rules look at."""

    kind: str
    word: str
    amount: int
    note: str | None = None


def fields_of(key: str, number: int) -> Fields:
    """Return the fields of an event of a feed. The same event has the same fields in each run of its handler."""
    rng = Random(f"{key}/{number}")
    return Fields(
        kind=f"k{rng.randrange(KINDS):02}",
        word=f"{rng.choice(LETTERS)}{rng.randrange(10)}",
        amount=rng.randrange(AMOUNTS),
        note="noted" if rng.random() < 0.25 else None,
    )


class Feed(Command[int], actor="feeds", key="key"):
    """Emits the next events of a feed. The reply is the number of the last one."""

    key: str
    count: int


class Fed(Event, actor="feeds", key="key", omit_defaults=True):
    key: str
    number: int
    kind: str
    word: str
    amount: int
    note: str | None = None


class Fedness(Struct, frozen=True):
    """The number of the last event of a feed."""

    last: int = 0


class Feeds(Actor[Fedness]):
    """Emits numbered events."""

    name = "feeds"

    @command
    async def feed(self, message: Feed) -> int:
        last = (self.state or Fedness()).last
        for number in range(last + 1, last + message.count + 1):
            found = fields_of(message.key, number)
            self.emit(Fed(message.key, number, found.kind, found.word, found.amount, found.note))
        self.state = Fedness(last + message.count)
        return last + message.count


class Note(Struct, frozen=True):
    """A delivery, as its target gets it."""

    key: str
    number: int
    rule: str
    target: str
    mark: int = 0
    """The change of the rule that has sent it, for the rules that change."""


INPUT: dict[str, Any] = {"key": "$key", "number": "$.number", "rule": "$rule", "target": "$target", "mark": 0}
"""The input of each rule, which makes a `Note`."""


class Noted(Struct, frozen=True):
    """The deliveries for one key, in the order in which they took effect."""

    notes: tuple[Note, ...] = ()


class Write(Command[None], actor="books", key="key"):
    """Note a delivery."""

    key: str
    number: int
    rule: str
    target: str
    mark: int = 0


class Echoed(Event, actor="books", key="key"):
    """A delivery to the target that emits events."""

    key: str
    number: int
    rule: str
    target: str
    mark: int = 0


class Books(Actor[Noted]):
    """Notes the deliveries that are commands."""

    name = "books"
    options: ClassVar[Options] = _OPTIONS

    @command
    async def write(self, message: Write) -> None:
        self.state = _with(self.state, message)


class Hearers(Actor[Noted]):
    """Notes the deliveries that are events."""

    name = "hearers"
    options: ClassVar[Options] = _OPTIONS

    @react
    async def on_echoed(self, event: Echoed) -> None:
        self.state = _with(self.state, event)


def _with(state: Noted | None, found: Write | Echoed) -> Noted:
    state = state or Noted()
    note = Note(found.key, found.number, found.rule, found.target, found.mark)
    return replace(state, notes=(*state.notes, note))
