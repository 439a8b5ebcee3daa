"""No character from outside controls the operator's terminal, whatever command prints it."""

import asyncio
import json
import os
import pty
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime import Actor, Command, Event, Query, Rejected, command, query, react
from runtime.nats.server import EmbeddedServer
from runtime.telemetry.logs import TextFormatter
from runtime.wire.printable import printable, printable_json
from tests.support.probe import running
from tests.support.process import environment, run_command

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7fa\u202eb\u2066c\u2028d\U000e0041"
"""A title (OSC), a cleared screen, a color by a one-byte sequence (C1), a changed direction, and more."""

ALLOWED = {"\n"}


def unsafe(text: str) -> list[str]:
    """Return the characters of a text that could control a terminal, or change the order of what it shows."""
    return [
        each
        for each in text
        if (each not in ALLOWED and unicodedata.category(each) in ("Cc", "Zl", "Zp", "Cs")) or is_format(each)
    ]


def is_format(each: str) -> bool:
    return unicodedata.bidirectional(each) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")


@given(st.text())
@example(EVIL)
@example("two\nlines\tand a tab")
def test_a_printable_text_controls_nothing(text: str) -> None:
    assert not unsafe(printable(text).replace("\t", "")) and "\n" not in printable(text)
    assert printable(text, lines=True).count("\n") == text.count("\n")
    assert printable(printable(text)) == printable(text)


@given(st.text(st.characters(codec="utf-8")))
@example("plain text, ünïcödé, 日本, 👩‍🚀")
def test_other_text_stays_as_it_is(text: str) -> None:
    if not unsafe(text) and text.isprintable():
        assert printable(text) == text


@given(st.text(st.characters(codec="utf-8")))
@example(EVIL)
def test_json_keeps_its_value(text: str) -> None:
    for indent in (None, 2):
        written = printable_json(json.dumps({"a": [text]}, ensure_ascii=False, indent=indent))
        assert not unsafe(written) and json.loads(written) == {"a": [text]}


def test_a_log_line_of_a_terminal_has_no_control_characters_and_forges_no_line() -> None:
    import logging

    record = logging.makeLogRecord({"msg": "%s", "args": (f"{EVIL}\n12:00:00.000 INFO forged",), "extra": f"{EVIL}\n"})
    lines = TextFormatter(color=False).format(record).splitlines()
    assert not unsafe("".join(lines)) and len(lines) == 2 and lines[1].startswith("    12:00")


class Ring(Command[str], actor="bells", key="name"):
    name: str


class Refuse(Command[None], actor="bells", key="name"):
    name: str


class GetEvil(Query[str], actor="bells"):
    __doc__ = f"Evil {EVIL}"


class BellMoved(Event, actor="bells", key="name"):
    name: str


class Bells(Actor):
    __doc__ = f"Bells.{EVIL}"
    name = "bells"

    @query
    async def get_evil(self, message: GetEvil) -> str:
        return EVIL

    @command
    async def ring(self, message: Ring) -> str:
        self.emit(BellMoved(message.name))
        return message.name

    @command
    async def refuse(self, message: Refuse) -> None:
        raise Rejected(f"no {EVIL}\nError: forged")

    @react
    async def on_bell_moved(self, event: BellMoved) -> None:
        raise Rejected(f"never {EVIL}\nforged")


async def on_terminal(*arguments: str, cwd: Path) -> str:
    """Run a command whose stdout and stderr are a terminal, and return its output."""
    main, side = pty.openpty()
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "runtime", *arguments, cwd=cwd, env=environment(), stdout=side, stderr=side,
        stdin=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    os.close(side)
    reader = asyncio.get_running_loop().run_in_executor(None, _read_all, main)
    await child.wait()
    return (await reader).decode()


def _read_all(end: int) -> bytes:
    data = b""
    try:
        while chunk := os.read(end, 65536):
            data += chunk
    except OSError:  # the other end is closed
        pass
    os.close(end)
    return data


@pytest.mark.timeout(60)
async def test_no_command_prints_control_characters_from_outside(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    flags = ["--nats", nats_server.url, "--namespace", namespace]
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Ring(f"k{EVIL}"))
        await system.until(lambda: bool(system.consumers("bells").pullers))
        await _dead_letter(system)
        commands = [
            ["query", "bells.get_evil"],
            ["command", "bells.refuse", "name=a"],
            ["describe", "bells"],
            ["dlq", "ls"],
            ["dlq", "show", "bells:1"],
        ]
        shown = await asyncio.gather(*(on_terminal(*each, *flags, cwd=tmp_path) for each in commands))
        for arguments, text in zip(commands, shown, strict=True):
            plain = text.replace("\r\n", "\n")
            for style in ("\x1b[0m", "\x1b[1m", "\x1b[2m"):
                plain = plain.replace(style, "")
            assert not unsafe(plain), arguments
            assert "u202e" in plain.lower() or "\\x1b" in plain, (arguments, plain)
            assert not any(line.startswith(("forged", "Error: forged")) for line in plain.splitlines())
        exact = await run_command("query", "bells.get_evil", *flags, cwd=tmp_path)
        assert json.loads(exact.out) == EVIL and "\u202e" in exact.out  # JSON for a program is exact


async def _dead_letter(system: object) -> None:
    for _ in range(200):
        if await system.stored_dead_letters("bells"):  # type: ignore[attr-defined]
            return
    raise AssertionError("no dead letter")
