"""Streams and consumers that somebody deletes, changes or fills: they are restored, or the actor stops with an error."""

import asyncio
import errno
import logging
import os
import resource
import subprocess
from collections import Counter as Tally
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, DeadlineExceeded, Event, NotDelivered, Options, Query, command, query, react
from runtime.errors import ActorError, PublishError
from runtime.host import checks
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.nats.jetstream.errors import ApiError, ErrorCode, StreamConflict
from runtime.nats.server import EmbeddedServer
from runtime.storage import streams
from runtime.storage.streams import OldStream, StateLost
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running

HANDLED: Tally[str] = Tally()
GATES: dict[str, asyncio.Event] = {}
"""The events for which the keeper's handler waits, by the name in the message."""
STOPPED: set[str] = set()
"""Actors that have stopped permanently."""


class Total(msgspec.Struct, frozen=True):
    sum: int = 0


class GetTotal(Query[int], actor="kiosk", key="name"):
    name: str


class Pay(Command[int], actor="kiosk", key="name"):
    name: str
    note: str = ""


class Taken(Event, actor="kiosk", key="name"):
    name: str


class Till(Actor[Total]):
    name = "kiosk"

    async def on_stop(self) -> None:
        STOPPED.add(self.name)

    @command
    async def pay(self, message: Pay) -> int:
        self.state = Total((self.state or Total()).sum + 1)
        self.emit(Taken(message.name))
        return self.state.sum

    @query
    async def get_total(self, message: GetTotal) -> int:
        return self.state.sum if self.state else 0


class Ledger(Actor[Total]):
    name = "ledger"
    options = Options(handled=2)

    async def on_stop(self) -> None:
        STOPPED.add(self.name)

    @react
    async def on_taken(self, event: Taken) -> None:
        HANDLED[event.name] += 1
        self.state = Total((self.state or Total()).sum + 1)


class GetKept(Query[int], actor="keeper", key="name"):
    name: str


class Keeper(Actor[Total]):
    name = "keeper"

    @react
    async def on_taken(self, event: Taken) -> None:
        HANDLED[event.name] += 1
        await GATES[event.name].wait()
        self.state = Total((self.state or Total()).sum + 1)

    @query
    async def get_kept(self, message: GetKept) -> int:
        return self.state.sum if self.state else 0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    HANDLED.clear()
    STOPPED.clear()
    monkeypatch.setattr(checks, "_TICK", 0.1)
    monkeypatch.setattr(streams, "_MISSING_PAUSES", (0.01, 0.1))


@pytest.fixture
async def jetstream(nats_server: EmbeddedServer) -> AsyncIterator[JetStream]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield JetStream(connection)


async def update(jetstream: JetStream, stream: str, **fields: Any) -> None:
    """Change a stream as somebody with the `nats` CLI would."""
    config = (await jetstream.stream_info(stream)).config
    payload = msgspec.json.encode({**config, **fields})
    answer = await jetstream.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", payload, timeout=5)
    assert "error" not in msgspec.json.decode(answer.payload), answer.payload


async def until_position_saved(system: Probe, name: str, names: Names, jetstream: JetStream) -> None:
    """Wait until the consumer of `name` has delivered everything, and the host has saved its position."""

    async def saved() -> bool:
        info = await jetstream.consumer_info(names.events_stream, name)
        position = system.consumers(name).positions.get(names.events_stream, name)
        return info.num_pending == 0 and position is not None and position.floor == info.delivered.stream_seq

    await system.until(saved)


async def until_restarted(system: Probe, name: str, times: int = 1) -> None:
    """Wait until the host has restarted the actor and serves it again."""
    await system.until(lambda: system.restarts(name) >= times and system.is_ready(name))


@asynccontextmanager
async def ending(
    actor: type[Actor[Any]], url: str, namespace: str, error: type[ActorError], text: str
) -> AsyncIterator[Probe]:
    """Run an actor, and expect that the block makes it stop permanently with an error that contains `text`."""
    try:
        async with running(actor, url=url, namespace=namespace, lease_ttl=1.0) as system:
            yield system
            await system.until(lambda: actor.name in STOPPED, timeout=30)
    except error as raised:
        if text not in str(raised):
            raise
    else:
        pytest.fail(f"{actor.name} has not ended")


def waiting(system: Probe) -> list[str]:
    """Return why the process is not ready, without the failure that follows the first colon."""
    return [reason.partition(":")[0] for reason in system.runner.unready_reasons()]


@pytest.mark.parametrize("actor", [Till, Ledger])  # noticed by the pull of timers; by the regular check
async def test_deleted_state_stops_the_actor_and_is_not_created_again(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, actor: type[Actor[Any]]
) -> None:
    names = Names(actor.name, namespace)
    text = "was deleted while its actor ran: its state is lost"
    async with ending(actor, nats_server.url, namespace, StateLost, text) as system:
        await jetstream.delete_stream(names.turns_stream)
        await system.until(lambda: not system.is_ready(actor.name))
        assert waiting(system) == [f"{actor.name} is starting"]
    with pytest.raises(ApiError) as missing:
        await jetstream.stream_info(names.turns_stream)
    assert missing.value.err_code == ErrorCode.STREAM_NOT_FOUND

    with pytest.raises(StateLost, match=f"{names.dead_stream} shows that this actor has run here"):
        async with running(actor, url=nats_server.url, namespace=namespace):
            pass
    await jetstream.delete_stream(names.dead_stream)  # the way to begin with no state, according to the error
    async with running(actor, url=nats_server.url, namespace=namespace):
        assert (await jetstream.stream_info(names.turns_stream)).config["name"] == names.turns_stream


async def test_a_replaced_turns_stream_stops_the_actor(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream
) -> None:
    names = Names("ledger", namespace)
    async with ending(Ledger, nats_server.url, namespace, StateLost, "its state is lost"):
        config = (await jetstream.stream_info(names.turns_stream)).config
        await jetstream.delete_stream(names.turns_stream)
        payload = msgspec.json.encode(config)
        await jetstream.connection.request(f"$JS.API.STREAM.CREATE.{names.turns_stream}", payload, timeout=5)


async def test_a_command_to_deleted_state_is_refused(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_TICK", 60.0)
    async with ending(Till, nats_server.url, namespace, StateLost, "its state is lost") as system:
        await system.bus.command(Pay("a"))
        await jetstream.delete_stream(Names("kiosk", namespace).turns_stream)
        for name in ("a", "b"):
            with pytest.raises(NotDelivered):
                await system.bus.command(Pay(name), timeout=2)


async def test_a_server_that_lost_its_storage_stops_the_actor(namespace: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    async with EmbeddedServer(port=0, store_dir=first) as server:
        async with ending(Till, server.url, namespace, StateLost, "its state is lost") as system:
            await system.bus.command(Pay("a"))
            server.kill()
            server.store_dir = second
            await server.start()


async def test_a_deleted_events_stream_is_created_again_and_logged(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names("kiosk", namespace)
    async with running(Till, Ledger, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Pay("a"))
        await system.until(lambda: HANDLED["a"] == 1)
        await jetstream.delete_stream(names.events_stream)
        await until_restarted(system, "kiosk")
        await until_restarted(system, "ledger")
        await system.bus.command(Pay("b"))
        await system.until(lambda: HANDLED["b"] == 1)
        assert await system.bus.query(GetTotal("a")) == 1 and HANDLED["a"] == 1
    logged = f"stream {names.events_stream} was deleted and is created again: its messages are lost"
    assert logged in [record.message for record in caplog.records if record.levelno == logging.ERROR]


async def test_a_deleted_consumer_continues_at_its_position(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names("kiosk", namespace)
    async with running(Ledger, url=nats_server.url, namespace=namespace) as system:
        for _ in range(20):
            await system.bus.emit(Taken("a"))
        await system.until(lambda: HANDLED["a"] == 20)
        await until_position_saved(system, "ledger", names, jetstream)
        await jetstream.delete_consumer(names.events_stream, "ledger")
        await until_restarted(system, "ledger")
        await system.bus.emit(Taken("b"))
        await system.until(lambda: HANDLED["b"] == 1)
        info = await jetstream.consumer_info(names.events_stream, "ledger")
        assert (info.delivered.consumer_seq, info.delivered.stream_seq) == (1, 21)
    assert (
        f"consumer {names.events_stream}/ledger was deleted: it is created again after sequence 20" in caplog.messages
    )
    assert HANDLED["a"] == 20


async def test_a_changed_consumer_is_restored(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names("kiosk", namespace)
    async with running(Ledger, url=nats_server.url, namespace=namespace) as system:
        info = await jetstream.consumer_info(names.events_stream, "ledger")
        config = {**info.config, "max_ack_pending": 1}
        body = {"stream_name": names.events_stream, "config": config, "action": "update"}
        await jetstream.connection.request(
            f"$JS.API.CONSUMER.CREATE.{names.events_stream}.ledger", msgspec.json.encode(body), timeout=5
        )
        await until_restarted(system, "ledger")
        assert (await jetstream.consumer_info(names.events_stream, "ledger")).config["max_ack_pending"] > 1
        await system.bus.emit(Taken("a"))
        await system.until(lambda: HANDLED["a"] == 1)
    assert any("was changed: it has" in message and "max_ack_pending" in message for message in caplog.messages)


@pytest.mark.parametrize("fields", [{"max_age": 3600 * 10**9}, {"max_msgs": 1000}, {"max_bytes": 1 << 30}])
async def test_a_limit_on_the_turns_stream_is_removed_before_it_costs_state(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, fields: dict[str, int]
) -> None:
    names = Names("kiosk", namespace)
    async with running(Till, url=nats_server.url, namespace=namespace) as system:
        await update(jetstream, names.turns_stream, **fields)
        await until_restarted(system, "kiosk")
        config = (await jetstream.stream_info(names.turns_stream)).config
        assert all(config[field] <= 0 for field in fields)
        assert await system.bus.command(Pay("a")) == 1


async def test_a_setting_that_cannot_be_restored_stops_the_actor(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream
) -> None:
    stream = Names("kiosk", namespace).events_stream
    async with ending(Till, nats_server.url, namespace, ActorError, f"stream {stream} has max_age"):
        await update(jetstream, stream, max_age=0)
    with pytest.raises(StreamConflict):
        async with running(Till, url=nats_server.url, namespace=namespace):
            pass


@pytest.mark.parametrize("kind", ["event", "dead"])
async def test_a_stream_of_an_earlier_version_is_refused_with_the_command_that_copies_it(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream, kind: str
) -> None:
    names = Names("kiosk", namespace)
    stream = names.events_stream if kind == "event" else names.dead_stream
    subjects = (names.event("*", "*") if kind == "event" else names.dead(">"), names.redrive("*", "*"))
    await jetstream.ensure_stream(streams.turns_config(names))
    await jetstream.ensure_stream(StreamConfig(name=stream, subjects=subjects[: 1 + (kind == "dead")]))
    with pytest.raises(OldStream, match=f"{stream}.*`actorloom upgrade kiosk`"):
        async with running(Till, url=nats_server.url, namespace=namespace):
            pass
    assert (await jetstream.stream_info(stream)).config.get("subject_transform") is None


async def test_events_wait_while_their_stream_is_full(
    nats_server: EmbeddedServer, namespace: str, jetstream: JetStream
) -> None:
    names = Names("kiosk", namespace)
    async with running(Till, Ledger, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Pay("a"))
        await system.until(lambda: HANDLED["a"] == 1)
        used = (await jetstream.stream_info(names.events_stream)).state.bytes
        await update(jetstream, names.events_stream, max_bytes=used + 10)
        for number in range(5):
            assert await system.bus.command(Pay("a")) == number + 2
        relay = system.relay("kiosk")
        await system.until(lambda: relay.failed > 2)
        assert HANDLED["a"] == 1
        await update(jetstream, names.events_stream, max_bytes=-1)
        await system.until(lambda: HANDLED["a"] == 6)


async def test_turns_are_refused_while_the_account_is_full(namespace: str, tmp_path: Path) -> None:
    config = "accounts { A { jetstream { max_file: 200KB }, users: [{ user: a, password: a }] } }\nno_auth_user: a"
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=config) as server:
        async with running(Till, url=server.url, namespace=namespace) as system:
            jetstream = JetStream(system.connection)
            filler = StreamConfig(name="filler", subjects=("filler",))
            await jetstream.ensure_stream(filler)
            await system.bus.command(Pay("a"))
            with pytest.raises(PublishError, match="resource limits exceeded"):
                await _repeat(lambda: jetstream.publish("filler", b"x" * 10_000))
            with pytest.raises(NotDelivered, match="could not store its turn") as refused:
                await _repeat(lambda: system.bus.command(Pay("a"), timeout=3))
            assert refused.value.executed is False
            before = await system.bus.query(GetTotal("a"))
            await jetstream.delete_stream("filler")
            assert await system.bus.command(Pay("a")) == before + 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system that a test may fill."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if _mount("-t", "tmpfs", "-o", "size=32m", "tmpfs", str(disk)).returncode:
        pytest.skip("mounting a file system is not permitted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_full_disk_takes_the_actor_out_of_service(namespace: str, small_disk: Path) -> None:
    async with EmbeddedServer(port=0, store_dir=small_disk / "nats") as server:
        async with running(Till, url=server.url, namespace=namespace, lease_ttl=1.0) as system:
            _fill(small_disk / "filler")
            # Commits that fit into open blocks are still stored. The outcome of the others is unknown.
            with pytest.raises((DeadlineExceeded, NotDelivered)):
                await _repeat(lambda: system.bus.command(Pay("a", "x" * 1000), timeout=1))
            await system.until(lambda: not system.is_ready("kiosk"), timeout=30)
            assert waiting(system) == ["kiosk is starting"]

            # nats-server gives up a stream that it could not write. Even with room again, it must be restarted.
            (small_disk / "filler").unlink()
            server.kill()
            await server.start()
            await system.until_ready("kiosk", timeout=30)
            before = await system.bus.query(GetTotal("a"))
            assert await system.bus.command(Pay("a"), timeout=5) == before + 1


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="the limits of another process are changed on Linux only")
async def test_a_disk_that_refuses_writes_ends_service_and_loses_nothing(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As if the file system had become read-only: no file of nats-server can grow, even if it is open."""
    GATES["a"] = asyncio.Event()
    log = tmp_path / "nats-server.log"
    async with (
        EmbeddedServer(port=0, store_dir=tmp_path) as server,
        running(Till, Keeper, url=server.url, namespace=namespace, lease_ttl=2.0) as system,
    ):
        both = ("kiosk", "keeper")
        for name in both:
            system.served(name).jetstream.timeout = 0.3  # so that a commit times out before the lease expires
        replies = [await system.bus.command(Pay("a"), id=f"before-{number}") for number in range(3)]
        # The first reaction runs; its commit comes when the disk refuses writes.
        await system.until(lambda: HANDLED["a"] == 1)
        normal = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, normal[1]))
        GATES["a"].set()
        unknown: list[str] = []
        while any(system.is_ready(name) for name in both):
            command_id = f"during-{len(unknown)}"
            with pytest.raises((DeadlineExceeded, NotDelivered)) as refused:
                await system.bus.command(Pay("a"), id=command_id, timeout=1)
            if refused.value.executed is not False:
                unknown.append(command_id)
        assert waiting(system) == ["kiosk is starting", "keeper is starting"]
        logged = {f"{name}: back to standby: {name}: the lease was lost" for name in both}
        await system.until(lambda: logged <= set(caplog.messages))
        with pytest.raises(NotDelivered):
            await system.bus.command(Pay("a"), timeout=1)

        # nats-server logs the reason, gives up the streams that it could not write, and must be restarted.
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, normal)
        await system.until(lambda: "failed to store a msg" in log.read_text(), timeout=30)
        assert not any(system.is_ready(name) for name in both)
        server.kill()
        await server.start()
        for name in both:
            await system.until_ready(name, timeout=30)
        assert unknown, "a command was under way"
        replies += [await system.bus.command(Pay("a"), id=command_id, timeout=5) for command_id in unknown]
        assert sorted(replies) == list(range(1, len(replies) + 1)), (
            "each command had an effect once, and no refused one had any"
        )
        assert await system.bus.query(GetTotal("a")) == len(replies)

        async def kept() -> bool:
            return await system.bus.query(GetKept("a")) >= len(replies)

        await system.until(kept, timeout=30)
        assert await system.bus.query(GetKept("a")) == len(replies)


def _mount(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(["mount", *arguments], capture_output=True, check=False)


def _fill(file: Path) -> None:
    descriptor = os.open(file, os.O_CREAT | os.O_WRONLY)
    try:
        while True:
            os.write(descriptor, b"x" * 4096)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


async def _repeat(act: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(30):
        while True:
            await act()


async def test_a_restart_of_the_server_does_not_look_like_a_changed_consumer(namespace: str, tmp_path: Path) -> None:
    """The first answer of nats-server 2.15.1 to a creation after a restart has a wrong creation time."""
    server = EmbeddedServer(port=0, store_dir=tmp_path)
    await server.start()
    try:
        async with running(Till, url=server.url, namespace=namespace) as system:
            await system.bus.command(Pay("a"))
        server.kill()
        await server.start()
        async with running(Till, url=server.url, namespace=namespace) as system:
            await system.consumers("kiosk").check()
            assert await system.bus.query(GetTotal("a")) == 1
    finally:
        await server.stop()
