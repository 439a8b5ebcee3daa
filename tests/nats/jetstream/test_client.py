"""The JetStream client: acknowledged publishes, leader reads, updates of existing streams, bulk reads, error codes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.errors import ActorError, PublishError
from runtime.nats.connection import Connection, ConnectionOptions, Response
from runtime.nats.jetstream import reader
from runtime.nats.jetstream.acks import decode_ack
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig, StreamConfig
from runtime.nats.jetstream.delivery import ack_fields
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES, ApiError, ErrorCode, StreamConflict, WrongSequence
from runtime.nats.jetstream.responses import ConsumerInfo, SequencePair
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block
from tests.chaos.servers import Servers


@pytest.fixture
async def connection(nats_server: EmbeddedServer) -> AsyncIterator[Connection]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield connection


@pytest.fixture
async def jetstream(connection: Connection) -> JetStream:
    return JetStream(connection)


@pytest.fixture
async def stream(jetstream: JetStream, namespace: str) -> str:
    await jetstream.ensure_stream(StreamConfig(name=namespace, subjects=(f"{namespace}.>",), allow_msg_ttl=True))
    return namespace


def expecting(sequence: int) -> bytes:
    return header_block.encode([("Nats-Expected-Last-Subject-Sequence", str(sequence))])


async def consumers(jetstream: JetStream, stream: str) -> list[str]:
    response = await jetstream.connection.request(f"$JS.API.CONSUMER.NAMES.{stream}", b"", timeout=5)
    return msgspec.json.decode(response.payload)["consumers"] or []


async def test_publish_is_acknowledged_with_its_sequence(jetstream: JetStream, stream: str) -> None:
    first = await jetstream.publish(f"{stream}.a", b"1")
    second = await jetstream.publish(f"{stream}.a".encode(), b"2")
    assert (first.stream, first.sequence, first.duplicate) == (stream, 1, False)
    assert second.sequence == 2


async def test_publish_with_a_known_id_is_a_duplicate(jetstream: JetStream, stream: str) -> None:
    block = header_block.encode([("Nats-Msg-Id", "one")])
    await jetstream.publish(f"{stream}.a", b"1", headers=block)
    again = await jetstream.publish(f"{stream}.a", b"1", headers=block)
    assert again.duplicate and again.sequence == 1
    assert (await jetstream.stream_info(stream)).state.messages == 1


async def test_a_stream_that_was_created_just_now_answers_each_node(tmp_path: Path) -> None:
    """Until it has a leader, and the nodes know its subjects, it answers nothing at all: each of the requests would get lost for good."""
    async with Servers(tmp_path, 3) as servers, AsyncExitStack() as stack:
        options = [ConnectionOptions(url=node.url) for node in servers.nodes]
        connections = [await stack.enter_async_context(await Connection.connect(each)) for each in options]
        clients = [JetStream(connection, timeout=600) for connection in connections]

        async def use(client: JetStream, name: str) -> int:
            await client.ensure_stream(StreamConfig(name=name, subjects=(f"{name}.*",), replicas=3))
            await client.get_last(name, f"{name}.*")
            return (await client.publish(f"{name}.x", b"", new_stream=True)).sequence

        async with asyncio.timeout(50):
            for number in range(10):
                assert sorted(await asyncio.gather(*(use(each, f"new-{number}") for each in clients))) == [1, 2, 3]


async def test_concurrent_publishes_of_one_id_are_all_acknowledged(tmp_path: Path) -> None:
    """Three replicas refuse the second message with an id until they agree on the first."""
    async with Servers(tmp_path, 3) as servers, AsyncExitStack() as stack:
        options = [ConnectionOptions(url=node.url) for node in servers.nodes]
        connections = [await stack.enter_async_context(await Connection.connect(each)) for each in options]
        publishers = [JetStream(connection) for connection in connections]
        await publishers[0].ensure_stream(StreamConfig(name="ids", subjects=("ids", "reached"), replicas=3))
        for each in publishers:
            await each.publish("reached", b"", new_stream=True)
        for number in range(20):
            block = header_block.encode([("Nats-Msg-Id", f"id{number}")])
            acks = await asyncio.gather(*(each.publish("ids", b"", headers=block) for each in publishers))
            assert {ack.sequence for ack in acks} == {number + 3 + 1}
            assert sum(not ack.duplicate for ack in acks) == 1


async def test_a_refused_sequence_stores_nothing_and_names_the_last(jetstream: JetStream, stream: str) -> None:
    await jetstream.publish(f"{stream}.a", b"1", headers=expecting(0))
    with pytest.raises(WrongSequence, match=rf"{stream}\.a was not stored: wrong last sequence") as refused:
        await jetstream.publish(f"{stream}.a", b"2", headers=expecting(0))
    assert (refused.value.last, refused.value.err_code) == (1, ErrorCode.WRONG_LAST_SEQUENCE)
    assert (await jetstream.publish(f"{stream}.a", b"2", headers=expecting(1))).sequence == 2


async def test_publishing_to_a_subject_without_a_stream_is_an_error(jetstream: JetStream, namespace: str) -> None:
    with pytest.raises(PublishError, match=rf"no stream takes {namespace}\.nowhere") as refused:
        await jetstream.publish(f"{namespace}.nowhere", b"")
    assert refused.value.err_code == 0


async def test_a_refusal_names_subject_reason_and_code(jetstream: JetStream, stream: str) -> None:
    block = header_block.encode([("Nats-Expected-Stream", "another")])
    with pytest.raises(PublishError, match=rf"{stream}\.a was not stored: expected stream does not match") as refused:
        await jetstream.publish(f"{stream}.a", b"", headers=block)
    assert refused.value.err_code == 10060


@pytest.mark.parametrize(
    ("schedule", "code"),
    [
        ([("Nats-Schedule", "every day")], ErrorCode.SCHEDULE_PATTERN_INVALID),
        ([("Nats-Schedule", "0 0 9 * * *"), ("Nats-Schedule-Time-Zone", "+1")], ErrorCode.SCHEDULE_TIME_ZONE_INVALID),
    ],
)
async def test_an_invalid_schedule_has_a_code_of_its_own(
    jetstream: JetStream, namespace: str, schedule: list[tuple[str, str]], code: ErrorCode
) -> None:
    await jetstream.ensure_stream(
        StreamConfig(name=namespace, subjects=(f"{namespace}.>",), allow_msg_schedules=True, allow_rollup_hdrs=True)
    )
    block = header_block.encode([*schedule, ("Nats-Schedule-Target", f"{namespace}.target")])
    with pytest.raises(PublishError) as refused:
        await jetstream.publish(f"{namespace}.schedule", b"", headers=block)
    assert refused.value.err_code == code and code in INVALID_SCHEDULE_CODES


async def test_deleting_an_absent_message_is_no_error(jetstream: JetStream, stream: str) -> None:
    for number in range(3):
        await jetstream.publish(f"{stream}.a", b"%d" % number)
    assert await jetstream.delete_message(stream, 2)
    assert not await jetstream.delete_message(stream, 2), "it was deleted before"
    assert not await jetstream.delete_message(stream, 9), "no message was stored there yet"
    assert [stored.sequence async for stored in jetstream.read(stream, f"{stream}.a")] == [1, 3]


async def test_a_failure_to_delete_an_existing_message_is_an_error(jetstream: JetStream, namespace: str) -> None:
    """The server uses the same code for this failure and for an absent message."""
    await jetstream.ensure_stream(StreamConfig(name=namespace, subjects=(namespace,), deny_delete=True))
    await jetstream.publish(namespace, b"")
    with pytest.raises(ApiError, match="not permitted") as refused:
        await jetstream.delete_message(namespace, 1)
    assert refused.value.err_code == ErrorCode.MESSAGE_DELETE_FAILED


async def test_publish_callback_gets_each_sequence_or_the_error(jetstream: JetStream, stream: str) -> None:
    outcomes: asyncio.Queue[tuple[int, Exception | None]] = asyncio.Queue()

    def callback(sequence: int, error: Exception | None) -> None:
        outcomes.put_nowait((sequence, error))

    for number in range(100):
        jetstream.publish_callback(f"{stream}.a", b"%d" % number, None, callback)
    assert [await outcomes.get() for _ in range(100)] == [(number, None) for number in range(1, 101)]
    jetstream.publish_callback("nowhere.at.all", b"", None, callback)
    sequence, error = await outcomes.get()
    assert sequence == 0 and isinstance(error, PublishError) and "no stream takes" in str(error)
    refused = header_block.encode([("Nats-Expected-Stream", "another")])
    jetstream.publish_callback(f"{stream}.a", b"", refused, callback)
    sequence, error = await outcomes.get()
    assert sequence == 0 and isinstance(error, PublishError) and "expected stream" in str(error)


@pytest.mark.parametrize(
    "reply", [b"+OK", b"{}", b'{"stream":', b'{"stream":"\xff"}', b'{"seq":"1"}', b"", b'{"a":' + b"[" * 100_000]
)
def test_a_reply_that_is_not_an_acknowledgement_is_a_publish_error(reply: bytes) -> None:
    with pytest.raises(PublishError, match=r"some\.subject: the reply is not a JetStream acknowledgement"):
        decode_ack(Response(None, reply), b"some.subject")


async def test_leader_reads_return_the_whole_message(jetstream: JetStream, stream: str) -> None:
    block = header_block.encode([("traceparent", "00-x")])
    before = (await jetstream.stream_info(stream)).state
    await jetstream.publish(f"{stream}.a", b"\x00\xff", headers=block)
    await jetstream.publish(f"{stream}.b", b"")
    last = await jetstream.get_last(stream, f"{stream}.a")
    assert before.messages == 0 and last is not None
    assert (last.subject, last.sequence, last.payload) == (f"{stream}.a", 1, b"\x00\xff")
    assert header_block.get(last.headers, b"traceparent") == "00-x"
    assert last.time > 0
    second = await jetstream.get(stream, 2)
    assert second is not None
    assert (second.subject, second.headers, second.payload) == (f"{stream}.b", None, b"")
    assert await jetstream.get_last(stream, f"{stream}.>") == second
    assert last.time <= second.time
    assert await jetstream.get(stream, 3) is None
    assert await jetstream.get_last(stream, f"{stream}.c") is None
    with pytest.raises(ApiError, match="stream not found") as missing:
        await jetstream.get_last("no-such-stream", "a")
    assert (missing.value.code, missing.value.err_code) == (404, ErrorCode.STREAM_NOT_FOUND)


async def test_an_account_without_jetstream_is_an_error() -> None:
    accounts = "accounts { plain: { users: [ { user: u, password: p } ] } }\nno_auth_user: u"
    async with EmbeddedServer(port=0, config=accounts) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection)
            with pytest.raises(ApiError, match=r"JetStream is not enabled|not enabled for account"):
                await jetstream.stream_info("s")
            with pytest.raises(PublishError, match="no stream takes s, or JetStream is not enabled"):
                await jetstream.publish("s", b"")


async def test_ensure_stream_widens_an_existing_stream(jetstream: JetStream, namespace: str) -> None:
    narrow = StreamConfig(name=namespace, subjects=(f"{namespace}.a",), max_age=3600 * SECOND, max_msgs_per_subject=2)
    created = await jetstream.ensure_stream(narrow)
    assert created.config["retention"] == "limits" and created.config["storage"] == "file"
    wide = StreamConfig(
        name=namespace,
        subjects=(f"{namespace}.b", f"{namespace}.a"),
        max_age=7200 * SECOND,
        max_msgs_per_subject=-1,
        duplicate_window=240 * SECOND,
        allow_msg_ttl=True,
        allow_msg_schedules=True,
        allow_rollup_hdrs=True,
        allow_direct=True,
        subject_delete_marker_ttl=60 * SECOND,
        max_msg_size=-1,
        metadata={"owner": "orders"},
    )
    widened = (await jetstream.ensure_stream(wide)).config
    assert set(widened["subjects"]) == {f"{namespace}.a", f"{namespace}.b"}
    assert (widened["max_age"], widened["max_msgs_per_subject"]) == (7200 * SECOND, -1)
    assert widened["allow_msg_ttl"] and widened["allow_msg_schedules"] and widened["metadata"]["owner"] == "orders"
    full = StreamConfig(name=f"{namespace}2", subjects=(f"{namespace}2",))
    await jetstream.ensure_stream(full)
    refusing = await jetstream.ensure_stream(msgspec.structs.replace(full, discard="new"))
    assert refusing.config["discard"] == "new"
    # Unset fields keep their values, and a repeated call changes nothing.
    await jetstream.ensure_stream(StreamConfig(name=namespace, subjects=wide.subjects))
    assert (await jetstream.ensure_stream(wide)).config == widened


@pytest.mark.parametrize(
    ("field", "wanted"),
    [
        ("max_age", {"max_age": 60 * SECOND}),
        ("max_msgs_per_subject", {"max_msgs_per_subject": 1}),
        ("storage", {"storage": "memory"}),
        ("retention", {"retention": "interest"}),
        ("discard", {"discard": "old"}),
        ("allow_msg_ttl", {"allow_msg_ttl": False}),
        ("duplicate_window", {"duplicate_window": SECOND}),
        ("subjects", {"subjects": ("elsewhere",)}),
    ],
)
async def test_ensure_stream_never_narrows(
    jetstream: JetStream, namespace: str, field: str, wanted: dict[str, object]
) -> None:
    existing = StreamConfig(
        name=namespace,
        subjects=(namespace,),
        max_age=3600 * SECOND,
        max_msgs_per_subject=2,
        allow_msg_ttl=True,
        discard="new",
    )
    before = (await jetstream.ensure_stream(existing)).config
    with pytest.raises(StreamConflict, match=f"stream {namespace} has {field} ") as conflict:
        await jetstream.ensure_stream(StreamConfig(**{"name": namespace, "subjects": (namespace,), **wanted}))
    assert (conflict.value.field, conflict.value.have) == (field, before[field])
    assert (await jetstream.stream_info(namespace)).config == before


async def test_concurrent_calls_ensure_the_same_stream(jetstream: JetStream, namespace: str) -> None:
    config = StreamConfig(name=namespace, subjects=(namespace,), max_age=SECOND * 60)
    both = await asyncio.gather(*(jetstream.ensure_stream(config) for _ in range(4)))
    assert all(info.config == both[0].config for info in both)


async def test_ensure_consumer_updates_the_fields_that_may_change(jetstream: JetStream, stream: str) -> None:
    config = ConsumerConfig(durable="c", filter_subjects=(f"{stream}.a",), ack_wait=SECOND)
    created = await jetstream.ensure_consumer(stream, config)
    assert created.config["ack_wait"] == SECOND and created.num_pending == 0
    assert (await jetstream.ensure_consumer(stream, config)).config == created.config
    wider = ConsumerConfig(
        durable="c", filter_subjects=(f"{stream}.a", f"{stream}.b"), ack_wait=2 * SECOND, max_ack_pending=5
    )
    changed = (await jetstream.ensure_consumer(stream, wider)).config
    assert (changed["ack_wait"], changed["max_ack_pending"]) == (2 * SECOND, 5)
    assert set(changed["filter_subjects"]) == {f"{stream}.a", f"{stream}.b"}
    back = (await jetstream.ensure_consumer(stream, config)).config
    assert (back["ack_wait"], back["max_ack_pending"]) == (SECOND, 5)
    kept = await jetstream.ensure_consumer(stream, ConsumerConfig(durable="c", deliver_policy="new"))
    assert kept.config["deliver_policy"] == "all"  # The start counts at the creation only.
    with pytest.raises(StreamConflict, match="consumer c has ack_policy 'explicit' but 'none'"):
        await jetstream.ensure_consumer(stream, ConsumerConfig(durable="c", ack_policy="none"))
    await jetstream.delete_consumer(stream, "c")
    with pytest.raises(ApiError, match="consumer not found"):
        await jetstream.consumer_info(stream, "c")


async def test_a_read_ends_at_the_last_message_at_its_begin(jetstream: JetStream, stream: str) -> None:
    for number in range(1, 4001):
        jetstream.connection.publish(f"{stream}.{number % 3}", b"%d" % number)
    await jetstream.publish(f"{stream}.end", b"")
    read = []
    async for stored in jetstream.read(stream, f"{stream}.1"):
        read.append(int(stored.payload))
        if len(read) == 1:
            # Stored after the read began: not part of it.
            await jetstream.publish(f"{stream}.1", b"9999")
    assert read == list(range(1, 4001, 3))
    tail = [stored async for stored in jetstream.read(stream, f"{stream}.*", start_sequence=3999)]
    assert [stored.sequence for stored in tail] == [3999, 4000, 4001, 4002]
    assert tail[0].subject == f"{stream}.{3999 % 3}" and tail[0].time > 0
    assert [stored async for stored in jetstream.read(stream, f"{stream}.none")] == []
    assert [stored async for stored in jetstream.read(stream, f"{stream}.*", start_sequence=9999)] == []
    with pytest.raises(ApiError, match="stream not found"):
        await anext(jetstream.read("no-such-stream", "a"))


async def test_a_read_ends_if_the_last_message_expires_before_it_is_pulled(connection: Connection, stream: str) -> None:
    class Expiring(JetStream):
        async def ensure_consumer(
            self, stream: str, config: ConsumerConfig, timeout: float | None = None
        ) -> ConsumerInfo:
            info = await super().ensure_consumer(stream, config, timeout)
            assert info.num_pending == 1
            await self.delete_message(stream, 1)
            return info

    jetstream = Expiring(connection, timeout=0.2)
    await jetstream.publish(f"{stream}.a", b"", timeout=5.0)
    assert [stored async for stored in jetstream.read(stream, f"{stream}.a")] == []


async def test_a_read_of_the_newest_message_of_each_subject(jetstream: JetStream, stream: str) -> None:
    for number in range(1, 2001):
        jetstream.connection.publish(f"{stream}.k.{number % 700}", b"%d" % number)
    await jetstream.publish(f"{stream}.other", b"")
    read = [stored async for stored in jetstream.read(stream, f"{stream}.k.*", last_per_subject=True)]
    assert [int(stored.payload) for stored in read] == list(range(1301, 2001))
    from_there = jetstream.read(stream, f"{stream}.k.*", last_per_subject=True, start_sequence=1991)
    assert [int(stored.payload) async for stored in from_there] == list(range(1991, 2001))
    # No consumer is left on the server.
    assert await consumers(jetstream, stream) == []


async def test_a_read_survives_the_deletion_of_its_consumer(jetstream: JetStream, stream: str) -> None:
    for number in range(1, 3000):
        jetstream.connection.publish(f"{stream}.a", b"%d" % number)
    await jetstream.publish(f"{stream}.a", b"3000")
    read = []
    async for stored in jetstream.read(stream, f"{stream}.a"):
        read.append(stored.sequence)
        if len(read) == 10:
            (consumer,) = await consumers(jetstream, stream)
            await jetstream.delete_consumer(stream, consumer)
    assert read == list(range(1, 3001))
    assert await consumers(jetstream, stream) == []


async def test_a_pass_ends_at_a_missing_delivery(jetstream: JetStream, stream: str) -> None:
    config = ConsumerConfig(durable="read-1", ack_policy="none")
    await jetstream.publish(f"{stream}.a", b"")
    reading = reader.Pass(jetstream, stream, config)
    async with reading as messages:
        assert (await anext(messages)).sequence == 1
        reading._receive(b"a", f"$JS.ACK.{stream}.read-1.1.2.2.0.5".encode(), None, b"")
        reading._receive(b"a", f"$JS.ACK.{stream}.read-1.1.4.4.0.3".encode(), None, b"")
        reading._receive(b"a", f"$JS.ACK.{stream}.read-1.1.5.5.0.2".encode(), None, b"")
        assert [stored.sequence async for stored in messages] == [2]


async def test_a_read_survives_a_restart_of_the_server(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection, timeout=2.0)
            await jetstream.ensure_stream(StreamConfig(name="s", subjects=("s",)))
            for _ in range(1499):
                connection.publish("s", b"")
            await jetstream.publish("s", b"")
            read: list[int] = []
            async for stored in jetstream.read("s", "s"):
                read.append(stored.sequence)
                if len(read) == 10:
                    server.kill()
                    await server.start()
                    await connection.wait_connected(10)
            assert read == list(range(1, 1501))


async def test_a_purge_ends_at_its_last_sequence(jetstream: JetStream, stream: str) -> None:
    for subject in "abab":
        await jetstream.publish(f"{stream}.{subject}", b"")
    await jetstream.purge(stream, f"{stream}.a", 2)
    assert [stored.sequence async for stored in jetstream.read(stream, f"{stream}.>")] == [2, 3, 4]
    await jetstream.purge(stream, f"{stream}.none", 4)
    with pytest.raises(ApiError, match="stream not found"):
        await jetstream.purge("none", "none", 1)


async def test_a_reset_starts_at_a_sequence_or_at_the_ack_floor(jetstream: JetStream, stream: str) -> None:
    with pytest.raises(ApiError, match="consumer not found"):
        await jetstream.reset_consumer(stream, "none")
    await jetstream.ensure_consumer(stream, ConsumerConfig(durable="c"))
    info = await jetstream.reset_consumer(stream, "c", 5)
    assert info.ack_floor.stream_seq == 4
    await jetstream.ensure_consumer(stream, ConsumerConfig(durable="n", deliver_policy="new"))
    assert (await jetstream.reset_consumer(stream, "n")).ack_floor.stream_seq == 0
    with pytest.raises(ApiError, match="not allowed"):
        await jetstream.reset_consumer(stream, "n", 5)


async def test_a_reset_returns_the_new_position(tmp_path: Path) -> None:
    """This holds even while nats-server writes the old position to its file: in one of eight resets here."""
    async with EmbeddedServer(port=0, store_dir=tmp_path, sync_always=True) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection)
            await jetstream.ensure_stream(StreamConfig(name="s", subjects=("s.>",)))
            for number in range(20):
                await jetstream.publish("s.a", b"%d" % number)
            for number in range(40):
                consumer, inbox, last = f"c{number}", f"_INBOX.{number}", asyncio.Event()

                def receive(_s: bytes, reply: bytes, _h: bytes | None, _p: bytes, last: asyncio.Event = last) -> None:
                    if ack_fields(reply)[1] == b"20":
                        last.set()

                await jetstream.ensure_consumer("s", ConsumerConfig(durable=consumer))
                await connection.subscribe(inbox, receive)
                next_message = f"$JS.API.CONSUMER.MSG.NEXT.s.{consumer}"
                connection.publish(next_message, b'{"batch":20}', reply=inbox.encode())
                await last.wait()
                info = await jetstream.reset_consumer("s", consumer)
                assert info.delivered == info.ack_floor == SequencePair(0, 0)


async def test_an_absent_server_is_an_error_within_the_timeout(tmp_path: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        async with await Connection.connect(ConnectionOptions(url=server.url)) as connection:
            jetstream = JetStream(connection, timeout=0.3)
            await jetstream.ensure_stream(StreamConfig(name="s", subjects=("s",)))
            server.kill()
            with pytest.raises((ActorError, TimeoutError)):
                await jetstream.publish("s", b"")
            with pytest.raises((ActorError, TimeoutError)):
                await jetstream.get_last("s", "s")


async def test_a_read_escapes_a_subject_that_is_not_utf8(jetstream: JetStream, stream: str) -> None:
    jetstream.connection.publish(f"{stream}.".encode() + b"\xff", b"odd")
    await jetstream.publish(f"{stream}.a", b"next")
    read = [(stored.subject, stored.payload) async for stored in jetstream.read(stream, f"{stream}.*")]
    assert read == [(f"{stream}.\\xff", b"odd"), (f"{stream}.a", b"next")]


async def test_all_subjects_are_found_though_the_server_sends_a_part_of_them(
    jetstream: JetStream, namespace: str
) -> None:
    await jetstream.ensure_stream(StreamConfig(name=namespace, subjects=(f"{namespace}.>",), storage="memory"))
    for number in range(100_500):
        jetstream.connection.publish(f"{namespace}.{number}", b"")
        if number % 10_000 == 0:
            await jetstream.publish(f"{namespace}.0", b"")
    last = await jetstream.publish(f"{namespace}.other.0", b"")
    assert last.sequence > 100_500
    assert len((await jetstream.stream_info(namespace, subjects=f"{namespace}.*")).state.subjects) == 100_000
    found = await jetstream.subjects(namespace, f"{namespace}.*")
    every = sorted(f"{namespace}.{number}" for number in range(100_500))
    assert sorted(found) == every

    # Those of the second part move forward if some of the first part are deleted meanwhile.
    class Deleting(JetStream):
        async def stream_info(self, *arguments: Any, offset: int = 0, **options: Any) -> Any:
            if offset:
                for subject in every[:50]:
                    await self.purge(namespace, subject, last.sequence)
            return await super().stream_info(*arguments, offset=offset, **options)

    assert set(every[50:]) <= set(await Deleting(jetstream.connection).subjects(namespace, f"{namespace}.*"))
    await jetstream.delete_stream(namespace)
