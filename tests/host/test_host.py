"""Hosts: one owner at a time, hand-over, take-over after a kill, restart after a failure, drain without loss."""

import asyncio
import inspect
import json
import signal
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import (
    Actor,
    ActorError,
    Command,
    DeadlineExceeded,
    DeclarationError,
    NotDelivered,
    Query,
    RequestError,
    RetryPolicy,
    command,
    query,
)
from runtime.backoff import Backoff
from runtime.client.bus import Bus
from runtime.host.host import Deployment, Host
from runtime.host.process import Runner
from runtime.host.restarts import HostFailed, LeaseLost
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.testing import worker
from tests.support.calling import Gateway
from tests.support.counting import Add, Count, Counter, GetCount, GetSeen, ListCounts, Wait, Watcher
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.paused import GetSum, Put, Vault
from tests.support.probe import Probe, running
from tests.support.process import running_command
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def connected(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Bus]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)


@asynccontextmanager
async def process(
    nats_server: EmbeddedServer, namespace: str, *actors: type[Actor[Any]], ttl: float = 4.0
) -> AsyncIterator[Any]:
    """Run actors on a connection of their own, as another process does. The block begins before they serve."""
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        runner = Runner(actors, connection, Tracing(in_memory=True), Deployment(namespace=namespace, lease_ttl=ttl))
        work = asyncio.ensure_future(runner.run())
        try:
            yield runner, work
        finally:
            runner.stop()
            await asyncio.wait({work}, timeout=10)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)


async def test_a_drain_hands_the_keys_over_at_once_without_failing_a_command(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Counter) as (first, first_work),
        process(nats_server, namespace, Counter) as (second, _),
    ):
        owner, other = (first, second)
        await until(lambda: first.hosts[0].ready.is_set() or second.hosts[0].ready.is_set())
        if second.hosts[0].ready.is_set():
            owner, other = second, first
        await until(lambda: other.hosts[0].standby)
        assert not other.hosts[0].ready.is_set()
        replies: list[int] = []
        stop = asyncio.Event()

        async def caller(number: int) -> int:
            count = 0
            while not stop.is_set():
                replies.append((await bus.command(Add("shared"), timeout=5)).value)
                count += 1
            return count

        callers = [asyncio.ensure_future(caller(number)) for number in range(8)]
        await until(lambda: len(replies) > 100)
        start = time.monotonic()
        owner.stop()
        await until(other.hosts[0].ready.is_set)
        taken = time.monotonic() - start
        there = len(replies)
        await until(lambda: len(replies) > there + 100)
        stop.set()
        total = sum(await asyncio.gather(*callers))
        assert taken < 1.5, "well under the time to live of a lease"
        assert (await bus.query(GetCount("shared"))).value == total == len(replies) and len(set(replies)) == total
        if owner is first:
            await asyncio.wait_for(first_work, 30)


async def test_a_drain_answers_the_requests_that_it_received(nats_server: EmbeddedServer, namespace: str) -> None:
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Counter, Gateway) as (runner, work),
    ):
        await runner.wait_serving()
        waiting = [asyncio.ensure_future(bus.command(Wait("d"), timeout=10))]
        await until(lambda: RUN_COUNTS["wait d"])
        waiting += [asyncio.ensure_future(bus.command(Add("d"), timeout=10)) for _ in range(20)]
        queries = [asyncio.ensure_future(bus.query(ListCounts(), timeout=10)) for _ in range(20)]
        await bus.connection.flush()
        runner.stop()
        gate("d").set()
        values = await asyncio.gather(*waiting)
        assert values[0] == 1 and sorted(count.value for count in values[1:]) == list(range(2, 22))
        assert len(await asyncio.gather(*queries)) == 20
        await asyncio.wait_for(work, 30)
        with pytest.raises(RequestError) as caught:
            await bus.command(Add("d"))
        assert caught.value.executed is False


async def test_a_request_that_is_in_transit_at_a_drain_is_handled(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        asking = [asyncio.ensure_future(system.bus.command(Add("way"), timeout=10)) for _ in range(100)]
        await asyncio.sleep(0)  # They are sent, and not yet received.
        system.runner.stop()
        assert sorted([(await each).value for each in asking]) == list(range(1, 101))


async def test_a_request_in_transit_to_an_owner_that_fails_is_answered(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        asking = [asyncio.ensure_future(system.bus.command(Add("way"), timeout=10)) for _ in range(100)]
        await asyncio.sleep(0)
        system.crash("counter")
        start = time.monotonic()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert time.monotonic() - start < 5 and {type(each) for each in answers} <= {
            Count,
            NotDelivered,
            DeadlineExceeded,
        }
        await system.until_ready("counter")
        done = sum(isinstance(each, Count) for each in answers)
        unknown = sum(isinstance(each, DeadlineExceeded) for each in answers)
        assert done <= (await system.bus.command(Add("way"))).value - 1 <= done + unknown


async def test_events_are_handled_once_during_a_hand_over(nats_server: EmbeddedServer, namespace: str) -> None:
    async with connected(nats_server, namespace) as bus, running(Counter, url=nats_server.url, namespace=namespace):
        async with process(nats_server, namespace, Watcher) as (first, work):
            await first.wait_serving()
            adding = asyncio.ensure_future(asyncio.gather(*(bus.command(Add(f"k{n % 3}", n + 1)) for n in range(150))))
            await until(lambda: Probe.of(first).resident("watcher") == 3)
            async with process(nats_server, namespace, Watcher) as (second, _):
                first.stop()
                await adding
                await until(second.hosts[0].ready.is_set)
                await asyncio.wait_for(work, 30)

                async def seen() -> list[int]:
                    return [(await bus.query(GetSeen(f"k{key}"))).total for key in range(3)]

                expected = [sum(n + 1 for n in range(150) if n % 3 == key) for key in range(3)]
                async with asyncio.timeout(30):
                    while await seen() != expected:
                        await asyncio.sleep(0.01)
                for key in range(3):
                    emitted = await JetStream(bus.connection).stream_info(f"{namespace}-counter-events")
                    assert len((await bus.query(GetSeen(f"k{key}"))).order) == 50 and emitted.state.messages == 150


async def test_another_process_takes_over_from_a_killed_owner_and_completes_its_work(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    arguments = (
        "run",
        "tests.support.counting:Counter",
        "tests.support.counting:Watcher",
        "--nats",
        nats_server.url,
        "--namespace",
        namespace,
    )
    async with connected(nats_server, namespace) as bus:
        sent: list[str] = []
        failed = 0
        stop = asyncio.Event()

        async def caller(number: int) -> None:
            nonlocal failed
            while not stop.is_set():
                command_id = f"c{number}-{len(sent)}"
                sent.append(command_id)
                while True:
                    try:
                        await bus.command(Add("killed"), id=command_id, timeout=1)
                        break
                    except RequestError:
                        failed += 1
                        await asyncio.sleep(0.02)

        async with running_command(*arguments, cwd=ROOT) as one:
            callers = [asyncio.ensure_future(caller(number)) for number in range(6)]
            await until(lambda: len(sent) > 200)
            one.signal(signal.SIGKILL)
            assert await one.wait() == -signal.SIGKILL
        async with running_command(*arguments, cwd=ROOT) as last:
            there = len(sent)
            await until(lambda: len(sent) > there + 50)
            stop.set()
            await asyncio.gather(*callers)
            assert failed > 0
            assert (await bus.query(GetCount("killed"))).value == len(sent)
            async with asyncio.timeout(30):
                while (await bus.query(GetSeen("killed"))).total != len(sent):
                    await asyncio.sleep(0.02)
            events = await JetStream(bus.connection).stream_info(f"{namespace}-counter-events")
            assert events.state.messages == len(sent)
            assert await last.stop() == 0


async def test_a_lost_lease_means_standby_and_does_not_end_the_process(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with connected(nats_server, namespace) as bus, process(nats_server, namespace, Counter) as (runner, work):
        await runner.wait_serving()
        host: Host = runner.hosts[0]
        await bus.command(Add("a"))
        thief = b'{"holder":"thief","since":0,"host":"elsewhere","pid":1}'
        await JetStream(bus.connection).publish(
            f"$KV.{namespace}-leases.counter.0", thief, headers=b"NATS/1.0\r\nNats-TTL: 2s\r\n\r\n"
        )
        await until(lambda: host.standby and not host.ready.is_set())
        with pytest.raises(RequestError) as caught:
            await bus.command(Add("a"))
        assert caught.value.executed is False and not work.done()
        await until(host.ready.is_set)  # The thief does not renew it.
        assert (await bus.command(Add("a"))).value == 2


async def test_a_paused_owner_does_not_answer_with_old_state(nats_server: EmbeddedServer, namespace: str) -> None:
    arguments = ("run", "tests.support.counting:Counter", "--nats", nats_server.url, "--namespace", namespace)
    async with connected(nats_server, namespace) as bus, running_command(*arguments, cwd=ROOT) as one:
        assert (await bus.command(Add("paused"))).value == 1
        assert (await bus.query(ListCounts())) == [await bus.query(GetCount("paused"))]
        async with process(nats_server, namespace, Counter) as (runner, _):
            await until(lambda: runner.hosts[0].standby)
            one.signal(signal.SIGSTOP)
            await until(runner.hosts[0].ready.is_set)
            # The stopped process is still in the queue group, and receives half of the requests.
            patient = RetryPolicy(attempts=100, first=0.01, longest=0.05)
            assert (await bus.retry(Add("paused"), timeout=0.5, policy=patient)).value == 2
            messages: list[Query[Any] | Command[Any]] = [GetCount("paused"), ListCounts(), Add("paused", 0)] * 20
            waiting = [
                asyncio.ensure_future(
                    bus.query(each, timeout=20) if isinstance(each, Query) else bus.command(each, timeout=20)
                )
                for each in messages
            ]
            await bus.connection.flush()
            one.signal(signal.SIGCONT)
            answers = await asyncio.gather(*waiting, return_exceptions=True)
    texts = [str(answer) for answer in answers]
    for number in range(3):
        refused = [text for text in texts[number::3] if "the service is stopping" in text]
        assert refused and all(
            text in refused or "value=2" in text or "at least one" in text for text in texts[number::3]
        )


async def test_a_handler_that_blocks_its_process_for_longer_than_the_lease_stores_nothing(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    program = ("run", "tests.support.paused:Vault", "--nats", nats_server.url, "--namespace", namespace)
    async with connected(nats_server, namespace) as bus, running_command(*program, "--lease-ttl", "1", cwd=ROOT):
        assert await bus.command(Put("k")) == 1
        async with process(nats_server, namespace, Vault, ttl=1.0) as (runner, _):
            await until(lambda: runner.hosts[0].standby)
            blocking = asyncio.ensure_future(bus.command(Put("k", 3.0), timeout=20))
            await until(runner.hosts[0].ready.is_set)
            waiting = [asyncio.ensure_future(bus.query(GetSum("k"), timeout=20)) for _ in range(20)]
            with pytest.raises(NotDelivered, match="the service is stopping") as refused:
                await blocking
            assert refused.value.executed is False
            # The blocked process is still in the queue group, and receives half of the queries.
            answers = await asyncio.gather(*waiting, return_exceptions=True)
            answers += await asyncio.gather(*(bus.query(GetSum("k")) for _ in range(20)), return_exceptions=True)
            assert 1 in answers and all(each == 1 or "the service is stopping" in str(each) for each in answers)
            assert await bus.retry(Put("k"), policy=RetryPolicy(attempts=100, first=0.01, longest=0.05)) == 2


async def test_lost_leases_do_not_count_as_failures_of_the_host(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server, namespace) as bus, process(nats_server, namespace, Counter) as (runner, work):
        host: Host = runner.hosts[0]
        bounded = deque[float](maxlen=1)
        monkeypatch.setattr(host.owners[0].restarts, "_counted", bounded)
        monkeypatch.setattr("runtime.host.restarts._RESTARTS", 1)  # The second failure would end the host.
        ends, note = list[BaseException](), host.owners[0].restarts.note

        def noting(error: BaseException) -> float:
            ends.append(error)
            return note(error)

        monkeypatch.setattr(host.owners[0].restarts, "note", noting)
        for number in range(3):
            await until(host.ready.is_set)
            assert (await bus.command(Add("a"))).value == number + 1
            await JetStream(bus.connection).publish(
                f"$KV.{namespace}-leases.counter.0",
                b'{"holder":"thief","since":0,"host":"elsewhere","pid":1}',
                headers=b"NATS/1.0\r\nNats-TTL: 1s\r\n\r\n",
            )
            await until(lambda number=number: len(ends) > number)  # type: ignore[misc]
        await until(host.ready.is_set)
        assert all(isinstance(each, LeaseLost) for each in ends) and not bounded and not work.done()


async def test_a_host_restarts_after_a_failure_until_there_are_too_many(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_server, namespace) as bus, process(nats_server, namespace, Counter) as (runner, work):
        await runner.wait_serving()
        host: Host = runner.hosts[0]
        monkeypatch.setattr("runtime.host.restarts._BACKOFF", Backoff(first=0.0, longest=0.0))
        for number in range(5):
            host.crashed(RuntimeError(f"crash {number}"))
            await until(lambda: not host.ready.is_set())
            await until(host.ready.is_set)
            assert (await bus.command(Add("a"))).value == number + 1
        host.crashed(RuntimeError("one too many"))
        with pytest.raises(HostFailed, match=r"counter failed 6 times within 60 s, last: .*one too many"):
            await asyncio.wait_for(work, 30)


async def test_a_closed_connection_ends_the_runner(nats_server: EmbeddedServer, namespace: str) -> None:
    async with process(nats_server, namespace, Counter) as (runner, work):
        await runner.wait_serving()
        await runner.connection.close()
        with pytest.raises(ActorError, match="closed for good"):
            await asyncio.wait_for(work, 30)


async def test_actors_wait_for_a_server_that_restarts(namespace: str) -> None:
    async with EmbeddedServer(port=0) as server:
        async with running(Counter, Watcher, url=server.url, namespace=namespace, lease_ttl=1.0) as system:
            assert (await system.bus.retry(Add("a", 2), id="r1")).value == 2
            server.kill()
            await server.start()
            assert (await system.bus.retry(Add("a", 2), id="r1", timeout=10)).value == 2
            assert (await system.bus.retry(Add("a", 3), id="r2", timeout=10)).value == 5

            async def seen() -> bool:
                return (await system.bus.query(GetSeen("a"), timeout=2)).total == 5

            async def patient() -> bool:
                try:
                    return await seen()
                except RequestError:
                    return False

            await system.until(patient)


class Ping(Query[str], actor="lifecycle"):
    pass


class Break(Command[None], actor="lifecycle"):
    pass


LIFE: list[str] = []


class Lifecycle(Actor):
    """Records its start and its stop."""

    name = "lifecycle"
    pool: list[str]

    async def on_start(self) -> None:
        LIFE.append("start")
        self.pool = ["of connections"]

    async def on_stop(self) -> None:
        LIFE.append(f"stop {self.pool[0]}")

    @query
    async def ping(self, message: Ping) -> str:
        return self.pool[0]

    @command
    async def break_it(self, message: Break) -> None:
        self.pool = []


async def test_resources_of_on_start_live_as_long_as_the_service(nats_server: EmbeddedServer, namespace: str) -> None:
    LIFE.clear()
    async with running(Lifecycle, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.query(Ping()) == "of connections" and LIFE == ["start"]
        with pytest.raises(RequestError):
            await system.bus.command(Break())
        system.crash("lifecycle")
        await system.until(lambda: not system.is_ready("lifecycle"))
        await system.until_ready("lifecycle")
        assert await system.bus.query(Ping()) == "of connections"
    assert LIFE == ["start", "stop of connections"]


class Failing(Actor):
    name = "failing"

    async def on_start(self) -> None:
        raise RuntimeError("no database")


async def test_an_error_in_on_start_ends_the_runner(nats_server: EmbeddedServer, namespace: str) -> None:
    with pytest.raises(ActorError, match="on_start failed: RuntimeError: no database"):
        async with running(Counter, Failing, url=nats_server.url, namespace=namespace):
            pass


async def test_actors_without_state_share_their_load(nats_server: EmbeddedServer, namespace: str) -> None:
    async with (
        running(Counter, Gateway, url=nats_server.url, namespace=namespace) as one,
        running(Gateway, url=nats_server.url, namespace=namespace) as two,
    ):
        from tests.support.calling import Echo, Forward

        await asyncio.gather(*(one.bus.query(Echo(number)) for number in range(100)))
        served = [system.requests("gateway") for system in (one, two)]
        assert sum(served) == 100 and min(served) > 10
        values = await asyncio.gather(*(two.bus.command(Forward("through", 1), id=f"f{n % 20}") for n in range(60)))
        assert (await one.bus.query(GetCount("through"))).value == 20 and len(values) == 60


async def test_an_older_version_does_not_touch_a_state_that_it_does_not_know(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    class Newer(Counter):
        name = "counter"
        state_version = 2

    async with running(Newer, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Add("a", 5))
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        for message in (Add("a", 1), Add("a", 0)):
            with pytest.raises(RequestError):
                await system.bus.command(message, id="i1")
        with pytest.raises(RequestError):
            await system.bus.query(GetCount("a"))
        assert (await system.bus.command(Add("b"))).value == 1
    async with running(Newer, url=nats_server.url, namespace=namespace) as system:
        assert (await system.bus.command(Add("a", 1), id="i1")).value == 6


async def test_an_older_state_is_upgraded(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Add("a", 5), id="before")

    class Total(msgspec.Struct, frozen=True):
        name: str
        total: int
        unit: str

    class GetTotal(Query[Total], actor="counter", key="name"):
        name: str

    class Upgraded(Actor[Total]):
        name = "counter"
        state_version = 3
        upgrades = {
            1: lambda old: {"name": old["name"], "total": old["value"]},
            2: lambda old: {**old, "unit": "pieces"},
        }

        @query
        async def get(self, message: GetTotal) -> Total:
            assert self.state is not None
            return self.state

        @command
        async def add(self, message: Add) -> Count:
            assert self.state is not None
            self.state = msgspec.structs.replace(self.state, total=self.state.total + message.by)
            return Count(message.name, self.state.total)

    async with running(Upgraded, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.query(GetTotal("a")) == Total("a", 5, "pieces")
        assert await system.bus.command(Add("a", 5), id="before") == Count("a", 5), "it remembers what it has handled"
        assert (await system.bus.command(Add("a", 2))).value == 7


async def test_a_standby_is_a_ready_process(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace):
        async with process(nats_server, namespace, Counter) as (second, _):
            await asyncio.wait_for(second.wait_ready(), 30)
            assert second.hosts[0].standby and second.unready_reasons() == []


class SetUp(Command[None], actor="unprepared"):
    pass


class TearDown(Command[None], actor="unprepared"):
    pass


class Unprepared(Actor):
    name = "unprepared"

    @command
    async def set_up(self, message: SetUp) -> None: ...

    async def on_start(self) -> None:
        self.address = json.loads("{")


async def test_a_failed_on_start_names_the_actor_the_error_and_the_line(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = inspect.getsourcelines(Unprepared.on_start)[1]
    async with process(nats_server, namespace, Unprepared) as (_, work):
        with pytest.raises(ActorError, match="unprepared: on_start failed: JSONDecodeError: ") as failed:
            await work
    assert f"({__file__}, line {first + 1})" in str(failed.value)
    assert f"unprepared: no handler for the command TearDown of {__name__}" in caplog.text
    assert "no handler for the command SetUp" not in caplog.text


async def test_a_class_without_a_name_is_no_actor_to_serve(nats_server: EmbeddedServer, namespace: str) -> None:
    class Nameless(Actor):
        @command
        async def set_up(self, message: SetUp) -> None: ...

    with pytest.raises(DeclarationError, match='Nameless has no name: declare name = "…" in the class'):
        async with running(Nameless, url=nats_server.url, namespace=namespace):
            raise AssertionError
    with pytest.raises(DeclarationError, match="Nameless has no name"):
        worker(Nameless)
