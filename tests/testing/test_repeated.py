"""A handler that runs twice: what `repeated` finds."""

import random
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Struct

from runtime import Actor, Command, DeclarationError, Event, Query, Rejected, command, query, react
from runtime.testing import repeated
from tests.support.counting import Add, AddTwice, Count, Counter, Reject, TooLow


class Bag(Struct, frozen=True):
    tags: frozenset[str] = frozenset()
    loose: set[str] = set()
    at: float = 0.0


class Pack(Command[int], actor="bags", key="name"):
    name: str
    tags: frozenset[str] = frozenset()


class Check(Query[int], actor="bags", key="name"):
    name: str


class Packed(Event, actor="bags", key="name"):
    name: str
    tag: str = ""


class Weigh(Query[int], actor="scales"):
    tag: str


Step = Callable[[Any, Any], Any]


def bags(step: Step) -> type[Actor[Bag]]:
    """Return an actor whose command does one step."""

    class Bags(Actor[Bag]):
        name = "bags"

        @command
        async def pack(self, message: Pack) -> int:
            return await step(self, message) or 0

        @react(where={"tag": ["red", "blue"]})
        async def on_packed(self, event: Packed) -> None:
            await step(self, event)

        @query
        async def check(self, message: Check) -> int:
            return time.perf_counter_ns()

    return Bags


async def emit_each(self: Any, message: Any) -> None:
    for tag in message.tags:
        self.emit(Packed(self.key, tag))


async def emit_each_of_state(self: Any, message: Any) -> None:
    for tag in self.state.tags:
        self.emit(Packed(self.key, tag))


async def emit_each_loose(self: Any, message: Any) -> None:
    for tag in self.state.loose:
        self.emit(Packed(self.key, tag))


async def ask_each(self: Any, message: Any) -> None:
    for tag in message.tags:
        await self.query(Weigh(tag))


async def emit_in_order(self: Any, message: Any) -> int:
    for tag in sorted(message.tags | self.state.tags):
        self.emit(Packed(self.key, tag))
    self.state = Bag(message.tags | self.state.tags, self.state.loose, self.now)
    self.remind(60, Pack(self.key), name="again")
    return len(message.tags)


async def emit_some(self: Any, message: Any) -> None:
    for _ in range(next(NUMBERS)):
        self.emit(Packed(self.key))


async def store_clock(self: Any, message: Any) -> None:
    self.state = Bag(at=time.perf_counter())


async def emit_random(self: Any, message: Any) -> None:
    self.emit(Packed(self.key, uuid.uuid4().hex))


async def remind_random(self: Any, message: Any) -> None:
    self.remind(random.random(), Pack(self.key), name="again")


async def reply_random(self: Any, message: Any) -> int:
    return uuid.uuid4().int % 10**9


async def change_mind(self: Any, message: Any) -> None:
    if next(NUMBERS) % 2:
        raise Rejected("an odd run")


NUMBERS = iter(range(0, 10**9, 7))

DIFFERENCES: list[tuple[Step, str]] = [
    (emit_each, r"emitted\[0\]\.tag is '\w' in the first run, and '\w' in the second"),
    (emit_each_of_state, r"emitted\[0\]\.tag is '\w' in the first run, and '\w' in the second"),
    (emit_each_loose, r"emitted\[0\]\.tag is '\w' in the first run, and '\w' in the second"),
    (ask_each, r"sent\[0\]\.tag is '\w' in the first run"),
    (emit_some, r"emitted has \d+ in the first run and \d+ in the second"),
    (store_clock, r"state\.at is [\d.]+ in the first run, and [\d.]+ in the second"),
    (emit_random, r"emitted\[0\]\.tag is '\w{32}' in the first run, and '\w{32}' in the second"),
    (remind_random, r"timers\[0\]\.after is 0\.\d+"),
    (reply_random, r"the reply is \d+ in the first run, and \d+ in the second"),
    (change_mind, r"the reply is (0|Rejected\('an odd run'\)) in the first run"),
]
GIVEN = {
    "state": Bag(frozenset("abcd"), set("abcd")),
    "replies": {Weigh: 1},
}


@pytest.mark.parametrize(("step", "difference"), DIFFERENCES, ids=lambda value: getattr(value, "__name__", ""))
async def test_a_second_run_that_differs_is_found(step: Step, difference: str) -> None:
    with pytest.raises(AssertionError, match=f"^bags command.pack: a second run differs from the first: {difference}"):
        await repeated(bags(step), Pack("x", frozenset("abcd")), **GIVEN)


async def test_a_handler_that_does_the_same_passes() -> None:
    assert await repeated(bags(emit_in_order), Pack("x", frozenset("xyz")), **GIVEN) == 3
    reply = await repeated(Counter, AddTwice("a", "one", "two"), replies={Add: lambda message: Count(message.name, 4)})
    assert reply == 8
    with pytest.raises(TooLow):
        await repeated(Counter, Reject("a"), state=Count("a", 1))


async def test_a_reaction_runs_if_its_pattern_matches_and_a_query_too() -> None:
    assert await repeated(bags(emit_random), Packed("x", "green")) is None
    with pytest.raises(AssertionError, match=r"react\.on_packed: .*emitted\[0\]\.tag"):
        await repeated(bags(emit_random), Packed("x", "red"))
    with pytest.raises(AssertionError, match=r"query\.check: .*the reply"):
        await repeated(bags(emit_random), Check("x"), writable=False)


async def test_a_message_without_a_handler_is_refused() -> None:
    with pytest.raises(DeclarationError, match="bags has no handler for Weigh"):
        await repeated(bags(emit_each), Weigh("x"))
