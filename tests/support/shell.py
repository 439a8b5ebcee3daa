"""Runs a Markdown page: writes its files, types its commands, and compares their output with the page.

A code block after a line that is only a path in backticks and a colon is a file. A ``console`` block is a terminal
session: each line that begins with ``$ `` is typed, and the lines below it are the expected output, in which ``…`` matches
any text. ``actorloom run`` keeps running; the next ``run`` or the end of the page stops it as Ctrl-C does. The commands
of ``actorloom`` run in children of a process that has imported it, see `tests.support.preloaded`.
"""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support import forked, preloaded
from tests.support.process import Process

ROOT = Path(__file__).parents[2]
TIMEOUT = 40
"""Seconds within which a command must finish."""

PATIENCE = 10
"""Seconds for which a command that reads is repeated until its output matches, because reactions run after their events."""

READS = re.compile(r"\.query\.| query | ls\b")
"""Commands that read: queries and lists."""

NATS = f"""#!{sys.executable}
import argparse, asyncio, os, sys, nats
from nats.errors import NoRespondersError
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["req"]), parser.add_argument("--raw", action="store_true", required=True)
parser.add_argument("-H", dest="headers", action="append", default=[])
parser.add_argument("subject"), parser.add_argument("body")
given = parser.parse_args()
async def main():
    client = await nats.connect(os.environ["NATS_URL"])
    headers = dict(header.split(":", 1) for header in given.headers)
    try:
        reply = await client.request(given.subject, given.body.encode(), timeout=5, headers=headers or None)
        print(reply.data.decode())
    except NoRespondersError:
        print("No responders are available", file=sys.stderr)
    await client.close()
asyncio.run(main())
"""
"""A replacement for the nats command line, if it is not installed. It supports ``nats req`` only."""


class Step(NamedTuple):
    """A file to write, if it has a `path`; otherwise a command to type and its expected output."""

    text: str
    path: str | None = None
    output: str = ""


def steps(document: Path) -> Iterator[Step]:
    """Yield the files and commands of a page, in order."""
    for before, language, body in re.findall(r"(?ms)([^\n]*)\n*^```(\w+)\n(.*?)^```$", document.read_text()):
        named = re.fullmatch(r"`([^`]+)`:", before)
        if named is not None:
            yield Step(body, path=named[1])
        elif language == "console":
            for typed in re.split(r"(?m)^\$ ", body)[1:]:
                command, _, output = re.sub(r"\\\n> ", "", typed).partition("\n")
                yield Step(command, output=output.rstrip())


class Terminal:
    """A bash in `home` that runs all commands, so that variables stay set, and at most one ``run`` in the background.

    Args:
        home: The working directory.
        url: URL of the NATS server, which commands get as ``NATS_URL``.
        nats: Path of the nats command line; None installs a replacement.
        fresh: Start an interpreter for each command of ``actorloom``.
    """

    def __init__(self, home: Path, url: str, nats: str | None, fresh: bool = False) -> None:
        self.home = home
        tools = home / ".tools"
        tools.mkdir()
        programs = {} if nats else {"nats": NATS}
        if not fresh:
            programs["actorloom"] = preloaded.command(forked.listening())
        for name, text in programs.items():
            (tools / name).write_text(text)
            (tools / name).chmod(0o755)
        self._variables = {
            **os.environ,
            "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(home)]),
            "NATS_URL": url,
            "ACTORLOOM_LOG_FORMAT": "text",
        }
        self._bash: asyncio.subprocess.Process | None = None
        self._fresh = fresh
        self._server: Process | None = None

    async def play(self, step: Step) -> None:
        """Run one step, and compare its output with the page."""
        if step.path is not None:
            path = self.home / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text)
        elif step.text.startswith("actorloom run"):
            await self.stop()
            await self._run(step)
        else:
            await self._type(step)

    async def stop(self) -> None:
        """Stop the background ``run`` as Ctrl-C does. It must drain and exit with 0."""
        if self._server is None:
            return
        server, self._server = self._server, None
        try:
            server.signal(signal.SIGINT)
            assert await server.wait(TIMEOUT) == 0, server.text
        finally:
            await server.end()

    async def close(self) -> None:
        """Kill all processes that still run."""
        if self._bash is not None and self._bash.returncode is None:
            self._bash.kill()
            await self._bash.wait()
        if self._server is not None:
            await self._server.end()

    async def _type(self, step: Step) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not matches(printed := await self._output_of(step.text), step.output):
            late = asyncio.get_running_loop().time() > deadline
            assert READS.search(step.text) and not late, f"$ {step.text}\n{printed}\n--- expected ---\n{step.output}"
            await asyncio.sleep(0.05)

    async def _output_of(self, command: str) -> str:
        if self._bash is None:
            self._bash = await asyncio.create_subprocess_exec(
                *("bash", "--norc"),
                cwd=self.home,
                env=self._variables,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                limit=2**22,
            )
        assert self._bash.stdin is not None and self._bash.stdout is not None
        self._bash.stdin.write(f"{command}\necho '<<end>>'\n".encode())
        async with asyncio.timeout(TIMEOUT):
            printed = await self._bash.stdout.readuntil(b"<<end>>\n")
        return printed.decode().removesuffix("<<end>>\n").rstrip()

    async def _run(self, step: Step) -> None:
        arguments = step.text.split()
        child: asyncio.subprocess.Process | forked.Forked
        written, output = await forked.piped()
        try:
            if self._fresh:
                child = await asyncio.create_subprocess_exec(
                    *arguments, cwd=self.home, env=self._variables, stdout=written, stderr=written
                )
            else:
                child = await forked.start(
                    *("-P", "-m", "runtime", *arguments[1:]),
                    cwd=self.home,
                    env=self._variables,
                    stdout=written,
                    stderr=written,
                )
        finally:
            os.close(written)
        self._server = Process(child, output)
        await self._server.until("ready: ", timeout=TIMEOUT)
        printed = self._server.text
        for line in step.output.splitlines():
            assert any(matches(found, line) for found in printed.splitlines()), f"no {line!r} in:\n{printed}"


def matches(printed: str, expected: str) -> bool:
    """Return whether printed text matches the expected text, in which ``…`` matches any text."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@asynccontextmanager
async def terminal(home: Path, url: str, *, stand_in: bool = True, fresh: bool = False) -> AsyncGenerator[Terminal]:
    """Open a terminal in an empty directory.

    Args:
        home: The directory.
        url: URL of the NATS server.
        stand_in: Use the replacement for the nats command line, even if the machine has one.
        fresh: Start an interpreter for each command of ``actorloom``.
    """
    opened = Terminal(home, url, None if stand_in else shutil.which("nats"), fresh)
    try:
        yield opened
        await opened.stop()
    finally:
        await opened.close()
