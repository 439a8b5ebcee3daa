"""Events whose key is in another partition: handed on in order, and with effect once."""

import asyncio
import contextlib
import random
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime import ActorError, DeadlineExceeded, NotDelivered, PublishError, clocks
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.lease_value import Kind, holder_of, kind_of
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names
from runtime.wire.tokens import key_token
from tests.host.test_host import process
from tests.support.handed import ATTEMPTS, GetSeen, Ledgers, Posted
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.process import ROOT, Process, running_command
from tests.support.waiting import until

PARTITIONS = Ledgers.options.partitions
PAUSE = 0.01
"""Seconds between two looks at what has happened, which leave the machine to the processes."""


class Scene:
    """Posts and their outcomes."""

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

    async def most(self) -> int:
        """Return the length of the longest body that fits a message."""
        room = 1024 * 1024
        while True:
            with contextlib.suppress(PublishError):
                await self.post(self.key(0, "large"), self.key(0, "large"), 0, body="x" * room)
                return room - 100  # Other keys are a little longer.
            room -= 40

    async def seen(self, target: str) -> tuple[tuple[str, int], ...]:
        while True:
            with contextlib.suppress(NotDelivered, DeadlineExceeded):  # Its owner ends just now.
                return (await self.bus.query(GetSeen(target))).posts
            await asyncio.sleep(PAUSE)

    async def until_seen(self, target: str, *posts: tuple[str, int], timeout: float = 20.0) -> None:
        seen: tuple[tuple[str, int], ...] = ()
        try:
            async with asyncio.timeout(timeout):
                while (seen := await self.seen(target)) != posts:
                    await asyncio.sleep(PAUSE)
        except TimeoutError:
            raise AssertionError(f"{seen} in place of {posts}") from None

    async def dead_letters(self) -> list[DeadLetter]:
        return [each async for each in self.letters.read()]

    async def settled(self, alive: list[Process]) -> None:
        """Return when both processes own partitions, and all are owned."""

        async def holders() -> set[str]:
            found: set[str] = set()
            for number in range(PARTITIONS):
                bucket = self.names.lease_bucket
                last = await self.jetstream.get_last(f"KV_{bucket}", f"$KV.{bucket}.ledgers.{number}")
                holder = None if last is None or kind_of(last) is not Kind.VALUE else holder_of(last)
                found.add("" if holder is None else str(holder.pid))
            return found

        async with asyncio.timeout(20):
            while await holders() != {str(each.pid) for each in alive}:
                await asyncio.sleep(PAUSE)

    @asynccontextmanager
    async def command(self, ttl: float = 1.0, **env: str) -> AsyncIterator[Process]:
        """Run the actor in a process of its own."""
        arguments = ("run", "tests.support.handed:Ledgers", "--nats", self.url, "--namespace", self.namespace)
        async with running_command(*arguments, "--lease-ttl", f"{ttl:g}", cwd=ROOT, env=env) as child:
            yield child

    async def two_commands(self, stack: AsyncExitStack) -> list[Process]:
        """Run the actor in two processes, which start together and end with `stack`. Return them when they share the partitions."""
        async with asyncio.TaskGroup() as tasks:
            started = [tasks.create_task(stack.enter_async_context(self.command())) for _ in range(2)]
        alive = [each.result() for each in started]
        await self.settled(alive)
        return alive


@asynccontextmanager
async def scene(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Scene]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        here = Scene(connection, namespace, nats_server.url)
        await here.jetstream.ensure_stream(events_config(Names("posts", namespace)))
        yield here


def owned(runner: Any) -> list[int]:
    """Return the partitions that a runner owns."""
    return [each.partition.number for each in runner.hosts[0].owners if each.ready]


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
                    await asyncio.sleep(PAUSE)
            for source in sources:
                seen = [number for each, number in await here.seen(target) if each == source]
                assert seen == expected[target][source], (source, target)
        spans = [span for runner in here.runners for span in runner.tracing.finished()]
        processed = [span.parent_id for span in spans if span.name.endswith(".event.posted.{key}")]
        # Each is the child of the span of its event, whoever has pulled it.
        assert len(processed) == len(set(processed)) == 20 * PARTITIONS


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
        near, far = map(owned, here.runners)
        source, room = here.key(near[0], "source"), await here.most()
        targets = [here.key(number, "target") for number in (near[0], near[1], far[0])]
        for target in targets:
            await here.post(source, target, 1, body="x" * room)
        for target in targets:
            await here.until_seen(target, (source, 1))


async def test_an_event_that_runs_for_longer_than_a_lease_runs_once(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    ttl = 3.0  # longer than this machine stands still
    async with pair(nats_server, namespace, ttl=ttl) as here:
        source = here.key(0, "source")
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        for target in targets:
            await here.post(source, target, 1, "wait", namespace)
            await here.post(source, target, 2)
        await until(lambda: RUN_COUNTS[f"post {source} 1"] == PARTITIONS)
        start = clocks.elapsed()
        other = here.key(1, "source")
        for target in targets:
            await here.post(other, target + "-other", 3)
        for target in targets:
            await here.until_seen(target + "-other", (other, 3))
        await until(lambda: clocks.elapsed() - start > 1.5 * ttl)
        gate(namespace).set()
        for target in targets:
            await here.until_seen(target, (source, 1), (source, 2))
        assert RUN_COUNTS[f"post {source} 1"] == PARTITIONS


async def test_events_are_handled_once_and_in_order_while_processes_are_killed(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    order = random.Random(namespace)
    async with scene(nats_server, namespace) as here, AsyncExitStack() as stack:
        sources = [here.key(number, "source") for number in range(PARTITIONS)]
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        expected: dict[str, dict[str, list[int]]] = {target: {source: [] for source in sources} for target in targets}
        ended = asyncio.Event()

        async def post() -> None:
            number = 0
            while not ended.is_set():
                number += 1
                source, target = order.choice(sources), order.choice(targets)
                expected[target][source].append(number)
                await here.post(source, target, number, "slow", "0.01")
                await asyncio.sleep(0.003)  # A load that the processes can carry.

        alive = await here.two_commands(stack)
        posting = asyncio.ensure_future(post())
        for replaced in (True, False):
            await here.settled(alive)
            victim = alive.pop(order.randrange(2))
            before = len(await here.seen(order.choice(targets)))
            victim.signal(signal.SIGKILL)
            await victim.wait()
            if replaced:
                alive.append(await stack.enter_async_context(here.command()))
            async with asyncio.timeout(20):
                while len(await here.seen(order.choice(targets))) <= before:
                    await asyncio.sleep(PAUSE)
        ended.set()
        await posting
        for target in targets:
            count = sum(map(len, expected[target].values()))
            async with asyncio.timeout(30):
                while len(seen := await here.seen(target)) < count:
                    await asyncio.sleep(PAUSE)
            for source in sources:
                assert [number for each, number in seen if each == source] == expected[target][source]
        assert not await here.dead_letters()


async def test_an_event_runs_once_while_its_sender_or_its_receiver_drains(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with pair(nats_server, namespace) as here:
        one, two = here.runners
        source, target = here.key(owned(one)[0], "source"), here.key(owned(two)[0], "target")
        near, far = here.key(owned(two)[1], "source"), here.key(owned(one)[1], "target")
        for number in (1, 2):
            await here.post(source, target, number, "wait" if number == 1 else "", namespace)
            await here.post(near, far, number, "wait" if number == 1 else "", namespace)
        await until(lambda: RUN_COUNTS[f"post {source} 1"] and RUN_COUNTS[f"post {near} 1"])
        two.stop()
        await until(lambda: len(owned(one)) == PARTITIONS)
        await here.post(source, target, 3)
        await here.post(near, far, 3)
        gate(namespace).set()
        await here.until_seen(target, (source, 1), (source, 2), (source, 3))
        await here.until_seen(far, (near, 1), (near, 2), (near, 3))
        assert RUN_COUNTS[f"post {source} 1"] == RUN_COUNTS[f"post {near} 1"] == 1


async def test_an_event_that_is_sent_again_while_it_runs_does_not_wait_beside_itself(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with pair(nats_server, namespace) as here:
        one, two = here.runners
        source, target = here.key(owned(one)[0], "source"), here.key(owned(two)[0], "target")
        sender, receiver = (each.hosts[0].owners[owned(each)[0]] for each in (one, two))
        await here.post(source, target, 1, "wait", namespace)
        await here.post(source, target, 2)
        await until(lambda: RUN_COUNTS[f"post {source} 1"])
        for _ in range(3):
            before = sender.serving
            sender.crashed(ActorError("crashed on purpose"))
            await until(lambda before=before: sender.serving not in (None, before))
            events = sender.serving.consumers
            await until(lambda events=events: sum(each.in_hand for each in events.pullers) == 2)
        assert receiver.serving.turns.keys[key_token(target)].depth == 0
        gate(namespace).set()
        await here.until_seen(target, (source, 1), (source, 2))
        assert RUN_COUNTS[f"post {source} 1"] == 1


async def test_other_keys_go_on_while_a_partition_has_no_owner(nats_server: EmbeddedServer, namespace: str) -> None:
    async with (
        scene(nats_server, namespace) as here,
        here.command(ttl=60) as lost,
        process(nats_server, namespace, Ledgers, ttl=60) as (one, _),
    ):
        await until(lambda: len(owned(one)) == PARTITIONS // 2)
        served = owned(one)
        source, target = here.key(served[0], "source"), here.key(served[1], "target")
        lost.signal(signal.SIGKILL)
        await lost.wait()
        unserved = [number for number in range(PARTITIONS) if number not in served]
        for number in range(4 * Ledgers.options.in_hand):
            await here.post(source, here.key(unserved[number % len(unserved)], f"target-{number}"), number)
        await here.post(source, target, 1)
        await here.until_seen(target, (source, 1))
        one.stop()
        await until(lambda: not owned(one), timeout=5)


async def test_an_event_that_ends_its_processes_becomes_a_dead_letter_and_no_other_one_does(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    async with scene(nats_server, namespace) as here, AsyncExitStack() as stack:
        source, ends = here.key(0, "source"), tmp_path / "ends"
        targets = [here.key(number, "target") for number in range(PARTITIONS)]
        alive = await here.two_commands(stack)
        for target in targets:
            await here.post(source, target, 1)
            await here.post(source, target, 2, "exit" if target == targets[5] else "", str(ends))
            await here.post(source, target, 3)

        async def restart() -> None:
            nonlocal alive
            while True:
                alive = [each for each in alive if not each.ended]
                while len(alive) < 2:
                    with contextlib.suppress(AssertionError, TimeoutError):  # The event may end it before it is ready.
                        alive.append(await stack.enter_async_context(here.command()))
                await asyncio.sleep(0.05)

        restarting = asyncio.ensure_future(restart())
        try:
            for target in targets:
                numbers = (1, 3) if target == targets[5] else (1, 2, 3)
                await here.until_seen(target, *((source, number) for number in numbers), timeout=40)
        finally:
            restarting.cancel()
            await asyncio.gather(restarting, return_exceptions=True)
        (letter,) = await here.dead_letters()
        # Four or five, since the first deaths do not show which event runs (ADR 012). A process that loses its lease just
        # before, because the machine stands still, counts as alive.
        assert ATTEMPTS <= len(ends.read_text()) <= 3 * ATTEMPTS
        assert letter.failure.attempts == ATTEMPTS
