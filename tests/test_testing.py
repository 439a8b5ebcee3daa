"""The test kit: records of handlers, and running systems."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from runtime import (
    Actor,
    Command,
    DeclarationError,
    Index,
    InvalidMessage,
    NotDelivered,
    NotFound,
    Page,
    Query,
    command,
    query,
)
from runtime.errors import InvalidValue
from runtime.nats.server import EmbeddedServer
from runtime.testing import Timer, running, worker
from runtime.wire.ids import key_for
from tests.support.calling import CallGateway, CallRounds, Forward, Gateway, Rounds
from tests.support.counting import (
    Add,
    Added,
    AddLater,
    AddTwice,
    Count,
    Counter,
    Fail,
    GetCount,
    OpenCount,
    Reject,
    TooLow,
)
from tests.support.handing import Mark, Marking
from tests.support.handlers import RUN_COUNTS
from tests.support.notes import PARTITIONS, AskSize, GetNote, Note, Notes, OpenNote, WriteNote
from tests.support.probe import Probe


async def test_the_effects_of_a_handler_are_recorded() -> None:
    counter = worker(Counter, key="a", state=Count("a", 3), message_id="m1")
    assert await counter.add(Add("a", 2)) == Count("a", 5)
    assert counter.state == Count("a", 5) and counter.emitted == [Added("a", 2)] and counter.key == "a"
    with pytest.raises(TooLow):
        await counter.add(Add("a", 0))


async def test_replies_are_values_errors_and_functions() -> None:
    async def later(message: Add) -> Count:
        await asyncio.sleep(0)
        return Count(message.name, 40)

    for reply, expected in ((Count("x", 4), 8), (lambda message: Count(message.name, 5), 10), (later, 80)):
        counter = worker(Counter, key="a", replies={Add: reply})
        assert await counter.add_twice(AddTwice("a", "one", "two")) == expected
        assert counter.sent == [Add("one"), Add("two")] and len(set(counter.sent_ids)) == 2
    with pytest.raises(NotFound, match="gone"):
        await worker(Counter, replies={Add: NotFound("gone")}).add_twice(AddTwice("a", "one", "two"))
    with pytest.raises(NotDelivered, match="the test has no reply to Add"):
        await worker(Counter).add_twice(AddTwice("a", "one", "two"))


async def test_ids_of_nested_commands_are_derived_as_in_a_turn() -> None:
    ids = []
    for _ in range(2):
        counter = worker(Counter, key="a", message_id="m1", replies={Add: Count("x", 1)})
        await counter.add_twice(AddTwice("a", "one", "two"))
        ids.append(counter.sent_ids)
    assert ids[0] == ids[1]


async def test_commit_calls_the_callbacks() -> None:
    counter, called = worker(Counter, key="a"), []
    counter.on_commit(lambda: called.append(1))
    assert called == []
    counter.commit()
    assert called == [1]


class Card(Struct, frozen=True):
    key: str
    user: str
    rank: int | None = None


class Put(Command[None], actor="boards", key="key"):
    key: str
    user: str
    rank: int | None = None


class ListCards(Query[Page[Card]], actor="boards"):
    user: str | None = None
    order: str | None = None
    limit: int = 20
    after: str | None = None


class Boards(Actor[Card], indexes=[Index(), Index("user", order="rank")]):
    name = "boards"

    @command
    async def put(self, message: Put) -> None:
        self.state = Card(message.key, message.user, message.rank)

    @query
    async def list_cards(self, message: ListCards) -> Page[Card]:
        filters = {} if message.user is None else {"user": message.user}
        return await self.list(order=message.order, limit=message.limit, after=message.after, **filters)


CARDS = [Card("a", "ann", 2), Card("b", "ann"), Card("c", "bob", 3), Card("d", "ann", 1), Card("e", "ann", 1)]
LISTS = [
    ListCards(limit=2), ListCards("ann", limit=1), ListCards("ann", "rank", 3), ListCards("ann", "-rank", 1),
    ListCards("bob", "rank", 1), ListCards("eve"), ListCards("ann", limit=0), ListCards("ann", limit=4),
]  # fmt: skip


async def pages(ask: Callable[[ListCards], Awaitable[Page[Card]]]) -> list[list[list[Card]]]:
    """Return the items of all pages of each list."""
    found: list[list[list[Card]]] = []
    for first in LISTS:
        page = await ask(first)
        found.append([page.items])
        while page.next is not None:
            page = await ask(replace(first, after=page.next))
            found[-1].append(page.items)
    return found


async def test_pages_of_a_worker_are_those_of_a_service(nats_server: EmbeddedServer, namespace: str) -> None:
    boards = worker(Boards, states=CARDS, writable=False)
    of_worker = await pages(boards.actor.list_cards)
    async with running(Boards, url=nats_server.url, namespace=namespace) as system:
        for card in CARDS:
            await system.bus.command(Put(card.key, card.user, card.rank))
        assert of_worker == await pages(system.bus.query)
    assert [len(each) for each in of_worker] == [3, 4, 2, 4, 1, 1, 4, 1]
    with pytest.raises(DeclarationError):
        boards.emit(Added("a", 1))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"rank": 1}, DeclarationError, "needs a declared Index"),
        ({"user": 5}, DeclarationError, "user = 5 is not"),
        ({"limit": 1.5}, DeclarationError, "no whole number"),
        ({"after": "x"}, InvalidMessage, "page token"),
    ],
)
async def test_lists_of_a_worker_are_checked(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        await worker(Boards, states=CARDS).list(**arguments)


async def test_a_worker_without_indexes_has_no_lists() -> None:
    with pytest.raises(DeclarationError, match="needs an index"):
        await worker(Gateway).list()


async def test_time_and_attempts_can_be_set() -> None:
    counter = worker(Counter, now=12.5, attempt=3, attempts=4)
    assert (counter.now, counter.attempt, counter.attempts, counter.deadline) == (12.5, 3, 4, None)


async def test_an_actor_without_state() -> None:
    gateway = worker(Gateway, replies={Add: Count("a", 1)})
    assert await gateway.forward(Forward("a", 1)) == Count("a", 1) and gateway.sent == [Add("a", 1)]
    rounds = worker(Rounds, key="a", replies={CallRounds: "round"})
    assert await rounds.call_gateway(CallGateway("a")) == "round"


async def test_a_system_runs_drains_and_returns_traces(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Gateway, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Forward("a", 2))
        assert (await system.bus.query(GetCount("a"))).value == 2

        def complete() -> bool:
            return any(span.name.startswith("publish") for span in system.tracing.finished())

        await system.until(complete)
        spans = system.trace_of(
            next(span.trace_id for span in system.tracing.finished() if span.name == "gateway/forward")
        )
        assert system.trace_of(root="gateway/forward") == spans
        calls = [(span.service, span.name, span.kind.name) for span in spans]
        assert ("gateway", "gateway/forward", "SERVER") in calls and ("gateway", "counter/add", "CLIENT") in calls
        assert ("counter", "counter/add", "SERVER") in calls
        with pytest.raises(TimeoutError):
            await system.until(lambda: False, timeout=0.02)


async def test_systems_share_the_partitions_of_an_actor(nats_server: EmbeddedServer, namespace: str) -> None:
    writer = worker(Notes)
    assert (await writer.write_note(WriteNote("a", "text")), writer.state) == (4, Note("text"))
    arguments: dict[str, Any] = {"url": nats_server.url, "namespace": namespace}
    async with running(Notes, **arguments) as one, running(Notes, **arguments, loopback=True) as two:
        probes = [Probe.of(each.runner) for each in (one, two)]
        await one.until(lambda: all(len(each.owned("notes")) == PARTITIONS // 2 for each in probes))
        for number in range(3 * PARTITIONS):
            # With the loopback, the router of the same process passes requests for the other one on.
            for bus, other in ((one.bus, two.bus), (two.bus, one.bus)):
                text = "x" * number
                assert await bus.command(WriteNote(f"k{number}", text)) == number
                assert await other.query(GetNote(f"k{number}")) == text
        key = await two.bus.command(OpenNote("opened"))
        assert await one.bus.query(GetNote(key)) == "opened"
        assert await two.bus.query(AskSize("four")) == 4


async def test_an_error_in_the_block_is_raised_unchanged(nats_server: EmbeddedServer, namespace: str) -> None:
    with pytest.raises(ZeroDivisionError):
        async with running(Counter, url=nats_server.url, namespace=namespace):
            1 / 0  # noqa: B018
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        assert (await system.bus.command(Add("a"))).value == 1


class Nap(Command[None], actor="sleepers", key="name"):
    name: str


class Sleepers(Actor[Count]):
    name = "sleepers"

    @command
    async def nap(self, message: Nap) -> None:
        self.remind(60, message, name="wake")
        self.schedule("@daily", message, name="bed")
        self.cancel("dream")


async def test_timers_can_be_compared_and_printed() -> None:
    sleepers = worker(Sleepers, key="a")
    await sleepers.actor.nap(Nap("a"))
    assert sleepers.timers == [
        Timer("wake", Nap("a"), 60),
        Timer("bed", Nap("a"), schedule="@daily"),
        Timer("dream", None, cancel=True),
    ]
    assert sleepers.timers != [Timer("wake", Nap("b"), 60), *sleepers.timers[1:]]
    assert repr(sleepers.timers[0]).startswith("Timer(name='wake', message=Nap(name='a'), after=60")


async def test_a_handler_that_raises_leaves_nothing() -> None:
    counter = worker(Counter, state=Count("a", 1))
    for handler, message in ((counter.reject, Reject("a")), (counter.fail, Fail("a"))):
        with pytest.raises((TooLow, RuntimeError)):
            await handler(message)
    assert counter.state == Count("a", 1) and counter.emitted == []


async def test_a_value_that_does_not_fit_its_type_is_refused() -> None:
    counter = worker(Counter, key="a", replies={Add: Count("x")})
    with pytest.raises(
        InvalidValue, match=r"the state does not fit Count: Expected `int`, got `float` - at `\$.value`"
    ):
        await counter.add_later(AddLater("a", 1.5))  # type: ignore[arg-type]
    with pytest.raises(InvalidValue, match=r"the command does not fit Add: .*`\$.name`"):
        await counter.add_twice(AddTwice("a", 5, "x"))  # type: ignore[arg-type]
    assert (counter.state, counter.emitted, counter.sent) == (None, [], [])


async def test_a_handler_gets_the_key_of_its_message() -> None:
    counter = worker(Counter, message_id="m1")
    assert (await counter.open_count(OpenCount())).name == key_for("m1")


async def test_a_handler_that_does_not_end_lets_the_drain_fail_with_its_bound(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"never opened {namespace}"
    asked: list[asyncio.Future[int]] = []

    async def end_beside_a_handler() -> None:
        async with running(Marking, url=nats_server.url, namespace=namespace) as system:
            asked.append(asyncio.ensure_future(system.bus.command(Mark("slow", name, name), timeout=30)))
            await system.until(lambda: RUN_COUNTS[f"mark slow {name}"])
            monkeypatch.setattr("runtime.host.process._DRAIN_TIMEOUT", 0.1)

    with pytest.raises(TimeoutError, match="did not drain within 0 s"):
        await end_beside_a_handler()
    with pytest.raises(NotDelivered):
        await asked[0]


class Copy(Command[str], actor="copiers", key="text"):
    text: str
    keep: bool = False


class Copiers(Actor[Count]):
    name = "copiers"
    prefix: str
    late: str

    async def on_start(self) -> None:
        self.prefix = "copy of"
        self.stopped: list[str] = []
        self.task = asyncio.get_running_loop().create_task(self.find())

    async def find(self) -> None:
        self.late = "late"

    async def on_stop(self) -> None:
        self.stopped.append(self.prefix)

    @command
    async def copy(self, message: Copy) -> str:
        if message.keep:
            self.prefix = "kept"
        return f"{self.prefix} {message.text}, {self.late}"


async def test_on_start_sets_the_attributes_of_a_worker() -> None:
    copiers = worker(Copiers)
    with pytest.raises(AttributeError, match="prefix"):
        await copiers.copy(Copy("a"))
    await copiers.on_start()
    await copiers.task  # it sets an attribute after the start, as tasks of a service do
    assert await copiers.copy(Copy("a")) == "copy of a, late"
    with pytest.raises(AttributeError, match="lost when the handler ends"):
        await copiers.copy(Copy("a", keep=True))
    assert copiers.actor.prefix == "copy of"
    await copiers.on_stop()
    assert copiers.stopped == ["copy of"]
    with pytest.raises(AttributeError):
        worker(Copiers).actor.prefix  # noqa: B018 - each worker has attributes of its own


async def test_hooks_of_a_worker_handle_no_message() -> None:
    class Early(Copiers):
        async def on_start(self) -> None:
            self.emit(Added("a", 1))

    with pytest.raises(RuntimeError, match="only while a message is being handled"):
        await worker(Early).on_start()
