"""The fence: a commit that a former owner has sent is refused once its successor has answered, and copies learn of other writers."""

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec
import pytest

from runtime import Command, Query
from runtime.errors import DeadlineExceeded, NotDelivered, NotFound, RequestError
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import WrongSequence
from runtime.nats.server import EmbeddedServer
from tests.support.commits import replace_publish
from tests.support.counting import Add, AddTwice, Count, Counter, DropCount, GetCount, ListCounts, Reject, Wait
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Counter, url=nats_server.url, namespace=namespace) as running_system:
        yield running_system


class Held(NamedTuple):
    """A commit that has left its owner, and is held up on its way."""

    subject: Any
    payload: bytes
    headers: bytes

    async def arrive(self, jetstream: JetStream) -> int:
        """Let it arrive; return its sequence."""
        return (await jetstream.publish(self.subject, self.payload, headers=self.headers)).sequence


async def hold(system: Probe, monkeypatch: pytest.MonkeyPatch, *messages: Command[Any]) -> list[Held]:
    """Send commands, and return their commits, whose packets are held up until the test lets them arrive."""
    jetstream, held = system.served("counter").jetstream, list[Held]()
    publish = jetstream.publish

    async def holding(subject: Any, payload: bytes, *, headers: Any = None, timeout: Any = None) -> Any:
        if ".turn." not in str(subject):
            return await publish(subject, payload, headers=headers, timeout=timeout)
        held.append(Held(subject, payload, headers))
        return await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        replace_publish(patch, jetstream, holding)
        sent = [asyncio.ensure_future(system.bus.command(message, timeout=20)) for message in messages]
        await system.until(lambda: len(held) == len(messages))
        before = system.ownership("counter")
        system.crash("counter")
        for each in sent:
            with pytest.raises(DeadlineExceeded, match="the outcome is unknown"):
                await each
        await system.until(lambda: system.is_ready("counter") and system.ownership("counter") is not before)
    return held


async def value(system: Probe, name: str) -> int:
    return (await system.bus.query(GetCount(name))).value


async def listed(system: Probe) -> dict[str, int]:
    return {count.name: count.value for count in await system.bus.query(ListCounts())}


async def answer(system: Probe, message: Command[Any] | Query[Any]) -> Any:
    """Return the reply to a message, or its error."""
    send = system.bus.query if isinstance(message, Query) else system.bus.command
    try:
        return await send(message)  # type: ignore[arg-type]
    except RequestError as error:
        return error


ANSWERS: list[Command[Any] | Query[Any]] = [GetCount("k"), Add("k", 0), Reject("k"), Add("k", 5)]


@pytest.mark.parametrize("message", ANSWERS, ids=["query", "rejection", "rejected change", "commit"])
async def test_a_commit_of_a_former_owner_is_refused_after_an_answer(
    system: Probe, monkeypatch: pytest.MonkeyPatch, message: Command[Any] | Query[Any]
) -> None:
    await system.bus.command(Add("k", 1), id="first")
    (held,) = await hold(system, monkeypatch, Add("k", 100))
    await answer(system, message)
    with pytest.raises(WrongSequence):
        await held.arrive(system.jetstream)
    expected = 6 if message == Add("k", 5) else 1
    assert await value(system, "k") == expected and await listed(system) == {"k": expected}
    stored = await system.stored_turn("counter", "k")
    assert await value(system, "k") == expected and await system.stored_turn("counter", "k") == stored, (
        "one touch is enough"
    )
    assert await system.bus.command(Add("k", 1), id="first") == Count("k", 1), "handled ids are kept"


async def test_a_commit_of_a_former_owner_that_comes_first_is_seen(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["queried", "listed", "new", "rejected"]
    for name in names[:2]:
        await system.bus.command(Add(name, 1))
    held = await hold(system, monkeypatch, *(Add(name, 100) for name in names))
    with pytest.raises(NotFound):
        await value(system, "new")  # Nothing keeps a former owner from the first record of a key.
    assert isinstance(await answer(system, Add("rejected", 0)), RequestError)
    assert await listed(system) == {"queried": 1, "listed": 1}
    for each in held:
        await each.arrive(system.jetstream)
    assert await value(system, "queried") == 101 and await value(system, "new") == 100
    async with asyncio.timeout(30):
        while await listed(system) != {"queried": 101, "listed": 101, "new": 100, "rejected": 100}:
            await asyncio.sleep(0.02)
    assert len(await system.stored_events("counter")) == 6, "the new owner has published their events"


async def test_a_query_of_an_absent_key_shares_no_read_that_began_before_it(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    (held,) = await hold(system, monkeypatch, Add("k", 100))
    jetstream = system.served("counter").jetstream
    get_last, read, go_on = jetstream.get_last, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> Any:
        found = await get_last(*args, **kwargs)
        read.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(jetstream, "get_last", slow)
    early = asyncio.ensure_future(system.bus.query(GetCount("k"), timeout=20))
    await read.wait()
    await held.arrive(system.jetstream)
    later = asyncio.ensure_future(system.bus.query(GetCount("k"), timeout=20))
    await system.until(lambda: system.queries("counter", "k") == 2)
    go_on.set()
    assert (await later).value == 100
    await asyncio.gather(early, return_exceptions=True)


async def test_a_rejection_on_a_new_key_is_checked_again(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that runs on the state of an absent key, while a former owner's first record of the key is stored."""
    (held,) = await hold(system, monkeypatch, Add("a_rejection_on_a_new", 100))
    waiting = asyncio.ensure_future(system.bus.command(Wait("a_rejection_on_a_new"), timeout=20))
    await system.until(lambda: RUN_COUNTS["wait a_rejection_on_a_new"] == 1)
    rejected = asyncio.ensure_future(system.bus.command(Add("a_rejection_on_a_new", 0), timeout=20))
    await held.arrive(system.jetstream)
    assert await value(system, "a_rejection_on_a_new") == 100, "a query does not wait for the handler"
    gate("a_rejection_on_a_new").set()
    assert await waiting == 101 and RUN_COUNTS["wait a_rejection_on_a_new"] == 2
    await asyncio.gather(rejected, return_exceptions=True)
    assert await value(system, "a_rejection_on_a_new") == 101


async def test_an_own_commit_with_an_unknown_outcome_is_refused_after_a_read(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    await system.bus.command(Add("k", 1))
    await system.wait_published("counter")  # A key with an event that waits stays in memory.
    jetstream, held = system.served("counter").jetstream, list[Held]()
    publish, get_last = jetstream.publish, jetstream.get_last

    async def silent(*args: Any, **kwargs: Any) -> Any:
        raise TimeoutError

    async def holding(subject: Any, payload: bytes, *, headers: Any = None, timeout: Any = None) -> Any:
        held.append(Held(subject, payload, headers))
        raise TimeoutError

    with monkeypatch.context() as patch:
        patch.setattr("runtime.storage.settlement._VERIFY_PAUSES", (0.0,))
        replace_publish(patch, jetstream, holding)
        patch.setattr(jetstream, "get_last", silent)
        with pytest.raises(DeadlineExceeded):
            await system.bus.command(Add("k", 100))
    assert (jetstream.publish, jetstream.get_last) == (publish, get_last)
    await system.until(lambda: not system.is_resident("counter", "k"))  # The fence remembers it nevertheless.
    assert await value(system, "k") == 1
    with pytest.raises(WrongSequence):
        await held[0].arrive(system.jetstream)
    assert await value(system, "k") == 1 and await system.bus.command(Add("k", 1)) == Count("k", 2)


async def write_as_another(system: Probe, name: str, new: int) -> None:
    """Store another state of a key, as a writer does that this owner does not know of."""
    stored = await system.stored_turn("counter", name)
    assert stored is not None
    record = msgspec.json.decode(stored.payload)
    record |= {"commit_id": "another-1", "state": {"name": name, "value": new}, "outbox": []}
    await system.jetstream.publish(stored.subject, msgspec.json.encode(record))


async def test_a_copy_is_forgotten_if_another_writer_stores_a_record(system: Probe) -> None:
    """Without a fence, even beside a running handler, which then runs again."""
    for name in ("a_copy_is_forgotten_", "gone", "late"):
        await system.bus.command(Add(name, 1))
    await system.stored_events("counter")
    waiting = asyncio.ensure_future(system.bus.command(Wait("a_copy_is_forgotten_"), timeout=20))
    await system.until(lambda: RUN_COUNTS["wait a_copy_is_forgotten_"] == 1)
    await system.evict("counter", "gone")
    for name in ("a_copy_is_forgotten_", "gone", "late"):
        await write_as_another(system, name, 50)
    for _ in range(2):
        await system.relay("counter").foreign.follow()
    assert await listed(system) == dict.fromkeys(("a_copy_is_forgotten_", "gone", "late"), 50)
    assert [await value(system, name) for name in ("a_copy_is_forgotten_", "gone", "late")] == [50] * 3
    gate("a_copy_is_forgotten_").set()
    assert await waiting == 51 and RUN_COUNTS["wait a_copy_is_forgotten_"] == 2
    assert await value(system, "a_copy_is_forgotten_") == 51


async def test_an_unreadable_record_of_another_writer_hides_the_copy(system: Probe, namespace: str) -> None:
    await system.bus.command(Add("k", 1))
    newer = b'{"commit_id":"theirs","format":3}'
    await system.jetstream.publish(f"{namespace}.counter.turn.k", newer)
    for _ in range(2):
        await system.relay("counter").foreign.follow()
    with pytest.raises(NotDelivered, match="record format 3"):
        await value(system, "k")
    assert await listed(system) == {}
    stored = await system.stored_turn("counter", "k")
    assert stored is not None and stored.payload == newer


async def test_a_touch_keeps_all_of_a_record(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.bus.command(Add("k", 1), id="first")
    await hold(system, monkeypatch, Add("other", 1))
    stored = await system.stored_turn("counter", "k")
    assert stored is not None
    fields = msgspec.json.decode(stored.payload) | {"commit_id": "another-1", "added_later": [1, {"a": None}]}
    await system.jetstream.publish(stored.subject, msgspec.json.encode(fields))
    assert await value(system, "k") == 1
    touched = await system.stored_turn("counter", "k")
    assert touched is not None and touched.sequence > stored.sequence + 1
    found = msgspec.json.decode(touched.payload)
    assert found.pop("outbox", fields["outbox"]) == fields.pop("outbox")
    assert found.pop("commit_id") != fields.pop("commit_id") and found == fields


async def test_queries_and_commands_of_many_keys_agree_after_an_unclean_take_over(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Touches and commits of one key run at the same time; none of them is lost, and a key is touched once."""
    rng, names = random.Random(11), [f"k{number}" for number in range(8)]
    totals = dict.fromkeys(names, 1)
    for name in names:
        await system.bus.command(Add(name, 1))
    held = await hold(system, monkeypatch, *(Add(name, 1000) for name in names))
    late = iter(held)
    for _ in range(12):
        messages = list[Command[Any] | Query[Any]]()
        for _ in range(25):
            name = rng.choice(names)
            by = rng.randrange(3)
            messages.append(rng.choice([GetCount(name), Add(name, by), ListCounts()]))
            if messages[-1] == Add(name, by):
                totals[name] += by
        pending = [asyncio.ensure_future(answer(system, message)) for message in messages]
        if (arriving := next(late, None)) is not None:
            try:
                await arriving.arrive(system.jetstream)
                totals[str(arriving.subject).rpartition(".")[2]] += 1000
            except WrongSequence:
                pass
        await asyncio.gather(*pending)
    for name in names:
        assert await value(system, name) == totals[name]
        record = await system.record("counter", name)
        assert record is not None and bytes(record.state) == msgspec.json.encode(Count(name, totals[name]))
    assert await listed(system) == totals


async def test_a_nested_command_waits_for_the_fence(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    await system.bus.command(Add("k", 1))
    (held,) = await hold(system, monkeypatch, Add("k", 100))
    jetstream = system.served("counter").jetstream
    publish, outcomes = jetstream.publish, list[Any]()

    async def racing(subject: Any, *args: Any, **kwargs: Any) -> Any:
        if subject == held.subject.replace(".turn.k", ".turn.one"):
            try:
                outcomes.append(await publish(*held[:2], headers=held.headers))
            except WrongSequence as error:
                outcomes.append(error)
        return await publish(subject, *args, **kwargs)

    replace_publish(monkeypatch, jetstream, racing)
    assert await system.bus.command(AddTwice("k", "one", "two")) == 2
    assert isinstance(outcomes[0], WrongSequence)
    assert RUN_COUNTS["twice k"] == 1 and await value(system, "one") == 1 and await value(system, "k") == 3


async def test_nothing_is_published_or_answered_after_the_lease(system: Probe) -> None:
    """A handler that blocks the process for longer than the lease: its commit is not sent, and nothing is answered."""
    await system.bus.command(Add("nothing_is_published", 1))
    before = await system.stored_turn("counter", "nothing_is_published")
    waiting = asyncio.ensure_future(system.bus.command(Wait("nothing_is_published"), timeout=20))
    await system.until(lambda: RUN_COUNTS["wait nothing_is_published"] == 1)
    system.disown("counter")
    gate("nothing_is_published").set()
    with pytest.raises(NotDelivered, match="the service is stopping") as refused:
        await waiting
    assert refused.value.executed is False and await system.stored_turn("counter", "nothing_is_published") == before
    for message in (
        GetCount("nothing_is_published"),
        GetCount("absent"),
        ListCounts(),
        Add("nothing_is_published", 0),
        DropCount("nothing_is_published"),
    ):
        assert "the service is stopping" in str(await answer(system, message))


async def test_a_reader_is_answered_soon_if_a_touch_gets_no_answer(
    system: Probe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The touch may be stored all the same. The next reader finds out."""
    await system.bus.command(Add("k", 1))
    await hold(system, monkeypatch, Add("other", 1))
    jetstream = system.served("counter").jetstream
    publish, get_last, reads = jetstream.publish, jetstream.get_last, list[Any]()

    async def lost(*args: Any, **kwargs: Any) -> Any:
        await publish(*args, **kwargs)
        raise TimeoutError

    async def counting(*args: Any, **kwargs: Any) -> Any:
        reads.append(args)
        return await get_last(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(jetstream, "publish", lost)
        patch.setattr(jetstream, "get_last", counting)
        with pytest.raises(NotDelivered, match="cannot be touched now"):
            await value(system, "k")
    assert len(reads) == 1, "it was loaded once"
    assert await value(system, "k") == 1 and await system.bus.command(Add("k", 1)) == Count("k", 2)
