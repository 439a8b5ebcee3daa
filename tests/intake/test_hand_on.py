"""Events whose key is in another partition: handed on in order, and with effect once."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names, key_token
from tests.host.test_host import process
from tests.support.handed import ATTEMPTS, GetSeen, Ledgers, Posted
from tests.support.handlers import RUN_COUNTS
from tests.support.process import ROOT, Process, running_command
from tests.support.waiting import until

PARTITIONS = Ledgers.options.partitions


class Scene:
    """Posts, and what became of them."""

    def __init__(self, connection: Connection, namespace: str, url: str) -> None:
        self.bus = Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)
        self.namespace = namespace
        self.url = url
        self.names = Names("ledgers", namespace)
        self.jetstream = JetStream(connection)
        self.letters = DeadLetters(self.jetstream, self.names)
        self.runners: tuple[Any, ...] = ()

    def key(self, partition: int, word: str) -> str:
        """Return a key in a partition."""
        found = (f"{self.namespace}-{word}-{number}" for number in range(1000))
        return next(key for key in found if partition_of(key_token(key), PARTITIONS) == partition)

    async def post(self, source: str, target: str, number: int, does: str = "", body: str = "") -> None:
        await self.bus.emit(Posted(source, target, number, does, body))

    async def seen(self, target: str) -> tuple[tuple[str, int], ...]:
        return (await self.bus.query(GetSeen(target), timeout=20)).posts

    async def until_seen(self, target: str, *posts: tuple[str, int], timeout: float = 20.0) -> None:
        seen: tuple[tuple[str, int], ...] = ()
        try:
            async with asyncio.timeout(timeout):
                while seen != posts:
                    seen = await self.seen(target)
        except TimeoutError:
            raise AssertionError(f"{seen} in place of {posts}") from None

    async def dead_letters(self) -> list[DeadLetter]:
        return [each async for each in self.letters.read()]

    @asynccontextmanager
    async def command(self, ttl: float = 1.0, **env: str) -> AsyncIterator[Process]:
        """Run the actor in a process of its own."""
        arguments = ("run", "tests.support.handed:Ledgers", "--nats", self.url, "--namespace", self.namespace)
        async with running_command(*arguments, "--lease-ttl", f"{ttl:g}", cwd=ROOT, env=env) as child:
            yield child


@asynccontextmanager
async def scene(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Scene]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        here = Scene(connection, namespace, nats_server.url)
        await here.jetstream.ensure_stream(events_config(Names("posts", namespace)))
        yield here


@asynccontextmanager
async def pair(nats_server: EmbeddedServer, namespace: str, ttl: float = 2.0) -> AsyncIterator[Scene]:
    """Run the actor twice in this process, each with four partitions."""
    async with (
        scene(nats_server, namespace) as here,
        process(nats_server, namespace, Ledgers, ttl=ttl) as (one, _),
        process(nats_server, namespace, Ledgers, ttl=ttl) as (two, _),
    ):
        here.runners = (one, two)
        await until(lambda: all(len(each.hosts[0].serving) == PARTITIONS // 2 for each in here.runners))
        yield here


async def test_events_of_a_key_act_on_keys_of_other_partitions_in_order(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with pair(nats_server, namespace) as here:
        sources = [here.key(number, "source") for number in range(PARTITIONS)]
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        expected: dict[str, dict[str, list[int]]] = {target: {source: [] for source in sources} for target in targets}
        order = random.Random(7)
        for number in range(20):
            for source in sources:
                target = order.choice(targets)
                expected[target][source].append(number)
                await here.post(source, target, number)
        for target in targets:
            count = sum(map(len, expected[target].values()))
            async with asyncio.timeout(20):
                while len(await here.seen(target)) < count:
                    pass
            for source in sources:
                seen = [number for each, number in await here.seen(target) if each == source]
                assert seen == expected[target][source], (source, target)


async def test_a_failing_event_has_its_attempts_and_becomes_one_dead_letter(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with pair(nats_server, namespace) as here:
        source = here.key(0, "source")
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        for target in targets:
            await here.post(source, target, 1, "fail", target)
            await here.post(source, target, 2, "reject")
            await here.post(source, target, 3)
        for target in targets:
            await here.until_seen(target, (source, 3))
        letters = await here.dead_letters()
        assert len(letters) == 2 * PARTITIONS
        assert RUN_COUNTS[f"post {source} 1"] == ATTEMPTS * PARTITIONS
        assert RUN_COUNTS[f"post {source} 2"] == PARTITIONS
        failed = [each for each in letters if each.failure.reason.startswith("RuntimeError")]
        assert len(failed) == PARTITIONS
        assert {(each.failure.attempts, each.failure.subject) for each in failed} == {
            (ATTEMPTS, Names("posts", namespace).event("posted", source))
        }


async def test_a_redriven_event_goes_to_the_partition_of_its_key(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(nats_server, namespace) as here:
        source = here.key(0, "source")
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        for target in targets:
            await here.post(source, target, 1, "refuse once")
            await here.post(source, target, 2)
        for target in targets:
            await here.until_seen(target, (source, 2))
        monkeypatch.setenv("HARMLESS", "1")
        for letter in await here.dead_letters():
            assert await here.letters.redrive(letter.sequence)
        for target in targets:
            await here.until_seen(target, (source, 2), (source, 1))
        info = await here.jetstream.stream_info(here.names.dead_stream)
        assert info.state.messages == 0


async def test_an_event_that_fills_a_message_is_read_by_its_receiver(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with pair(nats_server, namespace) as here:
        source, room = here.key(0, "source"), 1024 * 1024 - 1000
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        for target in targets:
            await here.post(source, target, 1, body="x" * room)
        for target in targets:
            await here.until_seen(target, (source, 1))


async def test_an_event_that_runs_for_longer_than_a_lease_runs_once(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with pair(nats_server, namespace, ttl=1.0) as here:
        source = here.key(0, "source")
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        for target in targets:
            await here.post(source, target, 1, "slow", "2.5")
            await here.post(source, target, 2)
        other = here.key(1, "source")
        for target in targets:
            await here.post(other, target + "-other", 3)
        for target in targets:
            await here.until_seen(target + "-other", (other, 3), timeout=2)
        for target in targets:
            await here.until_seen(target, (source, 1), (source, 2))
        assert RUN_COUNTS[f"post {source} 1"] == PARTITIONS
