"""Members of a partitioned actor: they share its partitions, as they join, leave, are stopped, killed, or see different things."""

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime import ActorError, clocks
from runtime.client.bus import Bus
from runtime.host.members import Members
from runtime.host.restarts import HostFailed
from runtime.host.view import View
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.storage.layout import WrongLayout
from runtime.telemetry import Tracing
from runtime.wire import header_block
from runtime.wire.buckets import partition_of
from runtime.wire.tokens import key_token
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.parted import PARTITIONS, Callers, GetTotal, Joined, Parted, Raise, joined, shared
from tests.support.process import running_command, stop_process
from tests.support.waiting import until

SOON = 8.0
"""Seconds within which partitions move on a busy machine, and less than an entry of `LONG` lives."""
LONG = 60.0
"""A time to live that does not end during a test."""


@asynccontextmanager
async def calling(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Callers]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        callers = Callers(Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace))
        try:
            yield callers
            await callers.stop()
        finally:
            callers.cancel()


def command(nats_server: EmbeddedServer, namespace: str, ttl: int) -> Any:
    """Run a member as a process of its own."""
    arguments = ("run", "tests.support.parted:Parted", "--nats", nats_server.url, "--namespace", namespace)
    return running_command(*arguments, "--lease-ttl", str(ttl), cwd=Path.cwd())


async def test_members_share_the_partitions_and_no_command_fails_while_they_join_and_leave(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "actorloom.host")
    async with joined(nats_server, namespace, ttl=LONG) as last, AsyncExitStack() as stack:
        await until(last.host.ready.is_set)
        callers = await stack.enter_async_context(calling(nats_server, namespace))
        first = await stack.enter_async_context(joined(nats_server, namespace, ttl=LONG))
        await until(lambda: shared(first, last), SOON)
        await callers.round()
        third = await stack.enter_async_context(joined(nats_server, namespace, ttl=LONG))
        before = first.owned, last.owned
        await until(lambda: shared(first, last, third), SOON)
        assert first.owned < before[0] and last.owned < before[1], "no partition moves between these"
        await callers.round()
        await first.leave()
        await until(lambda: shared(last, third), SOON)
        await callers.round()
        await third.leave()
        await until(lambda: shared(last), SOON)
        await callers.round()
        assert caplog.messages.count("parted: owns partitions 0, 1, 2, 3, 4, 5, 6, 7 of 8") == 2


async def test_only_the_partitions_of_stopped_and_killed_processes_stall(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    ttl = 2
    async with AsyncExitStack() as stack:
        async with asyncio.TaskGroup() as tasks:
            starting = [
                tasks.create_task(stack.enter_async_context(command(nats_server, namespace, ttl))) for _ in range(2)
            ]
        stopped, killed = (each.result() for each in starting)
        mine = await stack.enter_async_context(joined(nats_server, namespace, ttl=ttl))
        await until(lambda: len(mine.owned) >= PARTITIONS // 3)
        callers = await stack.enter_async_context(calling(nats_server, namespace))
        callers.patience = ttl / 4
        await callers.round()
        going = sorted(mine.owned)
        await stop_process(stopped.pid)
        killed.signal(signal.SIGKILL)
        start = clocks.elapsed()
        while not shared(mine):
            for number in going:
                async with asyncio.timeout(ttl):  # They do not wait for the leases of the other processes.
                    await callers.send(number)
        assert clocks.elapsed() - start < 2.5 * ttl, "the lease, and a moment"
        await callers.round()
        stopped.signal(signal.SIGCONT)
        await until(lambda: len(mine.owned) == PARTITIONS // 2, SOON)
        await callers.round()


async def test_a_leaving_member_with_slow_handlers_hands_its_partitions_over(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first, AsyncExitStack() as stack:
        await until(first.host.ready.is_set)
        second = await stack.enter_async_context(joined(nats_server, namespace, ttl=LONG))
        await until(lambda: shared(first, second), SOON)
        async with calling(nats_server, namespace) as callers:
            slow = asyncio.ensure_future(callers.bus.command(Raise("slow", namespace), timeout=30))
            await until(lambda: RUN_COUNTS[f"raise {namespace}"])
            owner = first if partition_of(key_token("slow"), PARTITIONS) in first.owned else second
            other = second if owner is first else first
            owner.runner.stop()
            await until(lambda: shared(other), SOON)
            await callers.round()
            assert not slow.done()
            gate(namespace).set()
            assert await slow == 1
            await asyncio.wait_for(owner.work, 30)
            assert await callers.bus.query(GetTotal("slow")) == 1


async def test_service_goes_on_after_the_bucket_of_leases_was_purged_and_deleted(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with joined(nats_server, namespace, ttl=1.0) as first, joined(nats_server, namespace, ttl=1.0) as second:
        await until(lambda: shared(first, second))
        async with calling(nats_server, namespace) as callers:
            await callers.round()
            callers.patience = 0.5
            for request in ("PURGE", "DELETE"):
                subject = f"$JS.API.STREAM.{request}.KV_{namespace}-leases"
                await callers.bus.connection.request(subject, b"", timeout=5)
                held = [owner._lease for owner in first.host.owners if owner._lease is not None]
                await until(lambda leases=held: not any(lease.held() for lease in leases))  # type: ignore[misc]
                await until(lambda: shared(first, second), 20)
                await callers.round()
            with pytest.raises(WrongLayout, match=r"stored in 8 partitions.*configured for 4.*repartition parted 4"):
                async with joined(nats_server, namespace, partitions=4) as other:
                    await other.work


async def test_a_member_reads_what_it_has_missed(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Members, "_note", lambda *_: None)
    async with joined(nats_server, namespace, ttl=LONG) as first:
        await until(first.host.ready.is_set)
        async with joined(nats_server, namespace, ttl=LONG) as second:
            await until(lambda: second.host.standby)
            await looks(first, second)
            assert shared(first)
            first.host.served.connection._client._transport._io_writer.transport.abort()  # type: ignore[union-attr]
            await until(lambda: shared(first, second), SOON)


async def test_a_member_that_was_suspended_reads_the_others_before_it_decides(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first, joined(nats_server, namespace, ttl=LONG) as second:
        await until(lambda: shared(first, second))
        decided: list[set[str]] = []
        real = Members._decide

        async def decide(self: Members) -> None:
            decided.append(set(self._view.members()))
            await real(self)

        monkeypatch.setattr(Members, "_decide", decide)
        elapsed = clocks.elapsed
        monkeypatch.setattr(clocks, "elapsed", lambda: elapsed() + 2 * LONG)
        await until(lambda: len(decided) > 4)
        names = {first.host.holder, second.host.holder}
        assert all(len(each) == 1 and each < names for each in decided)


async def test_an_entry_that_is_none_of_a_member_changes_nothing(nats_server: EmbeddedServer, namespace: str) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first:
        await until(first.host.ready.is_set)
        connection = first.host.served.connection
        keys = (
            "member.ghost",
            "member.a.b",
            "member",
            "²",
            "٣",
            "008",
            "9" * 300,
            "-1",
            "0.0",
            "9",
            "status.x",
            "member.%zz",
        )
        long_lived = header_block.encode([(header_block.TTL.decode(), "60s")])
        values = (
            b"{}",
            b"",
            b"\xff",
            b'{"holder":"ghost"}',
            b'{"holder":"ghost","partitions":4,"host":"h","pid":1}',
            b"[" * 9000,
        )
        for key in keys:
            for value in values:
                for headers in (None, long_lived):
                    connection.publish(f"$KV.{namespace}-leases.parted.{key}", value, headers=headers)
        unlimited = b'{"holder":"ghost","partitions":8,"host":"h","pid":1}'
        connection.publish(f"$KV.{namespace}-leases.parted.member.ghost", unlimited)
        await connection.flush()
        async with joined(nats_server, namespace, ttl=LONG) as second:
            await until(lambda: shared(first, second), SOON)
            assert first.members._view.members() == [second.host.holder]


def test_a_member_counts_for_the_time_for_which_its_entry_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(clocks, "elapsed", lambda: now)
    view = View("parted", "me", 2, 4.0)
    headers = header_block.encode([(header_block.TTL.decode(), "4s")])
    value = b'{"holder":"host.with.dots-1","partitions":2,"host":"h","pid":1}'
    assert view.note("member.token", headers, value) and not view.note("member.token", headers, value)
    assert view.note("1", headers, b'{"holder":"host.with.dots-1","since":0,"host":"h","pid":1}')
    now = 3.9
    assert view.members() == ["host.with.dots-1"] and view.holders({0}) == {0: "me", 1: "host.with.dots-1"}
    now = 4.0
    assert view.members() == [] and view.holders(set()) == {} and view.free_for(1.0) == set()
    now = 5.1
    assert view.free_for(1.0) == {0, 1} and view.note("member.token", headers, value)
    assert view.note("member.token", header_block.encode([("KV-Operation", "DEL")]), b"") and view.members() == []


async def test_others_serve_a_partition_that_a_member_fails_to_serve(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first:
        await until(first.host.ready.is_set)
        async with joined(nats_server, namespace, ttl=LONG) as second:

            async def fail(*_: object) -> None:
                raise ActorError("it cannot be read here")

            for owner in second.host.owners[:4]:
                owner._check = fail
            await until(lambda: first.owned | second.owned == set(range(PARTITIONS)) and second.owned, SOON)
            await until(lambda: shared(first, second), SOON)
            assert second.owned == {4, 5, 6, 7} and second.host.ready.is_set() and not second.host.problems
            assert all("it cannot be read here" in text for text in second.host.warnings)


class NeverStarts(Parted):
    name = "parted"

    async def on_start(self) -> None:
        await asyncio.Event().wait()


async def test_a_process_is_no_member_before_its_start_has_ended(nats_server: EmbeddedServer, namespace: str) -> None:
    async with joined(nats_server, namespace, ttl=LONG, actor=NeverStarts) as stuck:
        async with joined(nats_server, namespace, ttl=LONG) as first:
            await until(first.host.ready.is_set)
            assert shared(first) and not stuck.host.standby and not stuck.host.ready.is_set()
            assert first.members._view.members() == []


async def test_a_partition_that_its_member_does_not_take_is_taken_by_another(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with joined(nats_server, namespace, ttl=1.0) as first, joined(nats_server, namespace, ttl=1.0) as second:
        await until(lambda: shared(first, second))
        number = min(second.owned)
        owner = second.host.owners[number]
        owner.want(False)
        owner.want = lambda wanted: None  # type: ignore[method-assign]
        await until(lambda: number in first.owned)


async def test_members_that_know_different_members_serve_all_partitions_and_move_none(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first:
        await until(first.host.ready.is_set)
        first.members._view.note = lambda *_: False  # type: ignore[method-assign]
        async with (
            joined(nats_server, namespace, ttl=LONG) as second,
            joined(nats_server, namespace, ttl=LONG) as third,
        ):
            await until(lambda: second.host.standby and third.host.standby)
            await looks(first, second, third)
            assert shared(first), "it knows no other member"
        async with calling(nats_server, namespace) as callers:
            await callers.round()


async def looks(*members: Joined) -> None:
    """Wait until each member has looked at the others a few times."""
    seen: set[tuple[Joined, float]] = set()

    def all_looked() -> bool:
        seen.update((each, each.members._looked_at) for each in members)
        return all(sum(member is each for member, _ in seen) > 3 for each in members)

    await until(all_looked)


async def test_members_at_rest_ask_each_other_nothing(nats_server: EmbeddedServer, namespace: str) -> None:
    async with (
        joined(nats_server, namespace, ttl=LONG) as first,
        joined(nats_server, namespace, ttl=LONG) as second,
        await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection,
    ):
        await until(lambda: shared(first, second))
        await until(lambda: not first.members._asked and not second.members._asked)
        seen: list[bytes] = []
        for subject in (f"$KV.{namespace}-leases.>", f"{namespace}.>"):
            await connection.subscribe(subject, lambda subject, *_: seen.append(subject))
        await connection.flush()
        await looks(first, second)
        await connection.flush()
        # The relay of a partition that has moved stores its checkpoint, which is nothing between members.
        assert [subject for subject in seen if not subject.endswith(b".checkpoint")] == []


async def test_a_membership_that_fails_ends_its_process_and_the_others_know_it_at_once(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first, joined(nats_server, namespace, ttl=LONG) as second:
        await until(lambda: shared(first, second))

        async def fail() -> None:
            raise RuntimeError("a fault")

        monkeypatch.setattr(second.members, "_decide", fail)
        with pytest.raises(RuntimeError, match="a fault"):
            await asyncio.wait_for(asyncio.shield(second.work), 30)
        await until(lambda: shared(first), SOON)


async def test_a_drain_of_a_partition_goes_on_if_it_is_wanted_again(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first:
        await until(first.host.ready.is_set)
        owner = first.host.owners[3]
        before = owner.serving
        owner.want(False)
        owner.want(True)
        await until(lambda: owner.serving is not None and owner.serving is not before, SOON)
        assert not any("back to standby" in text for text in caplog.messages)


async def test_a_failing_partition_restarts_no_other_and_ends_the_process_at_last(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with joined(nats_server, namespace, ttl=LONG) as first:
        await until(first.host.ready.is_set)
        failing, others = first.host.owners[3], [each for each in first.host.owners if each.partition.number != 3]
        before = [each.serving for each in others]
        serving = failing.serving
        failing.crashed(ActorError("a part"))
        await until(lambda: failing.serving is not None and failing.serving is not serving, SOON)
        assert [each.serving for each in others] == before and not any(each.restarts._counted for each in others)
        failing.restarts._counted.extend([time.monotonic()] * 5)
        failing.crashed(ActorError("a part"))
        with pytest.raises(HostFailed, match="parted, partition 3 failed 6 times"):
            await asyncio.wait_for(asyncio.shield(first.work), 30)
