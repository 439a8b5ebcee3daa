"""The actors under the fuzzer: one that stores and returns its input by key, and two that react to its events."""

from datetime import datetime
from typing import ClassVar

from msgspec import Struct

from runtime import Actor, Command, Event, NotFound, Options, Query, RetryPolicy, command, query, react

OPTIONS = Options(handled=4, resident=500, idle=1.0, retry=RetryPolicy(attempts=3, first=0.02, longest=0.1))


class Leaf(Struct, frozen=True):
    name: str = ""
    price: float = 0.0
    tags: list[str] = []


class Kept(Struct, frozen=True):
    """The state of one key."""

    value: int = 0
    text: str = ""
    leaf: Leaf | None = None


class Seen(Struct, frozen=True):
    """The number of handled events of one key."""

    count: int = 0


class Show(Query[Kept], actor="mirror", key="key"):
    key: str
    text: str = ""
    number: int = 0
    ratio: float = 0.0
    when: datetime | None = None
    leaf: Leaf | None = None
    more: dict[str, Leaf] = {}


class Miss(Query[None], actor="mirror", key="key"):
    """Always fails with `NotFound`, whose text contains text of the caller."""

    key: str
    text: str = ""


class Put(Command[int], actor="mirror", key="key"):
    key: str
    text: str = ""
    leaf: Leaf | None = None


class Stored(Event, actor="mirror", key="key"):
    key: str
    value: int
    text: str = ""
    leaf: Leaf | None = None


class GetSeen(Query[int], actor="watcher", key="key"):
    key: str


class Mirror(Actor[Kept]):
    """Stores values and returns them."""

    name = "mirror"
    options: ClassVar[Options] = OPTIONS

    @query
    async def show(self, message: Show) -> Kept:
        return Kept((self.state or Kept()).value, message.text, message.leaf)

    @query
    async def miss(self, message: Miss) -> None:
        raise NotFound(f"there is no {message.text}")

    @command
    async def put(self, message: Put) -> int:
        value = (self.state or Kept()).value + 1
        self.state = Kept(value, message.text[:64], message.leaf)
        self.emit(Stored(message.key, value, message.text[:64]))
        return value


class Watcher(Actor[Seen]):
    """Counts the events of each key."""

    name = "watcher"
    options: ClassVar[Options] = OPTIONS

    @react
    async def on_stored(self, event: Stored) -> None:
        self.state = Seen((self.state or Seen()).count + 1)

    @query
    async def get_seen(self, message: GetSeen) -> int:
        return (self.state or Seen()).count


class Passer(Actor):
    """Reacts to events without a state, and with a pattern."""

    name = "passer"
    options: ClassVar[Options] = OPTIONS

    @react(where={"text": [{"prefix": "a"}, {"exists": False}]})
    async def on_stored(self, event: Stored) -> None:
        pass
