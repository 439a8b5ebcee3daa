"""Dead letters of actors under test, redriven, and events that are replayed."""

import pytest
from msgspec import Struct

from runtime import Actor, ActorError, Command, Event, Options, Query, RetryPolicy, command, query, react
from runtime.testing import Actors, DeadLetter, System

FAILING: set[str] = set()
"""The keys at which handlers fail."""


class Sum(Struct, frozen=True):
    total: int


class Paid(Event, actor="tills", key="order"):
    order: str
    amount: int = 1


class Closed(Event, actor="tills"):
    reason: str = "late"


class AddLater(Command[None], actor="sums", key="order"):
    order: str


class Add(Command[None], actor="sums", key="order"):
    order: str


class GetSum(Query[int], actor="sums", key="order"):
    order: str


class Ask(Command[None], actor="askers"):
    order: str


def run(key: str) -> None:
    if key in FAILING:
        raise OSError(f"no paper at {key}")


class Sums(Actor[Sum]):
    name = "sums"
    options = Options(partitions=2, retry=RetryPolicy(attempts=2, first=0.01, longest=0.01))

    @react
    async def on_paid(self, event: Paid) -> None:
        self.grow(event.amount)

    @react(key="reason")
    async def on_closed(self, event: Closed) -> None:
        self.grow(1)

    @command
    async def add_later(self, message: AddLater) -> None:
        self.remind(600, Add(message.order))

    @command
    async def add(self, message: Add) -> None:
        self.grow(1)

    @query
    async def get_sum(self, message: GetSum) -> int:
        return self.state.total if self.state else 0

    def grow(self, amount: int) -> None:
        run(self.key)
        self.state = Sum((self.state.total if self.state else 0) + amount)


class Askers(Actor):
    name = "askers"

    @command
    async def ask(self, message: Ask) -> None:
        self.tell(Add(message.order))


@pytest.fixture(autouse=True)
def _clean() -> None:
    FAILING.clear()


async def failed(system: System, *events: Event) -> list[DeadLetter]:
    """Emit events, and return the dead letters when there are as many."""
    for event in events:
        await system.bus.emit(event)
    return await letters_of(system, len(events))


async def letters_of(system: System, count: int) -> list[DeadLetter]:
    """Return the dead letters when there are so many."""

    async def complete() -> list[DeadLetter]:
        found = await system.dead_letters("sums")
        return found if len(found) >= count else []

    found: list[DeadLetter] = await system.until(complete)
    assert len(found) == count
    return found


async def total(system: System, order: str) -> int:
    return await system.bus.query(GetSum(order))


async def test_dead_letters_are_listed_and_redriven(actors: Actors) -> None:
    FAILING.update(("a", "b/c"))
    async with actors(Sums, sources=["tills"]) as system:
        assert await system.dead_letters("sums") == [] and await system.redrive("sums") == 0
        # Keys are independent, so either may fail first.
        one, two = sorted(await failed(system, Paid("a"), Paid("b/c", 5)), key=lambda letter: letter.key or "")
        assert (one.name, one.key, one.handler, one.reason, one.attempts, one.id.partition(":")[0]) == (
            "paid", "a", "on_paid", "OSError: no paper at a", 2, "sums",
        )  # fmt: skip
        assert two.key == "b/c"
        FAILING.clear()
        assert await system.redrive("sums", two) == 1
        assert (await total(system, "a"), await total(system, "b/c")) == (0, 5)
        assert await system.dead_letters("sums") == [one]
        with pytest.raises(LookupError, match=f"sums has no dead letter {two.id}"):
            await system.redrive("sums", two)
        assert await system.redrive("sums") == 1
        assert (await total(system, "a"), await total(system, "b/c")) == (1, 5)
        assert await system.dead_letters("sums") == []


async def test_a_letter_that_fails_again_is_a_new_letter_when_the_call_returns(actors: Actors) -> None:
    FAILING.add("a")
    async with actors(Sums, sources=["tills"]) as system:
        [first] = await failed(system, Paid("a"))
        assert await system.redrive("sums") == 1
        [second] = await system.dead_letters("sums")
        assert second.id != first.id and (second.key, second.handler) == (first.key, first.handler)


async def test_letters_have_the_keys_of_their_messages(actors: Actors) -> None:
    FAILING.update(("timed", "told", "late"))
    async with actors(Sums, Askers, sources=["tills"]) as system:
        await failed(system, Closed())
        await system.bus.command(AddLater("timed"))
        await system.skip(600)
        await letters_of(system, 2)
        await system.bus.command(Ask("told"))
        found = await letters_of(system, 3)
        assert [(each.name, each.handler, each.key) for each in found] == [
            ("closed", "on_closed", None), ("add", "add", "timed"), ("add", "add", "told"),
        ]  # fmt: skip
        FAILING.clear()
        assert await system.redrive("sums") == 3
        assert [await total(system, key) for key in ("late", "timed", "told")] == [1, 1, 1]


async def test_letters_are_redriven_to_an_actor_that_has_crashed(actors: Actors) -> None:
    FAILING.add("a")
    async with actors(Sums, sources=["tills"]) as system:
        await failed(system, Paid("a"))
        FAILING.clear()
        await system.crash()
        assert await system.redrive("sums") == 1
        await system.restart()

        async def handled() -> bool:
            return await total(system, "a") == 1

        await system.until(handled)


async def test_events_are_replayed(actors: Actors) -> None:
    async with actors(Sums, sources=["tills"]) as system:
        for event in (Paid("a"), Paid("b", 10), Paid("a")):
            await system.bus.emit(event)

        async def counted() -> bool:
            return (await total(system, "a"), await total(system, "b")) == (2, 10)

        await system.until(counted)
        assert await system.replay("sums.on_paid") == 3
        assert await counted()
        assert await system.replay("sums.on_paid", key="b", mode="again") == 1
        assert (await total(system, "a"), await total(system, "b")) == (2, 20)
        assert await system.replay("sums.on_paid", mode="again") == 3
        assert (await total(system, "a"), await total(system, "b")) == (4, 30)


async def test_names_that_do_not_exist_are_refused(actors: Actors) -> None:
    async with actors(Sums, sources=["tills"]) as system:
        for call in (system.dead_letters("sum"), system.redrive("sum"), system.replay("sum.on_paid")):
            with pytest.raises(ValueError, match="no actor 'sum' runs here"):
                await call
        with pytest.raises(ValueError, match=r"'sums': write actor\.reaction"):
            await system.replay("sums")
        with pytest.raises(ActorError, match="sums has no reaction on_pay: did you mean on_paid"):
            await system.replay("sums.on_pay")
        with pytest.raises(ActorError, match=r"sums\.on_paid: no event is stored"):
            await system.replay("sums.on_paid")
        with pytest.raises(ActorError, match="mode"):
            await system.replay("sums.on_paid", mode="all")  # type: ignore[arg-type]
