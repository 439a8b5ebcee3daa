"""Actors whose code raises unusual exceptions: in every kind of handler, with a state and without one."""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import msgspec

from runtime import (
    Accepted,
    Actor,
    Command,
    Event,
    HandlerFailed,
    Options,
    Overloaded,
    Query,
    Rejected,
    RetryPolicy,
    command,
    query,
    react,
)
from tests.support.blocking import BLOCK

ATTEMPTS = 2
"""Attempts of a reaction, timer or job before it becomes a dead letter."""


class Panic(BaseException):
    """As an extension written in Rust raises it."""


class Mute(Exception):
    """Its text and its representation raise."""

    def __str__(self) -> str:
        raise Panic("no text")

    __repr__ = __str__


class MutePanic(Mute, Panic):
    """Both."""


class Endless(Exception):
    """Its text is a recursion without end."""

    def __str__(self) -> str:
        return str(self)


class Notes(Exception):
    """An attribute that a traceback prints raises."""

    @property
    def __notes__(self) -> list[str]:
        raise Panic("no notes")


class Bare(Rejected):
    """Does not call the constructor of its base."""

    def __init__(self) -> None:
        Exception.__init__(self, "bare")


class Misshapen(Rejected):
    """Its attributes have no form on the wire."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__("misshapen")
        vars(self).update(attributes)


class Secretive(Rejected):
    """An attribute that the reply needs raises."""

    @property
    def executed(self) -> bool | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        raise Panic("secret")


def _group(kind: type[BaseExceptionGroup[BaseException]], *errors: BaseException) -> BaseException:
    return kind("several", errors)


def _remote() -> Rejected:
    error = Rejected("of another service")
    error.remote = True
    return error


FAILURES: dict[str, Callable[[], BaseException]] = {
    "panic": lambda: Panic("library panicked"),
    "mute": Mute,
    "mute panic": MutePanic,
    "endless": Endless,
    "notes": Notes,
    "group": lambda: _group(ExceptionGroup, ValueError("a"), Mute()),
    "base group": lambda: _group(BaseExceptionGroup, Panic("a"), ValueError("b")),
    "group of an exit": lambda: _group(BaseExceptionGroup, SystemExit(3)),
    "generator exit": lambda: GeneratorExit("left"),
    "stop": lambda: StopIteration(5),
    "async stop": lambda: StopAsyncIteration(5),
    "recursion": lambda: RecursionError("too deep"),
    "memory": MemoryError,
    "cancelled": lambda: asyncio.CancelledError("foreign"),
    "huge": lambda: RuntimeError("x" * 3_000_000),
    "bytes": lambda: RuntimeError(b"\xff"),
    "half": lambda: RuntimeError("half a character: \ud800"),
    "code": lambda: Misshapen(code="409"),
    "code bound": lambda: Misshapen(code=7),
    "kind": lambda: Misshapen(kind="\udfff"),
    "executed": lambda: Misshapen(executed="no"),
    "secretive": lambda: Secretive("x"),
    "remote": _remote,
    "own 500": lambda: HandlerFailed("on purpose"),
    "retry_after": lambda: Overloaded("busy", "soon"),  # pyright: ignore[reportArgumentType]
}
"""Exceptions that a caller gets as a failure of the handler, 500."""

REFUSALS: dict[str, Callable[[], BaseException]] = {
    "refused": lambda: Rejected("plain"),
    "refused half": lambda: Rejected("half a character: \ud83d"),
    "refused control": lambda: Rejected("nul \x00 escape \x1b[2J bell \x07 lines \r\n\r\n next"),
    "refused huge": lambda: Rejected("y" * 3_000_000),
    "refused bare": Bare,
    "refused mute": lambda: type("MuteRefusal", (Mute, Rejected), {})("x"),
}
"""Exceptions that a caller gets as a refusal, 409."""

RAISED = {**FAILURES, **REFUSALS}


def check(how: str) -> None:
    """Raise the exception that `how` names; do nothing for ``well``."""
    if how == "exit":
        sys.exit(3)
    if how == "interrupt":
        raise KeyboardInterrupt
    if how in BLOCK:
        print("blocks", flush=True)
        BLOCK[how]()
    if how != "well":
        failure = RAISED[how]()
        raise failure


class Touchy(msgspec.Struct, frozen=True):
    """A field of messages whose check raises an exception that is no `ValueError`."""

    how: str

    def __post_init__(self) -> None:
        if self.how != "well":
            raise Panic(f"{self.how} in a check")


class State(msgspec.Struct, frozen=True):
    """The handled messages of a key."""

    done: int = 0


class Ask(Query[int], actor="odd", key="name"):
    name: str
    how: str = "well"


class Act(Command[int], actor="odd", key="name"):
    """Raises in the handler, in the callback after the commit, or in a task that the handler has started."""

    name: str
    how: str = "well"
    after: str = "well"
    task: str = "well"


class ActTouchy(Command[None], actor="odd", key="name"):
    name: str
    touchy: Touchy


class AskTouchy(Query[None], actor="odd", key="name"):
    name: str
    touchy: Touchy


class Later(Command[None], actor="odd", key="name"):
    """Sets a timer that is due at once and runs `Ring`."""

    name: str
    how: str


class Ring(Command[None], actor="odd", key="name"):
    name: str
    how: str


class Work(Command[Accepted], actor="odd", key="name"):
    name: str
    how: str


class Happened(Event, actor="odd", key="name"):
    name: str
    how: str = "well"


class Touched(Event, actor="odd", key="name"):
    name: str
    touchy: Touchy


class AskOddly(Query[int], actor="oddly"):
    how: str = "well"


class ActOddly(Command[int], actor="oddly"):
    how: str = "well"


OPTIONS = Options(retry=RetryPolicy(attempts=ATTEMPTS, first=0.01, longest=0.02, transient=("Rejected",)))


class Odd(Actor[State]):
    """An actor with a state. ``ON_START`` and ``ON_STOP`` in the environment name what these methods raise."""

    name = "odd"
    options = OPTIONS

    async def on_start(self) -> None:
        await _check_or_hang(os.environ.get("ON_START", "well"))

    async def on_stop(self) -> None:
        await _check_or_hang(os.environ.get("ON_STOP", "well"))

    @query
    async def ask(self, message: Ask) -> int:
        check(message.how)
        return (self.state or State()).done

    @query
    async def ask_touchy(self, message: AskTouchy) -> None:
        raise AssertionError

    @command
    async def act(self, message: Act) -> int:
        self.state = State((self.state or State()).done + 1)
        self.on_commit(lambda: check(message.after))
        if message.task != "well":
            await asyncio.wait([asyncio.ensure_future(_check_in_task(message.task))])
        check(message.how)
        return self.state.done

    @command
    async def act_touchy(self, message: ActTouchy) -> None:
        raise AssertionError

    @command
    async def later(self, message: Later) -> None:
        self.remind(0, Ring(message.name, message.how))

    @command
    async def ring(self, message: Ring) -> None:
        check(message.how)

    @command(accept=True)
    async def work(self, message: Work) -> None:
        check(message.how)

    @react
    async def on_happened(self, event: Happened) -> None:
        check(event.how)
        self.state = State((self.state or State()).done + 1)

    @react
    async def on_touched(self, event: Touched) -> None:
        raise AssertionError


async def _check_or_hang(how: str) -> None:
    if how == "hang":
        print("hangs", flush=True)
        await asyncio.Event().wait()
    while how == "deaf":  # ignores its cancellation
        print("deaf", flush=True)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            continue
    check(how)


async def _check_in_task(how: str) -> None:
    await _check_or_hang(how)


class Oddly(Actor):
    """An actor without a state."""

    name = "oddly"
    options = OPTIONS

    @query
    async def ask(self, message: AskOddly) -> int:
        check(message.how)
        return 1

    @command
    async def act(self, message: ActOddly) -> int:
        check(message.how)
        return 1

    @react
    async def on_happened(self, event: Happened) -> None:
        check(event.how)


if "QUICK" in os.environ:  # a process of a test does not wait for seconds
    from runtime.cli import event_loop
    from runtime.host import hooks

    hooks._STOP_TIMEOUT = 0.3
    hooks.GRACE = 0.3  # pyright: ignore[reportPrivateImportUsage]
    event_loop._END = 0.3  # pyright: ignore[reportConstantRedefinition]

if "REPORT_SOON" in os.environ:
    from runtime.host import signals

    signals._BLOCKED = 0.2  # pyright: ignore[reportConstantRedefinition]
