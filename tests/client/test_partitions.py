"""The bus and the partitions of an actor: a raw client plays the processes of the actor, before and after they change."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from runtime import Command, NotDelivered, Options, Query, connect, new_key
from runtime.admin.repartition import repartition
from runtime.client.breaker import BreakerPolicy
from runtime.client.bus import Bus
from runtime.client.raw import RawClient
from runtime.errors import CircuitOpen
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.wire.buckets import partition_of
from runtime.wire.ids import key_for
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.support.parted import KEYS, GetTotal, Parted, Raise
from tests.support.probe import running


class Put(Command[str], actor="cell", key="name"):
    name: str


class Make(Command[str], actor="cell", key=new_key):
    pass


class GetAll(Query[str], actor="cell"):
    pass


def partitions(number: int) -> dict[str, str]:
    return {"Actorloom-Partitions": str(number)}


def unserved(number: int, partition: int) -> dict[str, str]:
    error = {"Nats-Service-Error": "no", "Nats-Service-Error-Code": "503"}
    return {**error, **partitions(number), "Actorloom-Unserved": str(partition)}


class Cells:
    """The processes of the actor: who answers on which subject, and the subjects of the requests."""

    def __init__(self, client: Client, prefix: str) -> None:
        self.client = client
        self.prefix = prefix
        self.seen: list[str] = []
        self.answers: dict[str, dict[str, str] | None] = {}
        """The headers of the answers, by the last part of the subject. An error has a body."""

    async def serve(self, **answers: dict[str, str] | None) -> None:
        """Answer on these subjects from now on, and on no others: ``put`` is the plain one, ``put_3`` that of a partition."""
        for subscription in list(self.client._subs.values()):
            if subscription.subject.startswith(self.prefix):
                await subscription.unsubscribe()
        self.answers = {name.replace("_", "."): headers for name, headers in answers.items()}
        for name in self.answers:
            kind = "query" if name.startswith("get") else "command"
            await self.client.subscribe(f"{self.prefix}.{kind}.{name.replace('get.all', 'get_all')}", cb=self._answer)
        echo = await self.client.subscribe(inbox := self.client.new_inbox())
        await self.client.publish(inbox)
        await echo.next_msg(timeout=5)
        await echo.unsubscribe()
        self.seen.clear()

    async def _answer(self, message: Msg) -> None:
        name = message.subject.removeprefix(f"{self.prefix}.").partition(".")[2]
        self.seen.append(name)
        headers = self.answers[name.replace("_", ".")]
        failed = headers is not None and "Nats-Service-Error" in headers
        body = {"error": {"code": 503, "kind": "NotDelivered", "message": "no", "executed": False}} if failed else name
        await self.client.publish(message.reply, json.dumps(body).encode(), headers=headers)


@pytest.fixture
async def cells(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Cells]:
    client = await nats.connect(nats_server.url)
    yield Cells(client, f"{namespace}.cell")
    await client.close()


@pytest.fixture
async def bus(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Bus]:
    async with connect(nats_server.url, namespace=namespace, timeout=2) as opened:
        yield opened


KEY = next(key for key in (f"k{number}" for number in range(999)) if partition_of(key_token(key), 8) == 7)
"""A key of partition 7 of 8, which is partition 3 of 4."""


async def test_a_bus_sends_to_the_owner_as_soon_as_it_knows_the_number_of_partitions(cells: Cells, bus: Bus) -> None:
    await cells.serve(put=partitions(8), put_7=None, make=None, get_all=None, **{f"make_{i}": None for i in range(8)})
    assert await bus.command(Put(KEY)) == "put"
    assert await bus.command(Put(KEY)) == "put.7"
    number = partition_of(key_token(key_for("my-id")), 8)
    assert await bus.command(Make(), id="my-id") == f"make.{number}", "all messages of the actor share what is known"
    assert await bus.query(GetAll()) == "get_all"


CHANGES = {
    "to one whole": ({"put": None}, ["put", "put"], 1),
    "to four": ({"put": partitions(4), "put_3": None}, ["put", "put.3"], 1),
    "to four, of which the process that answers owns this one": ({"put": None, "put_3": None}, ["put", "put"], 1),
    "to another owner": ({"put": partitions(8)}, ["put", "put"], 2),
    "to sixteen": ({"put": partitions(16), "put_7": unserved(16, 15), "put_15": None}, ["put.7", "put", "put.15"], 1),
}
"""What answers after a change, the subjects of the answers to two requests, and the number of requests that are repeated."""


@pytest.mark.parametrize("change", CHANGES)
async def test_a_request_finds_its_way_after_a_change(cells: Cells, bus: Bus, change: str) -> None:
    key = next(key for key in (f"k{i}" for i in range(9999)) if partition_of(key_token(key), 16) == 15)
    await cells.serve(put=partitions(8))
    await bus.command(Put(key))
    answers, seen, repeated = CHANGES[change]
    await cells.serve(**answers)
    for _ in range(2):
        # So short that there is no time for a pause.
        assert await bus.command(Put(key), timeout=0.09) in ("put", "put.3", "put.15")
    assert (cells.seen, bus._sender.retries.value) == (seen, repeated)


async def test_an_open_circuit_closes_after_a_change(cells: Cells, nats_server: EmbeddedServer, namespace: str) -> None:
    policy = BreakerPolicy(failures=2, min_duration=0.0, probe_interval=0.2)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        bus = Bus(connection, Tracing().service("test"), namespace=namespace, breaker=policy)
        await cells.serve(put=partitions(8))
        await bus.command(Put(KEY))
        await cells.serve()

        async def outcome() -> object:
            try:
                return await bus.command(Put(KEY), timeout=0.15)
            except NotDelivered as error:
                return type(error)

        while await outcome() is not CircuitOpen:
            pass
        await cells.serve(put=None)
        async with asyncio.timeout(30):
            while await outcome() != "put":
                pass


async def test_a_circuit_ends_with_the_knowledge_of_its_partition(
    cells: Cells, nats_server: EmbeddedServer, namespace: str
) -> None:
    policy = BreakerPolicy(failures=2, min_duration=0.0, probe_interval=60.0)
    other = next(key for key in (f"k{number}" for number in range(999)) if partition_of(key_token(key), 8) == 6)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        bus = Bus(connection, Tracing().service("test"), namespace=namespace, breaker=policy)
        await cells.serve(put=partitions(8))
        await bus.command(Put(KEY))
        await cells.serve()
        refused: type[Exception] | None = None
        while refused is not CircuitOpen:
            with pytest.raises(NotDelivered) as raised:
                await bus.command(Put(KEY), timeout=0.15)
            refused = raised.type
        await cells.serve(put=None)
        assert await bus.command(Put(other)) == "put", "one process owns all partitions"
        await cells.serve(put=partitions(8), put_7=None)
        assert [await bus.command(Put(KEY)) for _ in range(2)] == ["put", "put.7"], "two processes share them again"


async def test_a_request_without_an_owner_is_repeated_until_there_is_one(
    cells: Cells, bus: Bus, namespace: str
) -> None:
    await cells.serve(put=unserved(8, 7))
    with pytest.raises(NotDelivered, match="no process serves it") as refused:
        await bus.command(Put(KEY), timeout=0.2)
    assert refused.value.executed is False and not refused.value.remote and len(cells.seen) > 2
    client = RawClient(bus.connection, namespace=namespace)
    before = len(cells.seen)
    with pytest.raises(NotDelivered) as refused:
        await client.command("cell", "put", b'{"name":"a"}')
    assert not refused.value.remote and len(cells.seen) == before + 1, "a request of a tool is sent once"


async def test_a_client_that_may_use_the_plain_subjects_only_is_served(tmp_path: Path) -> None:
    config = (
        "authorization { users: ["
        ' { user: caller, password: secret, permissions: { publish: "cell.command.put", subscribe: "_INBOX.>" } },'
        " { user: all, password: secret } ] }"
    )
    async with EmbeddedServer(port=0, store_dir=tmp_path / "data", config=config) as server:
        address = server.url.removeprefix("nats://")
        client = await nats.connect(f"nats://all:secret@{address}")
        cells = Cells(client, "cell")
        await cells.serve(put=partitions(8), put_7=None)
        options = ConnectionOptions(url=f"nats://caller:secret@{address}")
        async with connect(options=options) as bus:
            assert [await bus.command(Put(KEY)) for _ in range(4)] == ["put"] * 4
            assert bus._sender.retries.value == 1, "the refused subject is tried once"
        await client.close()


LAYOUTS = (4, 2, 1)
"""The numbers of partitions, one after another."""


async def test_a_bus_outlives_repartitions(nats_server: EmbeddedServer, namespace: str, bus: Bus) -> None:
    names, jetstream, before = Names("parted", namespace), JetStream(bus.connection), 0
    for number in LAYOUTS:
        if before:
            assert await repartition(jetstream, names, number)
        options = {"parted": Options(partitions=number)}
        async with AsyncExitStack() as stack:
            members = [
                await stack.enter_async_context(
                    running(Parted, url=nats_server.url, namespace=namespace, options=options)
                )
                for _ in range(2 if number > 1 else 1)
            ]
            share = max(number // 2, 1)
            await members[0].until(lambda of=members, share=share: all(len(m.owned("parted")) == share for m in of))
            for layout in (number, before or number):  # The commands of the last one were handled in it.
                raised = await asyncio.gather(*(bus.command(Raise(key), id=f"{key}-{layout}") for key in KEYS.values()))
                assert set(raised) == {LAYOUTS.index(layout) + 1}
            for _ in range(3):
                totals = await asyncio.gather(*(bus.query(GetTotal(key)) for key in KEYS.values()))
                assert set(totals) == {LAYOUTS.index(number) + 1}
        before = number
