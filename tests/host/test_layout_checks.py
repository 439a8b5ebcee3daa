"""The stored layout of an actor that is configured otherwise, was never used, was deleted, or is unreadable."""

import pytest

from runtime.admin.doctor import RunningService, examine
from runtime.admin.repartition import repartition
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.layout import Layout, Layouts, WrongLayout
from runtime.storage.streams import Streams
from runtime.wire.subjects import Names
from tests.support.parted import PARTITIONS, joined
from tests.support.waiting import until


async def test_an_actor_that_began_as_one_whole_and_stored_nothing_names_the_way_to_partitions(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("parted", namespace)
        await Streams(jetstream, names).ensure()
        with pytest.raises(WrongLayout, match=r"stored in 1 partition,.*configured for 8.*repartition parted 8"):
            async with joined(nats_server, namespace) as member:
                await member.work
        await repartition(jetstream, names, PARTITIONS)
    async with joined(nats_server, namespace) as member:
        await until(member.host.ready.is_set)


async def test_a_process_with_another_number_creates_nothing(nats_server: EmbeddedServer, namespace: str) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("parted", namespace)
        await Layouts(jetstream, names).begin(PARTITIONS)
        for partitions in (4, 1):
            with pytest.raises(WrongLayout, match=f"stored in 8 partitions,.*configured for {partitions}"):
                async with joined(nats_server, namespace, partitions=partitions) as member:
                    await member.work
        assert await jetstream.stream_names(f"{names.own}.>") == [names.layout_stream]


async def test_a_deleted_layout_is_no_actor_of_one_partition(nats_server: EmbeddedServer, namespace: str) -> None:
    async with joined(nats_server, namespace) as member:
        await until(member.host.ready.is_set)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("parted", namespace)
        await jetstream.purge(names.layout_stream, names.layout(), 1_000)
        for partitions in (PARTITIONS, 1):
            with pytest.raises(WrongLayout, match=r"layout was deleted.*nats pub .*parted\.relay\.layout"):
                async with joined(nats_server, namespace, partitions=partitions) as member:
                    await member.work
        with pytest.raises(WrongLayout, match="layout was deleted"):
            await repartition(jetstream, names, PARTITIONS)
        findings = [each async for each in examine(connection, namespace=namespace, probe=False)]
        (found,) = [each for each in findings if each.subject == "parted"]
        assert found.status == "fail" and "layout was deleted" in found.text
        await jetstream.publish(names.layout(), b'{"partitions":8}')
    async with joined(nats_server, namespace) as member:
        await until(member.host.ready.is_set)


@pytest.mark.parametrize(
    "payload", [b"", b"x", b"[]", b'{"partitions":"8"}', b'{"partitions":7}', b'{"partitions":1e12}', b'{"before":-1}']
)
async def test_an_unreadable_layout_is_named(nats_server: EmbeddedServer, namespace: str, payload: bytes) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("parted", namespace)
        await Layouts(jetstream, names).begin(PARTITIONS)
        await jetstream.publish(names.layout(), payload)
        with pytest.raises(WrongLayout, match=r"parted\.relay\.layout: the stored layout is unreadable"):
            await Layouts(jetstream, names).read()


async def test_a_repartition_that_was_not_finished_is_shown_with_its_ways_out(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("parted", namespace)
        layouts = Layouts(jetstream, names)
        await layouts.begin(4)
        await layouts.create_streams(PARTITIONS)
        await layouts.store(Layout(4, to=PARTITIONS), 1)
        running = [RunningService("parted", partitions=frozenset({4}))]
        findings = [each async for each in examine(connection, namespace=namespace, running=running, probe=False)]
        found = [each for each in findings if "repartition" in each.text]
        assert [(each.status, each.todo) for each in found] == [
            ("fail", "if no tool does it now: run `actorloom repartition parted 8` again, or `actorloom repartition parted 4` to undo it")
        ]  # fmt: skip


async def test_a_layout_that_is_stored_while_another_process_looks_was_not_deleted(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("parted", namespace)

        class Second(Layouts):
            """It reads that there is no layout, and then the stream of the process that was first."""

            async def read(self) -> tuple[Layout, int]:
                found = await super().read()
                if found[1] == 0:
                    await Layouts(jetstream, names).begin(PARTITIONS)
                return found

        assert await Second(jetstream, names).begun(PARTITIONS)
