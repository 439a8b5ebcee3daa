"""Turns: each message takes effect once, a refused one not at all, and sums stay exact when two owners race."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, DeadlineExceeded, HandlerFailed, NotDelivered, NotFound, Options, Rejected, command
from runtime.nats.lease import Lease
from runtime.nats.server import EmbeddedServer
from runtime.storage.draft import Draft
from runtime.storage.settlement import Conflict, NotStored, Unsettled
from runtime.storage.streams import StateLost
from runtime.turns.served import Served
from runtime.wire import header_block
from runtime.wire.ids import derived_id, key_for, new_id
from runtime.wire.subjects import published
from runtime.wire.tokens import key_token
from tests.support.calling import Forward, Gateway
from tests.support.clocks import uuid7
from tests.support.commits import replace_commit, replace_publish
from tests.support.counting import (
    Add,
    AddLater,
    AddTwice,
    Count,
    Counter,
    DropCount,
    Fail,
    GetCount,
    GetSeen,
    ListCounts,
    OpenCount,
    Reject,
    TooLow,
    Wait,
    Watcher,
)
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Counter, Watcher, Gateway, url=nats_server.url, namespace=namespace) as running_system:
        yield running_system


async def value(system: Probe, name: str) -> int:
    return (await system.bus.query(GetCount(name))).value


async def events(system: Probe) -> list[str]:
    """Return the subjects of all counter events, after the outboxes are empty."""
    return [published(stored.subject) for stored in await system.stored_events("counter")]


async def test_the_same_id_takes_effect_once_and_gets_the_same_reply(system: Probe) -> None:
    bus = system.bus
    for command_id in ("x", new_id(), str(uuid.uuid4())):
        name = f"n{command_id}"
        first = await bus.command(Add(name, 5), id=command_id)
        await bus.command(Add(name, 1))
        assert await bus.command(Add(name, 5), id=command_id) == first == Count(name, 5)
        assert await value(system, name) == 6 and RUN_COUNTS[f"add {name}"] == 2


async def test_the_same_id_sent_many_times_at_once(system: Probe) -> None:
    replies = await asyncio.gather(*(system.bus.command(Add("burst", 3), id="same") for _ in range(50)))
    assert set(map(repr, replies)) == {repr(Count("burst", 3))} and await value(system, "burst") == 3


async def test_the_same_id_at_another_key_is_another_message(system: Probe) -> None:
    await system.bus.command(Add("one"), id="same")
    await system.bus.command(Add("two"), id="same")
    assert await value(system, "two") == 1


FAR = 3600.0
IDS = {
    "created": new_id,
    "foreign": lambda: "invoice/2024 7",
    "version 4": lambda: str(uuid.uuid4()),
    "derived": lambda: derived_id(new_id(), 3, "counter/k", "counter.Add", "k"),
    "of a clock that is fast": lambda: uuid7(time.time() + FAR),
    "of a clock that is slow": lambda: uuid7(time.time() - FAR),
}


@pytest.mark.parametrize("kind", IDS)
@pytest.mark.parametrize("forget", ["remembers all", "forgets what left the record", "was evicted"])
async def test_an_id_is_known_after_many_further_messages(system: Probe, kind: str, forget: str) -> None:
    bus, name, command_id = system.bus, f"{kind} {forget}", IDS[kind]()
    first = await bus.command(Add(name, 100), id=command_id)
    for _ in range(30):  # more than a record lists (8 to 24)
        await bus.command(Add(name), id=new_id())
    await system.until_dedup_stored("counter", name)
    await bus.command(Add(name))
    assert not system.has_in_record("counter", name, command_id), "it has left the record"
    if forget == "forgets what left the record":
        assert system.forget_recent("counter", name) > 0
    elif forget == "was evicted":
        assert await system.evict("counter", name) >= 1
    assert await bus.command(Add(name, 100), id=command_id) == first
    assert await value(system, name) == 131


@pytest.mark.parametrize("kind", IDS)
async def test_an_id_is_known_after_a_restart(nats_server: EmbeddedServer, namespace: str, kind: str) -> None:
    early, late = IDS[kind](), "late " + IDS[kind]()
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        first = await system.bus.command(Add("a", 100), id=early)
        for _ in range(30):
            await system.bus.command(Add("a"))
        last = await system.bus.command(Add("a", 5), id=late)
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.command(Add("a", 5), id=late) == last == Count("a", 135)
        assert await system.bus.command(Add("a", 100), id=early) == first == Count("a", 100)
        assert await system.bus.command(Add("a", 1), id=IDS[kind]() + "new") == Count("a", 136)


async def test_a_new_id_costs_no_lookup(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    dedup = system.journal("counter").dedup
    asked: list[str] = []
    find = dedup.find

    async def counted(token: str, message_id: str) -> Any:
        asked.append(message_id)
        return await find(token, message_id)

    monkeypatch.setattr(dedup, "find", counted)
    for _ in range(30):
        await system.bus.command(Add("busy"), id=new_id())
    assert asked == []


class Blob(msgspec.Struct, frozen=True):
    text: str = ""


class PutBlob(Command[Blob], actor="blobs", key="name"):
    name: str
    size: int


class Blobs(Actor[Blob]):
    """Replies with its whole state."""

    name = "blobs"

    @command
    async def put(self, message: PutBlob) -> Blob:
        self.state = Blob("x" * message.size)
        return self.state


async def test_large_replies_do_not_fill_the_record(nats_server: EmbeddedServer, namespace: str) -> None:
    # nats-server accepts 1 MiB a message: a record that grew beyond it could never be stored again.
    async with running(Blobs, url=nats_server.url, namespace=namespace) as system:
        for number in range(12):
            assert (
                len((await system.bus.retry(PutBlob("k", 250_000 + number), id=f"i{number}")).text) == 250_000 + number
            )
        for number in range(12):
            assert (
                len((await system.bus.command(PutBlob("k", 250_000 + number), id=f"i{number}")).text)
                == 250_000 + number
            )


async def test_a_burst_of_large_replies_is_split_into_commits(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Blobs, url=nats_server.url, namespace=namespace) as system:
        sizes = [60_000 + number for number in range(40)]
        replies = await asyncio.gather(*(system.bus.command(PutBlob("k", size), timeout=20) for size in sizes))
        assert [len(reply.text) for reply in replies] == sizes


async def test_a_new_key_derives_from_the_message_id(system: Probe) -> None:
    bus = system.bus
    first = await bus.command(OpenCount(7), id="open-1")
    assert first == Count(key_for("open-1"), 7)
    assert await bus.command(OpenCount(7), id="open-1") == first, "the same command meets the same key"
    assert (await bus.command(OpenCount(7))).name != first.name
    assert await value(system, first.name) == 7


async def test_a_rejected_command_leaves_nothing(system: Probe, namespace: str) -> None:
    for command_id in (None, "r1", "r1"):
        with pytest.raises(TooLow) as caught:
            await system.bus.command(Reject("rejected"), id=command_id)
        assert caught.value.executed is False and str(caught.value) == "no"
    with pytest.raises(NotFound):
        await value(system, "rejected")
    assert await events(system) == []
    assert await system.jetstream.get_last(f"{namespace}-counter-turns", f"{namespace}.counter.turn.>") is None


@pytest.mark.parametrize("how", ["raise", "timeout", "cancel"])
async def test_a_failed_command_leaves_nothing_and_may_be_sent_again(system: Probe, how: str) -> None:
    with pytest.raises(HandlerFailed) as caught:
        await system.bus.command(Fail("failed", how), id="f1")
    assert caught.value.executed is None
    assert await events(system) == []
    assert await system.bus.command(Add("failed"), id="f1") == Count("failed", 1), "the id is free: nothing was stored"


async def test_a_command_that_changes_nothing_is_remembered_by_its_id_alone(system: Probe, namespace: str) -> None:
    await system.bus.command(DropCount("none"))
    # The bus gives every command an id; one from outside may have none.
    await system.connection.request(f"{namespace}.counter.command.drop_count", b'{"name":"none2"}', timeout=5)
    assert await system.record("counter", "none2") is None
    assert await system.record("counter", "none") is not None


async def test_a_state_of_none_deletes_the_key(system: Probe) -> None:
    await system.bus.command(Add("gone", 5), id="g1")
    await system.bus.command(DropCount("gone"), id="g2")
    with pytest.raises(NotFound):
        await value(system, "gone")
    assert "gone" not in {count.name for count in await system.bus.query(ListCounts())}
    assert await system.bus.command(Add("gone", 5), id="g1") == Count("gone", 5), (
        "the deleted key still knows the handled messages"
    )
    with pytest.raises(NotFound):
        await value(system, "gone")
    assert (await system.bus.command(Add("gone", 1))).value == 1


async def test_a_deleted_key_stays_deleted_after_any_kill(namespace: str) -> None:
    options = {"counter": Options(remember=1.0)}
    async with EmbeddedServer(port=0) as server:
        async with running(Counter, url=server.url, namespace=namespace, options=options) as system:
            await system.bus.command(Add("other", 1))
            await system.bus.command(Add("gone", 5))
            await system.bus.command(Add("gone", 5))
            await system.bus.command(DropCount("gone"))
            jetstream = system.jetstream
            entry = {"Nats-TTL": "2s", "Nats-Msg-Id": "entry"}
            stream, subject = f"{namespace}-counter-turns", f"{namespace}.counter.dedup.gone.entry"
            await jetstream.publish(subject, b"{}", headers=header_block.encode(entry.items()))

            async def expired() -> bool:
                return await jetstream.get_last(stream, subject) is None

            await system.until(expired)  # so would a record that is kept for `remember` (one second here)
            server.kill()
            await server.start()
            await system.connection.wait_connected(10)
        async with running(Counter, url=server.url, namespace=namespace, options=options) as system:
            assert [count.name for count in await system.bus.query(ListCounts())] == ["other"]
            with pytest.raises(NotFound):
                await value(system, "gone")


async def test_a_nested_commands_id_derives_from_its_parents(system: Probe) -> None:
    bus = system.bus
    assert await bus.command(AddTwice("parent", "left", "right"), id="t1") == 2
    with pytest.raises(HandlerFailed):
        await bus.command(Forward("left", 10, fail=True), id="t2")
    with pytest.raises(HandlerFailed):
        await bus.command(Forward("left", 10, fail=True), id="t2")
    assert await value(system, "left") == 11, "the command failed after its nested command, which is not repeated"
    assert RUN_COUNTS["forward left"] == 2
    assert await bus.command(Forward("left", 10), id="t2") == Count("left", 11)


async def test_a_failure_after_a_nested_command_is_not_reported_as_not_executed(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    class Nowhere(Command[None], actor="nowhere"):
        pass

    class Send(Command[None], actor="sender"):
        first: str = ""

    class Sender(Actor):
        name = "sender"

        @command
        async def send(self, message: Send) -> None:
            if message.first:
                await self.command(Add(message.first, 1))
            await self.command(Nowhere())

    async with running(Counter, Sender, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(NotDelivered) as nothing:
            await system.bus.command(Send())
        with pytest.raises(NotDelivered) as something:
            await system.bus.command(Send("done"))
        assert await value(system, "done") == 1
        assert (nothing.value.executed, something.value.executed) == (False, None)


async def test_a_stateless_command_with_an_id_happens_once(system: Probe) -> None:
    bus = system.bus
    replies = await asyncio.gather(*(bus.command(Forward("far", 3), id="s1") for _ in range(10)))
    assert {reply.value for reply in replies} == {3} and await value(system, "far") == 3
    assert await bus.command(Forward("far", 3), id="s1") == Count("far", 3)
    runs = RUN_COUNTS["forward far"]
    stored = await system.stored_turn("gateway", "s1")
    assert stored is not None and b"Nats-TTL" in stored.headers
    assert await bus.command(Forward("far", 3), id="s2") == Count("far", 6) and RUN_COUNTS["forward far"] == runs + 1


async def test_callbacks_of_a_commit_are_called_once(nats_server: EmbeddedServer, namespace: str) -> None:
    called: list[str] = []

    class Calling(Counter):
        name = "counter"

        async def add(self, message: Add) -> Count:
            if message.by == 0:
                self.on_commit(lambda: called.append("rejected"))
            self.on_commit(lambda: called.append(message.name))
            self.on_commit(lambda: 1 / 0)  # logged; the turn has committed
            self.on_commit(lambda: called.append("after"))
            return await super().add(message)

        add.__actorloom__ = Counter.add.__actorloom__  # type: ignore[attr-defined]

    async with running(Calling, url=nats_server.url, namespace=namespace) as system:
        for _ in range(3):
            assert await system.bus.command(Add("once"), id="c1") == Count("once", 1)
        with pytest.raises(TooLow):
            await system.bus.command(Add("once", 0))
    assert called == ["once", "after"]


async def test_a_query_waits_for_the_load_and_not_for_the_lane(system: Probe) -> None:
    running_one = asyncio.ensure_future(system.bus.command(Wait("lane")))
    await system.until(lambda: RUN_COUNTS["wait lane"])
    with pytest.raises(NotFound):
        await value(system, "lane")
    gate("lane").set()
    assert await running_one == 1 and await value(system, "lane") == 1


async def test_keys_run_side_by_side_and_one_key_in_order(system: Probe) -> None:
    blocked = asyncio.ensure_future(system.bus.command(Wait("blocked")))
    await system.until(lambda: RUN_COUNTS["wait blocked"])
    values = await asyncio.gather(*(system.bus.command(Add("free")) for _ in range(40)))
    assert [count.value for count in values] == list(range(1, 41))
    assert not blocked.done()
    gate("blocked").set()
    assert await blocked == 1


async def test_idle_keys_leave_memory_and_come_back(nats_server: EmbeddedServer, namespace: str) -> None:
    options = {"counter": Options(resident=10)}
    async with running(Counter, url=nats_server.url, namespace=namespace, options=options) as system:
        await asyncio.gather(*(system.bus.command(Add(f"k{n}", n + 1)) for n in range(50)))
        await system.wait_published("counter")
        assert [await value(system, f"k{n}") for n in range(50)] == list(range(1, 51))
        assert (await system.bus.command(Add("another"))).value == 1
        assert system.resident("counter") <= 11


async def test_waiting_messages_are_answered_when_the_owner_stops(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        waiting = [asyncio.ensure_future(system.bus.command(Wait("held"), timeout=20))]
        await system.until(lambda: RUN_COUNTS["wait held"])
        waiting += [asyncio.ensure_future(system.bus.command(Add("held"), timeout=20)) for _ in range(5)]
        await system.until(lambda: system.waiting("counter", "held") == 5)
        system.crash("counter", RuntimeError("a part of it, as the test says"))
        for each in waiting:
            with pytest.raises(NotDelivered):
                await each
        await system.until_ready("counter")
        assert (await system.bus.command(Add("held"))).value == 1


async def two_owners(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, options: Options
) -> Any:
    """Two hosts that both own every key in their own view: each has a lease of its own."""

    def own_lease(served: Served, partition: str) -> Lease:
        bucket = f"{namespace}-{served.holder}".replace(".", "-")
        return Lease(served.jetstream, bucket=bucket, key=f"{served.name}.{partition}", holder=served.holder, ttl=4.0)

    monkeypatch.setattr("runtime.host.owner.make_lease", own_lease)
    return running(Counter, Gateway, url=nats_server.url, namespace=namespace, options={"counter": options})


async def test_two_owners_on_purpose_lose_nothing_and_do_nothing_twice(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(handled=3)
    one = await two_owners(nats_server, namespace, monkeypatch, options)
    two = await two_owners(nats_server, namespace, monkeypatch, options)
    async with one as first, two as second:
        bus = first.bus
        expected = dict.fromkeys(("k0", "k1", "k2"), 0)

        async def caller(number: int) -> None:
            for turn in range(25):
                name = f"k{(number + turn) % 3}"
                command_id = new_id() if turn % 2 else f"c{number}-{turn}"
                expected[name] += 1
                for _ in range(1 + turn % 3):  # the same command again, known or not
                    await bus.retry(Add(name), id=command_id, timeout=2)

        async with asyncio.timeout(40):
            await asyncio.gather(*(caller(number) for number in range(8)))
        conflicts = sum(
            1
            for span in first.tracing.finished() + second.tracing.finished()
            for event in span.events
            if event[1] == "turn.conflict"
        )
        assert conflicts > 10, "both wrote"
        for system in (first, second):
            assert system.in_mailbox("counter") == 0, "reruns are counted once"
        for system in (first, second):  # either may have an older state in memory than the other
            system.forget("counter")
        for name, count in expected.items():
            assert await value(first, name) == count
        await second.wait_published("counter")
        subjects = await events(first)
        assert sorted(subjects) == sorted(
            f"{namespace}.counter.event.added.{n}" for n, c in expected.items() for _ in range(c)
        )


async def test_a_rerun_after_a_conflict_repeats_no_nested_command(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await two_owners(nats_server, namespace, monkeypatch, Options())
    async with one as system:
        await system.bus.command(Add("parent"))
        journal = system.journal("counter")
        commit, raced = journal.commit, []

        async def race(draft: Draft) -> int:
            key = draft.key
            if key.key == "parent" and not raced:
                raced.append(key.sequence)
                last = await system.stored_turn("counter", "parent")
                await system.jetstream.publish(last.subject, last.payload)  # another writer
            return await commit(draft)

        replace_commit(monkeypatch, journal, race)
        assert await system.bus.command(AddTwice("parent", "left2", "right2"), id="again") == 2
        assert RUN_COUNTS["twice parent"] >= 2 and raced
        assert await value(system, "left2") == await value(system, "right2") == 1
        assert await value(system, "parent") == 3


async def test_a_deadline_that_passes_before_a_rerun_leaves_the_outcome_unknown(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        journal, deadline = system.journal("counter"), time.time() + 0.3

        async def lost(*args: Any, **kwargs: Any) -> int:
            # As if the stream had not answered, and had no record yet.
            await asyncio.sleep(max(deadline + 0.01 - time.time(), 0.0))
            raise Conflict("not there")

        replace_commit(monkeypatch, journal, lost)
        block = header_block.encode([("Deadline", str(int(deadline * 1000)))])
        subject = f"{namespace}.counter.command.add"
        response = await system.connection.request(subject, b'{"name":"late"}', headers=block, timeout=5)
        assert msgspec.json.decode(response.payload)["error"]["executed"] is None


async def test_a_list_includes_another_writers_turn_after_a_conflict(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = await two_owners(nats_server, namespace, monkeypatch, Options())
    async with one as system:
        await system.bus.command(Add("shared", 1))
        last = await system.stored_turn("counter", "shared")
        for name, value in (("shared", b"50"), ("elsewhere", b"7")):
            payload = last.payload.replace(b'"value":1', b'"value":' + value).replace(b'"shared"', f'"{name}"'.encode())
            await system.jetstream.publish(f"{namespace}.counter.turn.{key_token(name)}", payload)
        system.forget("counter", "shared")
        assert (await system.bus.query(GetCount("shared"))).value == 50
        assert (await system.bus.query(GetCount("elsewhere"))).value == 7
        assert [count.value for count in await system.bus.query(ListCounts())] == [7, 50]


async def test_a_slow_stream_slows_the_turns_down(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With two workers, two commits are sent without a task, and two more by a worker that waits."""
    options = {"counter": Options(concurrency=2)}
    async with running(Counter, url=nats_server.url, namespace=namespace, options=options) as system:
        journal, answer, sent = system.journal("counter"), asyncio.Event(), list[str]()
        commit = journal.commit

        async def slow(draft: Draft) -> int:
            sent.append(draft.key.key)
            await answer.wait()
            return await commit(draft)

        replace_commit(monkeypatch, journal, slow)
        adding = [asyncio.ensure_future(system.bus.command(Add(f"slow{number}"))) for number in range(9)]
        await system.until(
            lambda: system.resident("counter") == 9 and system.in_mailbox("counter") == 5 and len(sent) >= 4
        )
        assert len(sent) == 4
        answer.set()
        assert [count.value for count in await asyncio.gather(*adding)] == [1] * 9 and len(sent) == 9


async def test_a_commit_whose_answer_is_lost_is_found_in_the_stream(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    jetstream = system.served("counter").jetstream
    publish, lost = jetstream.publish, []

    async def losing(subject: Any, *args: Any, **kwargs: Any) -> Any:
        ack = await publish(subject, *args, **kwargs)
        if ".turn." in subject and len(lost) < 3:
            lost.append(ack.sequence)
            raise TimeoutError
        return ack

    replace_publish(monkeypatch, jetstream, losing)
    for number in range(1, 6):
        assert (await system.bus.command(Add("lost"))).value == number
    assert len(lost) == 3 and RUN_COUNTS["add lost"] == 5


@pytest.mark.parametrize(
    "failure",
    [NotStored("refused, says the test"), Unsettled("nobody knows, says the test"), Conflict("another, says the test")],
)
async def test_turns_that_ran_on_a_state_that_was_not_stored_run_again(
    system: Probe, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    key = f"head {type(failure).__name__}"
    journal, held, failed = system.journal("counter"), asyncio.Event(), []
    commit = journal.commit

    async def failing(*args: Any, **kwargs: Any) -> int:
        if not failed:
            failed.append(args)
            await held.wait()
            raise failure
        return await commit(*args, **kwargs)

    replace_commit(monkeypatch, journal, failing)
    first = asyncio.ensure_future(system.bus.command(Add(key, 100)))
    await system.until(lambda: failed)
    running_on_it = asyncio.ensure_future(system.bus.command(Wait(key)))
    await system.until(lambda: RUN_COUNTS[f"wait {key}"])
    staged_behind = [asyncio.ensure_future(system.bus.command(Add(key, 10))) for _ in range(3)]
    held.set()
    if not isinstance(failure, Conflict):
        with pytest.raises((NotDelivered, DeadlineExceeded)):
            await first
    gate(key).set()
    begun = 0 if not isinstance(failure, Conflict) else 100
    assert await running_on_it == begun + 1, "it ran again, on the stored state"
    assert sorted([(await each).value for each in staged_behind]) == [begun + 11, begun + 21, begun + 31]
    assert await value(system, key) == begun + 31


async def test_a_refusing_stream_is_reported_as_not_executed(system: Probe, namespace: str) -> None:
    await system.bus.command(Add("a"))
    await system.connection.request(
        f"$JS.API.STREAM.UPDATE.{namespace}-counter-turns", await sealed(system, namespace), timeout=5
    )
    with pytest.raises(NotDelivered, match="could not store its turn") as caught:
        await system.bus.command(Add("a", 10))
    assert caught.value.executed is False and await value(system, "a") == 1


async def sealed(system: Probe, namespace: str) -> bytes:
    """The configuration of the turns stream, sealed: it refuses every further message."""
    info = await system.jetstream.stream_info(f"{namespace}-counter-turns")
    return msgspec.json.encode({**info.config, "sealed": True})


async def test_a_missing_stream_is_reported_as_not_executed(nats_server: EmbeddedServer, namespace: str) -> None:
    with contextlib.suppress(StateLost):  # by then the host may have seen it, too
        async with running(Counter, url=nats_server.url, namespace=namespace) as system:
            await system.jetstream.delete_stream(f"{namespace}-counter-turns")
            for _ in range(3):  # the last ones when the host has gone
                with pytest.raises(NotDelivered) as caught:
                    await system.bus.command(Add("a", 10))
                assert caught.value.executed is False


async def test_a_long_job_is_accepted_and_runs_once(system: Probe) -> None:
    accepted = [await system.bus.command(AddLater("long", 5), id="j1") for _ in range(3)]
    assert {each.id for each in accepted} == {"j1"}

    async def done() -> bool:
        return (await system.bus.query(GetSeen("long"))).total == 5

    await system.until(done)
    assert await value(system, "long") == 5 and RUN_COUNTS["later long"] == 1
    assert (await system.bus.query(GetSeen("long"))).order == [5]


async def test_a_rejection_that_is_passed_on_is_no_failure(system: Probe) -> None:
    with pytest.raises(HandlerFailed, match="the handler failed"):
        await system.bus.command(Forward("low", 0))
    assert issubclass(TooLow, Rejected)
