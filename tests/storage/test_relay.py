"""The relay: events of committed turns are published in the order of their key, each under one id, also after a crash."""

import asyncio
import time
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, DeclarationError, Event, HandlerFailed, command
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.responses import StoredMessage
from runtime.nats.server import EmbeddedServer
from runtime.storage.key import StoredKey
from runtime.storage.record import Kind, Outgoing, Record, encode_record
from runtime.testing import worker
from runtime.wire import header_block
from runtime.wire.ids import new_id
from tests.support.counting import Add, Added, Counter, Fail, GetSeen, Reject, Watcher
from tests.support.probe import running


def amounts(events: list[StoredMessage]) -> list[int]:
    return [msgspec.json.decode(each.payload)["by"] for each in events]


async def test_an_event_is_published_if_and_only_if_its_turn_commits(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        for message in (Add("a", 1), Reject("a"), Add("a", 2), Fail("a"), Add("a", 0), Add("a", 3)):
            await asyncio.gather(system.bus.command(message), return_exceptions=True)
        assert amounts(await system.stored_events("counter")) == [1, 2, 3]
        ids = [header_block.get(each.headers, b"ce-id") for each in await system.stored_events("counter")]
        assert len(set(ids)) == 3


async def test_the_events_of_a_key_are_published_in_order(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await asyncio.gather(*(system.bus.command(Add(f"k{n % 3}", n + 1)) for n in range(60)))
        events = await system.stored_events("counter")
        assert len(events) == 60
        for key in range(3):
            mine = [each for each in events if each.subject.endswith(f".k{key}")]
            assert amounts(mine) == sorted(amounts(mine))


async def test_events_wait_while_their_stream_is_missing(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Watcher, url=nats_server.url, namespace=namespace) as system:
        jetstream = system.jetstream
        stream = f"{namespace}-counter-events"
        info = await jetstream.stream_info(stream)
        await jetstream.delete_stream(stream)
        for n in range(1, 6):
            await system.bus.command(Add("a", n))
        relay = system.relay("counter")
        await system.until(lambda: relay.failed >= 2)
        assert relay.pending() and relay.published == 0
        await jetstream.connection.request(
            f"$JS.API.STREAM.CREATE.{stream}", msgspec.json.encode(info.config), timeout=5
        )
        assert amounts(await system.stored_events("counter")) == [1, 2, 3, 4, 5]


def outbox(*amounts: int) -> list[Outgoing]:
    return [
        Outgoing(new_id(), Kind.EVENT, "Added", "k", msgspec.Raw(msgspec.json.encode(Added("k", by))), time.time())
        for by in amounts
    ]


async def store_unpublished(jetstream: JetStream, namespace: str, key: str, *amounts: int) -> int:
    """Store the record of a turn whose process crashed before it published the events."""
    record = Record(new_id(), state=msgspec.Raw(b'{"name":"k","value":1}'), outbox=outbox(*amounts))
    return (await jetstream.publish(f"{namespace}.counter.turn.{key}", encode_record(record))).sequence


async def test_a_new_owner_publishes_the_outboxes_of_the_former_one(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Add("a", 1))
        await system.stored_events("counter")
        relay = system.relay("counter")
        position = relay.checkpoint.position
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        saved = await jetstream.get_last(f"{namespace}-counter-turns", f"{namespace}.counter.relay.checkpoint")
        assert saved is not None and int(saved.payload) >= position > 0
        await store_unpublished(jetstream, namespace, "k", 7, 8)
        last = await store_unpublished(jetstream, namespace, "idle%2Ekey", 9)
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        saved = await system.jetstream.get_last(f"{namespace}-counter-turns", f"{namespace}.counter.relay.checkpoint")
        assert saved is not None and int(saved.payload) >= last, "stored at the start: the owner may die at any time"
        events = await system.stored_events("counter")
        assert sorted(amounts(events)) == [1, 7, 8, 9] and amounts(events).index(7) < amounts(events).index(8)
        assert (await system.bus.command(Add("k", 2))).value == 3
        assert sorted(amounts(await system.stored_events("counter"))) == [1, 2, 7, 8, 9]
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        relay = system.relay("counter")
        assert relay.published == 0, "the checkpoint has moved: nothing is published again"


async def test_a_sweep_publishes_the_outbox_of_another_writer(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        relay = system.relay("counter")
        await system.bus.command(Add("a", 1))
        await store_unpublished(system.jetstream, namespace, "k", 5, 6)
        for _ in range(3):
            await relay.sweep()
        assert amounts(await system.stored_events("counter")) == [1, 5, 6]
        for _ in range(3):
            await relay.sweep()
        last = (await system.jetstream.stream_info(f"{namespace}-counter-turns")).state.last_seq
        assert relay.checkpoint.position >= last - 1, "every sequence is done, except for the checkpoint itself"
        assert amounts(await system.stored_events("counter")) == [1, 5, 6]


async def test_an_unreadable_record_does_not_stop_a_sweep(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await system.jetstream.publish(f"{namespace}.counter.turn.bad", b"not a record")
        await store_unpublished(system.jetstream, namespace, "k", 5)
        for _ in range(3):
            await system.relay("counter").sweep()
        assert amounts(await system.stored_events("counter")) == [5]


async def test_a_record_in_a_newer_format_stays_above_the_checkpoint(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        relay = system.relay("counter")
        newer = b'{"commit_id":"theirs","format":3}'
        sequence = (await system.jetstream.publish(f"{namespace}.counter.turn.newer", newer)).sequence
        await store_unpublished(system.jetstream, namespace, "k", 5)
        for _ in range(3):
            await relay.sweep()
        assert amounts(await system.stored_events("counter")) == [5]
        assert relay.checkpoint.storable == sequence - 1 < relay.checkpoint.position
        assert not relay.checkpoint.covers(sequence)
        assert caplog.text.count("record format 3; this process knows 2") == 1
        await relay.recover()
        assert relay.checkpoint.storable == sequence - 1
        # A record that is gone holds nothing back.
        await system.jetstream.purge(f"{namespace}-counter-turns", f"{namespace}.counter.turn.newer", sequence)
        await relay.sweep()
        assert relay.checkpoint.storable == relay.checkpoint.position > sequence


async def test_a_record_is_done_when_its_last_event_is_published(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        relay, jetstream, held = system.relay("counter"), system.served("counter").jetstream, []
        publish = jetstream.publish_callback

        def holding(*message: Any) -> None:
            held.append(lambda: publish(*message))

        monkeypatch.setattr(jetstream, "publish_callback", holding)
        sequence = (await jetstream.stream_info(f"{namespace}-counter-turns")).state.last_seq + 1
        relay.send(StoredKey("k", "k"), outbox(1, 2), sequence)
        for number in range(2):
            await system.until(lambda number=number: len(held) == number + 1)
            assert not relay.checkpoint.covers(sequence) and relay.pending() == {sequence}
            held[number]()
        assert amounts(await system.stored_events("counter")) == [1, 2]
        assert relay.checkpoint.covers(sequence) and not relay.pending()


async def test_the_next_record_carries_over_unpublished_events(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        await store_unpublished(system.jetstream, namespace, "k", 5, 6)
        assert (await system.bus.command(Add("k", 7))).value == 8
        assert amounts(await system.stored_events("counter")) == [5, 6, 7]


class Plan(Command[str], actor="planner", key="name"):
    name: str
    every: str = "@every 1h"
    zone: str = ""


class Done(Command[None], actor="planner", key="name", naming=False):
    name: str


class PlanMade(Event, actor="planner", key="name"):
    name: str


class Nothing(msgspec.Struct, frozen=True):
    pass


class Planner(Actor[Nothing]):
    name = "planner"

    @command
    async def plan(self, message: Plan) -> str:
        self.schedule(message.every, Done(message.name), name="plan", zone=message.zone)
        self.emit(PlanMade(message.name))
        return "planned"

    @command
    async def done(self, message: Done) -> None: ...


@pytest.mark.parametrize(
    ("every", "zone"),
    [
        ("every minute", ""),
        ("* * * * *", ""),
        ("@every soon", ""),
        ("@at 2020-01-01T00:00:00Z", ""),
        ("@daily\r\nX: y", ""),
        ("@every 1h", "Europe/Berlin"),
        ("@daily", "Berlin\r\nX: y"),
        ("@every -1s", ""),
        ("@every 10ms", ""),
        ("0 0 24 * * *", ""),
        ("0 0 0 30 2 *", ""),
        ("0 0 9 * * 7", ""),
        ("@daily", "Mars/Olympus"),
        ("", ""),
    ],
)
def test_an_invalid_schedule_is_refused_before_the_commit(every: str, zone: str) -> None:
    planner = worker(Planner, key="a")
    with pytest.raises(DeclarationError, match=r"schedule|time zone"):
        planner.schedule(every, Done("a"), name="plan", zone=zone)


@pytest.mark.parametrize("after", [-1, float("nan"), float("inf"), 1e12])
def test_a_timer_has_a_finite_time_in_the_future(after: float) -> None:
    with pytest.raises(DeclarationError, match="a timer is due"):
        worker(Planner, key="a").remind(after, Done("a"))


@pytest.mark.parametrize(("every", "zone"), [("99 * * * * *", ""), ("@daily", "Mars/Olympus"), ("@every 1ms", "")])
async def test_a_schedule_that_the_server_refuses_holds_back_and_replaces_nothing(
    nats_server: EmbeddedServer, namespace: str, every: str, zone: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The turn refuses such a schedule. The server may know fewer time zones than this machine."""
    async with running(Planner, url=nats_server.url, namespace=namespace) as system:
        assert await system.bus.command(Plan("a")) == "planned"
        await system.wait_published("planner")
        names, body = system.served("planner").names, msgspec.Raw(b'{"name":"a"}')
        waiting = await system.jetstream.get_last(names.turns_stream, names.schedule("a", "plan"))
        outbox = [
            Outgoing("bad", Kind.SCHEDULE, "Done", "a", body, time.time(), timer="plan", schedule=every, zone=zone),
            Outgoing("event", Kind.EVENT, "PlanMade", "a", body, time.time()),
        ]
        system.relay("planner").send(StoredKey("a", "a"), outbox, 99)
        assert len(await system.stored_events("planner")) == 2 and "is not set" in caplog.text
        assert waiting is not None
        assert await system.jetstream.get_last(names.turns_stream, names.schedule("a", "plan")) == waiting


async def test_an_invalid_schedule_fails_its_turn(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Planner, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(HandlerFailed):
            await system.bus.command(Plan("a", "never"))
        assert await system.bus.command(Plan("a")) == "planned"


async def test_an_event_carries_the_trace_of_its_turn(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Watcher, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Add("a", 1))

        async def seen() -> bool:
            return (await system.bus.query(GetSeen("a"))).total == 1

        await system.until(seen)
        await system.until(lambda: any(span.name.startswith("process") for span in system.tracing.finished()))
        [event] = await system.stored_events("counter")
        traceparent = header_block.get(event.headers, b"traceparent")
        spans: dict[str, Any] = {span.span_id: span for span in system.tracing.finished()}
        assert traceparent is not None
        producer = spans[traceparent.split("-")[2]]
        assert (
            producer.name == f"publish {namespace}.counter.event.added.{{key}}"
            and producer.trace_id == traceparent.split("-")[1]
        )
        consumer = next(span for span in spans.values() if span.name.startswith("process"))
        assert consumer.parent_id == producer.span_id and (producer.trace_id, producer.span_id) in consumer.links


@pytest.mark.parametrize(
    "line", [b"baggage: a=\xff\xfe", b"tracestate: \xff=1", b"baggage: " + b"k=v," * 2000, b"traceparent: \xff"]
)
async def test_invalid_trace_headers_do_not_fail_a_turn(
    nats_server: EmbeddedServer, namespace: str, line: bytes
) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        trace = (
            b"" if line.startswith(b"traceparent") else b"traceparent: 00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01\r\n"
        )
        block = b"NATS/1.0\r\n" + trace + line + b"\r\n\r\n"
        response = await system.connection.request(
            f"{namespace}.counter.command.add", b'{"name":"a"}', headers=block, timeout=5
        )
        assert response.payload == b'{"name":"a","value":1}'
        assert amounts(await system.stored_events("counter")) == [1]
