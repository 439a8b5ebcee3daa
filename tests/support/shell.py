"""Runs a document: its files are written and its commands typed as they stand, and what they print is compared.

In Markdown, a block after a line that is just a path, in backticks and with a colon, is a file. A ``console`` block is a terminal: a line that
begins with ``$ `` is typed, the lines below it are what it prints, where ``…`` stands for anything. ``python -m runtime
run`` is left running, and stopped as by Ctrl-C where another one is typed, or at the end.
"""

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TIMEOUT = 40
PATIENCE = 10
"""Seconds for which a query is asked again, until the reaction that it looks for has run."""

# Where there is no nats command line, a stand-in that knows `nats req`, on plain nats-py.
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


class Step(NamedTuple):
    """A file to write (`path`), or a command to type."""

    text: str
    path: str | None = None
    output: str = ""


def steps(document: Path) -> Iterator[Step]:
    """The files and commands of a document, in order."""
    for before, language, body in re.findall(r"(?ms)([^\n]*)\n*^```(\w+)\n(.*?)^```$", document.read_text()):
        named = re.fullmatch(r"`([^`]+)`:", before)
        if named is not None:
            yield Step(body, path=named[1])
        elif language == "console":
            for typed in re.split(r"(?m)^\$ ", body)[1:]:
                command, _, output = re.sub(r"\\\n> ", "", typed).partition("\n")
                yield Step(command, output=output.rstrip())


class Terminal:
    """One bash in `home` for all commands, so that what they set stays set, and at most one `run` beside it."""

    def __init__(self, home: Path, url: str, nats: str | None) -> None:
        self.home = home
        tools = home / ".tools"
        tools.mkdir()
        if nats is None:
            (tools / "nats").write_text(NATS)
            (tools / "nats").chmod(0o755)
        self._variables = {
            **os.environ,
            "PATH": os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(home)]),
            "NATS_URL": url,
            "ACTORLOOM_LOG_FORMAT": "text",
        }
        self._bash: asyncio.subprocess.Process | None = None
        self._server: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[str] | None = None

    async def play(self, step: Step) -> None:
        """Do one step, and compare what it prints."""
        if step.path is not None:
            path = self.home / step.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(step.text)
        elif step.text.startswith("python -m runtime run"):
            await self.stop()
            await self._run(step)
        else:
            await self._type(step)

    async def stop(self) -> None:
        """End the running `run` as Ctrl-C does; it must drain, and end well."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.send_signal(signal.SIGINT)
        async with asyncio.timeout(TIMEOUT):
            assert self._reading is not None
            log = await self._reading
            assert await server.wait() == 0, log

    async def close(self) -> None:
        """End what is left, whatever happened."""
        for process in (self._server, self._bash):
            if process is not None and process.returncode is None:
                process.kill()
                await process.wait()
        if self._reading is not None:
            await asyncio.gather(self._reading, return_exceptions=True)

    async def _type(self, step: Step) -> None:
        deadline = asyncio.get_running_loop().time() + PATIENCE
        while not matches(printed := await self._bash_says(step.text), step.output):
            late = asyncio.get_running_loop().time() > deadline
            asks = ".query." in step.text or " query " in step.text
            assert asks and not late, f"$ {step.text}\n{printed}\n--- but the document says ---\n{step.output}"
            await asyncio.sleep(0.05)

    async def _bash_says(self, command: str) -> str:
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
        self._server = await asyncio.create_subprocess_exec(
            *step.text.split(),
            cwd=self.home,
            env=self._variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert self._server.stdout is not None
        printed = ""
        async with asyncio.timeout(TIMEOUT):
            while "ready: " not in printed:
                line = await self._server.stdout.readline()
                assert line, printed
                printed += line.decode()
        for line in step.output.splitlines():
            assert any(matches(found, line) for found in printed.splitlines()), f"no {line!r} in:\n{printed}"
        self._reading = asyncio.ensure_future(self._rest(self._server.stdout, printed))

    @staticmethod
    async def _rest(stream: asyncio.StreamReader, printed: str) -> str:
        return printed + (await stream.read()).decode()


def matches(printed: str, expected: str) -> bool:
    """Whether what was printed is what the document says."""
    pattern = ".*".join(re.escape(part) for part in expected.split("…"))
    return re.fullmatch(pattern, printed, re.DOTALL) is not None


@asynccontextmanager
async def terminal(home: Path, url: str, *, stand_in: bool = True) -> AsyncIterator[Terminal]:
    """A terminal in an empty directory; `stand_in` for the nats command line, or the machine's own."""
    opened = Terminal(home, url, None if stand_in else shutil.which("nats"))
    try:
        yield opened
        await opened.stop()
    finally:
        await opened.close()
