"""Completion in the shell: run with the variables that a shell sets, against running services, and in real shells."""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from runtime import Actor, Command, Event, Query, command, connect, query, react
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.testing import running
from tests.support import forked, preloaded
from tests.support.process import ROOT, Completed, run_command


class Address(msgspec.Struct, frozen=True, rename="camel"):
    city: str
    postal_code: str = ""


class FindDesk(Query[int], actor="desks", key="desk_id", rename="camel"):
    desk_id: str
    status: Literal["FREE", "FULL", "taken"] = "FREE"
    high: bool = False
    tags: list[str] = []
    address: Address | None = None


class ListDesks(Query[int], actor="desks"):
    pass


class MoveDesk(Command[None], actor="desks", key="desk_id", rename="camel"):
    desk_id: str


class DeskMoved(Event, actor="desks", key="desk_id", rename="camel"):
    desk_id: str


class FindLamp(Query[int], actor="lamps"):
    pass


class Desks(Actor):
    name = "desks"

    @query
    async def find(self, message: FindDesk) -> int:
        return 1

    @query
    async def find_all(self, message: ListDesks) -> int:
        return 1

    @command
    async def move(self, message: MoveDesk) -> None:
        self.emit(DeskMoved(message.desk_id))


class Lamps(Actor):
    name = "lamps"

    @query
    async def find(self, message: FindLamp) -> int:
        return 1

    @react
    async def on_desk_moved(self, event: DeskMoved) -> None:
        pass


@pytest.fixture
async def variables(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[dict[str, str]]:
    async with running(Desks, Lamps, url=nats_server.url, namespace=namespace):
        yield {"NATS_URL": nats_server.url, "ACTORLOOM_NAMESPACE": namespace}


async def completed(words: list[str], shell: str, variables: dict[str, str]) -> Completed:
    """Run the command as click's function of a shell does; the last word is being typed."""
    zsh = {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    fish = {"COMP_WORDS": " ".join(words), "COMP_CWORD": words[-1]}
    env = {**variables, **(fish if shell == "fish" else zsh), "_ACTORLOOM_COMPLETE": f"{shell}_complete"}
    return await run_command(cwd=ROOT, env=env)


async def complete(line: str, variables: dict[str, str], shell: str = "bash") -> list[str]:
    """Return the completions of a line. Bash splits words at ``=`` and ``:``."""
    words = line.split(" ")
    if shell == "bash":
        words = [part for word in words for part in word.replace("=", "\n=\n").split("\n")]
        words = [part for place, part in enumerate(words) if part or place == len(words) - 1]
        if words[-2:] == ["=", ""]:
            words.pop()  # the word under the cursor is the sign
    result = await completed(["actorloom", *words], shell, variables)
    assert (result.code, result.err) == (0, "")
    lines = result.out.rstrip().splitlines()
    return list(lines[1::3]) if shell == "zsh" else [each.partition(",")[2] for each in lines]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("query ", ["desks.", "lamps."]),
        ("query d", ["desks.find_desk", "desks.list_desks"]),
        ("query desks.li", ["desks.list_desks"]),
        ("query x", []),
        ("command ", ["desks.move_desk"]),
        ("emit ", ["desks.DeskMoved"]),
        ("tap ", ["desks.DeskMoved"]),
        ("describe ", ["desks", "lamps"]),
        ("health desks l", ["lamps"]),
        ("upgrade d", ["desks"]),
        ("repartition d", ["desks"]),
        ("dlq ls --service l", ["lamps"]),
        ("keys l", ["lamps"]),
        ("export l", ["lamps"]),
        ("import l", ["lamps"]),
        ("timers ls l", ["lamps"]),
        ("state l", ["lamps/"]),
        ("history l", ["lamps/"]),
        ("timers fire l", ["lamps/"]),
        ("timers drop l", ["lamps/"]),
        ("schemas ls l", ["lamps"]),
        ("schemas show ", ["desks.", "lamps."]),
        ("schemas diff l", ["lamps.FindLamp", "lamps.FindLamp.reply"]),
        ("timers l", ["ls", "lamps"]),
        ("d", ["describe", "dlq", "doctor", "dashboards", "demo"]),
    ],
)
async def test_services_and_operations_are_completed(variables: dict[str, str], line: str, wanted: list[str]) -> None:
    assert sorted(await complete(line, variables)) == sorted(wanted)


async def test_an_unknown_command_makes_no_noise(variables: dict[str, str]) -> None:
    assert "run" in await complete("nonsense ", variables)


async def test_reactions_replays_and_archives_are_completed(variables: dict[str, str]) -> None:
    assert await complete("replay start ", variables) == ["lamps.on_desk_moved"]
    assert await complete("replay resume ", variables) == []
    async with connect(variables["NATS_URL"], namespace=variables["ACTORLOOM_NAMESPACE"]) as bus:
        await bus.emit(DeskMoved("1"))
    start = ("replay", "start", "lamps.on_desk_moved", "--since", "first", "--name", "moved", "--yes")
    assert (await run_command(*start, cwd=ROOT, env=variables)).code == 0
    assert await complete("replay resume ", variables) == ["moved"]
    assert await complete("replay cancel m", variables) == ["moved"]
    assert (await run_command("archives", "put", "desks", "--actor", "desks", cwd=ROOT, env=variables)).code == 0
    for line in ("archives put ", "archives delete d", "replay start lamps.on_desk_moved --archive "):
        assert await complete(line, variables) == ["desks"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_fields_of_the_message_are_completed(variables: dict[str, str], shell: str) -> None:
    async def after(text: str) -> list[str]:
        return await complete(f"query desks.find_desk {text}", variables, shell)

    assert await after("") == ["address.", "deskId=", "high=", "status=", "tags:="]
    assert await after("d") == ["deskId="]
    assert await after("deskId=1 ") == ["address.", "high=", "status=", "tags:="]
    assert await after("deskId=1 status=FREE h") == ["high="]
    assert await after("address.") == ["address.city=", "address.postalCode="]
    assert await after("address.city=Lyon address.p") == ["address.postalCode="]
    assert await after("none.") == []
    before = "" if shell == "bash" else "status="
    assert await after("status=F") == [f"{before}FREE", f"{before}FULL"]
    assert sorted(await after("deskId=1 status=")) == sorted(f"{before}{each}" for each in ("FREE", "FULL", "taken"))
    assert await after("high=t") == ["true" if shell == "bash" else "high=true"]
    assert await after("deskId=x") == []
    assert await complete("command desks.move_desk ", variables, shell) == ["deskId="]
    assert await complete("emit desks.DeskMoved ", variables, shell) == ["deskId="]
    assert await complete("emit desks.desk_moved ", variables, shell) == ["deskId="]
    assert await complete("query desks.unknown ", variables, shell) == []
    assert await complete("query nonsense ", variables, shell) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_text_that_a_shell_would_not_take_as_it_is_is_left_out(variables: dict[str, str], shell: str) -> None:
    def answer(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
        for name in ("evil\x1b[2J", "evil\nplain,forged", "$(evil)", "ev il"):
            metadata = {"namespace": variables["ACTORLOOM_NAMESPACE"]}
            info = msgspec.json.encode({"name": name, "id": name, "version": "1.0.0", "metadata": metadata})
            connection.publish(reply, info)

    async with await Connection.connect(ConnectionOptions(url=variables["NATS_URL"])) as connection:
        await connection.subscribe("$SRV.INFO", answer)
        await connection.flush()
        assert await complete("describe ", variables, shell) == ["desks", "lamps"]


async def test_flags_of_the_line_count(variables: dict[str, str]) -> None:
    url, namespace = variables["NATS_URL"], variables["ACTORLOOM_NAMESPACE"]
    words = ["actorloom", "query", "--nats", url, "--namespace", namespace, "l"]
    for _ in range(5):  # it waits for a second at most, which this machine may stand still
        result = await completed(words, "zsh", {})
        assert (result.code, result.err) == (0, "")
        if "lamps.find_lamp" in result.out:
            break
    assert "lamps.find_lamp" in result.out
    other = await completed([*words[:-3], "--namespace", "other", "l"], "zsh", {})
    assert (other.code, other.out.strip(), other.err) == (0, "", "")


@pytest.mark.parametrize(
    "wrong", [{"NATS_URL": "nats://127.0.0.1:1"}, {"NATS_URL": "x://"}, {"ACTORLOOM_TIMEOUT": "no"}]
)
async def test_without_a_server_there_is_no_completion_and_no_noise(wrong: dict[str, str]) -> None:
    started = time.monotonic()
    for line in ("query ", "query desks.find_desk ", "describe ", "upgrade "):
        assert await complete(line, wrong) == []
    assert time.monotonic() - started < 4 * 5


BASH = shutil.which("bash")


@pytest.mark.skipif(BASH is None, reason="there is no bash")
async def test_bash_itself_completes(variables: dict[str, str], tmp_path: Path) -> None:
    """Bash calls the function for each line with a real command, as at the Tab key."""
    actorloom = tmp_path / "actorloom"
    actorloom.write_text(preloaded.command(forked.listening()))
    actorloom.chmod(0o755)
    script = """
eval "$(_ACTORLOOM_COMPLETE=bash_source actorloom)"
options=
compopt() { options="$1 $2"; }
try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); options=; _actorloom_completion actorloom; echo "${COMPREPLY[*]}|$options"; }
try actorloom query l
try actorloom query desks.find_desk des
try actorloom query desks.find_desk status = FU
try actorloom state l
"""
    env = {**os.environ, **variables, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    child = await asyncio.create_subprocess_exec(
        *("bash", "--norc", "-c", script),
        env=env,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await child.communicate()
    assert error == b""
    assert out.decode().splitlines() == ["lamps.find_lamp|", "deskId=|-o nospace", "FULL|", "lamps/|-o nospace"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_the_commands_of_the_page_print_a_script(shell: str) -> None:
    page = (ROOT / "docs" / "operations.md").read_text()
    assert f"_ACTORLOOM_COMPLETE={shell}_source actorloom" in page
    result = await run_command(cwd=ROOT, env={"_ACTORLOOM_COMPLETE": f"{shell}_source"})
    assert (result.code, result.err) == (0, "")
    assert "_ACTORLOOM_COMPLETE" in result.out


async def test_a_wrong_command_is_still_refused() -> None:
    assert (await run_command("quer", cwd=ROOT)).code == 2
