"""The target of the fuzzer: an actor whose messages have fields of every kind."""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from msgspec import Meta, Struct

from runtime import Actor, Command, Event, Options, Query, RetryPolicy, command, query, react


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(Struct, frozen=True):
    name: str
    weight: Annotated[int, Meta(ge=0, le=10**9)]
    tags: tuple[str, ...] = ()
    parts: tuple["Part", ...] = ()


class Probe(Query[bool], actor="fuzzed", key="key"):
    """Everything that a message may have; the answer says that it arrived."""

    key: str
    count: int
    ratio: float
    when: datetime
    id: UUID
    price: Decimal
    colour: Colour
    kind: Literal["a", "b"]
    part: Part
    labels: dict[str, str]
    raw: bytes = b""
    anything: Any = None


class Keep(Command[int], actor="fuzzed", key="key"):
    """Is stored, emitted and answered: it is decoded, and encoded again."""

    key: str
    count: int
    ratio: float
    part: Part
    labels: dict[str, str | int | float | bool | None]


class Kept(Event, actor="fuzzed", key="key"):
    key: str
    count: int
    ratio: float
    part: Part
    labels: dict[str, str | int | float | bool | None]


class Shown(Struct, frozen=True):
    last: Kept | None = None
    count: int = 0
    seen: int = 0


class Fuzzed(Actor[Shown]):
    """Takes what comes."""

    name = "fuzzed"
    options: ClassVar[Options] = Options(
        idle=2.0, resident=500, retry=RetryPolicy(attempts=2, first=0.01, longest=0.02)
    )

    @query
    async def probe(self, message: Probe) -> bool:
        return True

    @command
    async def keep(self, message: Keep) -> int:
        kept = Kept(message.key, message.count, message.ratio, message.part, message.labels)
        before = self.state or Shown()
        self.state = Shown(kept, before.count + 1, before.seen)
        self.emit(kept)
        return before.count + 1

    @react
    async def on_kept(self, event: Kept) -> None:
        before = self.state or Shown()
        self.state = Shown(before.last, before.count, before.seen + 1)
