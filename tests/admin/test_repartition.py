"""Repartition: the keys of an actor move to another number of partitions, and nothing is lost or done twice."""

import asyncio
import itertools
import random

import msgspec
import pytest

from runtime import ActorError
from runtime.admin.repartition import repartition
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.storage import record_streams
from runtime.storage.layout import Layout, Layouts, WrongLayout
from runtime.storage.leftovers import Leftovers
from runtime.storage.positions import Death, Positions
from runtime.storage.record import Outgoing, decode_record
from runtime.wire import header_block
from runtime.wire.buckets import Partition, partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.admin.killed_tool import kill
from tests.admin.ledger import FAILING, Book, CancelTimer, GetAccount, SetTimer
from tests.support.probe import Probe

STEPS = 9
"""Steps of a repartition that are reported."""


async def outboxes(jetstream: JetStream, names: Names, partitions: int) -> list[Outgoing]:
    """Return the entries of the outboxes of all records."""
    parts = names.partitions(partitions)
    records = [each for part in parts async for each in jetstream.read(part.turns_stream, f"{part.own}.turn.*")]
    return [entry for each in records for entry in decode_record(each.payload, each.subject).outbox]


async def test_an_actor_goes_through_several_layouts(nats_server: EmbeddedServer, namespace: str) -> None:
    book = Book(nats_server.url, namespace)
    before = 1
    async with book.running() as system:
        await book.add(system, 4)
    async with book.jetstream() as jetstream:
        for after in (8, 16, 4, 1):
            assert await repartition(jetstream, book.names, after)
            assert await outboxes(jetstream, book.names, after) == []
            async with book.running(after) as system:
                await book.check(system)
                await book.add(system, 4)
            left = await jetstream.stream_names(f"{namespace}.ledger.>")
            assert not [name for name in left if f"-p{before}-" in name]
            before = after
    async with book.running() as system:
        await book.check(system)


async def go_on_after_a_kill(book: Book, what: str, number: int, way: str, before: int, after: int) -> None:
    """Kill a repartition, and go on in one of the ways in which an operator can: again, back, or start."""
    async with book.running(before) as system:
        await book.add(system, 3)
        for each in book.keys[:2]:
            await system.bus.command(SetTimer(each, 1.0, "soon"))
            await system.bus.command(SetTimer(each, 600.0, "late"))
            await system.bus.command(SetTimer(each, 600.0, "cancelled"))
            await system.bus.command(CancelTimer(each, "cancelled"))
    killed = await kill(book.url, book.namespace, "ledger", after, what, number)
    async with book.jetstream() as jetstream:
        layout, _ = await Layouts(jetstream, book.names).read()
        assert killed or (layout.partitions, layout.to, layout.before) == (after, 0, 0)
        partitions = layout.partitions
        if layout.to:
            for configured in (1, 4):
                with pytest.raises(WrongLayout, match="actorloom repartition ledger"):
                    async with book.running(configured):
                        pass
        if way == "again" or (layout.to and way == "start"):
            await repartition(jetstream, book.names, partitions := after)
        elif way == "back":
            await repartition(jetstream, book.names, partitions := before)
        async with book.running(partitions) as system:
            await book.check(system)
            await book.add(system)
            for each in book.keys[:2]:

                async def rang(name: str = each) -> bool:
                    return (await system.bus.query(GetAccount(name))).rang == ["soon"]

                await system.until(rang)
                await system.bus.command(CancelTimer(each, "late"))
            await book.check(system)
        layout, _ = await Layouts(jetstream, book.names).read()
        assert (layout.partitions, layout.to, layout.before) == (partitions, 0, 0)
        for name in await jetstream.stream_names(f"{book.namespace}.ledger.>"):
            left = [each.subject async for each in jetstream.read(name, f"{book.namespace}.ledger.>")]
            assert not [subject for subject in left if ".schedule." in subject or ".timer." in subject]


async def test_nothing_is_lost_if_the_tool_is_killed(nats_server: EmbeddedServer, namespace: str) -> None:
    ways = itertools.cycle(["again", "back", "start"])
    kills = [("step", number, next(ways)) for number in (1, 2, 3, 4, *range(6, STEPS))]  # at the others, nothing is new
    kills.append(("step", STEPS - 2, "start"))  # the new owners move the timers
    kills += [("request", number, next(ways)) for number in random.Random(12).sample(range(90), 2)]
    async with asyncio.TaskGroup() as tasks:
        for index, kill_at in enumerate(kills):
            book = Book(nats_server.url, f"{namespace}{index}", 6)
            tasks.create_task(go_on_after_a_kill(book, *kill_at, *((1, 4) if index % 2 else (4, 1))))


def number_of(name: str) -> int:
    """Return the partition of an account, of eight."""
    return partition_of(key_token(name), 8)


async def forget(jetstream: JetStream, names: Names, partitions: int) -> None:
    """Delete all dedup entries, as if they had expired."""
    for part in names.partitions(partitions):
        await jetstream.purge(part.turns_stream, f"{part.own}.dedup.>", 10**9)


async def test_events_are_handled_once_if_partitions_are_joined(nats_server: EmbeddedServer, namespace: str) -> None:
    """One partition is behind the others, and the ids of what the others have handled are forgotten."""
    book = Book(nats_server.url, namespace, 12)
    names = Names("tally", namespace)
    late = book.keys[0]
    # The events of one consumer behind an unfinished one are another matter: they come again after any change of owner.
    book.keys = [late, *(name for name in book.keys if number_of(name) != number_of(late))]
    FAILING.add(late)
    async with book.running(tally=8) as system:
        await book.add(system, 8)
        await book.check_tally(system, but=late)
    FAILING.remove(late)
    async with book.jetstream() as jetstream:
        await forget(jetstream, names, 8)
        for partitions in (4, 1):
            await repartition(jetstream, names, partitions)
        async with book.running() as system:
            await book.check_tally(system)
            await book.add(system)
            await book.check_tally(system)
        position = await Positions(jetstream, names, 1, lambda sequence: None).load(
            f"{namespace}-ledger-events", "tally"
        )
        assert position is not None
        assert position.finished == ()


@pytest.mark.parametrize("deleted", ["consumer", "position"])
async def test_events_are_handled_once_if_somebody_has_deleted_a_consumer_or_its_position(
    nats_server: EmbeddedServer, namespace: str, deleted: str
) -> None:
    book = Book(nats_server.url, namespace, 6)
    names, stream = Names("tally", namespace), book.names.events_stream
    async with book.running() as system:
        await book.add(system, 4)
        await book.check_tally(system)
    async with book.jetstream() as jetstream:
        await forget(jetstream, names, 1)
        if deleted == "consumer":
            await jetstream.delete_consumer(stream, "tally")
        else:
            await jetstream.purge(names.turns_stream, names.position(stream, "tally"), 10**9)
        await repartition(jetstream, names, 8)
    async with book.running(tally=8) as system:
        await book.add(system)
        await book.check_tally(system)


async def timers_of(jetstream: JetStream, names: Names, kind: str) -> list[StoredMessage]:
    """Return the timers of a kind in a stream: ``schedule`` or ``timer``."""
    return [each async for each in jetstream.read(names.turns_stream, f"{names.own}.{kind}.>")]


async def until_due(jetstream: JetStream, names: Names, count: int) -> list[StoredMessage]:
    """Return the due timers of a stream, as soon as there are so many."""
    async with asyncio.timeout(30):
        while len(due := await timers_of(jetstream, names, "timer")) < count:
            await asyncio.sleep(0.02)
    return due


class Dying(JetStream):
    """Cannot delete what it has moved."""

    async def purge(self, stream: str, subject: str, last: int, timeout: float | None = None) -> None:
        raise ActorError("the process has died")


async def test_timers_move_once_although_they_fire_in_both_streams(nats_server: EmbeddedServer, namespace: str) -> None:
    """The tool dies after it has stored the timers in the new stream, and before it has deleted them from the old one."""
    book = Book(nats_server.url, namespace, 1)
    key = book.keys[0]
    partition = Partition(8, partition_of(key_token(key), 8))
    new = book.names.of(partition)
    async with book.running() as system:
        await system.bus.command(SetTimer(key, 0.0, "often", "@every 1s"))
        await system.bus.command(SetTimer(key, 1.0, "soon"))
        await system.bus.command(SetTimer(key, 600.0, "late"))
        await system.wait_published("ledger")
    async with book.jetstream() as jetstream:
        like = (await jetstream.stream_info(book.names.turns_stream)).config
        await record_streams.create(jetstream, new, 1, like, lambda: None)
        dying = Leftovers(Dying(jetstream.connection), book.names, 1, lambda: True)
        with pytest.raises(ActorError, match="died"):
            await dying.move(partition)
        for names in (book.names, new):
            assert len(await until_due(jetstream, names, 2)) == 2
        leftovers = Leftovers(jetstream, book.names, 1, lambda: True)
        await leftovers.move(partition)
        assert (
            await timers_of(jetstream, book.names, "schedule") == await timers_of(jetstream, book.names, "timer") == []
        )
        schedules = await timers_of(jetstream, new, "schedule")
        assert sorted(each.subject.rpartition(".")[2] for each in schedules) == ["late", "often"]
        assert {header_block.get(each.headers, header_block.TIMER_TURN) for each in schedules} == {"0"}
        assert [header_block.get(each.headers, b"Nats-Schedule-Target") for each in schedules] == [
            each.subject.replace(".schedule.", ".timer.") for each in schedules
        ]
        due = await timers_of(jetstream, new, "timer")
        assert sorted(each.subject.rpartition(".")[2] for each in due) == ["often", "soon"]


async def test_a_firing_that_was_handled_has_no_effect_after_it_has_moved(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The former owner has handled a firing of a repeated timer, and has died before it deleted the message."""
    book = Book(nats_server.url, namespace, 1)
    key = book.keys[0]
    partition = Partition(8, partition_of(key_token(key), 8))

    async def rang(system: Probe) -> int:
        return len((await system.bus.query(GetAccount(key))).rang)

    with monkeypatch.context() as patch:
        patch.setattr(JetStream, "delete_message_nowait", lambda *_: None)
        async with book.running() as system:
            await system.bus.command(SetTimer(key, 0.0, "often", "@every 1s"))
            await system.until(lambda: rang(system))
            await system.bus.command(CancelTimer(key, "often"))
            await system.wait_published("ledger")
            before = await rang(system)
    async with book.jetstream() as jetstream:
        assert len(await timers_of(jetstream, book.names, "timer")) == 1
        await repartition(jetstream, book.names, 8)
        new = book.names.of(partition)
        assert len(await timers_of(jetstream, new, "timer")) == 1
        async with book.running(8) as system:
            async with asyncio.timeout(30):
                while await timers_of(jetstream, new, "timer"):
                    await asyncio.sleep(0.02)
            assert await rang(system) == before


async def fire(jetstream: JetStream, names: Names, key: str, sequence: int) -> None:
    """Store a firing of the repeated timer ``often`` at a sequence of a stream, which is filled up to there."""
    due = header_block.encode(
        [("Idempotency-Key", "timer"), ("Actorloom-Command", "Ring"), ("Actorloom-Recurring", "1")]
    )
    while (await jetstream.stream_info(names.turns_stream)).state.last_seq < sequence - 1:
        await jetstream.publish(names.dedup_entry(key_token(key), "filler"), b"")
    body = msgspec.json.encode({"name": key, "called": "often"})
    ack = await jetstream.publish(names.timer(key_token(key), "often"), body, headers=due)
    assert ack.sequence == sequence


async def test_a_firing_has_its_effect_although_a_former_stream_had_one_at_its_sequence(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = Book(nats_server.url, namespace, 1)
    key = book.keys[0]
    async with book.running() as system:
        await book.add(system)
    async with book.jetstream() as jetstream:
        for rang, partitions in enumerate((1, 8), 1):
            await repartition(jetstream, book.names, partitions)
            names = book.names.of(Partition(partitions, partition_of(key_token(key), partitions)))
            await fire(jetstream, names, key, 60)
            async with book.running(partitions) as system:

                async def has_rung(system: Probe = system, rang: int = rang) -> bool:
                    return len((await system.bus.query(GetAccount(key))).rang) == rang

                await system.until(has_rung)


class Pausing(JetStream):
    """Deletes one stream. The process is paused then, and its lease expires."""

    held = True

    async def delete_stream(self, stream: str, timeout: float | None = None) -> None:
        await super().delete_stream(stream, timeout)
        self.held = False


async def test_a_process_that_was_paused_deletes_no_stream(nats_server: EmbeddedServer, namespace: str) -> None:
    """Another process may have finished the repartition meanwhile, and one more may have created streams of the same names."""
    book = Book(nats_server.url, namespace, 2)
    async with book.running(4) as system:
        await book.add(system)
    async with book.jetstream() as jetstream:
        layouts = Layouts(jetstream, book.names)
        _, sequence = await layouts.read()
        await layouts.store(Layout(1, before=4), sequence)
        pausing = Pausing(jetstream.connection)
        with pytest.raises(ActorError, match="lease was lost"):
            await Leftovers(pausing, book.names, 4, lambda: pausing.held).clear()
        left = [name for name in await jetstream.stream_names(f"{book.names.own}.>") if "-p4-" in name]
        assert len(left) == 3


async def test_new_streams_keep_what_an_operator_has_set(nats_server: EmbeddedServer, namespace: str) -> None:
    book = Book(nats_server.url, namespace, 2)
    async with book.running() as system:
        await book.add(system)
    chosen = {"compression": "s2", "max_msg_size": 500_000, "description": "ours", "metadata": {"team": "billing"}}
    async with book.jetstream() as jetstream:
        for partitions in (8, 4, 1):
            first = book.names.partitions(8 if partitions == 4 else 1)[0]
            if partitions != 1:
                config = (await jetstream.stream_info(first.turns_stream)).config
                await jetstream.update_stream({**config, **chosen})
            await repartition(jetstream, book.names, partitions)
            for each in book.names.partitions(partitions):
                config = (await jetstream.stream_info(each.turns_stream)).config
                assert (config["compression"], config["max_msg_size"]) == ("s2", 500_000)
                assert config["metadata"]["team"] == "billing"
        assert (await jetstream.stream_info(book.names.turns_stream)).config["description"] == "ours"
        async with book.running() as system:
            await book.check(system)


async def test_a_death_counts_unless_its_partition_knows_that_the_process_has_survived(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = Book(nats_server.url, namespace, 4)
    names, stream = Names("tally", namespace), f"{namespace}-ledger-events"
    async with book.running() as system:
        await book.add(system)
        await book.check_tally(system)
    async with book.jetstream() as jetstream:
        await repartition(jetstream, names, 2)
        for part, survived in zip(names.partitions(2), (1, 3), strict=True):
            positions = Positions(jetstream, part, 1, lambda sequence: None)
            position = await positions.load(stream, part.durable)
            assert position is not None
            deaths = (Death("former", 1, 99), Death("former", 2, 99))
            await positions.save(stream, part.durable, msgspec.structs.replace(position, deaths=deaths))
            await jetstream.publish(part.survival("former"), b"%d" % survived)
        for partitions, expected in ((4, [{2}, set(), {2}, set()]), (1, [{2}])):
            await repartition(jetstream, names, partitions)
            for part, ownerships in zip(names.partitions(partitions), expected, strict=True):
                found = await Positions(jetstream, part, 1, lambda sequence: None).load(stream, part.durable)
                assert found is not None
                assert {death.ownership for death in found.deaths} == ownerships


async def test_deaths_and_used_attempts_go_to_the_partition_of_their_event(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    book = Book(nats_server.url, namespace, 4)
    names, stream = Names("tally", namespace), f"{namespace}-ledger-events"
    async with book.running() as system:
        await book.add(system)
        await book.check_tally(system)
    async with book.jetstream() as jetstream:
        events = [each async for each in jetstream.read(stream, ">")]
        positions = Positions(jetstream, names, 1, lambda sequence: None)
        position = await positions.load(stream, "tally")
        assert position is not None
        counts = tuple((each.sequence, 1 + each.sequence) for each in events)
        death = Death("former", 1, 99, counts)
        await positions.save(stream, "tally", msgspec.structs.replace(position, deaths=(death,), used=counts))
        await repartition(jetstream, names, 8)
        for new in names.partitions(8):
            found = await Positions(jetstream, new, 1, lambda sequence: None).load(stream, new.durable)
            assert found is not None
            own = tuple(
                each
                for each, event in zip(counts, events, strict=True)
                if partition_of(event.subject.rpartition(".")[2], 8) == new.partition.number
            )
            assert found.deaths == (Death("former", 1, 99, own),)
            assert found.used == own
            info = await jetstream.consumer_info(stream, new.durable)
            assert (found.created, found.floor) == (info.created, events[-1].sequence)
