"""`keys`, `state`, `timers` and `history` beside a real owner, in another process than it, and without one."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from runtime.client.bus import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.telemetry import Tracing
from tests.support.process import Completed, Process, run_command, running_command
from tests.support.shelf import PARTITIONS, Box, GetBox, Put, SetTimer

KEYS = ("", "_", "a b", "a/b", "a.*.>", "büx", "line\nbreak", "plain", "\x1b[31mred", "zz/", "%2F", "-dash")
"""Keys that are no tokens of subjects, or are no plain words of a shell."""


class Shop:
    """The shelf in a process of its own, callers, and the command line."""

    def __init__(self, url: str, namespace: str, cwd: Path, bus: Bus) -> None:
        self.settings = ("--nats", url, "--namespace", namespace)
        self.cwd = cwd
        self.bus = bus

    async def cli(self, *arguments: str, stdin: str = "") -> Completed:
        done = await run_command(*arguments, *self.settings, cwd=self.cwd, stdin=stdin)
        assert "Traceback" not in done.err and "Internal error" not in done.err
        return done

    async def json(self, *arguments: str) -> Any:
        done = await self.cli(*arguments, "--json")
        assert done.code == 0, done.err
        return json.loads(done.out)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Process]:
        async with running_command("run", "tests.support.shelf", *self.settings, cwd=self.cwd) as process:
            yield process
            await process.stop()

    async def until_box(self, name: str, **wanted: Any) -> None:
        """Wait until a box has the wanted fields."""
        async with asyncio.timeout(30):
            while True:
                box = await self.bus.query(GetBox(name))
                if box is not None and all(getattr(box, field) == value for field, value in wanted.items()):
                    return
                await asyncio.sleep(0.01)

    async def until(self, wanted: int, *arguments: str) -> list[Any]:
        """Return the list that a command prints, once it has `wanted` entries."""
        async with asyncio.timeout(30):
            while len(found := await self.json(*arguments)) != wanted:
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def shop(nats_server: EmbeddedServer, namespace: str, tmp_path: Path) -> AsyncIterator[Shop]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        bus = Bus(connection, Tracing(in_memory=True).service("test"), namespace=namespace)
        yield Shop(nats_server.url, namespace, tmp_path, bus)


async def test_the_keys_and_states_of_a_live_owner(shop: Shop) -> None:
    async with shop.running():
        for number, key in enumerate(KEYS):
            await shop.bus.command(Put(key, f"content {number}"))
        await shop.bus.command(Put("gone", "soon"))
        await shop.bus.command(Put("gone", ""))

        listed = await shop.json("keys", "shelf")
        assert [each["key"] for each in listed] == sorted(KEYS)
        assert len({each["partition"] for each in listed}) == PARTITIONS
        assert [each["key"] for each in await shop.json("keys", "shelf", "--prefix", "a")] == ["a b", "a.*.>", "a/b"]
        limited = await shop.cli("keys", "shelf", "--limit", "2", "--json")
        assert [each["key"] for each in json.loads(limited.out)] == sorted(KEYS)[:2] and "there are more" in limited.err
        table = (await shop.cli("keys", "shelf")).out
        assert "\x1b" not in table and "\\x1b[31mred" in table and "line\\nbreak" in table

        for number, key in enumerate(KEYS):
            found = await shop.json("state", f"shelf/{key}")
            assert (found["key"], found["state"]) == (key, {"content": f"content {number}", "rang": []})
            assert {**found, "state": 0} in [{**each, "state": 0} for each in listed]
        gone = await shop.cli("state", "shelf/gone")
        assert gone.code == 4 and "has no state" in gone.err
        missing = await shop.cli("state", "shelf/other")
        assert missing.code == 4 and "no such key" in missing.err

        # Never stale: what a reply has promised is what the next look finds.
        for round_ in range(3):
            await shop.bus.command(Put("plain", f"round {round_}"))
            plain = await shop.cli("state", "shelf/plain")
            assert json.loads(plain.out)["content"] == f"round {round_}"
            assert plain.err.startswith("shelf/plain: state version 1, sequence ")
    assert [each["key"] for each in await shop.json("keys", "shelf")] == sorted(KEYS)


async def test_the_whole_record(shop: Shop) -> None:
    async with shop.running():
        for number in range(6):  # one id stays in the record; others leave it in groups
            await shop.bus.command(Put("a", str(number)), id=f"id-{number}")
        await shop.bus.command(Put("gone", ""), id="deleting")
        for _ in range(2):  # ids on their way out of the record are in it, or beside it
            found = await shop.json("state", "shelf/a", "--record")
            # The others are events, to which the shelf reacts itself.
            remembered = [each for each in found["record"]["remembered"] if each["id"].startswith("id-")]
            assert [each["reply"] for each in remembered] == [str(number) for number in range(6)]
            assert [each["id"] for each in remembered] == [f"id-{number}" for number in range(6)]
        gone = await shop.json("state", "shelf/gone", "--record")
        assert gone["state"] is None and "deleting" in [each["id"] for each in gone["record"]["remembered"]]
    # The owner has stored its checkpoint: nothing is left to publish.
    assert (await shop.json("state", "shelf/a", "--record"))["record"]["outbox"] == []


async def test_the_timers_of_a_live_owner(shop: Shop) -> None:
    async with shop.running():
        await shop.bus.command(SetTimer("a/b", "to be fired"))
        await shop.bus.command(SetTimer("a/b", "to be dropped", after=60.0))
        await shop.bus.command(SetTimer("c", "hourly", every="0 0 * * * *", zone="Europe/Berlin"))
        found = await shop.until(4, "timers", "shelf")
        assert [(each["key"], each["name"], each["schedule"]) for each in found] == [
            ("a/b", "to be dropped", None),
            ("a/b", "to be fired", None),
            ("c", "hourly", "0 0 * * * *"),
            ("dusty", "@dust", "0 0 3 1 1 *"),
        ]
        assert [each["command"] for each in found] == ["Ring", "Ring", "Ring", "Dust"]
        assert found[0]["body"] == {"name": "a/b", "called": "to be dropped"} and not found[0]["due"]
        assert found[0]["time"] < found[1]["time"] and found[2]["time"] is None and found[2]["zone"] == "Europe/Berlin"
        assert len(await shop.json("timers", "shelf/a/b")) == 2
        first = await shop.cli("timers", "ls", "shelf", "--limit", "1")
        assert len(first.out.splitlines()) == 2 and "there are 4" in first.err

        assert (await shop.cli("timers", "fire", "shelf/a/b", "to be fired")).err == "fired\n"
        await shop.until_box("a/b", rang=("to be fired",))
        assert (await shop.cli("timers", "fire", "shelf/c", "hourly")).err == "fired; its schedule goes on\n"
        await shop.until_box("c", rang=("hourly",))
        assert (await shop.cli("timers", "fire", "shelf/c", "hourly")).code == 0
        await shop.until_box("c", rang=("hourly", "hourly"))
        assert (await shop.cli("timers", "fire", "shelf/dusty", "@dust")).code == 0
        await shop.until_box("dusty", content="")

        assert (await shop.cli("timers", "drop", "shelf/a/b", "to be dropped")).err == "1 dropped\n"
        assert await shop.json("timers", "shelf/a/b") == []
        dropped = await shop.cli("timers", "drop", "shelf/dusty", "@dust")
        assert "stores it again at its next start" in dropped.err
        assert [each["name"] for each in await shop.json("timers", "shelf")] == ["hourly"]
        for act in ("fire", "drop"):
            again = await shop.cli("timers", act, "shelf/a/b", "to be dropped")
            assert again.code == 4 and "no timer 'to be dropped' of key 'a/b' waits" in again.err
    assert [each["name"] for each in await shop.json("timers", "shelf/c")] == ["hourly"]


async def test_a_timer_that_has_fired_while_nobody_runs(shop: Shop) -> None:
    async with shop.running():
        await shop.bus.command(SetTimer("a", "soon", after=3600.0))
        await shop.until(1, "timers", "shelf/a")
    fired = await shop.json("timers", "fire", "shelf/a", "soon")
    assert (fired["name"], fired["key"], fired["due"]) == ("soon", "a", False)
    [due] = await shop.json("timers", "shelf/a")
    assert due["due"] and due["name"] == "soon"
    again = await shop.cli("timers", "fire", "shelf/a", "soon")
    assert again.code == 4 and "is due already" in again.err
    dropped = await shop.cli("timers", "drop", "shelf/a", "soon", "--json")
    assert [(each["name"], each["due"]) for each in json.loads(dropped.out)] == [("soon", True)]
    assert dropped.code == 0 and "an owner that has received it" in dropped.err
    async with shop.running():
        await shop.bus.command(Put("a", "later"))
        assert await shop.bus.query(GetBox("a")) == Box("later")


async def test_the_history_of_a_key(shop: Shop) -> None:
    async with shop.running():
        for content in ("one", "poison", "two"):
            await shop.bus.command(Put("a/b", content))
        await shop.bus.command(SetTimer("a/b", "late"))
        await shop.bus.command(SetTimer("a/b", "yearly", every="@yearly"))
        await shop.bus.command(Put("other", "three"))
        found = await shop.until(6, "history", "shelf/a/b")
    assert sorted(found[:4], key=lambda each: each["time"]) == found[:4]
    assert sorted(each["kind"] for each in found[:4]) == ["dead letter", "event", "event", "event"]
    assert [each["kind"] for each in found[4:]] == ["timer", "timer"]
    contents = [each["body"]["content"] for each in found if each["kind"] == "event"]
    assert contents == ["one", "poison", "two"]
    [letter] = [each for each in found if each["kind"] == "dead letter"]
    assert "it cannot be" in letter["detail"] and letter["id"].startswith("shelf:")
    [poison] = [each for each in found if each["kind"] == "event" and each["body"]["content"] == "poison"]
    assert letter["trace"] == poison["trace"] and len(letter["trace"]) == 32
    assert [each["time"] is None for each in found] == [False] * 5 + [True]
    assert [each["detail"] for each in found[4:]] == ["late", "yearly @yearly"]

    newest = await shop.cli("history", "shelf/a/b", "--limit", "2")
    assert len(newest.out.splitlines()) == 3 and "there are 6" in newest.err
    assert "no history of states" in newest.err
    assert "\x1b" not in (await shop.cli("history", "shelf/a/b")).out
    since = found[1]["time"]
    assert [each["id"] for each in await shop.json("history", "shelf/a/b", "--since", since)] == [
        each["id"] for each in found[1:]
    ]
    assert await shop.json("history", "shelf/nothing") == []


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (["keys", "nobody"], 4, "no actor of this name has run here"),
        (["keys", "No.Body"], 2, "cannot be the name of an actor"),
        (["keys", "shelf", "--limit", "0"], 2, "0 is not in the range"),
        (["state", "shelf"], 2, "write actor/key"),
        (["state", "No/a"], 2, "write actor/key"),
        (["state", "shelf/" + "ü" * 600], 2, "is too long"),
        (["state", "nobody/a"], 4, "no actor of this name has run here"),
        (["timers"], 2, "Missing argument"),
        (["timers", "No.Body"], 2, "cannot be the name of an actor"),
        (["timers", "nobody"], 4, "no actor of this name has run here"),
        (["timers", "fire", "nobody/a", "x"], 4, "no actor of this name has run here"),
        (["timers", "fire", "nobody/a"], 2, "Missing argument 'NAME'"),
        (["history", "nobody/a"], 4, "no actor of this name has run here"),
        (["history", "shelf"], 2, "write actor/key"),
        (["history", "shelf/a", "--since", "yesterday"], 2, "write 30m, 2h, 7d"),
        (["export", "nobody"], 4, "no actor of this name has run here"),
    ],
)
async def test_a_failing_command_says_why(shop: Shop, arguments: list[str], code: int, text: str) -> None:
    done = await shop.cli(*arguments)
    assert done.code == code and text in " ".join(done.err.split()), done
