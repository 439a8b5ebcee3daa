"""One worker, as its parent sees it: its process, its channel, and its messages."""

import asyncio
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from typing import Final

from runtime.cli.again import again
from runtime.cli.channel import ORPHANED, Begun, Channel, Failed, Question, Ready, Reply
from runtime.host.health import Answer
from runtime.nats.end_with_parent import end_with_parent

_LAST_WORDS: Final = 1.0
"""Seconds for the last messages of a process that has ended."""
_QUESTIONS: Final = 16
"""Unanswered questions to one worker. Further ones have no answer."""


class Worker:
    """One worker: the processes that have its number, one after another."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.process: Process | None = None
        """The running process; None between two of them."""
        self.begun = False
        """Whether the event loop of the process runs."""
        self.ready: Ready | None = None
        """The message by which the process said that its actors are ready."""
        self.failure = ""
        """Why the last process ended; empty if that is not known, or did not happen."""
        self.restarts = 0
        """The number of processes that were started after the first one."""
        self._channel: Channel | None = None
        self._questions: dict[int, asyncio.Future[Answer]] = {}
        self._asked = 0

    async def ask(self, path: str, timeout: float) -> Answer:
        """Return the answer of the process to a request of the health port.

        Raises:
            TimeoutError: It does not answer within `timeout` seconds, or has ended.
        """
        if self._channel is None or len(self._questions) >= _QUESTIONS:
            raise TimeoutError
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._questions[number] = answer
        try:
            self._channel.send(Question(number, path))
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            self._questions.pop(number, None)

    async def start(self, environ: Mapping[str, str]) -> Process:
        """Start a process. Its channel is read by `listen`. Raises `OSError` if the system has no room for it."""
        ours, theirs = socket.socketpair()
        with ExitStack() as opened:
            opened.enter_context(ours)
            with theirs:
                number, descriptor = str(self.number), str(theirs.fileno())
                self.process = await asyncio.create_subprocess_exec(
                    *end_with_parent(again("--worker", number, descriptor), ORPHANED),
                    env=environ,
                    stdin=asyncio.subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    process_group=0,  # Ctrl-C reaches the parent only, which passes it on
                )
            opened.pop_all()
        self.begun, self.ready, self.failure = False, None, ""
        self._channel = await Channel.open(ours)
        return self.process

    async def listen(self, process: Process, changed: asyncio.Event) -> int:
        """Read the messages of a process until it has ended, and return its exit code. `changed` is set if it is ready."""
        assert self._channel is not None
        reading = asyncio.ensure_future(self._read(self._channel, changed))
        try:
            code = await process.wait()
            # A process that the worker has started may have the channel open for longer.
            await asyncio.wait({reading}, timeout=_LAST_WORDS)
            return code
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            self.begun, self.ready, self.process = False, None, None
            self._channel.close()
            self._channel = None

    async def _read(self, channel: Channel, changed: asyncio.Event) -> None:
        while (message := await channel.receive()) is not None:
            match message:
                case Begun():
                    self.begun = True
                case Ready():
                    self.ready = message
                    changed.set()
                case Failed(text):
                    self.failure = text
                case Reply() if (question := self._questions.get(message.number)) and not question.done():
                    question.set_result(message.answer)
                case _:
                    pass

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process, if one runs. Any thread may call this."""
        # Not `Process.send_signal`: it takes the exit code of a process that has just ended, and asyncio then reports 255.
        if self.process is not None and self.process.returncode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, number)
