"""Parts on the server that somebody deletes: each is made again, under a running owner and under a standby."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runtime import Actor, ActorError, Command, command
from runtime.host import checks
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease_value import kind_of
from runtime.nats.server import EmbeddedServer
from runtime.storage import streams
from runtime.storage.streams import StateLost
from runtime.telemetry import Tracing
from runtime.wire.subjects import Names
from tests.support.counting import Add, Counter
from tests.support.probe import Probe, running
from tests.support.standby import standby
from tests.support.waiting import until

Deletion = Callable[[JetStream, Names], Awaitable[None]]


async def bucket(jetstream: JetStream, names: Names) -> None:
    await jetstream.delete_stream(f"KV_{names.lease_bucket}")


async def lease(jetstream: JetStream, names: Names) -> None:
    await jetstream.purge(f"KV_{names.lease_bucket}", f"$KV.{names.lease_bucket}.{names.actor}.0", 2**40)


async def events(jetstream: JetStream, names: Names) -> None:
    await jetstream.delete_stream(names.events_stream)


async def dead_letters(jetstream: JetStream, names: Names) -> None:
    await jetstream.delete_stream(names.dead_stream)


async def timers(jetstream: JetStream, names: Names) -> None:
    await jetstream.delete_consumer(names.turns_stream, "timers")


async def redrive(jetstream: JetStream, names: Names) -> None:
    await jetstream.delete_consumer(names.dead_stream, "redrive")


async def add(system: Probe, name: str) -> int:
    """Add one to a counter, as a patient caller does, and return its value."""
    async with asyncio.timeout(30):
        while True:
            try:
                return (await system.bus.command(Add(name), timeout=2)).value
            except ActorError:
                await asyncio.sleep(0.02)


async def parts(jetstream: JetStream, names: Names) -> list[str]:
    """Return the streams and consumers of an actor, and the holder of its lease."""
    found: list[str] = []
    for stream in (names.turns_stream, names.events_stream, names.dead_stream):
        found += [stream, *sorted(each.name for each in await jetstream.consumers(stream))]
    last = await jetstream.get_last(f"KV_{names.lease_bucket}", f"$KV.{names.lease_bucket}.{names.actor}.0")
    return [*found, kind_of(last).name]


@pytest.mark.parametrize("restarted", [False, True], ids=["owner", "standby"])
async def test_an_actor_serves_again_whatever_is_deleted(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """With a standby, the owner drains right after the deletion: nobody but the standby can make the part again."""
    monkeypatch.setattr(checks, "_TICK", 0.1)

    async def one(delete: Deletion) -> None:
        url, space = nats_server.url, f"{namespace}-{delete.__name__}"
        names = Names("counter", space)
        async with running(Counter, url=url, namespace=space, lease_ttl=1.0) as owner:
            jetstream = owner.jetstream
            assert await add(owner, "a") == 1
            before = await parts(jetstream, names)
            if restarted:
                async with standby(Counter, url=url, namespace=space, lease_ttl=1.0) as other:
                    await delete(jetstream, names)
                    owner.drain("counter")
                    await other.until_ready("counter")
                    assert await add(other, "a") == 2
                    assert await parts(jetstream, names) == before, delete
                return
            ownership = owner.ownership("counter")
            await delete(jetstream, names)
            await owner.until(lambda: owner.ownership("counter") not in (None, ownership))
            await owner.until_ready("counter")
            assert await add(owner, "a") == 2
            assert await parts(jetstream, names) == before, delete

    await asyncio.gather(*(one(delete) for delete in (bucket, lease, events, dead_letters, timers, redrive)))


class Knock(Command[str], actor="door"):
    pass


class Door(Actor):
    """An actor without state: its processes share it, and one of them owns the checkpoint."""

    name = "door"

    @command
    async def knock(self, message: Knock) -> str:
        return "who is there?"


async def test_a_checkpoint_has_an_owner_again_after_its_lease_was_deleted(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Door, url=nats_server.url, namespace=namespace, lease_ttl=1.0) as system:
        # The first start does not wait, although the first owner stores positions meanwhile.
        checkpoint = system.relay("door").checkpoint
        lost = system.checkpoint_lease("door").lost
        await until(lambda: checkpoint.tracking, 0.9)
        await bucket(system.jetstream, system.served("door").names)
        await until(lost.is_set)
        await until(lambda: system.checkpoint_lease("door").held() and checkpoint.tracking)
        assert await system.bus.command(Knock()) == "who is there?"


async def test_a_deleted_state_ends_the_owner_and_its_standby(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_TICK", 0.1)
    monkeypatch.setattr(streams, "_MISSING_PAUSES", (0.05,))
    async with (
        await Connection.connect(ConnectionOptions(url=nats_server.url)) as one,
        await Connection.connect(ConnectionOptions(url=nats_server.url)) as two,
    ):
        deployment = Deployment(namespace=namespace, lease_ttl=1.0)
        runners = [Runner([Counter], each, Tracing(in_memory=True), deployment) for each in (one, two)]
        ends = [asyncio.ensure_future(each.run()) for each in runners]
        await until(lambda: {each.hosts[0].standby for each in runners} == {True, False})
        await until(lambda: any(each.hosts[0].ready.is_set() for each in runners))
        await JetStream(one).delete_stream(Names("counter", namespace).turns_stream)
        async with asyncio.timeout(30):
            found = await asyncio.gather(*ends, return_exceptions=True)
    assert [type(error) for error in found] == [StateLost, StateLost]
