"""The start of reactions: those of the first start, added later, removed, renamed, and with another `since`."""

import random
import time
import types
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from runtime import Actor, DeclarationError, Event, Options, RetryPolicy, react
from runtime.admin.doctor import RunningService, examine
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetters
from runtime.storage.streams import events_config
from runtime.testing import worker
from runtime.wire.buckets import partition_of
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running

SEEN: dict[str, list[str]] = {}
"""The events that each reaction has handled, in order."""
FAILING: set[str] = set()


class Opened(Event, actor="door", key="key"):
    key: str
    number: int


class Closed(Event, actor="door", key="key"):
    key: str
    number: int


class Keyed(msgspec.Struct, frozen=True):
    pass


def reaction(event: type[Any], note: str, **options: Any) -> Any:
    """Return a reaction that notes its events under `note`."""

    async def handle(self: Any, event: Any) -> None:
        if note in FAILING:
            raise ValueError("on purpose")
        SEEN.setdefault(note, []).append(f"{event.key}{event.number}")

    handle.__annotations__ = {"event": event, "return": None}
    return react(**options)(handle)


def version(partitions: int, **reactions: Any) -> type[Actor[Any]]:
    """Return a version of the actor `guest` with these reactions. Without partitions, it has no state."""
    base = Actor[Keyed] if partitions else Actor
    options = Options(retry=RetryPolicy(attempts=2, first=0.01), partitions=partitions or 1)
    body = {"name": "guest", "options": options, "__module__": __name__, **reactions}
    return types.new_class("Guest", (base,), exec_body=lambda names: names.update(body))


@pytest.fixture(autouse=True)
def _clean() -> None:
    SEEN.clear()
    FAILING.clear()


@pytest.fixture(params=[1, 4, 0], ids=["keyed", "partitioned", "stateless"])
def partitions(request: pytest.FixtureRequest) -> int:
    """The partitions of the actor; 0 for an actor without state."""
    return request.param


def serve(actor: type[Actor[Any]], server: EmbeddedServer, namespace: str) -> Any:
    return running(actor, url=server.url, namespace=namespace)


async def until_seen(system: Probe, name: str, *expected: str) -> None:
    """Wait until a reaction has handled the last one of these events, and check that it has handled exactly these."""
    await system.until(lambda: SEEN.get(name, [])[-1:] == list(expected[-1:]))
    assert SEEN[name] == list(expected)


@pytest.mark.parametrize("since", ["first", "new", "time"])
async def test_a_reaction_that_is_added_later_begins_where_its_since_says(
    nats_server: EmbeddedServer, namespace: str, partitions: int, since: str
) -> None:
    first = version(partitions, on_opened=reaction(Opened, "old"))
    async with serve(first, nats_server, namespace) as system:
        for number in range(3):
            await system.bus.emit(Closed("a", number))
            await system.bus.emit(Opened("a", number))
        await until_seen(system, "old", "a0", "a1", "a2")
        second, third = [await system.jetstream.get(f"{namespace}-door-events", number) for number in (2, 3)]
        assert second is not None and third is not None
        time = datetime.fromtimestamp((second.time + third.time) / 2, UTC).isoformat()
    begin = time if since == "time" else since
    expected = {"first": ["a0", "a1", "a2"], "new": [], "time": ["a1", "a2"]}[since]
    later = version(
        partitions,
        on_opened=reaction(Opened, "old"),
        on_closed=reaction(Closed, "closed", since=begin),
        on_opened_too=reaction(Opened, "too", since=begin),
    )
    for number in (3, 4):  # A restart changes nothing.
        async with serve(later, nats_server, namespace) as system:
            await system.bus.emit(Opened("a", number))
            await system.bus.emit(Closed("a", number))
            expected = [*expected, f"a{number}"]
            await until_seen(system, "closed", *expected)
            await until_seen(system, "too", *expected)
            assert system.runner.warnings() == []
    assert SEEN["old"] == ["a0", "a1", "a2", "a3", "a4"]


@pytest.mark.parametrize("since", ["first", "new"])
async def test_a_reaction_keeps_its_place_when_it_reacts_to_more_types_or_to_fewer(
    nats_server: EmbeddedServer, namespace: str, partitions: int, since: str
) -> None:
    kinds: list[Any] = [Opened, Opened | Closed, Closed | Opened, Closed, Opened | Closed]
    expected: list[str] = []
    for turn, kind in enumerate(kinds):
        actor = version(partitions, on_closed=reaction(Closed, "x"), on_change=reaction(kind, "change", since=since))
        async with serve(actor, nats_server, namespace) as system:
            for number, event in enumerate((Opened, Closed, Opened)):
                await system.bus.emit(event("a", 10 * turn + number))
                if event is Opened or since == "first" or turn > 0:
                    expected.append(f"a{10 * turn + number}")
            if kind is Opened:
                await until_seen(system, "change", "a0", "a2")
            elif kind is not Closed:  # then the place of the other one is kept, and its events wait
                await system.until(lambda: len(SEEN["change"]) >= len(expected))
    assert sorted(SEEN["change"]) == sorted(expected)


async def test_a_reaction_to_several_types_handles_a_key_in_order_and_has_dead_letters_by_type(
    nats_server: EmbeddedServer, namespace: str, partitions: int
) -> None:
    change = reaction(Opened | Closed, "change", where={"number": [{"numeric": ["<", 5]}]}, attempts=1)
    async with serve(version(partitions, on_change=change), nats_server, namespace) as system:
        for number, event in enumerate((Opened, Closed, Closed, Opened, Closed, Opened, Closed)):
            await system.bus.emit(event("a", number))
        if partitions:
            await until_seen(system, "change", "a0", "a1", "a2", "a3", "a4")
        await system.until(lambda: len(SEEN["change"]) == 5)
        FAILING.add("change")
        await system.bus.emit(Closed("a", -1))
        await system.bus.emit(Opened("b", -2))
        letters = DeadLetters(system.jetstream, Names("guest", namespace))
        await system.until(lambda: count_letters(letters, 2))
        found = {each.failure.reaction: each.sequence async for each in letters.read()}
        assert found.keys() == {"on_change_opened", "on_change_closed"}
    FAILING.clear()
    SEEN.clear()
    # The method reacts to one type only now, and handles the dead letter of that type.
    async with serve(version(partitions, on_change=reaction(Closed, "change")), nats_server, namespace) as system:
        letters = DeadLetters(system.jetstream, Names("guest", namespace))
        assert await letters.redrive(found["on_change_closed"])
        await until_seen(system, "change", "a-1")


async def count_letters(letters: DeadLetters, count: int) -> bool:
    return len([each async for each in letters.read()]) == count


async def test_a_test_calls_a_reaction_to_several_types(partitions: int) -> None:
    guest: Any = worker(version(partitions, on_change=reaction(Opened | Closed, "change")))
    await guest.on_change(Opened("a", 1))
    await guest.on_change(Closed("b", 2))
    assert SEEN["change"] == ["a1", "b2"]


def test_a_reaction_to_several_types_is_checked_at_import() -> None:
    with pytest.raises(DeclarationError, match=r"Guest\.on_change: where\.size: Opened has no field 'size'"):
        version(1, on_change=reaction(Opened | Closed, "change", where={"size": [5]}))
    with pytest.raises(DeclarationError, match="NoneType is not a message"):
        version(1, on_change=reaction(Opened | None, "change"))
    with pytest.raises(DeclarationError, match="another reaction of 'guest' has the name 'on_change_closed'"):
        version(1, on_change=reaction(Opened | Closed, "x"), on_change_closed=reaction(Opened, "y"))


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_each_reaction_receives_each_event_once_whatever_versions_run(
    nats_server: EmbeddedServer, namespace: str, seed: int
) -> None:
    rng = random.Random(seed)
    partitions = (0, 1, 4)[seed % 3]
    kinds = {"one": Opened, "two": Closed, "three": Opened, "four": Closed}
    emitted: dict[type[Any], list[str]] = {Opened: [], Closed: []}
    received: dict[str, list[str]] = {}
    for number in range(6):
        active = rng.sample(sorted(kinds), rng.randint(1, 4))
        actor = version(partitions, **{f"on_{name}": reaction(kinds[name], name) for name in active})
        async with serve(actor, nats_server, namespace) as system:
            for event in rng.choices([Opened, Closed], k=rng.randint(1, 4)):
                key = rng.choice("ab")
                await system.bus.emit(event(key, 10 * number + len(emitted[event])))
                emitted[event].append(f"{key}{10 * number + len(emitted[event])}")
            received.update({name: list(emitted[kinds[name]]) for name in active})
            for name in active:
                await system.until(lambda name=name: len(SEEN.get(name, [])) >= len(received[name]))
        by_key = {name: {key: [each for each in got if each[0] == key] for key in "ab"} for name, got in SEEN.items()}
        assert by_key == {
            name: {key: [each for each in got if each[0] == key] for key in "ab"}
            for name, got in received.items()
            if got or name in SEEN
        }


async def test_a_renamed_method_keeps_its_place_under_the_former_name(
    nats_server: EmbeddedServer, namespace: str, partitions: int
) -> None:
    async with serve(version(partitions, on_opened=reaction(Opened, "seen")), nats_server, namespace) as system:
        await system.bus.emit(Opened("a", 1))
        await until_seen(system, "seen", "a1")
    renamed = version(partitions, greet=reaction(Opened, "seen", name="on_opened"))
    async with serve(renamed, nats_server, namespace) as system:
        await system.bus.emit(Opened("a", 2))
        await until_seen(system, "seen", "a1", "a2")
    with pytest.raises(DeclarationError, match="another reaction of 'guest' has the name 'on_opened'"):
        version(partitions, greet=reaction(Opened, "x", name="on_opened"), on_opened=reaction(Closed, "y"))


async def test_a_changed_since_is_a_warning_without_effect(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    reactions = {"on_opened": reaction(Opened, "shared"), "on_closed": reaction(Closed, "own", since="new")}
    async with serve(version(1, **reactions), nats_server, namespace) as system:
        await system.bus.emit(Opened("a", 1))
        await system.bus.emit(Closed("a", 1))
        await until_seen(system, "shared", "a1")
        await until_seen(system, "own", "a1")
    reactions = {"on_opened": reaction(Opened, "shared", since="new"), "on_closed": reaction(Closed, "own")}
    async with serve(version(1, **reactions), nats_server, namespace) as system:
        await system.bus.emit(Opened("a", 2))
        await system.bus.emit(Closed("a", 2))
        await until_seen(system, "shared", "a1", "a2")
        await until_seen(system, "own", "a1", "a2")
        texts = {
            'on_opened: since="new" has no effect: it has begun with since="first"',
            'on_closed: since="first" has no effect: it has begun with since="new"',
        }
        assert set(system.runner.warnings()) == {f"guest: {text}" for text in texts}
        assert all(text in caplog.text for text in texts) and system.runner.unready_reasons() == []
        async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
            service = RunningService("guest", commands=False, sources=frozenset({"door"}))

            async def warned() -> bool:
                found = [
                    each async for each in examine(connection, namespace=namespace, running=[service], probe=False)
                ]
                return all(any(text in each.text and each.status == "warn" for each in found) for text in texts)

            await system.until(warned)


async def test_a_reaction_of_its_own_has_dead_letters_positions_and_its_order(
    nats_server: EmbeddedServer, namespace: str, partitions: int
) -> None:
    part = f"@p4-{partition_of('a', 4)}" if partitions == 4 else ""
    stream, durable = f"{namespace}-door-events", f"guest{part}@on_closed"
    reactions = {"on_opened": reaction(Opened, "shared"), "on_closed": reaction(Closed, "own", since="new")}
    actor = version(partitions, **reactions)
    async with serve(actor, nats_server, namespace) as system:
        FAILING.add("own")
        await system.bus.emit(Closed("a", 1))

        async def dead() -> bool:
            return len(await system.stored_dead_letters("guest")) == 1

        await system.until(dead)
        FAILING.clear()
        for number in range(2, 6):
            await system.bus.emit(Closed("a", number))
        await until_seen(system, "own", "a2", "a3", "a4", "a5")
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        assert (await jetstream.consumer_info(stream, durable)).ack_floor.stream_seq == 5
        await jetstream.delete_consumer(stream, durable)  # It continues at its saved position.
        await jetstream.ensure_stream(events_config(Names("door", namespace)))
    async with serve(actor, nats_server, namespace) as system:
        await system.bus.emit(Closed("a", 6))
        await until_seen(system, "own", "a2", "a3", "a4", "a5", "a6")


@pytest.mark.parametrize("skew", [0.0, 600.0])
async def test_a_reaction_that_begins_with_new_events_keeps_those_that_come_before_the_stream_is_found(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew)  # the clock of the machine is ahead
    actor = version(0, on_opened=reaction(Opened, "new", since="new"))
    async with running(actor, url=nats_server.url, namespace=namespace, sources=()) as system:
        assert len([text for text in system.runner.warnings() if "on_opened" in text]) == 1
        await system.jetstream.ensure_stream(events_config(Names("door", namespace)))
        await system.bus.emit(Opened("a", 1))
        await until_seen(system, "new", "a1")


async def test_a_consumer_of_many_types_of_events_has_few_filters(nats_server: EmbeddedServer, namespace: str) -> None:
    kinds = [
        types.new_class(f"Kind{number}", (Opened,), {"actor": "door", "key": "key", "naming": False})
        for number in range(20)
    ]
    reactions = {f"on_{number}": reaction(kind, f"kind {number}") for number, kind in enumerate(kinds)}
    async with serve(version(2, **reactions), nats_server, namespace) as system:
        for number, kind in enumerate(kinds):
            for key in "ab":
                await system.bus.emit(kind(key, number))
        await system.bus.emit(Closed("a", 99))  # Nobody reacts to it.
        await system.until(lambda: all(len(SEEN.get(f"kind {number}", [])) == 2 for number in range(len(kinds))))

        async def idle() -> bool:
            found = await system.jetstream.consumers(f"{namespace}-door-events")
            assert {each.name for each in found} == {"guest@p2-0", "guest@p2-1"}
            assert all(len(each.config["filter_subjects"]) == 32 for each in found)
            return all(each.num_ack_pending == each.num_pending == 0 for each in found)

        await system.until(idle)
    assert len(SEEN) == len(kinds)
