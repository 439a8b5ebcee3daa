"""The watch after a death: which events run is stored, suspects run one at a time, and other keys go on."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator

import msgspec
import pytest

from runtime import Actor, Event, Options, RetryPolicy, react
from runtime.intake import alone, watch
from runtime.intake.alone import OneAtATime
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.positions import ConsumerPosition, Death, Positions
from runtime.storage.streams import events_config
from runtime.wire.cloudevents import event_headers
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running
from tests.support.waiting import until

SEEN: list[str] = []
"""The events whose handlers have begun, in order."""
HELD: dict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""Handlers of kind ``held`` end when their event is set."""
ATTEMPTS = 4


class Raised(Event, actor="alarm", key="name"):
    name: str
    number: int
    kind: str = ""

    def __post_init__(self) -> None:
        if self.kind == "unreadable":
            SEEN.append(f"read {self.label}")

    @property
    def label(self) -> str:
        return f"{self.name}{self.number}"


class Sum(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...] = ()


class Guard(Actor[Sum]):
    """Handles the events of each name in order."""

    name = "guard"
    options = Options(retry=RetryPolicy(attempts=ATTEMPTS, first=0.01, longest=0.05))

    @react
    async def on_raised(self, event: Raised) -> None:
        SEEN.append(event.label)
        match event.kind:
            case "held":
                await HELD[event.label].wait()
            case "fails" if self.attempt < ATTEMPTS:
                raise RuntimeError("fails on purpose")
            case "exits":
                raise SystemExit(3)
            case _:
                pass
        self.state = Sum((*(self.state or Sum()).numbers, event.number))


@pytest.fixture(autouse=True)
def _clean() -> None:
    SEEN.clear()
    HELD.clear()


class Scene:
    """The streams of the guard and of its source, before and while the guard runs."""

    def __init__(self, jetstream: JetStream, url: str, namespace: str) -> None:
        self.jetstream = jetstream
        self.url = url
        self.namespace = namespace
        self.names = Names("guard", namespace)
        self.source = Names("alarm", namespace)
        self.stream = self.source.events_stream
        self.positions = Positions(jetstream, self.names, 60.0, lambda sequence: None)

    async def publish(self, *events: Raised) -> None:
        """Store events. The first one has the stream sequence 1."""
        await self.jetstream.ensure_stream(events_config(self.source))
        for event in events:
            block = event_headers("alarm", "Raised", event.label, event.name, time.time()) + b"\r\n"
            subject = self.source.event("raised", event.name)
            await self.jetstream.publish(subject, msgspec.json.encode(event), headers=block)

    async def left(
        self, *events: Raised, deaths: tuple[Death, ...] = (), used: tuple[tuple[int, int], ...] = ()
    ) -> None:
        """Store events, and the position that a former owner has left, with deaths before it."""
        async with running(Guard, url=self.url, namespace=self.namespace):
            pass
        await self.publish(*events)
        position = msgspec.structs.replace(await self.position(), deaths=deaths, used=used)
        await self.positions.save(self.stream, "guard", position)

    async def position(self) -> ConsumerPosition:
        """Return the stored position."""
        position = await self.positions.load(self.stream, "guard")
        assert position is not None
        return position

    async def until_running(self, *sequences: int) -> None:
        """Return as soon as exactly these events are stored as running."""
        async with asyncio.timeout(30):
            while (
                stored := await self.positions.running(self.stream, "guard")
            ) is None or stored.sequences != sequences:
                await asyncio.sleep(0.002)


@pytest.fixture
async def scene(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Scene]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield Scene(JetStream(connection), nats_server.url, namespace)


async def numbers(system: Probe, name: str) -> tuple[int, ...]:
    state = await system.state("guard", name)
    return () if state is None else state.numbers


async def test_only_the_keys_of_suspects_wait_for_each_other(
    nats_server: EmbeddedServer, namespace: str, scene: Scene
) -> None:
    names = [("a", 1, "held"), ("b", 1, "held"), ("a", 2, ""), ("b", 2, ""), ("c", 1, ""), ("c", 2, "")]
    await scene.left(*(Raised(*each) for each in names), deaths=(Death("former", 1, 5, ((1, 2), (2, 2))),))
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: {"c1", "c2"} <= set(SEEN) and {"a1", "b1"} & set(SEEN))
        assert set(SEEN) in ({"a1", "c1", "c2"}, {"b1", "c1", "c2"}), "the suspects run one at a time, in any order"
        # Only the event that runs is stored, and none that waits in a lane.
        await scene.until_running(1)
        HELD["a1"].set()
        HELD["b1"].set()
        await system.until(lambda: len(SEEN) == 6)
        await scene.until_running()
        for name in "abc":
            assert await numbers(system, name) == (1, 2)
    assert await scene.position() == msgspec.structs.replace(await scene.position(), owner="", deaths=(), floor=6)


async def test_a_failed_suspect_does_not_run_while_it_waits_for_its_next_attempt(
    nats_server: EmbeddedServer, namespace: str, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guard, "options", Options(retry=RetryPolicy(attempts=ATTEMPTS, first=0.5, longest=0.5)))
    death = Death("former", 1, 7, tuple((sequence, 1) for sequence in range(1, 8)))
    await scene.left(*(Raised(f"f{n}-", 1, "fails") for n in range(6)), Raised("b", 1), deaths=(death,))
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: "b1" in SEEN)
        # Each failing one has had an attempt, and did not keep its turn until its next one.
        assert len(SEEN) <= 6 * (ATTEMPTS - 2) + 1
        await scene.until_running()


async def test_a_suspect_without_attempts_is_a_dead_letter_and_does_not_run(
    nats_server: EmbeddedServer, namespace: str, scene: Scene
) -> None:
    events = (Raised("a", 1, "unreadable"), Raised("a", 2), Raised("b", 1))
    SEEN.clear()
    await scene.left(*events, deaths=(Death("former", 1, 3, ((1, ATTEMPTS),)),), used=((3, ATTEMPTS - 1),))
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: {"a2", "b1"} <= set(SEEN))
        # It was not read either, since that may have ended the process.
        assert not {"a1", "read a1"} & set(SEEN) and await numbers(system, "a") == (2,)
        (letter,) = await system.stored_dead_letters("guard")
        assert b"ProcessEnded: its process ended 4 times before it was done" in (letter.headers or b"")


async def test_an_ownership_that_ends_while_its_process_lives_is_no_death(
    nats_server: EmbeddedServer, namespace: str, scene: Scene
) -> None:
    await scene.publish(Raised("a", 1, "held"), Raised("b", 1))
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: {"a1", "b1"} <= set(SEEN))
        owner = (await scene.position()).owner
        former = system.ownership("guard")
        system.crash("guard")
        await system.until(lambda: system.ownership("guard") not in (former, None))
        # Another process could be the next owner.
        async with asyncio.timeout(30):
            while not (await scene.positions.survived([owner]))[owner]:
                await asyncio.sleep(0.002)
        await system.until(lambda: SEEN.count("a1") == 2)
        assert (await scene.position()).deaths == ()
        HELD["a1"].set()


async def test_a_death_is_taken_back_as_soon_as_its_process_says_that_it_lives(
    nats_server: EmbeddedServer, namespace: str, scene: Scene
) -> None:
    events = (Raised("a", 1, "held"), Raised("b", 1, "held"))
    await scene.left(*events, deaths=(Death("former", 3, 2, ((1, 2), (2, 2))),))
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: "a1" in SEEN)
        assert (await scene.position()).deaths
        scene.positions.report_survival("former", 3)
        async with asyncio.timeout(30):
            while (await scene.position()).deaths:
                await system.consumers("guard").check()
        HELD["a1"].set()
        HELD["b1"].set()
        await system.until(lambda: "b1" in SEEN)


async def test_an_event_that_asks_for_the_end_of_its_process_keeps_its_attempts(
    nats_server: EmbeddedServer, namespace: str, scene: Scene
) -> None:
    await scene.publish(Raised("a", 1, "exits"), Raised("b", 1))
    for _ in range(ATTEMPTS):
        with contextlib.suppress(SystemExit):
            async with running(Guard, url=nats_server.url, namespace=namespace) as system:
                await system.until(lambda: "b1" in SEEN)
                await asyncio.Event().wait()
        position = await scene.position()
        assert (position.owner, position.deaths) == ("", ())
    assert SEEN.count("a1") == ATTEMPTS
    # The end of a process may have cut the commit of the other event, which then runs again.
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        assert await numbers(system, "b") == (1,)
    assert SEEN.count("a1") == ATTEMPTS


async def test_events_run_after_a_time_if_it_cannot_be_stored_that_they_run(
    nats_server: EmbeddedServer,
    namespace: str,
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(watch, "_SAVE_PAUSE", 0.01)
    await scene.left(Raised("a", 1), deaths=(Death("former", 1, 1),))
    config = {**(await scene.jetstream.stream_info(scene.names.turns_stream)).config, "max_msg_size": 20}
    body = msgspec.json.encode(config)
    answer = await scene.jetstream.connection.request(
        f"$JS.API.STREAM.UPDATE.{scene.names.turns_stream}", body, timeout=5
    )
    assert "error" not in msgspec.json.decode(answer.payload)
    async with running(Guard, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: "a1" in SEEN)
    assert sum("events run, though that cannot be stored" in each for each in caplog.messages) == 1


async def test_the_next_event_runs_beside_one_that_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "_RUN_TIMEOUT", 0.01)
    turns, resumed = OneAtATime(), list[str]()
    assert turns.enter("a", "a1", lambda: None) and turns.enter("a", "a2", lambda: None)
    assert not turns.enter("b", "b1", lambda: resumed.append("b1"))
    assert not turns.enter("c", "c1", lambda: resumed.append("c1"))
    turns.leave("a1")
    turns.leave("c1")
    assert not resumed
    await until(lambda: resumed == ["b1"])
    turns.leave("b1")
    turns.leave("a2")
    assert resumed == ["b1"] and turns.enter("d", "d1", lambda: None)


async def test_no_suspect_runs_while_others_are_read_and_that_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    turns, resumed = OneAtATime(), list[str]()
    turns.expect("reader")
    assert not turns.enter("a", "a1", lambda: resumed.append("a1"))
    turns.read("reader")
    turns.read("reader")
    assert resumed == ["a1"]
    turns.leave("a1")
    monkeypatch.setattr(alone, "_READ_TIMEOUT", 0.01)
    turns.expect("silent")
    assert not turns.enter("b", "b1", lambda: resumed.append("b1"))
    await until(lambda: resumed == ["a1", "b1"])
