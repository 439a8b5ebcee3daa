"""The doctor: its findings on healthy servers, and on servers with problems."""

import asyncio
import os
import re
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.admin.doctor import Finding, RunningService, examine
from runtime.admin.doctor.owners import check_owners
from runtime.admin.doctor.server import _leader
from runtime.admin.ownership import Ownership, PartitionLease, read_ownership
from runtime.host.host import Deployment
from runtime.host.process import Runner
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import SECOND, ConsumerConfig
from runtime.nats.lease_value import Holder
from runtime.nats.server import EmbeddedServer, find_nats_server
from runtime.storage.layout import Layout, Layouts
from runtime.storage.membership import Member, write_member
from runtime.storage.streams import events_config, turns_config
from runtime.telemetry import Tracing
from runtime.wire import header_block
from runtime.wire.buckets import Partition, partition_of
from runtime.wire.subjects import Names
from tests.storage.test_dead_letters import FAILING, RUNS, Books, NoteLater, Paid, Post
from tests.support.machines import machine
from tests.support.ports import free_ports
from tests.support.probe import Probe, running
from tests.support.process import run_command

PROFILES = Path(__file__).parents[2] / "deploy" / "nats"

BOOKS = RunningService("books", sources=frozenset({"shop"}))
POST = RunningService("post", keyed=False, commands=False, sources=frozenset({"shop"}))


async def diagnose(url: str, namespace: str = "", **options: Any) -> list[Finding]:
    async with await Connection.connect(ConnectionOptions(url=url)) as connection:
        return [finding async for finding in examine(connection, namespace=namespace, **options)]


@pytest.fixture(autouse=True)
def _clean() -> None:
    FAILING.clear()
    RUNS.clear()


def finding_of(findings: list[Finding], subject: str) -> Finding:
    (finding,) = [each for each in findings if each.subject == subject]
    return finding


def problems(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(each.status, each.subject, each.text) for each in findings if each.status != "ok"]


@asynccontextmanager
async def monitored(tmp_path: Path, config: str = "") -> AsyncIterator[tuple[EmbeddedServer, str]]:
    """Run a server with a monitoring port; yield it and the port's URL."""
    (port,) = free_ports(1)
    server = EmbeddedServer(port=0, store_dir=tmp_path / "nats", config=f"http: 127.0.0.1:{port}\n{config}")
    async with server:
        yield server, f"http://127.0.0.1:{port}"


async def test_an_empty_server_has_a_warning_about_its_disk_only(nats_server: EmbeddedServer, namespace: str) -> None:
    findings = await diagnose(nats_server.url, namespace)
    assert [status for status, subject, _ in problems(findings)] == ["warn"]
    assert "cannot be seen" in finding_of(findings, "disk").text and "--monitor" in finding_of(findings, "disk").todo
    assert finding_of(findings, "server").text.startswith("nats-server 2.")
    assert finding_of(findings, "services").text == "no service has run here yet"
    assert {"server", "payload", "storage", "cluster", "requests", "streams", "clock"} <= {
        finding.subject for finding in findings
    }
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        assert await JetStream(connection).stream_names(f"{namespace}.>") == []  # the probe leaves nothing behind


async def test_the_monitoring_port_has_the_sync_interval_and_the_storage(tmp_path: Path, namespace: str) -> None:
    async with monitored(tmp_path) as (server, monitor):
        findings = await diagnose(server.url, namespace, monitor=monitor)
        assert "writes are synced every 120 s" in finding_of(findings, "disk").text
        assert "sync_interval: always" in finding_of(findings, "disk").todo
        assert "of the server used" in finding_of(findings, "storage").text
        # The monitoring port of another server is not used.
        other = tmp_path / "other"
        async with monitored(other) as (second, _):
            assert (
                "belongs to another server"
                in finding_of(await diagnose(second.url, namespace, monitor=monitor), "disk").text
            )


async def test_a_server_without_jetstream_fails_and_ends_the_checks(tmp_path: Path) -> None:
    config = "accounts { A { users: [{ user: a, password: a }] } }\nno_auth_user: a"
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=config) as server:
        findings = await diagnose(server.url)
        assert findings[-1].subject == "jetstream" and findings[-1].status == "fail"


async def test_storage_that_runs_out_is_reported(tmp_path: Path, namespace: str) -> None:
    config = "accounts { A { jetstream { max_file: 1MB }, users: [{ user: a, password: a }] } }\nno_auth_user: a"
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=config) as server:
        async with running(Books, url=server.url, namespace=namespace) as system:
            jetstream = JetStream(system.connection)
            for used, status in ((0.75, "warn"), (0.95, "fail")):
                while (await jetstream.account()).storage < used * 1_000_000:
                    await jetstream.publish(f"{namespace}.books.event.filler.x", b"x" * 20_000)
                finding = finding_of(await diagnose(server.url, namespace), "storage")
                assert finding.status == status and "of the account used" in finding.text


@pytest.mark.parametrize(
    ("config", "subject", "text"),
    [
        ('publish: { deny: "*.*.query.>" }', "requests", "the server refused"),
        ('subscribe: { deny: "*.*.query.>" }', "requests", "the server refused"),
        ('publish: { deny: "$JS.API.INFO" }', "jetstream", "the server refused"),
        ('publish: { deny: "$JS.API.STREAM.CREATE.>" }', "streams", "the server refused"),
        ('publish: { deny: "*.*.turn.>" }', "streams", "the server refused"),
        ('publish: { deny: "$JS.API.CONSUMER.RESET.>" }', "streams", "the server refused"),
    ],
)
async def test_a_missing_permission_is_reported(
    tmp_path: Path, namespace: str, config: str, subject: str, text: str
) -> None:
    users = f"authorization {{ users: [{{ user: a, password: a, permissions: {{ {config} }} }}] }}\nno_auth_user: a"
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=users) as server:
        finding = finding_of(await diagnose(server.url, namespace), subject)
        assert finding.status == "fail" and text in finding.text and "grant" in finding.todo


async def test_a_wrong_clock_of_a_process_is_reported(nats_server: EmbeddedServer, namespace: str) -> None:
    async with machine(-30, nats_server.url, namespace) as one:
        await one.read()
        found: list[str] = []
        while not found:  # the process writes its status within a second
            found = [each.text for each in await diagnose(nats_server.url, namespace) if "the wall clock" in each.text]
        assert len(found) == 1 and "the wall clock is 30.0 s behind the NATS server" in found[0]


async def test_a_user_who_may_not_ask_for_the_time_is_told(tmp_path: Path, namespace: str) -> None:
    users = (
        "authorization { users: [{ user: a, password: a, permissions: { publish: { deny: '$SYS.>' } } }] }\n"
        "no_auth_user: a"
    )
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=users) as server:
        finding = finding_of(await diagnose(server.url, namespace), "clock")
        assert finding.status == "warn" and "$SYS.REQ.USER.INFO" in finding.text + finding.todo


@pytest.mark.parametrize(("ahead", "status"), [(0.0, "ok"), (-0.9, "ok"), (1.5, "fail"), (-60.0, "fail")])
def test_servers_with_different_clocks_are_judged_by_the_difference(ahead: float, status: str) -> None:
    assert _leader(ahead).status == status


async def test_healthy_services_have_no_problems(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, Post, url=nats_server.url, namespace=namespace):
        findings = await diagnose(nats_server.url, namespace, running=[BOOKS, POST], probe=False)
        assert [subject for _, subject, _ in problems(findings)] == ["disk"]
        assert f"owned by process {os.getpid()} on {socket.gethostname()}" in finding_of(findings, "books").text
        assert finding_of(findings, "post").text == "running; it has no state, so its keys need no owner"
    findings = await diagnose(nats_server.url, namespace, probe=False)
    assert finding_of(findings, "books").text == "not running; its streams are in order"


async def test_changed_streams_and_consumers_are_reported(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "runtime.host.checks._TICK", 60.0
    )  # otherwise the service restores the stream during the checks
    async with running(Books, Post, url=nats_server.url, namespace=namespace) as system:
        jetstream, names = JetStream(system.connection), Names("books", namespace)

        async def texts() -> dict[str, str]:
            findings = await diagnose(nats_server.url, namespace, running=[BOOKS, POST], probe=False)
            return {text: status for status, subject, text in problems(findings) if subject != "disk"}

        async def change(stream: str, **fields: Any) -> None:
            config = (await jetstream.stream_info(stream)).config
            payload = msgspec.json.encode({**config, **fields})
            answer = await jetstream.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", payload, timeout=5)
            assert "error" not in msgspec.json.decode(answer.payload)

        FAILING.add("on_paid")
        await system.bus.emit(Paid("1"))

        async def dead() -> bool:
            return any("dead letters: 1 paid" in text for text in await texts())

        await system.until(dead)

        await change(names.dead_stream, discard="old")
        assert (await texts())[f"stream {names.dead_stream} was changed: it has {{'discard': 'old'}}"] == "warn"
        await change(names.events_stream, max_bytes=1000, discard="new", max_age=60 * 86_400 * SECOND)
        assert any(text.startswith(f"stream {names.events_stream} has max_age") for text in await texts())
        body = {"pause_until": "2999-01-01T00:00:00Z"}
        await jetstream.connection.request(
            f"$JS.API.CONSUMER.PAUSE.{names.dead_stream}.redrive", msgspec.json.encode(body), timeout=5
        )
        assert (await texts())[f"consumer {names.dead_stream}/redrive is paused"] == "warn"


async def test_a_consumer_that_is_behind_is_reported(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.admin.doctor.services._LAG", 2)
    async with running(Books, url=nats_server.url, namespace=namespace):
        pass
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        for _ in range(3):
            await JetStream(connection).publish(f"{namespace}.shop.event.paid.1", b"{}")
    texts = [text for _, _, text in problems(await diagnose(nats_server.url, namespace, running=[BOOKS], probe=False))]
    assert f"consumer {namespace}-shop-events/books is behind: 3 messages wait, 0 are in progress" in texts


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b'{"holder":"x","since":1,"host":"h","pid":1}', "has no TTL"),
        (b"nobody", "cannot be read"),
        (b'{"holder":1}', "cannot be read"),
    ],
)
async def test_a_lease_that_no_actor_wrote_fails(
    nats_server: EmbeddedServer, namespace: str, value: bytes, text: str
) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace):
        pass
    bucket = f"{namespace}-leases"
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        await JetStream(connection).publish(f"$KV.{bucket}.books.0", value)
    finding = finding_of(await diagnose(nats_server.url, namespace), "books")
    assert finding.status == "fail"
    assert text in finding.text


async def test_deleted_streams_and_consumers_are_reported(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Books, url=nats_server.url, namespace=namespace):
        pass
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("books", namespace)
        await jetstream.delete_consumer(names.dead_stream, "redrive")
        findings = await diagnose(nats_server.url, namespace, running=[BOOKS], probe=False)
        failed = next(text for status, _, text in problems(findings) if status == "fail")
        assert failed.startswith(f"consumer {names.dead_stream}/redrive is missing")
        assert finding_of([each for each in findings if "owns" in each.text], "books").text == (
            "it answers, but no process owns its keys"
        )
        await jetstream.delete_stream(names.turns_stream)
        findings = await diagnose(nats_server.url, namespace, probe=False)
        assert finding_of(findings, "books").text == f"stream {names.turns_stream} is missing"


PARTS = {"books": msgspec.structs.replace(Books.options, partitions=4)}
PARTED = RunningService("books", sources=frozenset({"shop"}), partitions=frozenset({4}))


async def test_a_partitioned_service_is_shown_and_checked_by_partition(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = ("--nats", nats_server.url, "--namespace", namespace)
    async with running(Books, url=nats_server.url, namespace=namespace, options=PARTS) as system:
        findings = await diagnose(nats_server.url, namespace, running=[PARTED], probe=False)
        assert [subject for _, subject, _ in problems(findings)] == ["disk"]
        text = f"its 4 partitions are owned by process {os.getpid()} on {socket.gethostname()} (0 1 2 3)"
        assert finding_of(findings, "books").text == text
        listed, described, table, shown, checked = await asyncio.gather(
            run_command("ls", *where, "--json", cwd=tmp_path),
            run_command("describe", "books", *where, "--json", cwd=tmp_path),
            run_command("ls", *where, cwd=tmp_path),
            run_command("describe", "books", *where, cwd=tmp_path),
            run_command("doctor", *where, "--no-probe", cwd=tmp_path),
        )
        (service,) = msgspec.json.decode(listed.out)
        holder = system.holder("books")
        partitions = {
            "count": 4, "owners": {holder: [0, 1, 2, 3]}, "unowned": [], "members": [holder], "standbys": []
        }  # fmt: skip
        assert service["partitions"] == msgspec.json.decode(described.out)["partitions"] == partitions
        assert table.out.splitlines()[1].split()[4:6] == ["4", "(4)"]
        assert f"Partitions\n  {holder}: 0 1 2 3\n" in shown.out
        assert checked.code == 0 and text in checked.out

        jetstream, names = system.jetstream, Names("books", namespace)
        third, events = names.of(Partition(4, 3)), Names("shop", namespace).events_stream
        monkeypatch.setattr("runtime.admin.doctor.services._LAG", 0)
        await jetstream.delete_consumer(third.turns_stream, "timers")
        await jetstream.ensure_consumer(events, ConsumerConfig(durable="books@p8-1", filter_subjects=("*.>",)))
        await jetstream.ensure_stream(turns_config(names.of(Partition(8, 0))))
        wrong = msgspec.structs.replace(PARTED, partitions=frozenset({2, 4}))
        found = problems(await diagnose(nats_server.url, namespace, running=[wrong], probe=False))
        texts = "\n".join(f"{status} {text}" for status, _, text in found)
        assert f"fail consumer {third.turns_stream}/timers is missing" in texts
        assert f"warn consumers of {events} belong to another number of partitions: books@p8-1" in texts
        assert f"warn a repartition that was broken off has left stream {names.turns_stream}-p8-0" in texts
        assert "fail a process is configured for 2 partitions, but the keys are stored in 4 partitions" in texts


async def test_a_partition_without_an_owner_fails(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.admin.doctor.services._LAG", 0)
    async with running(Books, url=nats_server.url, namespace=namespace, options=PARTS):
        pass
    stopped = await diagnose(nats_server.url, namespace, probe=False)
    assert finding_of(stopped, "books").text == "not running; its streams are in order"
    names = Names("books", namespace)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, bucket = JetStream(connection), f"$KV.{names.lease_bucket}.books"
        holder = Holder("far-7-abcdef", 0.0, "far", 7)
        for number in (0, 1):
            headers = header_block.encode([(header_block.TTL.decode(), "60s")])
            await jetstream.publish(f"{bucket}.{number}", msgspec.json.encode(holder), headers=headers)
        write_member(jetstream, names, Member("near-8-abcdef", 2, "near", 8, (3,)), 60.0)
        layouts = Layouts(jetstream, names)
        _, sequence = await layouts.read()
        await layouts.store(Layout(4, before=1), sequence)
        await jetstream.publish(f"{namespace}.shop.event.paid.1", b"{}")
        found = problems(await diagnose(nats_server.url, namespace, running=[PARTED], probe=False))
        texts = "\n".join(f"{status} {text}" for status, _, text in found)
        assert "fail it answers, but no process owns 2 of its 4 partitions: 2 3" in texts
        assert "warn the repartition from 1 partition to 4 partitions has not ended" in texts
        behind = f"{namespace}-shop-events/books@p4-{partition_of('1', 4)} is behind: 1 messages wait"
        assert f"warn consumer {behind}" in texts
        ownership = await read_ownership(jetstream, names)
        assert (ownership.owners, ownership.unowned) == ({"far-7-abcdef": [0, 1]}, [2, 3])
        assert [member.holder for member in ownership.standbys] == ["near-8-abcdef"]
        assert "warn process 8 on near has failed to serve partition 3" in texts
        assert "fail a process is configured for 2 partitions, but the keys are stored in 4 partitions" in texts
        stopped = await diagnose(nats_server.url, namespace, probe=False)
        owned = "its 4 partitions are owned by process 7 on far (0 1); on standby: process 8 on near"
        assert owned in [each.text for each in stopped]
        await jetstream.delete_stream(names.of(Partition(4, 2)).turns_stream)
        found = problems(await diagnose(nats_server.url, namespace, running=[PARTED], probe=False))
        assert any(f"stream {names.turns_stream}-p4-2 is missing" in text for _, _, text in found)


@pytest.mark.parametrize(("partitions", "which"), [(1, "its lease for 40 s"), (2, "its lease of partition 1 for 40 s")])
async def test_a_process_that_renews_no_lease_is_named(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, partitions: int, which: str
) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        now, holder = connection.clock.now(), Holder("far-7-abcdef", 0.0, "far", 7)
        leases = [
            PartitionLease(number, "", stored_at, 60.0, holder, "")
            for number, stored_at in enumerate([now - 20, now - 40][2 - partitions :])
        ]

        async def read(*_: object) -> Ownership:
            return Ownership(Layout(partitions), leases, [])

        monkeypatch.setattr("runtime.admin.doctor.owners.read_ownership", read)
        checked = check_owners(JetStream(connection), Names("books", namespace), {partitions})
        (found,) = [each async for each in checked if each.status == "warn"]
    assert found.text == f"process 7 on far has not renewed {which}"
    assert found.todo == "it is stopped or has died: another one takes over within 20 s, if one runs"


async def test_the_command_line(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> None:
    arguments = ("doctor", "--nats", nats_server.url, "--namespace", namespace)
    async with running(Books, Post, url=nats_server.url, namespace=namespace):
        ended = await run_command(*arguments, cwd=tmp_path)
        assert ended.code == 0 and "fail" not in ended.out
        assert any(line.startswith("ok    books        its keys are owned by") for line in ended.out.splitlines())
        assert "ok    post         running; it has no state" in ended.out
    ended = await run_command(*arguments, "--json", "--replicas", "3", "--no-probe", cwd=tmp_path)
    findings = {finding["subject"]: finding for finding in msgspec.json.decode(ended.out)}
    assert ended.code == 3 and "checks failed" in ended.err
    assert findings["cluster"]["status"] == "fail" and "3 replicas are wanted" in findings["cluster"]["text"]
    (port,) = free_ports(1)
    ended = await run_command("doctor", "--nats", f"nats://127.0.0.1:{port}", "--timeout", "0.5", cwd=tmp_path)
    assert ended.code == 4 and "Traceback" not in ended.err


@pytest.mark.parametrize("partitions", [1, 4])
async def test_the_permissions_of_the_documentation_are_enough(tmp_path: Path, partitions: int) -> None:
    shown = re.search(
        r"(?s)```\n(\{ user: orders.*?)```", (PROFILES.parent.parent / "docs" / "operations.md").read_text()
    )
    assert shown is not None
    user = shown[1].replace("orders", "books").replace("$ORDERS_PASSWORD", "secret")
    config = f"authorization {{ users: [{{ user: admin, password: admin }}, {user}] }}\nno_auth_user: admin"
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=config) as server:
        url = f"nats://books:secret@127.0.0.1:{server.port}"
        options = {"books": msgspec.structs.replace(Books.options, partitions=partitions)}
        service = msgspec.structs.replace(BOOKS, partitions=frozenset({partitions}))
        async with running(Books, url=url, options=options) as system:
            refused: list[Exception] = []
            system.connection.on_error.append(refused.append)
            async with await Connection.connect(ConnectionOptions(url=server.url)) as admin:
                await JetStream(admin).publish("shop.event.paid.1", b'{"order": "1"}')
            await system.bus.command(NoteLater("1"))
            await system.until(lambda: RUNS["on_paid"] == 1 and RUNS["note"] == 1)
            assert problems(await diagnose(server.url, running=[service]))[1:] == [] and not refused
        assert not refused


def placed(name: str, directory: Path, client: int, http: int, cluster: int = 0) -> Path:
    """Write a profile of deploy/nats/ with other ports and another directory, and return its path."""
    text = (PROFILES / name).read_text()
    replaced = {
        r"listen: 127.0.0.1:4222": f"listen: 127.0.0.1:{client}",
        r"listen: 0.0.0.0:4222": f"listen: 127.0.0.1:{client}",
        r"http: 127.0.0.1:8222": f"http: 127.0.0.1:{http}",
        r'store_dir: "./nats-data"': f'store_dir: "{directory}/data"',
        r'store_dir: "/var/lib/nats"': f'store_dir: "{directory}/data"',
        r"listen: 0.0.0.0:6222": f"listen: 127.0.0.1:{cluster}",
        r"max_file_store: 20GB": "max_file_store: 1GB",  # as much as a test machine has
    }
    for old, new in replaced.items():
        text = text.replace(old, new)
    directory.mkdir(parents=True, exist_ok=True)
    config = directory / name
    config.write_text(text)
    return config


@contextmanager
def started(config: Path, **environ: str) -> Iterator["subprocess.Popen[bytes]"]:
    with (config.parent / "log").open("ab") as log:
        command = [find_nats_server(), "-c", str(config)]
        process = subprocess.Popen(command, env={**os.environ, **environ}, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def ready(url: str) -> None:
    """Wait until JetStream answers at `url`."""
    async with asyncio.timeout(30):
        while True:
            try:
                async with await Connection.connect(ConnectionOptions(url=url, connect_timeout=1.0)) as connection:
                    await JetStream(connection).account(timeout=1.0)
                    return
            except Exception as error:  # noqa: BLE001 - any error means that the server is not ready yet
                del error
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("name", "disk"), [("dev.conf", "warn"), ("single.conf", "ok")])
async def test_the_profiles_of_one_server(tmp_path: Path, namespace: str, name: str, disk: str) -> None:
    client, http = free_ports(2)
    with started(placed(name, tmp_path, client, http)):
        url = f"nats://127.0.0.1:{client}"
        await ready(url)
        async with running(Books, url=url, namespace=namespace) as system:
            await system.bus.command(NoteLater("a"))
            findings = await diagnose(url, namespace, running=[BOOKS], monitor=f"http://127.0.0.1:{http}")
        assert finding_of(findings, "disk").status == disk
        assert [subject for _, subject, _ in problems(findings)] == (["disk"] if disk == "warn" else [])


@pytest.mark.timeout(180)
async def test_the_profile_of_three_servers_and_the_loss_of_a_leader(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.2)
    ports = free_ports(9)
    nodes = [(tmp_path / f"n{n}", *ports[3 * n : 3 * n + 3]) for n in range(3)]
    routes = "[" + ", ".join(f"nats-route://127.0.0.1:{node[3]}" for node in nodes) + "]"
    configs = [placed("cluster.conf", *node) for node in nodes]
    with started_all(configs, routes) as processes:
        url = ",".join(f"nats://127.0.0.1:{node[1]}" for node in nodes)
        await ready(url)
        async with await Connection.connect(ConnectionOptions(url=url)) as connection:
            await JetStream(connection).ensure_stream(events_config(Names("shop", namespace), 3))
            runner = Runner([Books], connection, Tracing(in_memory=True), Deployment(namespace=namespace, replicas=3))
            work = asyncio.ensure_future(runner.run())
            async with asyncio.timeout(30):
                await runner.wait_serving()
            monitor = f"http://127.0.0.1:{nodes[0][2]}"
            first = f"nats://127.0.0.1:{nodes[0][1]}"
            findings = await diagnose(first, namespace, running=[BOOKS], monitor=monitor, replicas=3)
            assert problems(findings) == []
            assert finding_of(findings, "cluster").text == "actorloom, 3 servers; 3 replicas are wanted"

            probe = Probe.of(runner)
            created = probe.created_streams("books")
            jetstream, names = JetStream(connection), Names("books", namespace)
            cluster = (await jetstream.stream_info(names.turns_stream)).cluster
            assert cluster is not None
            leader = int(cluster.leader.removeprefix("n"))
            processes[leader].kill()
            processes[leader].wait()
            processes[leader] = spawn(configs[leader], leader, routes)
            await settled(jetstream, names)
            # No stream was taken for deleted, and the actor keeps serving.
            assert not work.done()
            async with asyncio.timeout(30):
                await runner.wait_serving()
            await answered(probe.served("books").streams.check)
            await answered(probe.consumers("books").check)
            assert probe.created_streams("books") == created
            runner.stop()
            async with asyncio.timeout(30):
                await work


async def answered(ask: Callable[[], Awaitable[None]]) -> None:
    """Repeat a call until it is answered: a consumer that elects its leader does not answer."""
    async with asyncio.timeout(40):
        while True:
            try:
                return await ask()
            except TimeoutError:
                continue


@contextmanager
def started_all(configs: list[Path], routes: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
    processes = [spawn(config, n, routes) for n, config in enumerate(configs)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def spawn(config: Path, number: int, routes: str) -> "subprocess.Popen[bytes]":
    environ = {**os.environ, "NODE": f"n{number}", "HOST": "127.0.0.1", "ROUTES": routes}
    with (config.parent / "log").open("ab") as log:
        return subprocess.Popen([find_nats_server(), "-c", str(config)], env=environ, stdout=log, stderr=log)


async def settled(jetstream: JetStream, names: Names) -> None:
    """Wait until all copies of the actor's streams are current."""

    async def current(stream: str) -> bool:
        try:
            info = await jetstream.stream_info(stream, timeout=1.0)
        except Exception as error:  # noqa: BLE001 - there is no leader or no connection yet
            del error
            return False
        cluster = info.cluster
        return cluster is not None and len(cluster.replicas) == 2 and all(peer.current for peer in cluster.replicas)

    async with asyncio.timeout(45):
        for stream in (names.turns_stream, names.dead_stream, names.events_stream):
            while not await current(stream):
                await asyncio.sleep(0.05)
