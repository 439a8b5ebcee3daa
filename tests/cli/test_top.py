"""`top`: the figures of services under load, as tables, as JSON, and live in a terminal."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from runtime import Actor, Event, Options, Query, Rejected, RetryPolicy, query, react
from runtime.admin.figures import Figures, Rate, Watch
from runtime.cli.top import _tables
from runtime.nats.server import EmbeddedServer
from tests.support.probe import Probe, running
from tests.support.process import ROOT, run_command
from tests.support.terminal import Terminal

OPTIONS = Options(retry=RetryPolicy(attempts=2, first=600, longest=600))


class Billed(Event, actor="billing_till", key="name"):
    name: str


class GetBill(Query[int], actor="bills", key="name"):
    name: str
    fails: bool = False


class Bill(msgspec.Struct, frozen=True):
    pass


class Bills(Actor[Bill]):
    name = "bills"

    @react
    async def on_billed(self, event: Billed) -> None:
        if event.name == "refused":
            raise Rejected("no")
        raise RuntimeError("again, in ten minutes")

    @query
    async def get_bill(self, message: GetBill) -> int:
        await asyncio.sleep(0.02)
        if message.fails:
            raise Rejected("no bill")
        return 1


@asynccontextmanager
async def loaded(server: EmbeddedServer, namespace: str, partitions: int = 1) -> AsyncIterator[Probe]:
    """Run `Bills` with a blocked key, behind whose first event one waits, and a dead letter."""
    options = {"bills": msgspec.structs.replace(OPTIONS, partitions=partitions)}
    async with running(Bills, url=server.url, namespace=namespace, options=options) as system:
        if partitions > 1:
            await system.until(lambda: len(system.owned("bills")) == partitions, 30)
        for name in ("blocked", "blocked", "refused"):
            await system.bus.emit(Billed(name))
        watch = Watch(system.connection, namespace)

        async def is_loaded() -> bool:
            (found,) = await watch.look()
            return (found.blocked, found.dead, found.lag) == (1, 1, 2)

        await system.until(is_loaded, 30)
        yield system


async def ask(system: Probe, good: int, bad: int) -> None:
    requests = [GetBill(str(number), fails=number >= good) for number in range(good + bad)]
    await asyncio.gather(*(system.bus.query(request) for request in requests), return_exceptions=True)


async def look(watch: Watch) -> Figures:
    (found,) = await watch.look()
    return found


@pytest.mark.parametrize("partitions", [1, 2])
async def test_rates_are_the_difference_of_two_looks(
    nats_server: EmbeddedServer, namespace: str, partitions: int
) -> None:
    async with loaded(nats_server, namespace, partitions) as system:
        watch = Watch(system.connection, namespace)
        await ask(system, 5, 5)
        assert (await look(watch)).total.requests == 0, "the first look has no rates"
        await ask(system, 30, 10)
        found = await look(watch)
        assert found.total.errors / found.total.requests == pytest.approx(10 / 40)
        assert found.total.latency is not None
        assert 0.02 <= found.total.latency < 5
        assert [(rate.name, rate.requests) for rate in found.operations] == [("get_bill", found.total.requests)]
        assert (found.blocked, found.waiting, found.dead, found.lag) == (1, 1, 1, 2)
        assert found.ownership is not None
        assert found.ownership.unowned == []
        found = await look(watch)
        assert (found.total.requests, found.total.errors, found.total.latency) == (0, 0, None)


async def test_an_instance_that_is_new_counts_from_its_start(nats_server: EmbeddedServer, namespace: str) -> None:
    async with loaded(nats_server, namespace) as system:
        watch = Watch(system.connection, namespace)
        await look(watch)
        system.crash("bills")
        await system.until(lambda: not system.is_ready("bills"))
        await system.until_ready("bills")
        await ask(system, 8, 2)
        found = await look(watch)
        assert found.total.errors / found.total.requests == pytest.approx(2 / 10)


async def test_a_table_and_lines_of_json_are_printed(nats_server: EmbeddedServer, namespace: str) -> None:
    common = ("top", "--nats", nats_server.url, "--namespace", namespace, "--interval", "0.5")
    async with loaded(nats_server, namespace) as system:

        async def load() -> None:
            while True:
                await ask(system, 4, 1)

        loading = asyncio.create_task(load())
        table = await run_command(*common, "--once", cwd=ROOT)
        lines = await run_command(*common, "--json", "--count", "3", cwd=ROOT)
        tables = await run_command(*common, "--count", "2", cwd=ROOT)
        loading.cancel()
    assert (table.code, table.err) == (0, "")
    head, row, _, _, operation = table.out.splitlines()
    cells = dict(zip(head.split(), row.replace(" ms", "ms").split(), strict=True))
    assert float(cells.pop("req/s")) > float(cells.pop("err/s")) > 0
    assert cells.pop("latency").endswith("ms")
    waiting = {"lag": "2", "blocked": "1", "dead": "1", "partitions": "1", "instances": "1"}
    assert cells.items() >= {"service": "bills", "namespace": namespace, **waiting}.items()
    assert operation.startswith("bills.get_bill")
    assert (lines.code, lines.err) == (0, "")
    found: list[dict[str, Any]] = [json.loads(line) for line in lines.out.splitlines()]
    assert len(found) == 3
    for line in found:
        (service,) = line["services"]
        assert service["requests"] > service["errors"] > 0
        assert service["operations"]["get_bill"]["requests"] == service["requests"]
        assert (service["name"], service["lag"], service["blocked"], service["dead"]) == ("bills", 2, 1, 1)
        assert len(service["partitions"]["owners"]) == 1
    assert tables.out.count("bills.get_bill") == 2
    assert "\x1b" not in tables.out + table.out


async def test_no_service_and_no_server(nats_server: EmbeddedServer, namespace: str) -> None:
    common = ("top", "--nats", nats_server.url, "--namespace", namespace, "--interval", "0.1")
    none = await run_command(*common, "--once", cwd=ROOT)
    assert (none.code, none.err) == (4, "Error: no service is running\n")
    line = await run_command(*common, "--once", "--json", cwd=ROOT)
    assert (line.code, json.loads(line.out)["services"]) == (0, [])
    assert (await run_command("top", "--nats", "nats://127.0.0.1:1", cwd=ROOT)).code == 4
    for wrong in (("--interval", "nan"), ("--interval", "0"), ("--count", "0"), ("--once", "--count", "2")):
        result = await run_command("top", *wrong, cwd=ROOT)
        assert (result.code, wrong[0] in result.err) == (2, True)


@pytest.mark.parametrize(("key", "code"), [("q", 0), ("\x03", 130)])
async def test_a_terminal_is_renewed_in_place_and_restored(
    nats_server: EmbeddedServer, namespace: str, key: str, code: int
) -> None:
    async with loaded(nats_server, namespace) as system:
        arguments = ("top", "--nats", nats_server.url, "--namespace", namespace, "--interval", "0.2")
        async with Terminal.run(*arguments, columns=60) as terminal:
            before = terminal.modes
            await terminal.until("1 service; q ends", 2)
            await ask(system, 10, 0)
            await terminal.until("bills.get_bill")
            assert terminal.modes != before
            terminal.type(key)
            assert await terminal.wait() == code
            await terminal.until("\x1b[?25h\x1b[?1049l")
            assert terminal.modes == before
        begin, screen = terminal.text.split("\x1b[?1049h\x1b[?25l")
        assert begin == ""
        lines = screen.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[K", "").split("\r\n")
        assert max(len(line.rpartition("\x1b[H")[2].partition("\x1b")[0]) for line in lines) <= 60


async def test_ctrl_z_gives_the_terminal_back_meanwhile(nats_server: EmbeddedServer) -> None:
    """Without a shell the process goes on at once."""
    async with Terminal.run("top", "--nats", nats_server.url, "--interval", "0.1") as terminal:
        await terminal.until("; q ends")
        terminal.type("\x1a")
        await terminal.until("\x1b[?25h\x1b[?1049l\x1b[?1049h\x1b[?25l")
        terminal.type("q")
        assert await terminal.wait() == 0


async def test_a_terminal_survives_the_loss_of_the_server(tmp_path: Any) -> None:
    async with EmbeddedServer(port=0, store_dir=tmp_path) as server:
        async with Terminal.run("top", "--nats", server.url, "--interval", "0.1") as terminal:
            await terminal.until("no service is running; q ends")
            server.kill()
            await terminal.until("the services cannot be asked")
            seen = terminal.text.count("no service is running")
            await server.start()
            await terminal.until("no service is running", seen + 1)
            terminal.type("q")
            assert await terminal.wait() == 0


def test_the_figures_of_services_without_a_namespace_fit_into_80_columns() -> None:
    total = Rate("", 12345.6, 12.3, 0.01234)
    figures = Figures("warehouse", "", "1.0.0", 12, total, [], 1000, 100, 10_000, 1000, False, None)
    head, row, *_ = _tables([figures], 80)
    assert "namespace" not in head and "dead" in head
    assert row.split() == ["warehouse", "12", "12345.6", "12.3", "12.34", "ms", "10000", "1000", "100", "1000", "-"]
