"""The streams of an earlier version, brought to the form of this one: nothing is lost, and nothing is handled twice."""

from typing import Any

import msgspec
import pytest

from runtime.admin.repartition import Refused, UnknownActor, repartition
from runtime.admin.upgrade import upgrade
from runtime.errors import ActorError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import StreamConflict
from runtime.nats.lease import Lease
from runtime.nats.server import EmbeddedServer
from runtime.storage.positions import ConsumerPosition
from runtime.storage.streams import OldStream
from runtime.wire import header_block
from runtime.wire.buckets import bucket_of
from runtime.wire.subjects import Names, published
from tests.admin.ledger import Book, Ledger
from tests.admin.test_repartition_refused import older
from tests.support.probe import running


class Killed(ActorError):
    """The process has been killed."""


class Mortal(JetStream):
    """Makes a number of requests, and then fails. Those of a lease do not count."""

    left = 0

    async def publish(self, *arguments: Any, **others: Any) -> Any:
        self._live(arguments[0])
        return await super().publish(*arguments, **others)

    async def _call(self, *arguments: Any, **others: Any) -> Any:
        self._live(arguments[0])
        return await super()._call(*arguments, **others)

    def _live(self, subject: str) -> None:
        if "KV" not in subject:
            if self.left == 0:
                raise Killed("killed")
            self.left -= 1


async def make_old(jetstream: JetStream, book: Book) -> None:
    """Store the events, dead letters and consumers of the ledger as the version before partitions has stored them."""
    names, tally = book.names, Names("tally", book.namespace)
    events = [each async for each in jetstream.read(names.events_stream, ">")]
    info = await jetstream.consumer_info(names.events_stream, "tally")
    _, *configs = older(names)
    for config in configs:
        await jetstream.delete_stream(config.name)
        await jetstream.ensure_stream(config)
    for each in events:
        pairs = [(name, text) for name, text in header_block.parse(each.headers).items() if name != "Nats-Msg-Id"]
        ack = await jetstream.publish(published(each.subject), each.payload, headers=header_block.encode(pairs))
        assert ack.sequence == each.sequence
    config = {**info.config, "deliver_policy": "by_start_sequence", "opt_start_seq": info.ack_floor.stream_seq + 1}
    config |= {"filter_subject": f"{names.own}.event.added.*"}
    config.pop("filter_subjects", None)
    created = await jetstream.create_consumer(names.events_stream, config)
    stream = await jetstream.stream_info(names.events_stream)
    position = ConsumerPosition(stream.created, created.created, info.ack_floor.stream_seq)
    await jetstream.publish(tally.position(names.events_stream, "tally"), msgspec.json.encode(position))


async def old_ledger(jetstream: JetStream, url: str, namespace: str) -> Book:
    """Return a ledger with old streams, of whose events the tally has handled some."""
    book = Book(url, namespace, 4)
    async with book.running() as system:
        await book.add(system, 5)
        await book.check_tally(system)
    async with running(Ledger, url=url, namespace=namespace) as system:
        await book.add(system)
    await make_old(jetstream, book)
    return book


async def test_consumers_continue_where_they_were(nats_server: EmbeddedServer, namespace: str) -> None:
    async with Book(nats_server.url, namespace).jetstream() as jetstream:
        book = await old_ledger(jetstream, nats_server.url, namespace)
        names, tally = book.names, Names("tally", namespace)
        redriven = header_block.encode([("Dead-Subject", names.event("added", "k")), ("Dead-Reaction", "x")])
        await jetstream.publish(names.redriven("added"), b"{}", headers=redriven)
        for actor, after in ((tally, 8), (names, 8)):
            with pytest.raises(OldStream, match="run `actorloom upgrade ledger`"):
                await repartition(jetstream, actor, after)
        before = [(each.sequence, each.time) async for each in jetstream.read(names.events_stream, ">")]
        mortal, runs = Mortal(jetstream.connection), 0
        while True:
            mortal.left, runs = 7 + 2 * runs, runs + 1  # the first ones only look
            try:
                assert await upgrade(mortal, names)
                break
            except Killed:
                # No process of the earlier version starts from the first change on.
                _, dead, events = older(names)
                if (await jetstream.stream_info(dead.name)).config["subjects"] != list(dead.subjects):
                    with pytest.raises(StreamConflict):
                        await jetstream.ensure_stream(dead)
                else:
                    await jetstream.ensure_stream(events)
        assert runs > 10
        assert [(each.sequence, each.time) async for each in jetstream.read(names.events_stream, ">")] == before
        assert not await upgrade(jetstream, names)
        moved = [each.subject async for each in jetstream.read(names.dead_stream, f"{names.redriven()}.>")]
        assert set(moved) == {f"{names.redriven('added')}.{bucket_of('k')}.k"}
        async with book.running() as system:
            await book.check(system)
            await book.add(system)
            await book.check(system)


async def test_events_after_the_upgrade_are_delivered_although_all_old_ones_are_gone(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    """The new stream begins below the place of the consumer, because the last events have expired."""
    async with Book(nats_server.url, namespace).jetstream() as jetstream:
        book = Book(nats_server.url, namespace, 4)
        async with book.running() as system:
            await book.add(system, 2)
            await book.check_tally(system)
        await make_old(jetstream, book)
        await jetstream.purge(book.names.events_stream, ">", 100)
        assert await upgrade(jetstream, book.names)
        async with book.running() as system:
            await book.add(system)
            await book.check(system)


async def test_an_upgrade_that_was_paused_deletes_no_stream(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run may have come to its end meanwhile. Here none has, so the next one goes on, and keeps an operator's settings."""
    async with Book(nats_server.url, namespace).jetstream() as jetstream:
        book = await old_ledger(jetstream, nats_server.url, namespace)
        found = await jetstream.stream_info(book.names.events_stream)
        await jetstream.update_stream({**found.config, "metadata": {"team": "billing"}, "max_age": 10**15})

        def pause(line: str) -> None:
            if line == "creating the new stream of events":
                monkeypatch.setattr(Lease, "held", lambda lease: False)

        with pytest.raises(ActorError, match="the lease was lost"):
            await upgrade(jetstream, book.names, lease_ttl=1.0, report=pause)
        monkeypatch.undo()
        assert (await jetstream.stream_info(book.names.events_stream)).created == found.created
        assert await upgrade(jetstream, book.names)
        config = (await jetstream.stream_info(book.names.events_stream)).config
        assert (config["metadata"]["team"], config["max_age"]) == ("billing", 10**15)
        async with book.running() as system:
            await book.check(system)


async def test_an_upgrade_beside_a_running_process_is_refused(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.admin.upgrade._PULL", 0.2)
    book = Book(nats_server.url, namespace, 2)
    async with book.jetstream() as jetstream:
        with pytest.raises(UnknownActor):
            await upgrade(jetstream, book.names)
        async with book.running() as system:
            await book.add(system)
            assert not await upgrade(jetstream, book.names)
            config = (await jetstream.stream_info(book.names.dead_stream)).config
            await jetstream.update_stream({name: each for name, each in config.items() if name != "subject_transform"})
            with pytest.raises(Refused, match=r"a process pulls from the consumer .* stop all processes of ledger"):
                await upgrade(jetstream, book.names)
