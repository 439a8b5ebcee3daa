"""Replay: stored events are sent to one reaction again, in order and once in effect, whatever is killed."""

import asyncio
import contextlib
import math
import random
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import msgspec
import pytest

from runtime import Actor, DeadlineExceeded, Event, NotDelivered, Options, PublishError, clocks, react
from runtime.admin.replay import NotFound, Plan, Refused, Request, Runner, ToReaction, begin, cancel, prepare, take_over
from runtime.admin.replay.reading import Found
from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.replays import Replay, Replays
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running
from tests.support.process import ROOT, Process, running_command, stop_process
from tests.support.replayed import Books, GetPurchases, GetSeen, Mailer, Paid, Returned, Seen, Shipped, entry
from tests.support.waiting import until

FAST = 1_000_000.0
"""Events a second: no bound."""


async def plan(system: Probe, actor: str, reaction: str, name: str = "first", **others: object) -> Plan:
    """Return the plan of a replay of all events, unless `others` say otherwise."""
    request = Request(name=name, reaction=reaction, **{"since": 0.0, "rate": FAST, **others})  # type: ignore[arg-type]
    return await prepare(system.jetstream, names(system, actor), request)


async def replay(system: Probe, actor: str, reaction: str, name: str = "first", **others: object) -> Replay:
    """Run a replay to its end."""
    of = names(system, actor)
    entry = await begin(system.jetstream, of, (await plan(system, actor, reaction, name, **others)).replay)
    return await Runner(system.jetstream, ToReaction(system.jetstream, of), entry).run()


def names(system: Probe, actor: str) -> Names:
    return Names(actor, system.bus.namespace)


async def seen(system: Probe, key: str) -> list[str]:
    return list((await system.bus.query(GetSeen(key))).entries)


async def until_quiet(system: Probe, actor: str) -> None:
    """Wait until the actor has nothing on its way any more: neither events nor what is sent again."""
    of = names(system, actor)
    sources = {f"{of.stream_prefix}{each}-events" for each in ("shop", "depot")}

    async def quiet() -> bool:
        for stream in (of.dead_stream, *sources):
            if await system.jetstream.find_stream(stream) is None:
                continue
            for each in await system.jetstream.consumers(stream):
                if each.name.partition("@")[0] in (actor, "redrive") and each.num_pending + each.num_ack_pending:
                    return False
        return True

    await system.until(quiet)


async def left(system: Probe, actor: str) -> int:
    """Return the messages in the dead-letter stream of an actor."""
    return (await system.jetstream.stream_info(names(system, actor).dead_stream)).state.messages


async def test_events_are_handled_again_once_for_each_replay(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, Mailer, url=nats_server.url, namespace=namespace) as system:
        events = [Paid("a", 0), Shipped("a", 1), Paid("a", 2), Returned("a", 3), Shipped("a", 4)]
        for event in events:  # one after another, since the order of two streams is that of their times
            await system.bus.emit(event)
            await system.until(lambda each=event: _has(system, "a", entry(each)))
        await until_quiet(system, "books")
        live = await seen(system, "a")
        beside = RUN_COUNTS["beside a"], RUN_COUNTS["mail a"]
        for name in ("first", "second"):
            ended = await replay(system, "books", "on_change", name, mode="again")
            assert (ended.status, ended.sent, ended.total) == ("done", 5, 5)
            await until_quiet(system, "books")
            live += [entry(each, name) for each in events]
            assert await seen(system, "a") == live
        ended = await replay(system, "books", "on_change_shipped", "third", mode="again")
        assert ended.total == 2
        await until_quiet(system, "books")
        assert await seen(system, "a") == [*live, "Shipped 1 third", "Shipped 4 third"]
        assert (RUN_COUNTS["beside a"], RUN_COUNTS["mail a"]) == beside
        await system.until(lambda: _is_empty(system, "books"))  # what is handled is deleted


async def _has(system: Probe, key: str, text: str) -> bool:
    return text in await seen(system, key)


async def _is_empty(system: Probe, actor: str) -> bool:
    return await left(system, actor) == 0


async def test_only_what_was_not_handled_is_handled_by_the_mode_missing(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Mailer, url=nats_server.url, namespace=namespace, sources=["shop", "depot"]) as system:
        for number in range(4):
            await system.bus.emit(Paid("m", number))
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: _has(system, "m", "Paid 3"))
        await system.bus.emit(Paid("m", 4))
        await system.until(lambda: _has(system, "m", "late 4"))
        await until_quiet(system, "books")
        before = await seen(system, "m")
        assert (await replay(system, "books", "on_change", "known")).sent == 5
        await until_quiet(system, "books")
        assert await seen(system, "m") == before
        # `on_late` has begun behind the first events: they are missing.
        for name in ("filled", "filled-again"):
            assert (await replay(system, "books", "on_late", name)).sent == 5
            await until_quiet(system, "books")
            assert await seen(system, "m") == [*before, *(f"late {number}" for number in range(4))]


async def test_a_replay_without_state_is_handled_again(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Mailer, url=nats_server.url, namespace=namespace) as system:
        for number in range(3):
            await system.bus.emit(Paid("s", number))
        await system.until(lambda: RUN_COUNTS["mail s"] == 3)
        planned = await plan(system, "mailer", "on_paid")
        assert (planned.remember, planned.forgotten) == (0.0, 3)
        await replay(system, "mailer", "on_paid")
        await system.until(lambda: RUN_COUNTS["mail s"] == 6)
        await until_quiet(system, "mailer")
        assert RUN_COUNTS["mail s"] == 6


async def test_the_events_of_a_pattern_a_key_and_a_time(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        for number in range(10):
            await system.bus.emit(Paid("p", number))
            await system.bus.emit(Paid("other.key", number))
        await until_quiet(system, "books")
        stream = names(system, "shop").events_stream
        times = [each.time async for each in system.jetstream.read(stream, ">")]
        # Between two events: the server rounds the times of single messages.
        before = [times[0] - 1, *(math.fsum(pair) / 2 for pair in pairwise(times)), times[-1] + 1]
        (count,) = (await plan(system, "books", "on_large")).counts
        assert (count.event, count.stream, count.reaction) == ("shop.Paid", stream, "on_large")
        assert (count.events, count.first, count.last, count.forgotten) == (10, times[10], times[19], 0)
        (count,) = (await plan(system, "books", "on_any_paid", since=before[3], until=before[8])).counts
        assert (count.events, count.first, count.last) == (5, times[3], times[7])
        assert (await plan(system, "books", "on_any_paid", since=before[19], until=before[20])).replay.total == 1
        handled = await seen(system, "p")
        ended = await replay(system, "books", "on_large", mode="again", key="other.key", until=before[18])
        assert ended.sent == 4
        await until_quiet(system, "books")
        assert await seen(system, "p") == handled
        assert (await seen(system, "other.key"))[-4:] == [f"large {number}" for number in range(5, 9)]
        for others in ({"key": "nobody"}, {"since": before[20]}, {"until": before[0]}):
            with pytest.raises(NotFound, match=r"books.on_large: no event .*is stored in this time"):
                await plan(system, "books", "on_large", "none", **others)


async def test_the_events_that_the_actor_may_have_forgotten_are_counted(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    options = {"books": Options(remember=1, retry=msgspec.structs.replace(Books.options.retry, unserved=0.5))}
    async with running(Books, url=nats_server.url, namespace=namespace, options=options) as system:
        await system.bus.emit(Paid("f", 0))
        old = system.connection.clock.now()
        await system.until(lambda: system.connection.clock.now() > old + 1.5)
        await system.bus.emit(Paid("f", 1))
        planned = await plan(system, "books", "on_change")
        assert (planned.replay.total, planned.forgotten, planned.remember) == (2, 1, 1.0)


class Sold(Event, actor="market", key="order"):
    order: str
    number: int


class Market(Actor[Seen]):
    name = "market"
    options = Options(slow=0)

    @react(name="sold")
    async def on_sold(self, event: Sold) -> None:
        self.state = Seen((*(self.state or Seen()).entries, f"{event.number} {self.message_id}"))


async def test_events_of_other_programs_keep_their_ids(nats_server: EmbeddedServer, namespace: str) -> None:
    """One has an id of CloudEvents, one that of a message, one is in structured mode, and one has none."""
    async with running(Market, url=nats_server.url, namespace=namespace) as system:
        jetstream, of = system.jetstream, Names("market", namespace)
        structured = {"specversion": "1.0", "id": "inside", "source": "/x", "type": "market.Sold"}
        messages: list[tuple[list[tuple[str, str]], object]] = [
            ([("ce-id", "of an event")], {}),
            ([("Nats-Msg-Id", "of a message")], {}),
            ([("Content-Type", "application/cloudevents+json"), ("Dead-Id", "forged")], structured),
            ([("Actorloom-Replay", "forged")], {}),
            ([("ce-id", "x" * 256)], {}),
        ]
        for number, (headers, body) in enumerate(messages):
            data: dict[str, object] = {"order": "a", "number": number}
            payload = msgspec.json.encode({**body, "data": data} if body else data)  # type: ignore[dict-item]
            await jetstream.publish(of.event("sold", "a"), payload, headers=header_block.encode(headers))
        await until_quiet(system, "market")
        state = await _state(system, "market", "a")
        live = [text.partition(" ")[2] for text in state]
        assert live == [
            "of an event.sold", "of a message.sold", "inside.sold", f"{of.events_stream}:4.sold", f"{'x' * 256}.sold"
        ]  # fmt: skip
        await replay(system, "market", "sold", "known")
        await until_quiet(system, "market")
        assert await _state(system, "market", "a") == state
        await replay(system, "market", "sold", "fresh", mode="again")
        await until_quiet(system, "market")
        again = (await _state(system, "market", "a"))[len(live) :]
        assert [text.partition(" ")[0] for text in again] == ["0", "1", "2", "3", "4"]
        ids = {text.partition(" ")[2] for text in again}
        assert len(ids) == len(live) and not ids & set(live)
        assert await DeadLetters(jetstream, of).get(1) is None


async def _state(system: Probe, actor: str, key: str) -> list[str]:
    state = (await system.record(actor, key)).state
    return list(msgspec.json.decode(state, type=Seen).entries)


async def test_the_order_is_kept_across_events_of_all_sizes(nats_server: EmbeddedServer, namespace: str) -> None:
    """An event of the largest size does not fit one message with more headers, and travels in parts."""
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        room = 1024 * 1024
        expected: list[str] = []
        while not expected:
            with contextlib.suppress(PublishError):
                await system.bus.emit(Paid("large", 0, note="x" * room))
                expected.append("Paid 0 first")
            room -= 40
        for number in range(1, 9):
            note = "x" * room if number % 3 == 0 else ""
            await system.bus.emit(Paid("large", number, note=note))
            expected.append(f"Paid {number} first")
        await until_quiet(system, "books")
        await replay(system, "books", "on_change", mode="again")
        await until_quiet(system, "books")
        assert [text for text in await seen(system, "large") if text.endswith("first")] == expected
        await system.until(lambda: _is_empty(system, "books"))


async def test_a_replayed_event_that_fails_is_a_dead_letter_of_the_replay(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        await system.bus.emit(Paid("bad", 0, does="reject"))
        await system.bus.emit(Paid("bad", 1))
        await until_quiet(system, "books")
        await replay(system, "books", "on_change", mode="again")
        await until_quiet(system, "books")
        assert [text for text in await seen(system, "bad") if text.endswith("first")] == ["Paid 1 first"]
        (letter,) = [each async for each in DeadLetters(system.jetstream, names(system, "books")).read()]
        assert letter.headers["Actorloom-Replay"] == "first"
        assert letter.failure.attempts == 2
        assert letter.failure.stream == names(system, "shop").events_stream
        # A redriven letter of the replay is none of the events that a cancel takes back.
        ended = await cancel(system.jetstream, namespace, "first")
        assert (ended.status, ended.taken_back) == ("done", 0)


async def test_the_trace_of_the_event_goes_on(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        await system.bus.emit(Paid("t", 0))
        await until_quiet(system, "books")
        await replay(system, "books", "on_change", mode="again")
        await until_quiet(system, "books")
        spans = [span for span in system.trace_of() if span.name.startswith("process")]
        replayed = [span for span in spans if span.attributes.get("actorloom.replay") == "first"]
        (sent,) = [
            span for span in system.tracing.finished() if span.name.startswith("publish") and "paid" in span.name
        ]
        assert len(replayed) == 1
        assert {(span.trace_id, span.parent_id) for span in spans} == {(sent.trace_id, sent.span_id)}


@asynccontextmanager
async def customers(nats_server: EmbeddedServer, namespace: str) -> AsyncGenerator["Shop"]:
    """Yield a client, with events stored for 12 customers. No process runs."""
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        shop = Shop(connection, nats_server.url, namespace)
        await shop.jetstream.ensure_stream(events_config(Names("shop", namespace)))
        await shop.fill()
        yield shop


class Shop:
    """Orders of customers, and what has become of them."""

    def __init__(self, connection: Connection, url: str, namespace: str) -> None:
        self.url = url
        self.namespace = namespace
        self.jetstream = JetStream(connection)
        self.names = Names("customers", namespace)
        self.bus = Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)
        self.orders = {f"order-{number}": f"customer-{number % 5}" for number in range(12)}
        self.number = 0

    async def fill(self, count: int = 40) -> None:
        """Emit events for each order."""
        for _ in range(count):
            for order, customer in self.orders.items():
                await self.bus.emit(Paid(order, self.number, customer))
            self.number += 1

    def command(self, *arguments: str, ready: str = "ready:") -> "contextlib.AbstractAsyncContextManager[Process]":
        flags = ("--nats", self.url, "--namespace", self.namespace)
        return running_command(*arguments, *flags, cwd=ROOT, ready=ready)

    def actor(self) -> "contextlib.AbstractAsyncContextManager[Process]":
        return self.command("run", "tests.support.replayed:Customers", "--lease-ttl", "1")

    async def purchases(self) -> dict[str, list[str]]:
        """Return the entries of each customer."""
        found: dict[str, list[str]] = {}
        for customer in sorted(set(self.orders.values())):
            while customer not in found:
                with contextlib.suppress(NotDelivered, DeadlineExceeded):  # Its owner was killed just now.
                    found[customer] = list((await self.bus.query(GetPurchases(customer))).entries)
        return found

    async def until_stored(self, sequence: int) -> None:
        """Wait until so many messages were ever sent again to the actor."""
        async with asyncio.timeout(30):
            while (await self.jetstream.stream_info(self.names.dead_stream)).state.last_seq < sequence:
                await asyncio.sleep(0.01)

    async def until_all_handled(self) -> None:
        """Wait until nothing is on its way to the actor again."""
        async with asyncio.timeout(30):
            while any(
                each.num_pending + each.num_ack_pending
                for each in await self.jetstream.consumers(self.names.dead_stream)
            ):
                await asyncio.sleep(0.01)

    async def until_purchases(self, count: int) -> dict[str, list[str]]:
        """Return the entries of each customer once they are `count` together or more."""
        async with asyncio.timeout(60):
            while sum(map(len, (found := await self.purchases()).values())) < count:
                await asyncio.sleep(0.05)
        return found

    def check(self, found: dict[str, list[str]], *replays: str) -> None:
        """Check that each event is noted once, live and for each replay, and in the order of its order."""
        for order, customer in self.orders.items():
            for name in ("", *replays):
                suffix = f" {name}" if name else ""
                expected = [f"{order} Paid {number}{suffix}" for number in range(self.number)]
                width = len(expected[0].split())
                of_order = [text for text in found[customer] if text.startswith(f"{order} ")]
                noted = [text for text in of_order if len(text.split()) == width and text.endswith(suffix)]
                assert noted == expected
        assert sum(map(len, found.values())) == len(self.orders) * self.number * (1 + len(replays))


async def test_nothing_is_lost_or_doubled_if_the_command_and_the_actor_are_killed(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with customers(nats_server, namespace) as shop, contextlib.AsyncExitStack() as stack:
        total = len(shop.orders) * shop.number
        actor = await stack.enter_async_context(shop.actor())
        await shop.until_purchases(total)
        # The stream forgets message ids at once, so that only the actor can recognize what comes twice.
        info = await shop.jetstream.stream_info(shop.names.dead_stream)
        await shop.jetstream.update_stream({**info.config, "duplicate_window": 100_000_000})
        flags = ("customers.on_paid", "--since", "first", "--mode", "again", "--name", "x", "--rate", "120", "--yes")
        for number, arguments in enumerate((("start", *flags), ("resume", "x"), ("resume", "x"))):
            async with shop.command("replay", *arguments, ready="sends events") as tool:
                before = (await shop.jetstream.stream_info(shop.names.dead_stream)).state.last_seq
                await shop.until_stored(before + random.randint(50, 110))
                tool.signal(signal.SIGKILL)
                await tool.wait()
            if number == 1:
                actor.signal(signal.SIGKILL)
                await actor.wait()
                actor = await stack.enter_async_context(shop.actor())
        entry_ = await Replays(shop.jetstream, namespace).find("x")
        assert entry_ is not None and entry_.replay.status == "running" and entry_.replay.sent < total
        async with shop.command("replay", "resume", "x", ready="sends events") as tool:
            assert await tool.wait() == 0, tool.text
            assert "x: done." in tool.text
        shop.check(await shop.until_purchases(2 * total), "x")
        await shop.until_all_handled()
        sent = (await shop.jetstream.stream_info(shop.names.dead_stream)).state.last_seq
        assert sent > total, "no event was sent twice, so this test shows nothing"
        shop.check(await shop.purchases(), "x")


async def test_a_replay_goes_on_in_one_command(nats_server: EmbeddedServer, namespace: str) -> None:
    async with customers(nats_server, namespace) as shop, shop.actor():
        total = len(shop.orders) * shop.number
        await shop.until_purchases(total)
        flags = ("customers.on_paid", "--since", "first", "--mode", "again", "--name", "x", "--rate", "100", "--yes")
        async with shop.command("replay", "start", *flags, ready="sends events") as first:
            await shop.until_stored(5)
            await stop_process(first.pid)
            reached = (await shop.jetstream.stream_info(shop.names.dead_stream)).state.last_seq
            async with shop.command("replay", "resume", "x", ready="sends events") as second:
                await shop.until_stored(reached + 20)
                second.signal(signal.SIGINT)
                assert await second.wait() == 130, second.text
                assert "interrupted; go on with `actorloom replay resume x`" in second.text
            entry_ = await Replays(shop.jetstream, namespace).find("x")
            assert entry_ is not None
            stored = (await shop.jetstream.stream_info(shop.names.dead_stream)).state.last_seq
            first.signal(signal.SIGCONT)
            assert await first.wait() == 2, first.text
            assert "x: the replay x goes on in another process" in first.text
        async with shop.command("replay", "resume", "x", ready="sends events") as third:
            assert await third.wait() == 0, third.text
        shop.check(await shop.until_purchases(2 * total), "x")
        # The position was stored at the interrupt: only the event whose acknowledgement it did not wait for is sent again.
        assert 0 <= stored - entry_.replay.sent <= 1
        assert (await shop.jetstream.stream_info(shop.names.dead_stream)).state.last_seq == total


async def test_a_cancel_ends_the_command_and_takes_back_what_waits(nats_server: EmbeddedServer, namespace: str) -> None:
    options = {"books": Options(in_hand=2, slow=0)}
    async with running(Books, url=nats_server.url, namespace=namespace, options=options) as system:
        gate("cancel").set()
        for number in range(300):
            await system.bus.emit(Paid("cancel", number, does="wait"))
        await until_quiet(system, "books")
        gate("cancel").clear()
        flags = ("--since", "first", "--mode", "again", "--name", "x", "--rate", "40", "--yes")
        where = ("--nats", nats_server.url, "--namespace", namespace)
        command = ("replay", "start", "books.on_change", *flags, *where)
        async with running_command(*command, cwd=ROOT, ready="sends events") as tool:
            dead = names(system, "books").dead_stream

            async def some_wait() -> bool:
                return (await system.jetstream.stream_info(dead)).state.messages > 20

            await system.until(some_wait)
            ended = await cancel(system.jetstream, namespace, "x")
            assert await tool.wait() == 1, tool.text
            assert f"x: cancelled. {ended.sent} of 300 events were sent" in tool.text
        assert ended.status == "cancelled" and 20 < ended.sent < 300
        assert ended.taken_back == ended.sent  # those in hand, too: the gate is closed
        assert await left(system, "books") == 0
        gate("cancel").set()
        await until_quiet(system, "books")
        # Those in hand are handled all the same, in order. Behind a slow key, an actor fetches more than `in_hand`.
        again = [int(text.split()[1]) for text in await seen(system, "cancel") if text.endswith(" x")]
        assert again == sorted(set(again)) and len(again) < ended.sent, again
        with pytest.raises(Refused, match="the replay x is cancelled: it does not go on"):
            await take_over(system.jetstream, namespace, "x")
        # A cancel that was interrupted is repeated.
        assert (await cancel(system.jetstream, namespace, "x")).taken_back == ended.taken_back


async def test_a_replay_that_is_done_can_be_taken_back(nats_server: EmbeddedServer, namespace: str) -> None:
    options = {"books": Options(in_hand=1, slow=0)}
    async with running(Books, url=nats_server.url, namespace=namespace, options=options) as system:
        gate("done").set()
        for number in range(30):
            await system.bus.emit(Paid("done", number, does="wait"))
        await until_quiet(system, "books")
        gate("done").clear()
        assert (await replay(system, "books", "on_change", mode="again")).status == "done"
        assert (await replay(system, "books", "on_change", "other", mode="again")).status == "done"
        ended = await cancel(system.jetstream, namespace, "other")
        assert (ended.status, ended.sent, ended.taken_back) == ("cancelled", 30, 30)
        gate("done").set()
        await until_quiet(system, "books")
        noted = [text for text in await seen(system, "done") if len(text.split()) == 3]
        assert noted == [f"Paid {number} first" for number in range(30)]


async def test_a_replay_waits_for_the_actor(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Mailer, url=nats_server.url, namespace=namespace) as system:
        gate("full").set()
        await asyncio.gather(*(system.bus.emit(Paid("full", number, does="wait")) for number in range(2_500)))
        await system.until(lambda: RUN_COUNTS["mail full"] == 2_500)
        gate("full").clear()
        of = names(system, "mailer")
        entry_ = await begin(system.jetstream, of, (await plan(system, "mailer", "on_paid")).replay)
        reports: list[tuple[int, int]] = []
        runner = Runner(
            system.jetstream,
            ToReaction(system.jetstream, of),
            entry_,
            lambda replay, waiting: reports.append((replay.sent, waiting)),
        )
        run = asyncio.ensure_future(runner.run())
        # Two reports without progress: it stores its position each second while it waits.
        await until(lambda: len(reports) > 2 and reports[-1] == reports[-2] and reports[-1][0] > 0)
        assert 1_000 <= reports[-1][1] < 2_000 and not run.done()
        assert RUN_COUNTS["mail full"] == 2_500
        gate("full").set()
        assert (await run).sent == 2_500
        await system.until(lambda: RUN_COUNTS["mail full"] == 5_000)
        await until_quiet(system, "mailer")
        assert RUN_COUNTS["mail full"] == 5_000


class Held:
    """A way to a receiver that handles nothing until it is released."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.sent = 0
        self.held = True

    def sending(self, replay: Replay, found: Found) -> Callable[[], Awaitable[None]]:
        return self._send

    async def _send(self) -> None:
        self.sent += 1

    async def count_waiting(self) -> int:
        return self.sent if self.held else 0


@pytest.mark.parametrize("rate", [100.0, 1_000.0])
async def test_a_replay_of_any_rate_waits_for_its_receivers(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, rate: float
) -> None:
    monkeypatch.setattr("runtime.admin.replay.running._MOST_WAITING", 10)
    monkeypatch.setattr("runtime.admin.replay.running._EVERY", 0.05)
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        await asyncio.gather(*(system.bus.emit(Paid(str(number), number)) for number in range(300)))
        await until_quiet(system, "books")
        planned = await plan(system, "books", "on_change", rate=rate)
        entry_ = await begin(system.jetstream, names(system, "books"), planned.replay)
        reports: list[int] = []
        way = Held(namespace)
        runner = Runner(system.jetstream, way, entry_, lambda replay, _: reports.append(replay.sent))
        run = asyncio.ensure_future(runner.run())
        await until(lambda: run.done() or (len(reports) > 5 and reports[-1] == reports[-5] > 0))
        assert 10 <= way.sent < 300
        way.held = False
        assert (await run).sent == way.sent == 300


async def test_the_rate_is_a_bound(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        for number in range(60):
            await system.bus.emit(Paid("rate", number))
        await until_quiet(system, "books")
        began = clocks.elapsed()
        assert (await replay(system, "books", "on_change", rate=50.0)).sent == 60
        assert clocks.elapsed() - began >= 59 / 50 - 0.05


async def test_a_slow_replay_notices_its_cancel(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace) as system:
        await system.bus.emit(Paid("slow", 0))
        await system.bus.emit(Paid("slow", 1))
        of = names(system, "books")
        entry_ = await begin(system.jetstream, of, (await plan(system, "books", "on_change", rate=0.001)).replay)
        run = asyncio.ensure_future(Runner(system.jetstream, ToReaction(system.jetstream, of), entry_).run())
        dead = of.dead_stream

        async def sent() -> bool:
            return (await system.jetstream.stream_info(dead)).state.last_seq == 1

        await system.until(sent)
        await cancel(system.jetstream, namespace, "first")
        assert ((await run).status, (await run).sent) == ("cancelled", 1)


class NewMailer(Actor):
    """Another version of the mailer."""

    name = "mailer"

    @react(where={"number": [1]})
    async def on_paid(self, event: Paid) -> None:
        """Has a pattern."""

    @react
    async def on_shipped(self, event: Shipped) -> None:
        pass


async def test_versions_with_different_reactions_are_refused(nats_server: EmbeddedServer, namespace: str) -> None:
    async with (
        running(Mailer, url=nats_server.url, namespace=namespace) as system,
        running(NewMailer, url=nats_server.url, namespace=namespace, sources=["depot"]),
    ):
        await system.bus.emit(Paid("v", 1))
        await system.bus.emit(Shipped("v", 1))
        for reaction in ("on_paid", "on_shipped"):
            with pytest.raises(Refused, match=f"the processes of mailer have different reactions {reaction}: wait"):
                await plan(system, "mailer", reaction)


async def test_what_cannot_be_replayed_is_refused(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, Mailer, url=nats_server.url, namespace=namespace) as system:
        for actor, reaction, text in (
            ("bookz", "on_change", "bookz does not run"),
            ("books", "on_chance", "books has no reaction on_chance: did you mean on_change or"),
            ("books", "zzz", "books has no reaction zzz: did you mean on_any_paid or on_change or"),
            ("books", "on_change", r"books.on_change: no event is stored in this time"),
        ):
            with pytest.raises(NotFound, match=text):
                await plan(system, actor, reaction)
        await system.bus.emit(Paid("r", 0))
        planned = await plan(system, "books", "on_change")
        await begin(system.jetstream, names(system, "books"), planned.replay)
        exists = "a replay first exists: .*`actorloom replay resume first`"
        with pytest.raises(Refused, match=exists):
            await plan(system, "books", "on_change")
        with pytest.raises(Refused, match=exists):
            await begin(system.jetstream, names(system, "books"), planned.replay)
        for call in (take_over, cancel):
            with pytest.raises(NotFound, match="there is no replay second"):
                await call(system.jetstream, namespace, "second")
        await system.jetstream.delete_stream(names(system, "depot").events_stream)
        with pytest.raises(NotFound, match=r"there is no stream .*depot-events: its actor has never run here"):
            await plan(system, "books", "on_change", "third")
