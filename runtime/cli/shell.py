"""The prompt of `shell`: Python with a connected bus, and `await` at the top level.

The console runs in the main thread, where Ctrl-C reaches it. The event loop has a thread of its own, which runs each statement
and keeps the connection alive while the prompt waits for the next one.
"""

import ast
import asyncio
import inspect
import sys
import traceback
from code import InteractiveConsole
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import AsyncExitStack
from enum import Enum
from importlib.util import find_spec
from threading import Event, Thread
from types import CodeType, FunctionType
from typing import Any, Final, TypeVar

import msgspec

from runtime.actor.message import declared
from runtime.cli.client import options_of
from runtime.cli.failures import FAILED, INTERRUPTED, KNOWN, described, exit_code
from runtime.cli.output import echo, print_note
from runtime.cli.targets import import_targets
from runtime.client.bus import connect
from runtime.host.config import Configuration

T = TypeVar("T")

_FILE: Final = "<shell>"
"""The name of the file in tracebacks of statements."""

_END: Final = 2.0
"""Seconds that tasks of the statements may take to end after the last one."""


def run_shell(configuration: Configuration, targets: Sequence[str]) -> None:
    """Run the prompt until the end of stdin or `exit()`.

    Args:
        configuration: The settings.
        targets: The modules whose messages the prompt knows.

    Raises:
        ActorError: A module cannot be imported, or there is no connection.
        SystemExit: The exit code is not 0.
    """
    import_targets(targets)
    names = _names()
    settings = configuration.settings
    loop = _Loop()
    try:
        opened = connect(
            options=options_of(configuration), namespace=settings.namespace, timeout=settings.timeout, service="shell"
        )
        bus = loop.run(loop.stack.enter_async_context(opened))
        host, port = bus.connection.server_address
        banner = f"bus is connected to nats://{host}:{port}; {_summary()}. Ctrl-D ends the shell."
        Shell(loop, {"__name__": "__console__", "__doc__": None, "asyncio": asyncio, "bus": bus, **names}).talk(banner)
    finally:
        loop.end()


def _names() -> dict[str, Any]:
    """Return the messages that are declared in this process, and the structs and enums of their modules, by name.

    A type of the runtime itself, such as a message of the router, gives way to another one of its name.
    """
    found: dict[str, Any] = {}
    messages = [contract.type for contracts in declared.values() for contract in contracts.values()]
    messages.sort(key=_is_ours)
    modules = dict.fromkeys(message.__module__ for message in messages)
    for value in (*messages, *(each for module in modules for each in _types(module))):
        other = found.setdefault(value.__name__, value)
        if other is not value and not _is_ours(value):
            print_note(f"{value.__name__} is that of {other.__module__}; import the one of {value.__module__} yourself")
    return found


def _is_ours(kind: type) -> bool:
    return kind.__module__.startswith("runtime.")


def _types(module: str) -> Iterator[type]:
    for name, value in vars(sys.modules[module]).items():
        public = isinstance(value, type) and value.__module__ == module and not name.startswith("_")
        if public and issubclass(value, msgspec.Struct | Enum):
            yield value


def _summary() -> str:
    if declared:
        return f"the messages of {', '.join(sorted(declared))} are imported"
    return "no messages are imported: name a package, as in `actorloom shell my_package`"


class _Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.stack = AsyncExitStack()
        """The connection, which `end` closes."""
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="actorloom shell", daemon=True)
        self._thread.start()

    def run(self, awaitable: Awaitable[T]) -> T:
        """Run a coroutine in the loop, and return its result. It is cancelled by Ctrl-C."""

        async def run() -> T:
            return await awaitable

        future = asyncio.run_coroutine_threadsafe(run(), self.loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    @property
    def is_blocked(self) -> bool:
        """Whether a statement that does not await keeps the loop from anything else, for a second by now."""
        done = Event()
        self.loop.call_soon_threadsafe(done.set)
        return not done.wait(1.0)

    def end(self) -> None:
        """Close the connection, cancel the tasks that are left, and end the thread, unless a statement blocks it."""
        if self.is_blocked:
            return  # the thread is a daemon
        try:
            self.run(self._end())
        finally:
            self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join()

    async def _end(self) -> None:
        await self.stack.aclose()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_END)
        await self.loop.shutdown_asyncgens()


class Shell(InteractiveConsole):
    """The console. It prints the error of a request as one line, and other errors with the lines of the statement."""

    def __init__(self, loop: _Loop, names: dict[str, Any]) -> None:
        super().__init__(names, _FILE)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._loop = loop
        self._interactive = sys.stdin.isatty()
        self._code = 0
        """The exit code of the first error."""

    def talk(self, banner: str) -> None:
        """Read and run statements until the end of stdin. Without a terminal, no prompt and no banner is printed.

        Raises:
            SystemExit: A statement has ended the shell, or stdin is no terminal and a statement has failed.
        """
        if self._interactive:
            _complete_names(self.locals)
        else:
            sys.ps1 = sys.ps2 = banner = ""
        sys.displayhook = self._display
        self.interact(banner, "")
        if self.buffer:
            self.push("")  # a block at the end of a file has no empty line behind it
        if self._code and not self._interactive:
            sys.exit(self._code)

    def runcode(self, code: CodeType) -> None:
        """Run a statement in the event loop."""
        try:
            error = self._loop.run(self._run(code))
        except KeyboardInterrupt:
            self._code = self._code or INTERRUPTED
            print_note("\nKeyboardInterrupt")
            if self._loop.is_blocked:
                print_note("the statement does not await, and goes on: wait for it, or end the shell")
            return
        if isinstance(error, SystemExit):
            raise error
        if error is not None:
            self._show(error)

    async def _run(self, code: CodeType) -> BaseException | None:
        try:
            value = FunctionType(code, self.locals)()
            if inspect.iscoroutine(value):
                await value
        except asyncio.CancelledError as error:
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise
            return error
        except BaseException as error:  # noqa: BLE001 - the statement is code of the user
            return error
        return None

    def _show(self, error: BaseException) -> None:
        known = isinstance(error, KNOWN)
        self._code = self._code or (exit_code(error) if known else FAILED)
        if known:
            print_note(described(error))
            return
        place = error.__traceback__
        while place is not None and place.tb_frame.f_code.co_filename != _FILE:
            place = place.tb_next
        print_note("".join(traceback.format_exception(type(error), error, place)).rstrip("\n"))

    def _display(self, value: Any) -> None:
        """Print the value of a statement, and keep it as ``_``."""
        if value is not None:
            echo(repr(value))
            self.locals["_"] = value

    def write(self, data: str) -> None:
        """Print the banner, and the end of the line at the end of stdin: on a terminal only."""
        if self._interactive:
            super().write(data)

    def showsyntaxerror(self, filename: str | None = None, **given: Any) -> None:
        """Print a syntax error, and keep its exit code."""
        self._code = self._code or FAILED
        print_note("".join(traceback.format_exception_only(*sys.exc_info()[:2])).rstrip("\n"))


def _complete_names(names: dict[str, Any]) -> None:
    """Let the Tab key complete names, if this Python has readline."""
    if find_spec("readline") is None:
        return
    import readline
    from rlcompleter import Completer

    readline.set_completer(Completer(names).complete)
    readline.parse_and_bind("tab: complete")
