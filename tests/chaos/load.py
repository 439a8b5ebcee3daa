"""Callers: they send commands, retry each under its id until its outcome is known, and remember what they were told."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime import Bus, Command, RequestError
from runtime.errors import DeadlineExceeded, NotDelivered, Overloaded
from runtime.wire.ids import new_id
from tests.chaos.actors import Add
from tests.chaos.fleet import until

GIVE_UP = 0.1
"""The share of callers' certain failures ("not executed") that they believe: such an id must never take effect."""
AGAIN = 0.1
"""The share of commands sent once more, much later, under the same id: they must get the same reply."""
FOREIGN = 0.3
"""The share of ids that carry no time, as those of other people's programs."""


@dataclass
class Account:
    """What the callers were told, by key; and how it felt."""

    done: dict[str, dict[str, int]] = field(default_factory=dict)
    """Key, then id: the reply of a command that succeeded."""
    void: dict[str, set[str]] = field(default_factory=dict)
    """Ids of which a caller was told that they had no effect, and left it at that."""
    open: dict[str, str] = field(default_factory=dict)
    """Ids whose outcome is not known yet, and the key."""
    unlike: list[str] = field(default_factory=list)
    """Replies that differ from what the same id was told before."""
    odd: list[str] = field(default_factory=list)
    """Outcomes that are not in the contract here."""
    sent: int = 0
    refused: int = 0
    """Certain failures: not delivered, overloaded, or too late to begin."""
    unknown: int = 0
    """Attempts of unknown outcome."""
    failed: list[str] = field(default_factory=list)
    """What `Bus.retry` raised to the callers that use it."""
    repeated: int = 0
    slowest: float = 0.0
    """Seconds from the first attempt to the outcome of a command, at most."""
    stall: float = 0.0
    """The longest time without any success of any caller, in seconds."""
    last: float = 0.0

    def succeeded(self, key: str, command_id: str, reply: int, began: float) -> None:
        now = time.monotonic()
        self.stall = max(self.stall, now - self.last) if self.last else 0.0
        self.last = now
        self.slowest = max(self.slowest, now - began)
        known = self.done.setdefault(key, {}).setdefault(command_id, reply)
        if known != reply:
            self.unlike.append(f"{key} {command_id}: {known}, then {reply}")

    @property
    def commands(self) -> int:
        return sum(len(ids) for ids in self.done.values())


class Load:
    """`callers` callers over `keys` keys, each command retried until its outcome is known, until `stop`.

    The first `patient` callers leave the retrying to `Bus.retry`.
    """

    def __init__(
        self,
        bus: Bus,
        rng: random.Random,
        *,
        keys: int = 20,
        callers: int = 16,
        pause: float = 0.0,
        timeout: float = 1.5,
        patient: int = 0,
    ) -> None:
        self.bus = bus
        self.account = Account()
        self.keys = [f"key-{n}" for n in range(keys)]
        self._rng = rng
        self._callers = callers
        self._pause = pause
        self._timeout = timeout
        self._patient = patient
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tag = f"{rng.getrandbits(32):08x}"

    def start(self) -> None:
        self._tasks = [
            asyncio.get_running_loop().create_task(self._call(random.Random(self._rng.random()), number))
            for number in range(self._callers)
        ]

    async def stop(self, timeout: float = 60.0) -> None:
        """Send nothing new; return when the outcome of all that was sent is known, or after `timeout` seconds."""
        self._stopping = True
        _, pending = await asyncio.wait(self._tasks, timeout=timeout)
        for task in pending:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def reached(self, commands: int, timeout: float = 60.0) -> None:
        """Return when at least `commands` more commands have succeeded."""
        wanted = self.account.commands + commands
        await until(lambda: self.account.commands >= wanted, timeout, f"{commands} more commands that succeed")

    async def _call(self, rng: random.Random, number: int) -> None:
        past: list[tuple[str, str]] = []
        count = 0
        while not self._stopping:
            key = rng.choice(self.keys)
            count += 1
            command_id = f"{self._tag}-{number}-{count}" if rng.random() < FOREIGN else new_id()
            if number < self._patient:
                await self._retry(key, command_id)
            elif await self._settle(rng, key, command_id):
                past.append((key, command_id))
            if past and rng.random() < AGAIN:
                self.account.repeated += 1
                await self._settle(rng, *rng.choice(past), again=True)
            if self._pause:
                await asyncio.sleep(self._pause * rng.random() * 2)

    async def _retry(self, key: str, command_id: str) -> None:
        account = self.account
        began = time.monotonic()
        account.open[command_id] = key
        account.sent += 1
        try:
            reply = await self.bus.retry(Add(key), id=command_id, timeout=self._timeout)
        except RequestError as error:
            account.failed.append(f"{type(error).__name__}: {error}")
            return
        account.succeeded(key, command_id, reply, began)
        del account.open[command_id]

    async def _settle(self, rng: random.Random, key: str, command_id: str, *, again: bool = False) -> bool:
        """Send one command until its outcome is known; return whether it succeeded."""
        account = self.account
        began = time.monotonic()
        believes = not again and rng.random() < GIVE_UP
        pause = 0.01
        doubtful = again
        if not again:
            account.open[command_id] = key
        while True:
            account.sent += 1
            try:
                reply = await self.bus.command(Add(key), id=command_id, timeout=self._timeout)
            except RequestError as error:
                if error.executed is False and isinstance(error, NotDelivered | Overloaded | DeadlineExceeded):
                    account.refused += 1
                    # What an earlier attempt did is not known; only a first attempt's refusal says that all is as before.
                    if believes and not doubtful:
                        account.void.setdefault(key, set()).add(command_id)
                        del account.open[command_id]
                        return False
                elif error.executed is None and isinstance(error, DeadlineExceeded):
                    account.unknown += 1
                    doubtful = True
                else:
                    account.odd.append(f"{type(error).__name__} {error.code} executed={error.executed}: {error}")
                    doubtful = True
                await asyncio.sleep(pause * (0.5 + rng.random() / 2))
                pause = min(pause * 2, 0.25)
                continue
            account.succeeded(key, command_id, reply, began)
            account.open.pop(command_id, None)
            return True


class Once:
    """Callers that send each command once, to a key of its own, and ask no more: nothing later carries on what is left.

    `make` makes the command for a key. The command's id is its key.
    """

    def __init__(
        self,
        bus: Bus,
        make: Callable[[str], Command[Any]],
        *,
        callers: int = 8,
        pause: float = 0.005,
        timeout: float = 1.0,
    ) -> None:
        self.sent: dict[str, float] = {}
        """The key of each command: when its caller gave it up, or would have, in unix seconds."""
        self.done: set[str] = set()
        self._bus = bus
        self._make = make
        self._callers = callers
        self._pause = pause
        self._timeout = timeout
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.get_running_loop().create_task(self._call()) for _ in range(self._callers)]

    async def stop(self) -> None:
        """Send nothing new; return when each caller has an answer or has given up."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def reached(self, commands: int, timeout: float = 60.0) -> None:
        """Return when at least `commands` more commands have succeeded."""
        wanted = len(self.done) + commands
        await until(lambda: len(self.done) >= wanted, timeout, f"{commands} more commands that succeed")

    async def _call(self) -> None:
        while not self._stopping:
            key = f"key-{len(self.sent)}"
            self.sent[key] = time.time() + self._timeout
            try:
                await self._bus.command(self._make(key), id=key, timeout=self._timeout)
                self.done.add(key)
            except RequestError:
                await asyncio.sleep(0.05)  # whatever it was, nobody asks again
            await asyncio.sleep(self._pause)
