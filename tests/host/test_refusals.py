"""Permissions that are revoked and given back while actors run: each is seen, named, and healed. A real server reloads them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from runtime import Actor, Bus, Command, Event, Options, Query, RequestError, command, connect, query, react
from runtime.admin.doctor import examine
from runtime.backoff import Backoff
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from runtime.wire.buckets import partition_of
from tests.support.probe import running
from tests.support.process import running_command
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]
SEEN: set[str] = set()


class Shelf(msgspec.Struct, frozen=True):
    items: int = 0


class GetItems(Query[int], actor="shelf", key="name"):
    name: str


class PutItem(Command[int], actor="shelf", key="name"):
    name: str
    note: str = ""


class ItemPut(Event, actor="shelf", key="name"):
    name: str
    note: str


class Shelf_(Actor[Shelf]):
    name = "shelf"

    @query
    async def get_items(self, message: GetItems) -> int:
        return self.state.items if self.state else 0

    @command
    async def put_item(self, message: PutItem) -> int:
        self.state = Shelf((self.state or Shelf()).items + 1)
        self.emit(ItemPut(message.name, message.note))
        return self.state.items

    @react
    async def on_item_put(self, event: ItemPut) -> None:
        SEEN.add(event.note)


class Guarded:
    """A nats-server whose user `actors` loses and gets back permissions."""

    def __init__(self, directory: Path) -> None:
        self._users = directory / "users.conf"
        self._log = directory / "nats-server.log"
        self._write("", "")
        self.server = EmbeddedServer(port=0, store_dir=directory, config="include './users.conf'")

    @property
    def url(self) -> str:
        """The URL of the restricted user."""
        return f"nats://actors:actors@127.0.0.1:{self.server.port}"

    @property
    def admin(self) -> str:
        """The URL of a user with all permissions."""
        return f"nats://admin:admin@127.0.0.1:{self.server.port}"

    async def deny(self, *, publish: str = "", subscribe: str = "") -> None:
        """Take the permission for a subject away and give all others back; return when the server has done it.

        The server refuses a connection that begins during a reload, with whatever credentials.
        """
        before = self._reloads()
        self._write(publish, subscribe)
        os.kill(self.server.pid, signal.SIGHUP)
        await until(lambda: self._reloads() > before)

    def _reloads(self) -> int:
        """Return how often the server has reloaded its configuration."""
        return self._log.read_text().count("Reloaded server configuration")

    def _write(self, publish: str, subscribe: str) -> None:
        denied = "".join(
            f'{side}: {{ deny: "{subject}" }} '
            for side, subject in (("publish", publish), ("subscribe", subscribe))
            if subject
        )
        permissions = f", permissions: {{ {denied}}}" if denied else ""
        self._users.write_text(
            "authorization { users: [ { user: admin, password: admin }, "
            f"{{ user: actors, password: actors{permissions} }} ] }}\n"
        )


@pytest.fixture
async def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Guarded]:
    monkeypatch.setattr("runtime.host.refusals._TICK", 0.1)
    monkeypatch.setattr("runtime.host.refusals._SILENCE", 0.5)
    monkeypatch.setattr("runtime.storage.relay._BACKOFF", Backoff(first=0.05, longest=0.2))
    monkeypatch.setattr("runtime.host.restarts._PERMISSION_PAUSE", 0.1)
    monkeypatch.setattr("runtime.host.checks._TICK", 0.3)
    SEEN.clear()
    guarded = Guarded(tmp_path)
    async with guarded.server:
        yield guarded


async def findings(url: str) -> list[str]:
    """Return the texts of the failures that the doctor finds."""
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        return [each.text async for each in examine(connection, probe=False) if each.status == "fail"]


async def put(bus: Bus, note: str = "") -> bool:
    """Send a command; return whether it was done."""
    try:
        await bus.command(PutItem("a", note), timeout=0.5)
    except RequestError:
        return False
    return True


async def ask(bus: Bus) -> bool:
    """Send a query; return whether it was answered."""
    try:
        await bus.query(GetItems("a"), timeout=0.5)
    except RequestError:
        return False
    return True


@asynccontextmanager
async def asking(act: Callable[[], Awaitable[object]] | None) -> AsyncIterator[None]:
    """Do something again and again during the block."""

    async def repeat() -> None:
        while act is not None:
            await act()
            await asyncio.sleep(0)

    task = asyncio.ensure_future(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


CASES = {
    "commands": ("subscribe", "*.command.>", "the subscription to shelf.command.put_item", ""),
    "queries": ("subscribe", "*.query.>", "the subscription to shelf.query.get_items", ""),
    "discovery": ("subscribe", "$SRV.>", "the subscription to $SRV.INFO", ""),
    "inbox": ("subscribe", "_INBOX.>", "the subscription to _INBOX.", ""),
    "replies": ("publish", "_INBOX.>", "to publish to _INBOX.", "ask"),
    "events": ("publish", "*.event.>", "to publish to shelf.event.item_put.a", "put"),
    "pulls": ("publish", "$JS.API.CONSUMER.MSG.NEXT.>", "to publish to $JS.API.CONSUMER.MSG.NEXT.shelf-", ""),
    "acknowledgements": ("publish", "$JS.ACK.>", "to publish to $JS.ACK.", "put"),
    "commits": ("publish", "*.turn.>", "to publish to shelf.turn.a", "put"),
    "lease": ("publish", "$KV.leases.>", "to publish to $KV.leases.shelf.0", ""),
    "streams": ("publish", "$JS.API.STREAM.INFO.shelf-turns", "to publish to $JS.API.STREAM.INFO.shelf-turns", ""),
}


@pytest.mark.timeout(120)
async def test_each_refusal_is_seen_and_heals(guarded: Guarded) -> None:
    async with running(Shelf_, url=guarded.url, lease_ttl=2.0) as system, connect(guarded.admin) as bus:
        await system.until(lambda: put(bus, "first"))
        for name, (side, subject, text, act) in CASES.items():
            await guarded.deny(**{side: subject})
            acts = {"ask": lambda: ask(bus), "put": lambda: put(bus, "refused")}
            async with asking(acts.get(act)):
                await system.until(lambda text=text: any(text in each for each in system.runner.unready_reasons()))
                if name != "lease":  # That permission is also the one to report.

                    async def reported(text: str = text) -> bool:
                        return any(text in each for each in await findings(guarded.admin))

                    await system.until(reported)
            await guarded.deny()
            await system.until(lambda: not system.runner.unready_reasons())
            await system.until(lambda name=name: put(bus, name))
            await system.until(lambda name=name: name in SEEN)
            assert await bus.query(GetItems("a")) > 0
            await system.until(lambda: _reports_nothing(guarded.admin))


async def test_a_refusal_of_one_partition_is_seen_and_heals(guarded: Guarded) -> None:
    part = partition_of("a", 4)
    options = {"shelf": Options(partitions=4)}
    async with (
        running(Shelf_, url=guarded.url, options=options, lease_ttl=2.0) as system,
        connect(guarded.admin) as bus,
    ):
        await system.until(lambda: put(bus, "first"))
        for subject in (
            f"shelf.p4-{part}.turn.a",
            f"$JS.API.CONSUMER.MSG.NEXT.shelf-turns-p4-{part}.timers",
            f"$JS.API.STREAM.INFO.shelf-turns-p4-{part}",
            "$KV.leases.shelf.member.",
        ):
            await guarded.deny(publish=f"{subject}>" if subject.endswith(".") else subject)
            async with asking(lambda: put(bus, "refused")):
                await system.until(
                    lambda subject=subject: any(subject in each for each in system.runner.unready_reasons())
                )
            await guarded.deny()
            await system.until(lambda: not system.runner.unready_reasons())
            await system.until(lambda subject=subject: put(bus, subject))


async def _reports_nothing(url: str) -> bool:
    return not await findings(url)


async def test_a_start_and_a_standby_wait_for_a_permission(guarded: Guarded) -> None:
    async with await Connection.connect(ConnectionOptions(url=guarded.url)) as connection:
        await guarded.deny(publish="$KV.schemas.>")
        runner = Runner([Shelf_], connection, Tracing(in_memory=True))
        work = asyncio.ensure_future(runner.run())
        await until(lambda: any("to publish to $KV.schemas.shelf" in each for each in runner.unready_reasons()), 20)
        await guarded.deny(subscribe="shelf.command.>")
        await until(
            lambda: any("shelf is starting: the server refused" in each for each in runner.unready_reasons()), 20
        )
        await guarded.deny()
        async with asyncio.timeout(20):
            await runner.wait_ready()
        # The watch of a lease saves time only, but a standby without it would take over late.
        async with await Connection.connect(ConnectionOptions(url=guarded.url)) as other:
            standby = Runner([Shelf_], other, Tracing(in_memory=True))
            waiting = asyncio.ensure_future(standby.run())
            async with asyncio.timeout(20):
                await standby.wait_ready()
            await guarded.deny(subscribe="$KV.>")
            text = "NATS refuses the subscription to $KV.leases.shelf.0"
            await until(lambda: text in standby.unready_reasons(), 20)
            await guarded.deny()
            await until(lambda: not standby.unready_reasons(), 20)
            for each in (runner, standby):
                each.stop()
            await asyncio.gather(work, waiting)


STATES = ("commands", "inbox", "events", "acknowledgements", "commits")


@pytest.mark.timeout(120)
async def test_a_drain_ends_in_each_of_these_states(guarded: Guarded) -> None:
    loop = asyncio.get_running_loop()
    async with connect(guarded.admin) as bus:
        for name in STATES:
            side, subject, text, act = CASES[name]
            async with running(Shelf_, url=guarded.url, lease_ttl=2.0) as system:
                await system.until(lambda name=name: put(bus, name))
                await guarded.deny(**{side: subject})
                acts = {"ask": lambda: ask(bus), "put": lambda: put(bus, "refused")}
                async with asking(acts.get(act)):
                    await system.until(
                        lambda system=system, text=text: any(text in each for each in system.runner.unready_reasons())
                    )
                    began = loop.time()
                    system.runner.stop()
                    await system.until(lambda system=system: not system.is_serving("shelf"))
            assert loop.time() - began < 15, name
            await guarded.deny()


async def test_a_start_that_is_refused_is_named_and_ends_with_a_signal(guarded: Guarded) -> None:
    arguments = ("run", "tests.host.test_refusals:Shelf_", "--nats", guarded.url, "--lease-ttl", "1")
    async with connect(guarded.admin) as bus, running_command(*arguments, cwd=ROOT) as first:
        await guarded.deny(publish="*.event.>")
        assert await put(bus, "kept")
        await first.until("the server refuses to publish to shelf.event.item_put.a")
        first.signal(signal.SIGTERM)
        assert await first.wait(15) == 0
        assert "the drain was cut short: events or timers of 1 key are left to the next owner" in first.text
        # The next owner cannot publish them either: it is never ready, and ends with a signal all the same.
        refusal = "the server refuses to publish to shelf.event.item_put.a"
        async with running_command(*arguments, cwd=ROOT, ready=refusal) as second:
            second.signal(signal.SIGTERM)
            assert await second.wait(15) == 0 and "ready" not in second.text
