"""Hand-over: a standby serves all keys at once, though handlers of some keys still run in the process that drains."""

import asyncio
import gc
import itertools
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from runtime import CallCycle, Command, NotDelivered, Rejected, RequestError
from runtime.client.bus import Bus
from runtime.host import drain
from runtime.host.process import Runner
from runtime.intake.consumers import Consumers
from runtime.nats.server import EmbeddedServer
from runtime.wire.tokens import key_token
from tests.host.test_host import connected, process, until
from tests.support.handing import (
    GetMarks,
    GetSeenMarks,
    ListMarks,
    Mark,
    MarkBoth,
    MarkByEvent,
    MarkByTimer,
    Marking,
    MarkLong,
    MarkOnce,
    MarksWatcher,
    MarkThenList,
    Refuse,
)
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe
from tests.support.process import ROOT, running_command

SOON = 12.0
"""Seconds within which another key must be served, on a machine that stands still at times: less than a drain may take."""

KINDS: dict[str, Any] = {
    "command": lambda name: Mark("slow", name, name),
    "job": lambda name: MarkLong("slow", name, name),
    "timer": lambda name: MarkByTimer("slow", name, name),
    "reaction": lambda name: MarkByEvent("source", "slow", name, name),
}


@asynccontextmanager
async def draining(
    nats_server: EmbeddedServer, namespace: str, *slow: Command[Any], started: str
) -> AsyncIterator[tuple[Bus, list[Any], Runner, "asyncio.Future[Any]"]]:
    """Yield a bus, the tasks of the `slow` commands, the successor, and the end of the process that drains.

    The block begins as soon as the successor serves.
    """
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, ended),
    ):
        await first.wait_serving()
        async with process(nats_server, namespace, MarksWatcher) as (watcher, _):
            await watcher.wait_serving()
            await bus.command(Mark("slow", "before"))
            await bus.command(Mark("other", "before"))
            sent = [asyncio.ensure_future(bus.command(each, timeout=30)) for each in slow]
            await until(lambda: RUN_COUNTS[started])
            async with process(nats_server, namespace, Marking) as (second, _):
                await until(lambda: second.hosts[0].standby)
                first.stop()
                await until(second.hosts[0].ready.is_set, SOON)
                yield bus, sent, second, ended


async def listed(bus: Bus) -> dict[str, tuple[str, ...]]:
    return {each.name: each.marks for each in await bus.query(ListMarks(), timeout=SOON)}


async def until_seen(bus: Bus, name: str, marks: tuple[str, ...]) -> None:
    """Return when the watcher has handled the events of a key: each once, and in order."""
    async with asyncio.timeout(30):
        while len((await bus.query(GetSeenMarks(name))).marks) < len(marks):
            await asyncio.sleep(0.01)
    assert (await bus.query(GetSeenMarks(name))).marks == marks


@pytest.mark.parametrize("kind", KINDS)
async def test_other_keys_are_served_at_once_while_a_handler_still_runs(
    nats_server: EmbeddedServer, namespace: str, kind: str
) -> None:
    name = f"{kind} {namespace}"
    slow = KINDS[kind](name)
    started = f"mark slow {name}"
    async with draining(nats_server, namespace, slow, started=started) as (bus, sent, _, ended):
        assert await bus.command(Mark("other", "after"), timeout=SOON) == 2
        later = asyncio.ensure_future(bus.command(Mark("slow", "later"), timeout=30))
        before = {"slow": ("before",), "other": ("before", "after")}
        assert (await bus.query(GetMarks("slow"), timeout=SOON)).marks == ("before",)
        assert await listed(bus) == before and not ended.done()
        gate(name).set()
        await asyncio.gather(*sent)
        assert await later == 3
        marks = ("before", name, "later")
        assert (await bus.query(GetMarks("slow"))).marks == marks
        assert await listed(bus) == {**before, "slow": marks}
        await asyncio.wait_for(ended, 30)
        await until_seen(bus, "slow", marks)
        assert RUN_COUNTS[started] == 1, "the successor runs no message that the former owner has handled"


async def test_a_new_owner_whose_start_fails_begins_again(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start that fails leaves nothing behind; pytest reports a coroutine that nobody has awaited."""
    name = f"start {namespace}"
    started, failures = f"mark slow {name}", itertools.count()
    start = Consumers.start

    async def fail_once(self: Consumers) -> None:
        if RUN_COUNTS[started] and next(failures) == 0:
            raise TimeoutError("the server does not answer")
        await start(self)

    monkeypatch.setattr(Consumers, "start", fail_once)
    async with draining(nats_server, namespace, Mark("slow", name, name), started=started) as (bus, sent, _, ended):
        assert await bus.command(Mark("other", "after"), timeout=SOON) == 2
        gate(name).set()
        assert await asyncio.gather(*sent) == [2]
        await asyncio.wait_for(ended, 30)
    assert next(failures) > 1
    gc.collect()


async def test_a_key_continues_in_order_at_the_new_owner(nats_server: EmbeddedServer, namespace: str) -> None:
    name = f"order {namespace}"
    slow = [Mark("slow", name, name), *(Mark("slow", f"waiting {number}") for number in range(5))]
    async with draining(nats_server, namespace, *slow, started=f"mark slow {name}") as (bus, sent, second, ended):
        later = [asyncio.ensure_future(bus.command(Mark("slow", f"later {number}"), timeout=30)) for number in range(5)]
        await until(lambda: Probe.of(second).waiting("marks", "slow") == 5)
        gate(name).set()
        assert await asyncio.gather(*sent, *later) == list(range(2, 13))
        await asyncio.wait_for(ended, 30)
        await until_seen(bus, "slow", (await bus.query(GetMarks("slow"))).marks)


async def test_a_list_has_what_the_former_owner_has_just_acknowledged(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    names = [f"list {number} {namespace}" for number in range(4)]
    slow = [Mark("slow", name, name) for name in names]
    async with draining(nats_server, namespace, *slow, started=f"mark slow {names[0]}") as (bus, sent, _, _):
        assert [await bus.command(Mark("other", "after"), timeout=SOON) for _ in range(2)] == [2, 3]
        orders: list[list[str]] = []
        for number, name in enumerate(names):
            gate(name).set()
            await sent[number]
            marks = ("before", *names[: number + 1])
            found = await listed(bus)
            orders.append(list(found))
            assert found["slow"] == (await bus.query(GetMarks("slow"))).marks == marks
        assert orders[1:] == [["slow", "other"]] * 3, "the list is in the order of the newest states"


async def test_a_list_leaves_out_a_busy_key_whose_record_is_unreadable(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    name = f"unreadable {namespace}"
    async with draining(nats_server, namespace, Mark("slow", name, name), started=f"mark slow {name}") as (
        bus, sent, second, _,
    ):  # fmt: skip
        probe = Probe.of(second)
        await probe.jetstream.publish(probe.served("marks").names.turn(key_token("slow")), b"unreadable")
        assert await listed(bus) == {"other": ("before",)}
        gate(name).set()
        await asyncio.gather(*sent, return_exceptions=True)
        assert await listed(bus) == {"other": ("before",)}


async def test_a_handler_reaches_the_new_owner_of_other_keys(nats_server: EmbeddedServer, namespace: str) -> None:
    name = f"nested {namespace}"
    slow = MarkBoth("slow", "other", name)
    RUN_COUNTS["mark slow both"] = 0
    async with draining(nats_server, namespace, slow, started="mark slow both") as (bus, sent, _, ended):
        assert await bus.command(Mark("other", "after"), timeout=SOON) == 2
        gate(name).set()
        assert await sent[0] == 3
        assert (await bus.query(GetMarks("other"))).marks == ("before", "after", "nested")
        assert (await bus.query(GetMarks("slow"))).marks == ("before", "both")
        await asyncio.wait_for(ended, 30)


@pytest.mark.parametrize("resident", [True, False], ids=["in memory", "read again"])
async def test_a_handler_lists_what_it_has_sent_to_the_new_owner(
    nats_server: EmbeddedServer, namespace: str, resident: bool
) -> None:
    name = f"then list {resident} {namespace}"
    RUN_COUNTS["mark slow list"] = 0
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, ended),
    ):
        await first.wait_serving()
        for key in ("slow", "other"):
            await bus.command(Mark(key, "before"))
        sent = asyncio.ensure_future(bus.command(MarkThenList("slow", ["other", "new"], name), timeout=30))
        await until(lambda: RUN_COUNTS["mark slow list"])
        async with process(nats_server, namespace, Marking) as (second, _):
            await until(lambda: second.hosts[0].standby)
            first.stop()
            await until(second.hosts[0].ready.is_set, SOON)
            await bus.command(Mark("other", "after"), timeout=SOON)
            if not resident:
                await Probe.of(first).evict("marks", "slow")
            gate(name).set()
            found = [(each.name, each.marks) for each in await sent]
            assert found == [("other", ("before", "after", "nested")), ("slow", ("before",)), ("new", ("nested",))]
            assert (await bus.query(GetMarks("slow"))).marks == ("listed",)
            await asyncio.wait_for(ended, 30)


async def test_a_handler_that_calls_its_own_key_is_refused_at_once(nats_server: EmbeddedServer, namespace: str) -> None:
    name = f"cycle {namespace}"
    RUN_COUNTS["mark slow both"] = 0
    slow = MarkBoth("slow", "slow", name)
    async with draining(nats_server, namespace, slow, started="mark slow both") as (bus, sent, _, _):
        gate(name).set()
        with pytest.raises(CallCycle):
            await asyncio.wait_for(sent[0], SOON)
        assert (await bus.query(GetMarks("slow"))).marks == ("before",)


async def test_a_rejected_command_ends_the_wait_of_its_key(nats_server: EmbeddedServer, namespace: str) -> None:
    name = f"rejected {namespace}"
    RUN_COUNTS["mark slow refuse"] = 0
    async with draining(nats_server, namespace, Refuse("slow", name), started="mark slow refuse") as (bus, sent, _, _):
        later = asyncio.ensure_future(bus.command(Mark("slow", "later"), timeout=30))
        gate(name).set()
        with pytest.raises(Rejected):
            await sent[0]
        assert await later == 2


async def test_an_owner_with_too_many_busy_keys_waits_until_they_are_fewer(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"many {number} {namespace}" for number in range(2)]
    looks: list[int] = []
    few = drain._are_few
    monkeypatch.setattr(drain, "_MOST_BUSY", 1)
    monkeypatch.setattr(drain, "_are_few", lambda busy: looks.append(len(busy)) or few(busy))
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, ended),
    ):
        await first.wait_serving()
        sent = [asyncio.ensure_future(bus.command(Mark(name[:6], name, name), timeout=30)) for name in names]
        await until(lambda: all(RUN_COUNTS[f"mark {name[:6]} {name}"] for name in names))
        async with process(nats_server, namespace, Marking) as (second, _):
            await until(lambda: second.hosts[0].standby)
            first.stop()
            await until(lambda: looks.count(2) == 2)
            assert second.hosts[0].standby
            gate(names[0]).set()
            await until(second.hosts[0].ready.is_set, SOON)
            assert await sent[0] == 1 and not sent[1].done()
            gate(names[1]).set()
            assert await sent[1] == 1
            await asyncio.wait_for(ended, 30)


async def test_a_query_that_runs_does_not_delay_the_hand_over(nats_server: EmbeddedServer, namespace: str) -> None:
    name = f"query {namespace}"
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, ended),
    ):
        await first.wait_serving()
        await bus.command(Mark("slow", "before"))
        look = asyncio.ensure_future(bus.query(GetMarks("slow", name), timeout=30))
        await until(lambda: RUN_COUNTS[f"look {name}"])
        async with process(nats_server, namespace, Marking) as (second, _):
            await until(lambda: second.hosts[0].standby)
            first.stop()
            await until(second.hosts[0].ready.is_set, SOON)
            assert await bus.command(Mark("slow", "after"), timeout=SOON) == 2
            gate(name).set()
            assert (await look).marks == ("before",)
            await asyncio.wait_for(ended, 30)


async def test_a_reaction_that_fails_at_its_former_owner_runs_again_at_the_new_one(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    name = f"once {namespace}"
    slow = MarkOnce("source", "slow", name)
    async with draining(nats_server, namespace, slow, started=f"once {name}") as (bus, _, second, ended):
        gate(name).set()
        await asyncio.wait_for(ended, 30)
        assert await bus.command(Mark("slow", "later"), timeout=SOON) == 3
        assert (await bus.query(GetMarks("slow"))).marks == ("before", "once", "later")
        assert not await Probe.of(second).stored_dead_letters("marks")


async def test_a_new_owner_that_drains_leaves_the_busy_keys_to_the_next_one(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    name = f"third {namespace}"
    started = f"mark slow {name}"
    async with (
        draining(nats_server, namespace, Mark("slow", name, name), started=started) as (bus, sent, second, ended),
        process(nats_server, namespace, Marking) as (third, _),
    ):
        await until(lambda: third.hosts[0].standby)
        second.stop()
        await until(third.hosts[0].ready.is_set, SOON)
        later = asyncio.ensure_future(bus.command(Mark("slow", "later"), timeout=30))
        assert await bus.command(Mark("other", "after"), timeout=SOON) == 2
        assert not ended.done()
        gate(name).set()
        assert await sent[0] == 2 and await later == 3
        await until_seen(bus, "slow", ("before", name, "later"))


async def test_a_new_owner_with_slow_handlers_serves_until_the_former_one_has_finished(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    """Three processes are restarted one after another beside slow handlers."""
    name, own = f"former {namespace}", f"own {namespace}"
    async with (
        draining(nats_server, namespace, Mark("slow", name, name), started=f"mark slow {name}") as (
            bus,
            sent,
            second,
            _,
        ),
        process(nats_server, namespace, Marking) as (third, _),
    ):
        await until(lambda: third.hosts[0].standby)
        later = asyncio.ensure_future(bus.command(Mark("own", own, own), timeout=30))
        await until(lambda: RUN_COUNTS[f"mark own {own}"])
        second.stop()
        for number in range(20):
            assert await bus.command(Mark("other", f"after {number}"), timeout=SOON) == number + 2
            await asyncio.sleep(0.02)
        gate(name).set()
        assert await sent[0] == 2
        await until(third.hosts[0].ready.is_set, SOON)
        assert await bus.command(Mark("other", "third"), timeout=SOON) == 22 and not later.done()
        gate(own).set()
        assert await later == 1
        assert (await bus.query(GetMarks("own"))).marks == (own,)


async def test_a_new_owner_that_drains_finishes_the_messages_that_wait_for_the_former_one(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_FORMER", 0.2)
    name = f"chain {namespace}"
    started = f"mark slow {name}"
    async with (
        draining(nats_server, namespace, Mark("slow", name, name), started=started) as (bus, sent, second, _),
        process(nats_server, namespace, Marking) as (third, _),
    ):
        await until(lambda: third.hosts[0].standby)
        later = asyncio.ensure_future(bus.command(Mark("slow", "later"), timeout=30))
        await until(lambda: Probe.of(second).waiting("marks", "slow"))
        second.stop()
        await until(lambda: Probe.of(second).is_draining("marks"))
        gate(name).set()
        assert await sent[0] == 2 and await later == 3
        await until(third.hosts[0].ready.is_set)
        assert (await bus.query(GetMarks("slow"))).marks == ("before", name, "later")


async def test_a_killed_former_owner_delays_its_busy_keys_for_a_moment(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    arguments = ("run", "tests.support.handing:Marking", "--nats", nats_server.url, "--namespace", namespace)
    async with connected(nats_server, namespace) as bus, running_command(*arguments, cwd=ROOT) as first:
        await bus.command(Mark("slow", "before"))
        lost = asyncio.ensure_future(bus.command(Mark("slow", "lost", "never opened"), timeout=30))
        async with process(nats_server, namespace, Marking) as (second, _):
            await until(lambda: second.hosts[0].standby)
            first.signal(signal.SIGTERM)
            await until(second.hosts[0].ready.is_set, SOON)
            first.signal(signal.SIGKILL)
            assert await bus.command(Mark("slow", "later"), timeout=SOON) == 2
            assert (await bus.query(GetMarks("slow"))).marks == ("before", "later")
            lost.cancel()


async def test_a_killed_new_owner_leaves_the_busy_keys_to_the_next_one(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    name = f"killed {namespace}"
    arguments = ("run", "tests.support.handing:Marking", "--nats", nats_server.url, "--namespace", namespace)
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, _),
    ):
        await first.wait_serving()
        sent = asyncio.ensure_future(bus.command(Mark("slow", name, name), timeout=30))
        await until(lambda: RUN_COUNTS[f"mark slow {name}"])
        async with running_command(*arguments, "--lease-ttl", "1", cwd=ROOT) as second:
            first.stop()
            await second.until("still finishes 1 keys")
            async with process(nats_server, namespace, Marking) as (third, _):
                await until(lambda: third.hosts[0].standby)
                second.signal(signal.SIGKILL)
                await until(third.hosts[0].ready.is_set)
                later = asyncio.ensure_future(bus.command(Mark("slow", "later"), timeout=30))
                assert await bus.command(Mark("other", "after"), timeout=SOON) == 1
                assert (await bus.query(GetMarks("slow"), timeout=SOON)).marks == ()
                gate(name).set()
                assert await sent == 1 and await later == 2
                assert (await bus.query(GetMarks("slow"))).marks == (name, "later")


@pytest.mark.parametrize("loaded", [True, False], ids=["a commit that is refused", "a record that is read"])
async def test_a_former_owner_stops_when_it_sees_that_its_successor_did_not_wait(
    nats_server: EmbeddedServer, namespace: str, loaded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection of the former owner is lost for a moment, so that it seems to be gone."""
    name = f"stops {loaded} {namespace}"
    started = f"mark slow {name}"
    slow = [Mark("slow", name, name), Mark("slow", "behind")]
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, ended),
    ):
        await first.wait_serving()
        await bus.command(Mark("slow", "before"))
        sent = [asyncio.ensure_future(bus.command(each, timeout=30)) for each in slow]
        probe = Probe.of(first)
        await until(lambda: RUN_COUNTS[started] and probe.waiting("marks", "slow"))
        monkeypatch.setattr(
            "runtime.host.handover.Reports.begin", lambda self, tokens: self._subscription.unsubscribe()
        )
        async with process(nats_server, namespace, Marking) as (second, _):
            await until(lambda: second.hosts[0].standby)
            first.stop()
            await until(second.hosts[0].ready.is_set, SOON)
            assert (await bus.query(GetMarks("slow"))).marks == ("before",)
            await until(lambda: not Probe.of(second).is_running("marks", "slow"))
            assert (await bus.query(GetMarks("slow"))).marks == ("before",)  # It is touched.
            if not loaded:
                probe.forget("marks", "slow")
            gate(name).set()
            answers = await asyncio.gather(*sent, return_exceptions=True)
            assert [type(answer) for answer in answers] == [NotDelivered] * 2
            assert all(isinstance(answer, NotDelivered) and answer.executed is False for answer in answers)
            assert (await bus.query(GetMarks("slow"))).marks == ("before",)
            assert await bus.command(Mark("slow", "later"), timeout=SOON) == 2
            await asyncio.wait_for(ended, 30)


async def test_a_handler_that_ends_with_the_drain_has_the_outcome_that_its_caller_is_told(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds, rng = 0.6, random.Random(18)
    monkeypatch.setattr(drain, "_DRAIN_TIMEOUT", seconds)
    keys = [f"key-{number}" for number in range(24)]
    mark = f"slow {namespace}"
    async with (
        connected(nats_server, namespace) as bus,
        process(nats_server, namespace, Marking) as (first, ended),
    ):
        await first.wait_serving()
        sent = [asyncio.ensure_future(bus.command(Mark(key, mark, f"{key} {namespace}"), timeout=30)) for key in keys]
        await until(lambda: all(RUN_COUNTS[f"mark {key} {mark}"] for key in keys))
        async with process(nats_server, namespace, Marking) as (second, _):
            await until(lambda: second.hosts[0].standby)
            first.stop()
            for key in keys:
                asyncio.get_running_loop().call_later(seconds + rng.uniform(-0.2, 0.2), gate(f"{key} {namespace}").set)
            await until(second.hosts[0].ready.is_set, SOON)
            later = [asyncio.ensure_future(bus.command(Mark(key, "later"), timeout=30)) for key in keys]
            answers = await asyncio.gather(*sent, return_exceptions=True)
            await asyncio.gather(*later)
            await asyncio.wait_for(ended, 30)
            for key, answer in zip(keys, answers, strict=True):
                marks = (await bus.query(GetMarks(key))).marks
                executed = answer.executed if isinstance(answer, RequestError) else answer == 1
                assert executed is None or marks == ((mark, "later") if executed else ("later",))
            assert {type(answer) for answer in answers} > {int}, "some end before the drain, and some do not"
