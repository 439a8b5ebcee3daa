"""The journal: conflicting commits are refused, and a handled id is found wherever it is; against a simple model."""

import asyncio
import random
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest

from runtime import NotDelivered, Options, PublishError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import STORAGE_CODES, ApiError, WrongSequence
from runtime.nats.jetstream.responses import ApiErrorBody
from runtime.nats.server import EmbeddedServer
from runtime.storage.draft import RecordTooLarge
from runtime.storage.fence import Fence
from runtime.storage.journal import Journal
from runtime.storage.key import StoredKey
from runtime.storage.record import Handled, Kind, Outgoing, Record, Unreadable, decode_record, encode_record
from runtime.storage.settlement import Conflict, NotStored, Unsettled
from runtime.storage.state import States
from runtime.storage.streams import turns_config
from runtime.storage.unreadable import UnreadableRecords
from runtime.wire import header_block
from runtime.wire.ids import derived_id, new_id
from runtime.wire.subjects import Names
from tests.support.clocks import uuid7
from tests.support.counting import Add, Count, Counter, DropCount
from tests.support.probe import running

RAW = msgspec.Raw(b'{"ok":true}')


def handled(message_id: str, at: float | None = None) -> Handled:
    return Handled(message_id, RAW, time.time() if at is None else at, "")


async def commit(journal: Journal, key: StoredKey, state: Any, *rest: Any, **options: bool) -> int:
    return await journal.commit(journal.drafts.make(key, state, encode_record(state), *rest, **options))


class Bench:
    """Makes journals over one stream."""

    def __init__(self, connection: Connection, names: Names) -> None:
        self.jetstream = JetStream(connection)
        self.names = names
        self.stored: list[int] = []

    def journal(
        self, options: Options = Options(handled=2), version: int = 1, upgrades: Any = None, fence: Fence | None = None
    ) -> Journal:
        states = States("counter", Count, version, upgrades or {})
        return Journal(
            self.jetstream,
            self.names,
            states,
            options,
            self.stored.append,
            UnreadableRecords("counts"),
            fence or Fence(),
        )

    async def record(self, token: str = "k") -> Any:
        stored = await self.jetstream.get_last(self.names.turns_stream, self.names.turn(token))
        return None if stored is None else (stored, decode_record(stored.payload, stored.subject))


@pytest.fixture
async def bench(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Bench]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        names = Names("counter", namespace)
        bench = Bench(connection, names)
        await bench.jetstream.ensure_stream(turns_config(names))
        yield bench


async def test_a_committed_record_is_loaded(bench: Bench) -> None:
    journal, key = bench.journal(), StoredKey("k", "k")
    assert await journal.load(key) is None and key.loaded and key.state is None
    outbox = [Outgoing("e1", Kind.EVENT, "Added", "k", RAW, 1.0)]
    sequence = await commit(journal, key, Count("k", 1), [handled("m1")], outbox)
    reloaded = StoredKey("k", "k")
    record = await bench.journal().load(reloaded)
    assert record is not None and [each.id for each in record.outbox] == ["e1"]
    assert (
        (reloaded.state, reloaded.sequence) == (Count("k", 1), sequence)
        and reloaded.find("m1")
        and not reloaded.find("m2")
    )


async def test_of_two_writers_one_is_refused(bench: Bench) -> None:
    one, two = bench.journal(), bench.journal()
    mine, theirs = StoredKey("k", "k"), StoredKey("k", "k")
    await one.load(mine)
    await two.load(theirs)
    await commit(one, mine, Count("k", 1), [handled("m1")], [])
    with pytest.raises(Conflict, match=r"turn\.k: another writer has committed"):
        await commit(two, theirs, Count("k", 100), [handled("m2")], [])
    await two.load(theirs)
    await commit(two, theirs, Count("k", 2), [handled("m2")], [])
    with pytest.raises(Conflict):
        await commit(one, mine, Count("k", 50), [handled("m3")], [])
    assert (await bench.record())[1].commit_id != "" and [each.id for each in (await bench.record())[1].handled] == [
        "m1",
        "m2",
    ]


async def test_a_commit_without_an_answer_is_verified(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, key = bench.journal(), StoredKey("k", "k")
    await journal.load(key)
    publish = bench.jetstream.publish

    async def lost(*args: Any, **kwargs: Any) -> Any:
        await publish(*args, **kwargs)
        raise TimeoutError

    monkeypatch.setattr(bench.jetstream, "publish", lost)
    sequence = await commit(journal, key, Count("k", 1), [handled("m1")], [])
    assert key.sequence == sequence == (await bench.record())[0].sequence

    async def never(*args: Any, **kwargs: Any) -> Any:
        raise TimeoutError

    monkeypatch.setattr(bench.jetstream, "publish", never)
    with pytest.raises(Conflict):
        await commit(journal, key, Count("k", 2), [handled("m2")], [])

    async def refused(*args: Any, **kwargs: Any) -> Any:
        raise ApiError("STREAM.MSG.GET", ApiErrorBody(503, 10008, "JetStream system temporarily unavailable"))

    for unanswered in (never, refused):
        monkeypatch.setattr(bench.jetstream, "get_last", unanswered)
        with pytest.raises(Unsettled, match="it is not known"):
            await commit(journal, key, Count("k", 2), [handled("m2")], [])


@pytest.mark.parametrize("code", STORAGE_CODES)
@pytest.mark.parametrize(("replicas", "outcome"), [(1, NotStored), (3, Unsettled), (None, Unsettled)])
async def test_a_record_that_a_leader_did_not_store_may_be_in_another_replica(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, code: int, replicas: int | None, outcome: type[Exception]
) -> None:
    journal, key, info = bench.journal(), StoredKey("k", "k"), bench.jetstream.stream_info
    await journal.load(key)

    async def full(*args: Any, **kwargs: Any) -> Any:
        raise PublishError("no space left", code)

    async def replicated(*args: Any, **kwargs: Any) -> Any:
        if replicas is None:
            raise TimeoutError
        found = await info(*args, **kwargs)
        found.config["num_replicas"] = replicas
        return found

    monkeypatch.setattr(bench.jetstream, "publish", full)
    monkeypatch.setattr(bench.jetstream, "stream_info", replicated)
    with pytest.raises(outcome):
        await commit(journal, key, Count("k", 1), [handled("m1")], [])
    assert journal.fence.settled == (outcome is NotStored)


async def test_a_commit_shows_that_the_stream_has_lost_messages(bench: Bench) -> None:
    journal, key, others = bench.journal(), StoredKey("k", "k"), StoredKey("other", "other")
    lost: list[str] = []
    journal.on_loss = lambda: lost.append("lost")
    await journal.load(key)
    for number in range(3):
        await commit(journal, key, Count("k", number), [handled(new_id())], [])
    assert not lost
    await bench.jetstream.delete_stream(bench.names.turns_stream)
    await bench.jetstream.ensure_stream(turns_config(bench.names))
    await journal.load(others)
    await commit(journal, others, Count("other", 1), [handled(new_id())], [])
    assert lost == ["lost"]


async def test_a_touch_refuses_what_was_sent_before_it(bench: Bench) -> None:
    """Whatever the record has, and also if it fills a message; only what is confirmed leaves its outbox."""
    rng = random.Random(5)
    for number in range(30):
        names = [f"e{each}" for each in range(rng.randrange(4))]
        entries = [Outgoing(name, Kind.EVENT, "Added", "k", RAW, 1.0, rng.choice(["", "t"])) for name in names]
        record = Record(
            new_id(), rng.randrange(1, 3), msgspec.Raw(b'{"name":"k","value":1}'),
            [handled(new_id()) for _ in range(rng.randrange(3))], entries, rng.choice([0.0, 5.5]),
        )  # fmt: skip
        fields = msgspec.json.decode(encode_record(record)) | {f"later{number}": [{"a": None}]}
        if number == 29:
            fields["fill"] = ""
            headers = header_block.encode([("Nats-Expected-Last-Subject-Sequence", "1")])
            room = bench.jetstream.connection.max_payload - len(headers) - len(msgspec.json.encode(fields))
            fields["fill"] = "f" * room
        subject = bench.names.turn("k")
        before = (await bench.jetstream.publish(subject, msgspec.json.encode(fields))).sequence
        journal = bench.journal(version=2, upgrades={1: lambda state: state}, fence=Fence(60))
        key = StoredKey("k", "k")
        await journal.load(key)
        assert key.loaded and not key.readable
        unconfirmed = entries if number == 29 else entries[rng.randrange(len(entries) + 1) :]
        key.outbox = deque((entry, before) for entry in unconfirmed)
        sequence = await journal.touch(key)
        stored, _ = await bench.record()
        assert key.readable and key.sequence == sequence == stored.sequence > before
        found = msgspec.json.decode(stored.payload)
        assert [entry[0] for entry in found.pop("outbox", [])] == [entry.id for entry in unconfirmed]
        fields.pop("outbox", None)
        assert found.pop("commit_id") != fields.pop("commit_id") and found == fields
        headers = header_block.encode([("Nats-Expected-Last-Subject-Sequence", str(before))])
        with pytest.raises(WrongSequence):
            await bench.jetstream.publish(subject, b"{}", headers=headers)


async def test_a_record_in_a_newer_format_is_refused_and_never_overwritten(bench: Bench) -> None:
    journal, key = bench.journal(), StoredKey("k", "k")
    await journal.load(key)
    newer = b'{"commit_id":"theirs","format":3}'
    await bench.jetstream.publish(bench.names.turn("k"), newer)
    with pytest.raises(Conflict, match="another writer has committed"):
        await commit(journal, key, Count("k", 1), [handled("m1")], [])
    with pytest.raises(NotDelivered, match="record format 3; this process knows 2"):
        await journal.load(key)
    assert not key.loaded
    stored = await bench.jetstream.get_last(bench.names.turns_stream, bench.names.turn("k"))
    assert stored is not None and stored.payload == newer


async def test_a_refused_commit_is_not_stored(bench: Bench) -> None:
    journal, key = bench.journal(), StoredKey("k", "k")
    await journal.load(key)
    with pytest.raises(
        RecordTooLarge, match=r"turn\.k: the record would have 2,000,\d+ bytes, and a message may have 1,048,\d+"
    ):
        await commit(journal, key, Count("x" * 2_000_000, 1), [handled("m1")], [])
    await bench.jetstream.delete_stream(bench.names.turns_stream)
    with pytest.raises(NotStored, match="no stream takes"):
        await commit(journal, key, Count("k", 1), [handled("m1")], [])


async def test_an_id_leaves_the_record_only_after_its_dedup_entry(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, key = bench.journal(), StoredKey("k", "k")
    await journal.load(key)
    publish = bench.jetstream.publish_callback
    held: list[Callable[[int, Exception], None]] = []

    def holding(subject: str, payload: bytes, block: bytes, callback: Callable[[int, Exception], None]) -> None:
        held.append(callback)

    monkeypatch.setattr(bench.jetstream, "publish_callback", holding)
    for number in range(6):
        await commit(journal, key, Count("k", number), [handled(f"m{number}")], [])
    assert [each.id for each in key.handled] == [f"m{number}" for number in range(6)], "no entry is confirmed"
    monkeypatch.setattr(bench.jetstream, "publish_callback", publish)
    for callback in held:
        callback(0, TimeoutError())
    async with asyncio.timeout(30):
        while len(key.handled) > 3:
            await commit(journal, key, Count("k", 9), [handled(new_id())], [])
            await asyncio.sleep(0.01)
    entry = await journal.dedup.find("k", "m0")
    assert entry is not None and bytes(entry.reply) == bytes(RAW) and await journal.dedup.find("k", "other") is None
    stored = await bench.jetstream.get_last(bench.names.turns_stream, bench.names.dedup_entry("k", "m0"))
    assert stored is not None and header_block.get(stored.headers, b"Nats-TTL") in ("86400s", "24h0m0s")
    assert stored.sequence in bench.stored


async def test_each_record_lists_what_its_key_has_handled(bench: Bench) -> None:
    """A record is written with the JSON of the one before it; messages join it, leave it, and it is loaded in between."""
    journal, key = bench.journal(), StoredKey("k", "k")
    suffixes = ["", '"', "\\", "\u0663\x7f", "/.on_paid"]
    for number in range(60):
        if number in (0, 20):
            await journal.load(key)
        reply = msgspec.Raw(encode_record("x" * (9000 if number in (30, 31) else number)))
        group = [
            Handled(f"{new_id()}{suffixes[number % 5]}", reply, time.time(), f"{number:x}{each}")
            for each in range(1 + number % 3)
        ]
        await commit(journal, key, Count("k", number), group, [])
        listed = (await bench.record())[1].handled
        assert encode_record(listed) == encode_record(key.handled) and listed[-len(group) :] == group
        assert [key.find(each.id) for each in key.handled] == list(key.handled) and key.find(new_id()) is None
    assert len(key.handled) < 100, "messages have left the record"


async def until_evicted(journal: Journal, key: StoredKey, ids: list[str]) -> None:
    """Commit until the record lists none of `ids`."""
    async with asyncio.timeout(30):
        while any(key.find(message_id) for message_id in ids):
            await commit(journal, key, Count("k", 0), [handled(new_id())], [])
            await asyncio.sleep(0.001)


async def entries_of(bench: Bench, token: str = "k") -> dict[str, int]:
    """Return the number of messages in each dedup entry of a key, by the end of its subject."""
    root = bench.names.dedup_entry(token, "")[:-1]
    found = [stored async for stored in bench.jetstream.read(bench.names.turns_stream, f"{root}>")]
    return {stored.subject.removeprefix(root): len(msgspec.json.decode(stored.payload)) for stored in found}


async def parts_of(bench: Bench, at: float) -> dict[int, int]:
    """Return the number of messages in each shared entry of the bucket of a time (Unix seconds), by part."""
    bucket = f"{int(at * 1000) // 256:x}."
    found = await entries_of(bench)
    return {int(each.removeprefix(bucket)): count for each, count in found.items() if each.startswith(bucket)}


async def test_messages_of_one_time_bucket_share_dedup_entries(bench: Bench) -> None:
    now = time.time()
    ids = [uuid7(now) for _ in range(40)]
    first, key = bench.journal(), StoredKey("k", "k")
    await first.load(key)
    for message_id in ids[:20]:
        await commit(first, key, Count("k", 0), [handled(message_id)], [])
    await until_evicted(first, key, ids[:20])
    second, key = bench.journal(), StoredKey("k", "k")  # it does not know the existing parts
    await second.load(key)
    for message_id in ids[20:]:
        await commit(second, key, Count("k", 0), [handled(message_id)], [])
    await until_evicted(second, key, ids)
    parts = await parts_of(bench, now)
    assert sorted(parts) == list(range(len(parts))) and 2 <= len(parts) <= 20 and sum(parts.values()) >= 40
    for message_id in ids:
        assert await bench.journal().dedup.find("k", message_id) is not None, message_id
    assert (
        await bench.journal().dedup.find("k", uuid7(now)) is None
        and await bench.journal().dedup.find("k", new_id()) is None
    )


async def test_a_large_group_is_written_part_by_part(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that fails is written later, and nothing else takes its place."""
    journal, key = bench.journal(), StoredKey("k", "k")
    await journal.load(key)
    publish, failed = bench.jetstream.publish_callback, False

    def failing(
        subject: str, payload: bytes, headers: bytes, callback: Callable[[int, Exception | None], None]
    ) -> None:
        nonlocal failed
        if subject.endswith(".1") and not failed:
            failed = True
            callback(0, TimeoutError())
        else:
            publish(subject, payload, headers, callback)

    monkeypatch.setattr(bench.jetstream, "publish_callback", failing)
    now = time.time()
    ids = [uuid7(now) for _ in range(200)]
    await commit(journal, key, Count("k", 0), [handled(message_id) for message_id in ids], [])
    await until_evicted(journal, key, ids)
    assert failed
    counts = list((await parts_of(bench, now)).values())
    assert counts[:2] == [64, 64] and sum(counts) >= 198 and max(counts) == 64
    for message_id in ids[:-2]:
        assert await journal.dedup.find("k", message_id) is not None


@pytest.mark.parametrize(
    ("age", "size", "shared"),
    [(0, 10, True), (0, 5_000, False), (600, 10, False), (-600, 10, False), (None, 10, False)],
)
async def test_an_old_id_or_a_large_reply_has_a_dedup_entry_of_its_own(
    bench: Bench, age: int | None, size: int, shared: bool
) -> None:
    """An old id could outlive the earlier parts of its bucket."""
    message_id = "foreign" if age is None else uuid7(time.time() - age)
    journal, key = bench.journal(Options(handled=2, remember=100)), StoredKey("k", "k")
    await journal.load(key)
    reply = msgspec.Raw(b'"%s"' % (b"x" * size))
    await commit(journal, key, Count("k", 0), [Handled(message_id, reply, time.time(), "")], [])
    await until_evicted(journal, key, [message_id])
    entry = await journal.dedup.find("k", message_id)
    assert entry is not None and bytes(entry.reply) == bytes(reply)
    own = await bench.jetstream.get_last(bench.names.turns_stream, bench.names.dedup_entry("k", message_id))
    assert (own is None) == shared
    if own is not None:
        assert header_block.get(own.headers, b"Nats-TTL") in ("100s", "1m40s")
    for subject in [subject for subject in await entries_of(bench) if "." in subject]:
        stored = await bench.jetstream.get_last(
            bench.names.turns_stream, f"{bench.names.dedup_entry('k', '')[:-1]}{subject}"
        )
        assert stored is not None and header_block.get(stored.headers, b"Nats-TTL") in ("220s", "3m40s")


@pytest.mark.parametrize(
    ("state", "outbox", "expires", "ttl"),
    [
        (Count("k"), False, False, None),
        (None, False, False, None),
        (None, True, False, None),
        (None, False, True, 60),
        (None, True, True, 60),
    ],
)
async def test_only_an_expiring_record_has_a_lifetime(
    bench: Bench, state: Any, outbox: bool, expires: bool, ttl: int | None
) -> None:
    journal, key = bench.journal(Options(remember=60)), StoredKey("k", "k")
    await journal.load(key)
    outbox_entries = [Outgoing("e1", Kind.EVENT, "Added", "k", RAW, 1.0)] if outbox else []
    await commit(journal, key, state, [handled("m1")], outbox_entries, expires=expires)
    found = header_block.get((await bench.record())[0].headers, b"Nats-TTL")
    assert found == (None if ttl is None else f"{ttl}s")


async def test_states_of_other_versions(bench: Bench) -> None:
    key = StoredKey("k", "k")
    await bench.journal(version=2).load(key)
    await commit(bench.journal(version=2), key, Count("k", 5), [], [])
    upgrades = {2: lambda old: {**old, "value": old["value"] * 10}, 3: lambda old: {**old, "name": "upgraded"}}
    newer = StoredKey("k", "k")
    await bench.journal(version=4, upgrades=upgrades).load(newer)
    assert newer.state == Count("upgraded", 50)
    for version, text in ((1, "newer version"), (5, "no upgrade leads")):
        with pytest.raises(Unreadable) as refused:
            await bench.journal(version=version, upgrades=upgrades).load(StoredKey("k", "k"))
        assert text in refused.value.reason


IDS = [
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128), version=4)),
    lambda rng: f"text {rng.random()}",
    lambda rng: new_id(),
    lambda rng: derived_id(new_id(), rng.randrange(99), "a/k", "a.B", "k"),
    lambda rng: derived_id("no time", rng.randrange(10**9), "a/k", "a.B", "k"),
    lambda rng: uuid7(time.time() + rng.uniform(-9e5, 9e5)),
]


@pytest.mark.parametrize("seed", range(6))
async def test_a_command_is_handled_once_whatever_memory_is_lost(
    nats_server: EmbeddedServer, namespace: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands with few ids are repeated while memory is lost in every possible way. Each id counts once."""
    rng = random.Random(seed)
    margin = rng.choice([0.0, 5.0])
    monkeypatch.setattr("runtime.storage.key.CLOCK_MARGIN", margin)
    monkeypatch.setattr("runtime.storage.key_dedup.CLOCK_MARGIN", margin)
    monkeypatch.setattr("runtime.storage.dedup.CLOCK_MARGIN", margin)
    monkeypatch.setattr("runtime.storage.dedup._BUCKET_MS", rng.choice([1, 256, 100_000]))
    options = {"counter": Options(handled=rng.randint(1, 4))}
    ids = [rng.choice(IDS)(rng) for _ in range(40)]
    replies: dict[tuple[str, str], Count | None] = {}
    values = {"a": 0, "b": 0}
    async with running(Counter, url=nats_server.url, namespace=namespace, options=options) as system:
        bus = system.bus

        async def send(name: str, command_id: str) -> None:
            message: Any = DropCount(name) if (known := drops.get((name, command_id))) else Add(name, 1)
            reply = await bus.retry(message, id=command_id, timeout=5)
            if (name, command_id) not in replies:
                values[name] = 0 if known else values[name] + 1
                replies[name, command_id] = None if known else Count(name, values[name])
            assert reply == replies[name, command_id], (name, command_id)

        drops = {(name, command_id): rng.random() < 0.05 for name in values for command_id in ids}
        for _ in range(250):
            name = rng.choice("ab")
            await send(name, rng.choice(ids[: rng.randint(1, 40)]))
            match rng.randrange(8) if system.is_resident("counter", name) else 7:
                case 0:
                    system.forget("counter", name)
                case 1:
                    await system.evict("counter", name)
                case 2:
                    system.forget_recent("counter", name)
                case 3 if system.dedup("counter", name):
                    await system.until_dedup_stored("counter", name)
        assert len(replies) > 40


async def test_a_burst_shares_commits_and_keeps_its_order(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, url=nats_server.url, namespace=namespace) as system:
        counts = await asyncio.gather(*(system.bus.command(Add("k", 1), timeout=20) for _ in range(250)))
        assert [count.value for count in counts] == list(range(1, 251))
        stored = await system.stored_turn("counter", "k")
        assert len(stored.payload) < 200_000 and await system.state("counter", "k") == Count("k", 250)
        assert len(await system.stored_events("counter")) == 250
