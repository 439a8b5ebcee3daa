"""Drain: a process finishes its work in hand, even if its actors ask each other, and a standby takes over at once."""

import asyncio
import signal
from collections import Counter as Tally
from itertools import count

import pytest

from runtime import NotDelivered, connect
from runtime.nats.connection import Connection
from runtime.nats.server import EmbeddedServer
from tests.host.test_host import connected, process, until
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.hanging import Block
from tests.support.partners import GetLeft, GetRight, Left, Rates, Right, WorkLeft, WorkRight
from tests.support.process import ROOT, running_command

PARTNERS = (Left, Right, Rates)
DRAIN_TIMEOUT = 20.0
"""Seconds after which the host cuts a drain short."""


async def until_unserved(connection: Connection, subject: str) -> None:
    """Return when no process serves `subject`."""
    async with asyncio.timeout(30):
        while True:
            try:
                await connection.request(subject, b"{}", timeout=5)
            except Exception as error:
                if type(error).__name__ == "NoResponders":
                    return
                raise


async def test_actors_that_ask_each_other_finish_their_work_in_a_drain(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    done: Tally[str] = Tally()
    refused: list[NotDelivered] = []
    targets = [f"tests.support.partners:{actor.__name__}" for actor in PARTNERS]
    options = ("--nats", nats_server.url, "--namespace", namespace, "--lease-ttl", "1")
    async with connect(nats_server.url, namespace=namespace) as bus:

        async def caller(number: int) -> None:
            for turn in count(number):
                kind = (WorkLeft, WorkRight)[turn % 2]
                try:
                    await bus.command(kind(f"key {number}"), timeout=30)
                except NotDelivered as error:
                    refused.append(error)
                    return
                done[f"{kind.__name__} {number}"] += 1

        async with running_command("run", *targets, *options, cwd=ROOT) as running:
            callers = [asyncio.ensure_future(caller(number)) for number in range(20)]
            await until(lambda: done.total() > 100)
            running.signal(signal.SIGTERM)
            await asyncio.gather(*callers)
            assert not any(error.remote for error in refused), "NATS refuses a request before it runs; no actor does"
            assert await running.wait() == 0
            assert "failed" not in running.text and "cut short" not in running.text and "Traceback" not in running.text
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, *PARTNERS) as (runner, _),
    ):
        await runner.wait_serving()
        for number in range(20):
            key = f"key {number}"
            assert (await bus.query(GetLeft(key))).work == done[f"WorkLeft {number}"]
            assert (await bus.query(GetRight(key))).work == done[f"WorkRight {number}"]

        async def notes() -> int:
            return sum([(await bus.query(GetLeft(f"key {number}"))).notes for number in range(20)])

        async with asyncio.timeout(20):
            while await notes() < sum(done[f"WorkRight {number}"] for number in range(20)):
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("work", [WorkLeft, WorkRight])
async def test_without_a_standby_a_process_serves_its_own_handlers_until_they_end(
    nats_server: EmbeddedServer, namespace: str, work: type[WorkLeft] | type[WorkRight]
) -> None:
    name = f"{work.__name__} {namespace}"
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, *PARTNERS) as (runner, ended),
    ):
        await runner.wait_serving()
        work_in_hand = asyncio.ensure_future(bus.command(work("one", gate=name), timeout=30))
        await until(lambda: RUN_COUNTS[f"work {name}"])
        runner.stop()
        for subject in ("left.query.get_left", "right.query.get_right", "rates.query.get_rate"):
            await until_unserved(bus.connection, f"{namespace}.{subject}")
        gate(name).set()
        assert await work_in_hand == 1
        await asyncio.wait_for(ended, DRAIN_TIMEOUT / 2)


async def test_with_a_standby_an_actor_is_handed_over_while_another_still_works(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, *PARTNERS) as (owner, ended),
    ):
        await owner.wait_serving()
        work_in_hand = asyncio.ensure_future(bus.command(WorkLeft("one", gate=namespace), timeout=30))
        await until(lambda: RUN_COUNTS[f"work {namespace}"])
        async with process(nats_server, namespace, *PARTNERS) as (other, _):
            left, right, _ = other.hosts
            await until(lambda: left.standby and right.standby)
            owner.stop()
            await until(lambda: right.ready.is_set() and left.ready.is_set())
            assert not work_in_hand.done()
            assert (await bus.query(GetRight("one"))).work == (await bus.query(GetLeft("one"))).work == 0
            gate(namespace).set()
            assert await work_in_hand == 1
            assert (await bus.query(GetLeft("one"))).work == 1
            await asyncio.wait_for(ended, DRAIN_TIMEOUT / 2)


async def test_an_actor_without_a_standby_serves_the_handlers_of_one_that_was_handed_over(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    name = f"alone {namespace}"
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, *PARTNERS) as (owner, ended),
    ):
        await owner.wait_serving()
        work_in_hand = asyncio.ensure_future(bus.command(WorkLeft("one", gate=name), timeout=30))
        await until(lambda: RUN_COUNTS[f"work {name}"])
        async with process(nats_server, namespace, Left) as (other, _):
            await until(lambda: other.hosts[0].standby)
            owner.stop()
            await until(other.hosts[0].ready.is_set)
            await until_unserved(bus.connection, f"{namespace}.right.query.get_right")
            assert not work_in_hand.done()
            gate(name).set()
            assert await work_in_hand == 1
            await asyncio.wait_for(ended, DRAIN_TIMEOUT / 2)


@pytest.mark.parametrize("thread", [False, True], ids=["deaf", "thread"])
async def test_a_process_ends_although_a_handler_does_not(
    nats_server: EmbeddedServer, namespace: str, thread: bool
) -> None:
    arguments = ("run", "tests.support.hanging:Stuck", "--nats", nats_server.url, "--namespace", namespace)
    async with (
        connect(nats_server.url, namespace=namespace) as bus,
        running_command(*arguments, cwd=ROOT, env={"QUICK": "1"}) as process,
    ):
        sent = asyncio.ensure_future(bus.command(Block(thread), timeout=20))
        await process.until("blocked")
        assert await process.stop() == 0
        with pytest.raises(NotDelivered):
            await sent
        assert "it left command.block, which has been running for" in process.text
        assert thread or ("is left alone" in process.text and "in block" in process.text)
        left = "thread actorloom-thread" if thread else "Workers._work"
        assert left in await process.until("the process ends although these have not ended")
