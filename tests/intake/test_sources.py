"""Reactions to streams of other actors: found and never created, waited for, and read without the right to create."""

from collections import Counter as Tally
from pathlib import Path

import msgspec
import pytest

from runtime import Actor, Command, Event, command, react
from runtime.admin.doctor import Finding, RunningService, examine
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.configs import StreamConfig
from runtime.nats.server import EmbeddedServer
from runtime.wire.subjects import Names
from tests.support.probe import running

SEEN: Tally[str] = Tally()


class Bell(msgspec.Struct, frozen=True):
    rings: int = 0


class Ring(Command[int], actor="tower", key="name"):
    name: str


class Tolled(Event, actor="tower", key="name"):
    name: str


class Answered(Event, actor="valley", key="name"):
    name: str


class Tower(Actor[Bell]):
    """Rings, and hears the answer of the valley."""

    name = "tower"

    @command
    async def ring(self, message: Ring) -> int:
        self.state = Bell((self.state or Bell()).rings + 1)
        self.emit(Tolled(message.name))
        return self.state.rings

    @react
    async def on_answered(self, event: Answered) -> None:
        SEEN[f"answered {event.name}"] += 1


class Valley(Actor[Bell]):
    """Answers the tower."""

    name = "valley"

    @react
    async def on_tolled(self, event: Tolled) -> None:
        SEEN[f"tolled {event.name}"] += 1
        self.emit(Answered(event.name))


class Listener(Actor):
    """Has no state, and hears both."""

    name = "listener"

    @react
    async def on_tolled(self, event: Tolled) -> None:
        SEEN[f"heard {event.name}"] += 1

    @react
    async def on_answered(self, event: Answered) -> None:
        SEEN[f"heard answer {event.name}"] += 1


@pytest.fixture(autouse=True)
def _clean() -> None:
    SEEN.clear()


async def diagnose(url: str, namespace: str, *running: RunningService) -> list[Finding]:
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        found = examine(connection, namespace=namespace, running=running, probe=False)
        return [finding async for finding in found if finding.subject in ("valley", "listener")]


async def test_a_reaction_waits_until_its_source_has_created_its_stream(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Valley, url=nats_server.url, namespace=namespace, sources=()) as valley:
        stream = f"{namespace}-tower-events"
        text = f"on_tolled waits: there is no stream {stream}, which tower creates when it starts"
        assert valley.runner.unready_reasons() == []
        assert valley.runner.warnings() == [f"valley: {text}"] and f"valley: {text}" in caplog.text

        async def warned() -> bool:
            findings = await diagnose(nats_server.url, namespace)
            return any(each.status == "warn" and text in each.text for each in findings)

        await valley.until(warned)
        assert await valley.jetstream.stream_names(f"{namespace}.tower.>") == []
        async with running(Tower, url=nats_server.url, namespace=namespace, sources=()) as tower:
            await tower.bus.command(Ring("a"))
            await tower.until(lambda: SEEN["answered a"])
            assert valley.runner.warnings() == []
            await valley.until(lambda: _clear(nats_server.url, namespace))
    assert (SEEN["tolled a"], SEEN["answered a"]) == (1, 1)


async def test_a_reaction_waits_for_a_source_whose_stream_an_earlier_version_has_created(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    names = Names("tower", namespace)
    old = StreamConfig(name=names.events_stream, subjects=(names.event("*", "*"),))
    async with running(Valley, url=nats_server.url, namespace=namespace, sources=()) as valley:
        await valley.jetstream.ensure_stream(old)
        await valley.until(lambda: any("`actorloom upgrade tower`" in text for text in valley.runner.warnings()))
        async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
            service = RunningService("tower", commands=False)
            found = [each async for each in examine(connection, namespace=namespace, running=[service], probe=False)]
        [failed] = [each.text for each in found if each.subject == "tower" and "upgrade tower" in each.text]
        assert names.events_stream in failed
        await valley.jetstream.delete_stream(old.name)
        async with running(Tower, url=nats_server.url, namespace=namespace, sources=()) as tower:
            await tower.bus.command(Ring("old"))
            await tower.until(lambda: SEEN["answered old"])
    assert SEEN["tolled old"] == 1


async def _clear(url: str, namespace: str) -> bool:
    return all(finding.status == "ok" for finding in await diagnose(url, namespace))


async def test_actors_of_a_cycle_find_each_other_in_one_process(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Listener, Valley, Tower, url=nats_server.url, namespace=namespace, sources=()) as system:
        assert system.runner.warnings() == [] and "waits" not in caplog.text
        await system.bus.command(Ring("b"))
        await system.until(lambda: SEEN["answered b"] and SEEN["heard b"] and SEEN["heard answer b"])


async def test_a_source_that_is_deleted_is_waited_for(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.1)
    monkeypatch.setattr("runtime.storage.streams._MISSING_PAUSES", (0.01, 0.1))
    stream = f"{namespace}-tower-events"
    async with running(Listener, url=nats_server.url, namespace=namespace) as system:
        await system.jetstream.delete_stream(stream)
        await system.until(lambda: any(stream in text for text in system.runner.warnings()))
        async with running(Tower, url=nats_server.url, namespace=namespace) as tower:
            await tower.bus.command(Ring("c"))
            await system.until(lambda: SEEN["heard c"])
        assert SEEN["heard c"] == 1


async def test_the_doctor_finds_a_missing_source_without_a_report(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Valley, url=nats_server.url, namespace=namespace, sources=()):
        pass
    service = RunningService("valley", commands=False, sources=frozenset({"tower"}))
    found = {finding.text: finding.status for finding in await diagnose(nats_server.url, namespace, service)}
    assert found[f"its reactions wait: there is no stream {namespace}-tower-events"] == "warn"


async def test_actors_run_without_the_right_to_create_on_what_exists(tmp_path: Path) -> None:
    admin = "{ user: admin, password: admin }"
    denied = [
        "$JS.API.STREAM.CREATE.>",
        "$JS.API.STREAM.UPDATE.>",
        *(f"$JS.API.CONSUMER.CREATE.*.{durable}" for durable in ("tower", "valley", "listener", "timers", "redrive")),
    ]
    subjects = ", ".join(f'"{subject}"' for subject in denied)
    user = f"{{ user: actors, password: actors, permissions: {{ publish: {{ deny: [{subjects}] }} }} }}"
    config = f"authorization {{ users: [{admin}, {user}] }}"
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=config) as server:
        address = f"127.0.0.1:{server.port}"
        async with running(Listener, Valley, Tower, url=f"nats://admin:admin@{address}", sources=()):
            pass
        async with running(Listener, Valley, Tower, url=f"nats://actors:actors@{address}", sources=()) as system:
            refused: list[Exception] = []
            system.connection.on_error.append(refused.append)
            await system.bus.command(Ring("d"))
            await system.until(lambda: SEEN["answered d"] and SEEN["heard d"] and SEEN["heard answer d"])
            assert system.runner.warnings() == []
        assert not refused
