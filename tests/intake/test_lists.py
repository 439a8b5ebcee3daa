"""Lists over the partitions of an actor: they equal those of one partition, miss no committed turn, and never come out shorter."""

import asyncio
import enum
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import msgspec
import pytest

from runtime import (
    Actor,
    Command,
    DeadlineExceeded,
    Index,
    InvalidMessage,
    NotDelivered,
    Options,
    Page,
    Query,
    command,
    query,
)
from runtime.client.bus import Bus
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.intake.lists import Part, merge
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.storage.listing import Selection
from runtime.telemetry import Tracing
from runtime.wire import header_block
from runtime.wire.subjects import QUEUE
from tests.support.handlers import gate
from tests.support.waiting import unheard, until


class Size(enum.Enum):
    SMALL = "s"
    LARGE = "l"


class Item(msgspec.Struct, frozen=True):
    name: str
    owner: str | None = None
    rank: int | None = None
    price: Decimal | None = None
    at: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    day: date | None = None
    id: UUID | None = None
    size: Size | None = None
    sold: bool = False
    weight: float = 0.0
    text: str = ""


class Put(Command[None], actor="items", key="name"):
    name: str
    item: Item | None


class PutThenList(Command["Listed"], actor="items", key="name"):
    """Waits at the gate, lists all keys, and stores an item. Returns the list."""

    name: str
    gate: str


class ListItems(Query["Listed"], actor="items"):
    """Waits first if it has a gate. Returns the names, since the states may be too large for a reply."""

    field: str | None = None
    value: Any = None
    also: dict[str, Any] = {}
    order: str | None = None
    limit: int = 20
    after: str | None = None
    gate: str = ""


class Listed(msgspec.Struct, frozen=True):
    names: list[str]
    next: str | None


INDEXES = [
    Index(), Index(order="rank"), Index(order="price"), Index(order="at"), Index(order="text"), Index("owner", order="at"),
    Index("size", order="id"), Index("sold", order="weight"), Index("price", order="day"), Index("day"), Index("id", order="rank"),
    Index(("sold", "owner"), order="rank"), Index(("price", "day", "size")),
]  # fmt: skip


class Items(Actor[Item], indexes=INDEXES):
    name = "items"
    options = Options(partitions=8)

    @command
    async def put(self, message: Put) -> None:
        self.state = message.item

    @command
    async def put_then_list(self, message: PutThenList) -> Listed:
        await gate(message.gate).wait()
        page = await self.list(order="rank", limit=1000)
        self.state = Item(message.name, rank=-1)
        return Listed([item.name for item in page.items], page.next)

    @query
    async def list_items(self, message: ListItems) -> Listed:
        if message.gate:
            await gate(message.gate).wait()
        filters = {message.field: message.value, **message.also} if message.field else {}
        kinds: dict[str, Any] = {"price": Decimal, "day": date, "id": UUID, "size": Size}
        for name, value in filters.items():
            if name in kinds and value is not None:
                filters[name] = msgspec.convert(value, kinds[name])
        page = await self.list(order=message.order, limit=message.limit, after=message.after, **filters)
        return Listed([item.name for item in page.items], page.next)


class OtherIndexes(Items, indexes=[INDEXES[0], *INDEXES[:0:-1]]):
    """Another version, which numbers its indexes in another way."""

    name = "items"


class FewIndexes(Items, indexes=[Index()]):
    """An older version, without most of the indexes."""

    name = "items"


class Newer(Items):
    """A newer version, whose states have another form."""

    name = "items"
    state_version = 2
    upgrades = {1: lambda state: {**state, "owner": "upgraded"}}


class Member:
    """One process of the actor, on a connection of its own."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.host = runner.hosts[0]

    @property
    def served(self) -> list[int]:
        """The partitions that it serves."""
        return [owner.partition.number for owner in self.host.owners if owner.ready]


@asynccontextmanager
async def member(
    url: str, namespace: str, actor: type[Actor[Any]] = Items, *, partitions: int = 8, ttl: float = 4.0
) -> AsyncIterator[Member]:
    """Run a process of the actor, which drains at the end of the block."""
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        deployment = Deployment(namespace=namespace, lease_ttl=ttl)
        runner = Runner(
            [actor],
            connection,
            Tracing(in_memory=True),
            deployment,
            options={"items": Options(partitions=partitions, timeout=3)},
        )
        work = asyncio.ensure_future(runner.run())
        try:
            await until(lambda: work.done() or runner.hosts[0].ready.is_set() or runner.hosts[0].standby)
            yield Member(runner)
        finally:
            runner.stop()
            await asyncio.wait({work}, timeout=15)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def spread(*members: Member) -> None:
    """Return when the members share the partitions."""
    share = 8 // len(members)
    await until(lambda: all(len(each.served) == share for each in members))


@asynccontextmanager
async def client(url: str, namespace: str) -> AsyncIterator[Bus]:
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        yield Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace, timeout=20)


def random_item(rng: random.Random, name: str) -> Item:
    def maybe(value: Any) -> Any:
        return None if rng.random() < 0.15 else value

    zone = timezone(timedelta(hours=rng.randint(-11, 11)))
    start = datetime(2026, 10, 25, tzinfo=UTC).astimezone(zone)
    return Item(
        name,
        owner=maybe(rng.choice("abc")),
        rank=maybe(rng.randint(0, 9)),
        price=maybe(Decimal(rng.choice(["1.5", "1.50", "-0", "0", "99999999999999999999.1", "Infinity", "10"]))),
        at=maybe(start + timedelta(minutes=rng.randint(0, 30))),
        day=maybe(date(2026, 1, rng.randint(1, 4))),
        id=maybe(UUID(int=rng.randint(0, 5))),
        size=maybe(rng.choice(list(Size))),
        sold=rng.random() < 0.5,
        weight=rng.choice([0.0, -0.0, 1.5, 1e300]),
    )


def random_list(rng: random.Random) -> dict[str, Any]:
    """Return the arguments of a list for which there is an index."""
    index = rng.choice(INDEXES)
    values: dict[str | None, Any] = {
        None: [None], "owner": [*"abcd", None], "size": ["s", "l", None], "sold": [True, False, None],
        "price": ["1.5", "0", "10", "7", None], "day": ["2026-01-01", "2026-01-02", None], "id": [str(UUID(int=3)), None],
    }  # fmt: skip
    order = rng.choice([None, index.order, index.order and f"-{index.order}"])
    first, *others = index.fields or (None,)
    return {
        "field": first,
        "value": rng.choice(values[first]),
        "also": {name: rng.choice(values[name]) for name in others},
        "order": order,
        "limit": rng.choice([3, 10, 40, 1000]),
    }


async def pages(arguments: dict[str, Any], *buses: Bus) -> list[Listed]:
    """Return all pages of a list, each from the next bus."""
    found: list[Listed] = []
    after: str | None = None
    while True:
        page = await buses[len(found) % len(buses)].query(ListItems(**arguments, after=after))
        found.append(page)
        if page.next is None:
            return found
        after = page.next


@asynccontextmanager
async def whole_and_split(
    url: str, namespace: str, *actors: type[Actor[Any]]
) -> AsyncIterator[tuple[Bus, Bus, list[Member]]]:
    """Yield a bus to the actor in one partition, one to the actor in eight partitions of two processes, and these."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(member(url, f"{namespace}a", partitions=1))
        members = [
            await stack.enter_async_context(member(url, namespace, actor)) for actor in actors or (Items, OtherIndexes)
        ]
        await spread(*members)
        whole = await stack.enter_async_context(client(url, f"{namespace}a"))
        split = await stack.enter_async_context(client(url, namespace))
        yield whole, split, members


async def test_a_merged_list_is_that_of_one_partition_and_one_trace(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    rng = random.Random(12)
    async with whole_and_split(nats_server.url, namespace) as (whole, split, members):
        await split.query(ListItems())
        assert_one_trace(members)
        changes = [
            Put(
                name := f"{rng.choice('abä.')}{rng.randint(0, 50)}",
                random_item(rng, name) if rng.random() < 0.9 else None,
            )
            for _ in range(200)
        ]
        for bus in (whole, split):
            lanes: dict[str, list[Put]] = {}
            for change in changes:
                lanes.setdefault(change.name, []).append(change)
            await asyncio.gather(*(_send(bus, lane) for lane in lanes.values()))
        for number in range(60):
            arguments = random_list(rng)
            expected = await pages(arguments, whole)
            assert await pages(arguments, split) == expected, arguments
            if number % 10 == 0:
                assert await pages(arguments, split, whole) == expected, "a token holds for each number of partitions"
        token = (await split.query(ListItems(order="-price", limit=1))).next
        with pytest.raises(InvalidMessage, match="page token"):
            await split.query(ListItems(order="at", after=token))


def assert_one_trace(members: list[Member]) -> None:
    """Check the spans of one list: a pair for each of the four partitions that are not in the process of its handler."""
    spans = [each for one in members for each in one.runner.tracing.finished() if each.name == "items/list"]
    sent, received = ([each for each in spans if each.kind.name == kind] for kind in ("CLIENT", "SERVER"))
    assert len(sent) == len(received) == 4
    assert {each.parent_id for each in received} == {each.span_id for each in sent}
    assert len({each.trace_id for each in spans}) == 1


async def _send(bus: Bus, lane: list[Put]) -> None:
    for change in lane:
        await bus.command(change)


async def test_states_and_values_larger_than_a_message_are_listed(nats_server: EmbeddedServer, namespace: str) -> None:
    rng = random.Random(7)
    async with whole_and_split(nats_server.url, namespace) as (whole, split, _):
        for number in range(24):
            text = f"{rng.randint(0, 9)}" + "x" * rng.choice([10, 300_000, 400_000])
            for bus in (whole, split):
                await bus.command(Put(f"k{number}", Item(f"k{number}", rank=number % 5, text=text)))
        for order in ("rank", "-rank"):
            arguments = {"order": order, "limit": 24}
            assert await pages(arguments, split) == await pages(arguments, whole)
        for order in ("text", "-text"):
            found, expected = [
                [name for page in await pages({"order": order, "limit": 24}, bus) for name in page.names]
                for bus in (split, whole)
            ]
            assert found == expected


async def test_no_list_misses_a_committed_turn_while_partitions_move(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    url, acknowledged, lists, done = nats_server.url, set[str](), 0, asyncio.Event()
    async with client(url, namespace) as bus, member(url, namespace) as first, member(url, namespace) as second:
        await spread(first, second)

        async def put(lane: int) -> None:
            number = 0
            while not done.is_set():
                name = f"{lane}-{number % 40}"
                # The key moves to the front of the list while it is read.
                await bus.command(Put(name, Item(name, rank=-number)))
                acknowledged.add(name)
                number += 1

        async def check() -> None:
            nonlocal lists
            while not done.is_set():
                before = set(acknowledged)
                names = (await bus.query(ListItems(order=random.choice(["rank", "-rank"]), limit=1000))).names
                assert before <= set(names), before - set(names)
                assert len(names) == len(set(names))
                lists += 1

        working = [asyncio.ensure_future(each) for each in (*map(put, range(4)), *(check() for _ in range(3)))]
        try:
            for _ in range(2):
                async with member(url, namespace) as third:
                    await until(lambda: third.served or any(each.done() for each in working))
                await until(lambda: len(first.served) + len(second.served) == 8 or any(each.done() for each in working))
        finally:
            done.set()
            await asyncio.gather(*working)
        assert lists > 10


async def test_both_owners_of_a_hand_over_list_what_the_other_one_has_stored(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    url, name = nats_server.url, f"hand-over {namespace}"
    async with client(url, namespace) as bus, member(url, namespace) as first:
        await bus.command(Put("a", Item("a")))
        slow = asyncio.ensure_future(bus.command(PutThenList("slow", name)))
        await until(lambda: any(each.busy for each in first.host.serving))
        async with member(url, namespace) as second:
            first.runner.stop()
            await until(lambda: len(second.served) == 8)
            names = {f"k{n}" for n in range(16)}
            await asyncio.gather(*(bus.command(Put(each, Item(each))) for each in names))
            assert set((await bus.query(ListItems(limit=1000))).names) == {"a", *names}
            assert not slow.done(), "the former owner still runs its handler"
            gate(name).set()
            assert set((await slow).names) == {"a", *names}
            listed = (await bus.query(ListItems(order="rank", limit=1000))).names
            assert set(listed) == {"a", "slow", *names}
            assert listed[-1] == "slow", "the list is in the order of the newest states"


async def test_a_missing_partition_is_an_error_and_no_shorter_list(nats_server: EmbeddedServer, namespace: str) -> None:
    url, names = nats_server.url, {f"k{number}" for number in range(40)}
    async with (
        client(url, namespace) as bus,
        member(url, namespace) as first,
        member(url, namespace) as second,
    ):
        await spread(first, second)
        await asyncio.gather(*(bus.command(Put(name, Item(name))) for name in names))
        gone = second.served
        await second.runner.connection.close()
        await unheard(bus.connection, f"{namespace}.items.list.{gone[0]}")
        with pytest.raises(NotDelivered) as raised:
            await bus.query(ListItems(limit=1000))
        assert raised.value.code == 503
        assert str(raised.value) in {f"items: list: partition {n} does not answer: no process owns it" for n in gone}
        silent = [
            await bus.connection.subscribe(f"{namespace}.items.list.{number}", lambda *_: None) for number in gone
        ]
        await bus.connection.flush()

        async def ask() -> None:
            # The service has a tenth of a second to say so before the caller gives up, too little on a machine that stands still.
            for _ in range(10):
                with suppress(DeadlineExceeded):
                    await bus.query(ListItems(limit=1000), timeout=1)

        with pytest.raises(NotDelivered, match=r"partition \d does not answer: no answer in time"):
            await ask()
        for each in silent:
            each.unsubscribe()
        await until(lambda: len(first.served) == 8)
        assert set((await bus.query(ListItems(limit=1000))).names) == names


async def test_owners_of_several_versions_list_what_both_know(nats_server: EmbeddedServer, namespace: str) -> None:
    url, names = nats_server.url, {f"k{n}" for n in range(20)}
    async with client(url, namespace) as bus, member(url, namespace) as first:
        await asyncio.gather(*(bus.command(Put(name, Item(name))) for name in names))
        async with member(url, namespace, FewIndexes) as second:
            await spread(first, second)
            assert {item.name for item in (await page_of(first, {})).items} == names
            with pytest.raises(NotDelivered, match=r"without Index\('owner', order='at'\)"):
                await page_of(first, {"owner": "x"})
        async with member(url, namespace, Newer) as second:
            await spread(first, second)
            page = await page_of(second, {})
            assert {(item.name, item.owner) for item in page.items} == {(name, "upgraded") for name in names}
            with pytest.raises(
                NotDelivered, match=r"a newer version of the actor \(state version 2; this process knows 1\)"
            ):
                await page_of(first, {})


async def page_of(member: Member, filters: dict[str, Any]) -> Page[Item]:
    """Return a list as a handler in this process gets it."""
    lists = member.host.owners[0]._lists
    assert lists is not None
    return await lists.page(filters, None, 100, None)


async def test_a_handler_can_list_while_its_process_drains_alone(nats_server: EmbeddedServer, namespace: str) -> None:
    url, name = nats_server.url, f"drain {namespace}"
    async with client(url, namespace) as bus, member(url, namespace) as only:
        await asyncio.gather(*(bus.command(Put(f"k{n}", Item(f"k{n}"))) for n in range(20)))
        listing = asyncio.ensure_future(bus.query(ListItems(gate=name)))
        await until(lambda: any(each.busy for each in only.host.serving))
        only.runner.stop()
        await until(lambda: not only.served)
        gate(name).set()
        assert len((await listing).names) == 20


async def test_the_internal_subject_answers_each_request_and_drops_replies_to_what_is_no_inbox(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with member(nats_server.url, namespace), client(nats_server.url, namespace) as bus:
        connection, subject = bus.connection, f"{namespace}.items.list.0"
        # A former owner that is stopped, and keeps its subscription for a while.
        await connection.subscribe(subject, lambda *_: None, queue=QUEUE)
        for payload, text in (
            (b"", "Input data was truncated"),
            (b"[]", "Expected `object`"),
            (b'{"partitions":4}', "the keys are in 8 partitions, not in 4"),
            (b'{"partitions":8,"fields":["secret"]}', "without Index('secret')"),
            (b'{"partitions":8,"order":"rank","after":[true,"x","k"],"count":5}', "has another form"),
            (b'{"partitions":8,"keys":["%zz"]}', "has another form"),
            (b'{"partitions":8,"keys":["a","b","c","d","e","f","g","h","i","j"]}', "is in partition"),
        ):
            reply = await connection.request(subject, payload, timeout=5)
            assert text in reply.payload.decode() and b'"code":503' in reply.payload, (payload, reply.payload)
        reply = await connection.request(subject, b'{"partitions":8,"order":"rank","count":-5,"states":-5}', timeout=5)
        assert reply.payload == b'{"version":1,"cut":false,"positions":[],"states":[]}'
        late = header_block.join(header_block.line(header_block.DEADLINE, b"1700000000000"))
        response = await connection.request_nowait(
            subject.encode(), b'{"partitions":8}', late, asyncio.get_running_loop().time() + 5
        )
        assert b"the deadline has passed" in response.payload
        received: list[bytes] = []
        elsewhere = f"{namespace}.elsewhere"
        await connection.subscribe(elsewhere, lambda subject, *_: received.append(subject))
        connection._transport.publish(subject.encode(), b'{"partitions":8}', None, elsewhere.encode())
        await connection.request(subject, b'{"partitions":8}', timeout=5)
        await connection.flush()
        assert received == []


def test_a_page_ends_where_a_part_is_cut() -> None:
    first = Part(0, [(True, value, f"a{value}") for value in (1, 4, 7)], True, {})
    second = Part(1, [(True, value, f"b{value}") for value in (2, 5, 9)], False, {})
    third = Part(2, [], False, {})
    up = Selection(0, None, False, 10, None)
    chosen, more = merge([first, second, third], up)
    assert ([position[1] for position, _ in chosen], more) == ([1, 2, 4, 5, 7], True)
    chosen, more = merge([first._replace(cut=False), second, third], up)
    assert ([position[1] for position, _ in chosen], more) == ([1, 2, 4, 5, 7, 9], False)
    assert [number for _, number in chosen] == [0, 1, 0, 1, 0, 1]
    chosen, more = merge([first, second], up._replace(limit=2))
    assert ([position[1] for position, _ in chosen], more) == ([1, 2], True)
    down = [part._replace(positions=part.positions[::-1]) for part in (first, second)]
    chosen, more = merge(down, up._replace(descending=True))
    assert ([position[1] for position, _ in chosen], more) == ([9, 7, 5, 4, 2, 1], True)
