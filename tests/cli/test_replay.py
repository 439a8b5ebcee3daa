"""`replay` as real processes: its output, its refusals, and the commands of its page."""

import asyncio
import json
import os
import pty
import re
import shlex
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from runtime import Actor, Event, Query, query, react
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.testing import System, running
from runtime.wire.subjects import Names
from tests.support.process import ROOT, Completed, environment, run_command, running_command


class OrderPaid(Event, actor="orders", key="order_id"):
    order_id: str
    note: str = ""


class Bill(msgspec.Struct, frozen=True):
    payments: int = 0


class GetBill(Query[Bill], actor="billing", key="order_id"):
    order_id: str


class Billing(Actor[Bill]):
    name = "billing"

    @react
    async def on_paid(self, event: OrderPaid) -> None:
        self.state = Bill((self.state or Bill()).payments + 1)

    @query
    async def get_bill(self, message: GetBill) -> Bill:
        return self.state or Bill()


class Desk:
    """The command line, against the billing service with three events of two orders."""

    def __init__(self, system: System, where: tuple[str, ...], home: Path) -> None:
        self.system = system
        self.where = where
        self.home = home

    async def __call__(self, line: str) -> Completed:
        """Run a command."""
        return await run_command(*shlex.split(line, comments=True)[1:], *self.where, cwd=self.home)

    async def until_paid(self, count: int) -> None:
        async def paid() -> bool:
            return (await self.system.bus.query(GetBill("1"))).payments == count

        await self.system.until(paid)


@pytest.fixture
async def desk(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> AsyncIterator[Desk]:
    async with running(Billing, url=nats_server.url, namespace=namespace, sources=["orders"]) as system:
        for order in ("1", "2", "1"):
            await system.bus.emit(OrderPaid(order))
        found = Desk(system, ("--nats", nats_server.url, "--namespace", namespace), tmp_path)
        await found.until_paid(2)
        yield found


def documented() -> list[str]:
    """Return the commands in the section about replays."""
    page = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"(?ms)^## Replays\n.*?```sh\n(.*?)```", page)
    assert found is not None
    return [line.partition("#")[0].strip() for line in found[1].splitlines()]


async def test_the_commands_of_the_page(desk: Desk) -> None:
    dry_run, start, listing, resume, cancel = documented()
    ran = await desk(dry_run)
    assert (ran.code, ran.out.split()[-7:][0]) == (0, "orders.OrderPaid"), ran
    ran = await desk(start)
    assert ran.code == 0, ran
    assert ran.err.splitlines() == [
        "3 events for billing.on_paid, at most 200 a second. The mode is missing: those that billing has handled are not "
        "handled again.",
        "refill: sends events to billing.on_paid",
        "refill: done. 3 of 3 events were sent",
    ]
    ran = await desk(listing)
    assert ran.out.splitlines()[0].split() == ["name", "receiver", "mode", "since", "until", "sent", "of", "status"]
    line = ran.out.splitlines()[1].split()
    assert (line[:4], line[5:]) == (["refill", "billing.on_paid", "missing", "first"], ["3", "3", "done"])
    ran = await desk(resume)
    assert (ran.code, ran.err) == (2, "Error: the replay refill is done: it does not go on\n")
    ran = await desk(cancel)
    assert (ran.code, ran.err) == (0, "refill: done. 3 of 3 events were sent\n")
    await desk.until_paid(2)


async def test_replays_for_scripts(desk: Desk) -> None:
    start = "actorloom replay start billing.on_paid --since 1h --json"
    ran = await desk(f"{start} --dry-run --key 1")
    found = json.loads(ran.out)
    assert (ran.code, ran.err) == (0, "")
    assert (found["events"], found["forgotten"], found["remember"]) == (2, 0, 86_400)
    (count,) = found["counts"]
    stream = desk.where[-1] + "-orders-events"
    assert (count["event"], count["stream"], count["reaction"]) == ("orders.OrderPaid", stream, "on_paid")
    assert (count["events"], count["forgotten"]) == (2, 0)
    assert count["first"] <= count["last"] and count["last"].endswith("Z")
    ran = await desk(f"{start} --mode again --yes --key 1")
    ended = json.loads(ran.out)
    assert (ended["status"], ended["sent"], ended["total"], ended["takenBack"]) == ("done", 2, 2, 0)
    assert (ended["reaction"], ended["mode"], ended["key"]) == ("billing.on_paid", "again", "1")
    await desk.until_paid(4)
    assert json.loads((await desk("actorloom replay ls --json")).out) == [ended]
    assert json.loads((await desk(f"actorloom replay cancel {ended['name']} --json")).out) == ended


@pytest.mark.parametrize("flags", [(), ("--json",)])
async def test_the_command_of_a_cancelled_replay_does_not_tell_what_is_taken_back(
    desk: Desk, flags: tuple[str, ...]
) -> None:
    """The other command takes the events back after this one has ended, and tells their number."""
    start = (
        "replay",
        "start",
        "billing.on_paid",
        "--since",
        "first",
        "--mode",
        "again",
        "--rate",
        "0.01",
        "--name",
        "x",
    )
    async with running_command(*start, "--yes", *flags, *desk.where, cwd=desk.home, ready="sends events to") as command:
        ran = await desk("actorloom replay cancel x")
        assert ran.code == 0 and ran.err.rstrip().endswith("taken back"), ran
        assert await command.wait() == 1
    assert re.search(r"x: cancelled\. [01] of 3 events were sent\n", command.text), command.text
    assert ('"takenBack":null' in command.text) is bool(flags), command.text


async def test_a_replay_asks_first(desk: Desk) -> None:
    command = ("replay", "start", "billing.on_paid", "--since", "first", "--mode", "again", *desk.where)
    for answer, code, payments in ((b"n\n", 1, 2), (b"y\n", 0, 4)):
        ours, theirs = pty.openpty()
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "runtime", *command, cwd=desk.home, env=environment(), stdin=theirs,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        os.close(theirs)
        os.write(ours, answer)
        _, err = await child.communicate()
        os.close(ours)
        assert child.returncode == code, err
        assert b"3 events for billing.on_paid, at most 500 a second. The mode is again: all of them are" in err
        assert b"Send them?" in err
        await desk.until_paid(payments)


async def test_the_permissions_of_the_page_are_enough(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    listed = re.search(r"(?m)^may replay needs .* to publish on\n(.*)$", page)
    assert listed is not None
    subjects = json.dumps(re.findall(r"`([^`]+)`", listed[1]))
    user = f'{{ user: tool, password: tool, permissions: {{ publish: {subjects}, subscribe: ["_INBOX.>"] }} }}'
    config = f"authorization {{ users: [{{ user: admin, password: admin }}, {user}] }}\nno_auth_user: admin"
    async with (
        EmbeddedServer(port=0, store_dir=tmp_path / "nats", config=config) as server,
        running(Billing, url=server.url, sources=["orders"]) as system,
    ):
        desk = Desk(system, ("--nats", f"nats://tool:tool@127.0.0.1:{server.port}"), tmp_path)
        room = 1024 * 1024 - 500
        await system.bus.emit(OrderPaid("1", "x" * room))
        await desk.until_paid(1)
        start = "actorloom replay start billing.on_paid --since first --mode again --yes --name x"
        for line in (start, "actorloom replay ls", "actorloom replay cancel x"):
            ran = await desk(line)
            assert ran.code == 0 and "ermission" not in ran.err, ran
        await desk.until_paid(2)


@pytest.mark.parametrize(
    ("line", "code", "text"),
    [
        ("start billing.on_paid --since 1h", 2, "nobody can be asked here: look at the numbers with --dry-run"),
        ("start billing.on_paid", 2, "Missing option '--since'"),
        ("start --since 1h", 2, "give either ACTOR.REACTION or --rule"),
        ("start billing.on_paid --rule book --since 1h", 2, "give either ACTOR.REACTION or --rule"),
        ("start billing.on_paid --target crm --since 1h", 2, "--target and --forgotten belong to --rule"),
        ("start --rule book --since 1h --until 2h", 2, "--until is not later"),
        ("start --rule book", 4, "start one by `actorloom run runtime.router`"),
        ("start billing.on_paid --since soon", 2, "'soon': write 30m, 2h, 7d, or a time such as 2026-03-01T12:00Z"),
        ("start billing.on_paid --since 9999999d --yes", 2, "'9999999d': write 30m, 2h, 7d"),
        ("start billing.on_paid --since 1h --until 9999-12-31T23:59-01:00 --yes", 2, "'9999-12-31T23:59-01:00': write"),
        ("start billing.on_paid --since 1h --until 2h", 2, "--until is not later"),
        ("start billing.on_paid --since 1h --rate nan", 2, "'--rate': nan: Expected `float` > 0.0"),
        ("start billing.on_paid --since 1h --rate 0", 2, "'--rate': 0.0: Expected `float` > 0.0"),
        ("start billing.on_paid --since 1h --mode all", 2, "'all' is not one of 'missing', 'again'"),
        ("start billing.on_paid --since 1h --name a.b", 2, "'a.b': use at most 100 letters, digits, dashes"),
        ("start billing --since 1h", 2, "'billing': write actor.reaction, for example orders.on_paid"),
        ("start Billing.on_paid --since 1h", 2, "'Billing.on_paid': write actor.reaction"),
        (f"start billing.on_paid --since 1h --key {'k' * 2000}", 1, "is too long"),
        ("start billing.on_payed --since 1h --yes", 4, "billing has no reaction on_payed: did you mean on_paid?"),
        ("start orders.on_paid --since 1h --yes", 4, "orders does not run: a process of it must run"),
        ("start billing.on_paid --since 0s --yes", 4, "billing.on_paid: no event is stored in this time"),
        ("resume nothing", 4, "there is no replay nothing"),
        ("cancel nothing", 4, "there is no replay nothing"),
        ("cancel no.thing", 2, "'no.thing': use at most 100 letters"),
    ],
)
async def test_what_is_refused(desk: Desk, line: str, code: int, text: str) -> None:
    ran = await desk(f"actorloom replay {line}")
    assert (ran.code, ran.out) == (code, ""), ran
    assert text in ran.err and "Traceback" not in ran.err


async def test_an_unreadable_replay_is_named(desk: Desk) -> None:
    assert (await desk("actorloom replay start billing.on_paid --since 1h --yes --name good")).code == 0
    bucket = Names("", desk.where[-1]).replay_bucket
    await JetStream(desk.system.connection).publish(f"$KV.{bucket}.bad", b'{"name": 1}')
    text = f"$KV.{bucket}.bad: the replay is unreadable"
    for line in ("cancel bad", "resume bad"):
        ran = await desk(f"actorloom replay {line}")
        assert ran.code == 1 and text in ran.err
    ran = await desk("actorloom replay ls")
    assert ran.code == 0 and text in ran.err
    assert [line.split()[0] for line in ran.out.splitlines()] == ["name", "good"]
