"""Callers: they send commands, retry each under its id until its outcome is known, and record the outcomes."""

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from runtime import Bus, Command, RequestError
from runtime.errors import DeadlineExceeded, NotDelivered, Overloaded
from runtime.wire.ids import new_id
from tests.chaos.actors import Add
from tests.chaos.fleet import until

GIVE_UP_SHARE = 0.1
"""Share of commands that callers give up after a certain failure (not executed). They must never take effect."""

REPEAT_SHARE = 0.1
"""Share of commands that are repeated much later under the same id. They must get the same reply."""

FOREIGN_SHARE = 0.3
"""Share of ids that contain no time, like ids that other programs choose."""


@dataclass
class Outcomes:
    """The outcomes of all commands, and how long callers waited."""

    done: dict[str, dict[str, int]] = field(default_factory=dict)
    """Replies of the commands that succeeded, by key and id."""
    without_effect: dict[str, set[str]] = field(default_factory=dict)
    """Ids, by key, of commands that callers gave up after a reply that they had no effect."""
    pending: dict[str, str] = field(default_factory=dict)
    """Keys of the commands whose outcome is not known yet, by id."""
    differing_replies: list[str] = field(default_factory=list)
    """Replies that differ from an earlier reply to the same id."""
    unexpected: list[str] = field(default_factory=list)
    """Outcomes outside the contract."""
    sent: int = 0
    refused: int = 0
    """Certain failures: not delivered, overloaded, or past the deadline before the handler ran."""
    unknown: int = 0
    """Attempts of unknown outcome."""
    failures: deque[str] = field(default_factory=lambda: deque(maxlen=5))
    """The last of both, with their keys and times."""
    retry_failures: list[str] = field(default_factory=list)
    """Errors that `Bus.retry` raised."""
    repeated: int = 0
    """Commands that were repeated after they had succeeded."""
    slowest: float = 0.0
    """Longest time from the first attempt to the outcome of a command, in seconds."""
    stall: float = 0.0
    """Longest time in which no command of any caller succeeded, in seconds."""
    last: float = 0.0
    """Monotonic time of the latest success."""

    def record_success(self, key: str, command_id: str, reply: int, began: float) -> None:
        """Record the reply to a command whose first attempt was at the monotonic time `began`."""
        now = time.monotonic()
        self.stall = max(self.stall, now - self.last) if self.last else 0.0
        self.last = now
        self.slowest = max(self.slowest, now - began)
        known = self.done.setdefault(key, {}).setdefault(command_id, reply)
        if known != reply:
            self.differing_replies.append(f"{key} {command_id}: {known}, then {reply}")

    @property
    def commands(self) -> int:
        return sum(len(ids) for ids in self.done.values())


class Load:
    """Callers that send commands until `stop`, each until its outcome is known.

    Args:
        bus: Sends the commands.
        rng: Chooses keys, ids and repetitions.
        keys: Number of keys.
        callers: Number of callers.
        pause: Average seconds between two commands of a caller.
        timeout: Seconds after which an attempt ends with an unknown outcome.
        patient: Number of callers that use `Bus.retry` instead of a retry loop of their own.
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
        self.outcomes = Outcomes()
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
        """Send no new commands; return once all outcomes are known, or after `timeout` seconds."""
        self._stopping = True
        _, pending = await asyncio.wait(self._tasks, timeout=timeout)
        for task in pending:
            task.cancel()
        for result in await asyncio.gather(*self._tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    async def wait_for_more(self, commands: int, timeout: float = 60.0) -> None:
        """Return once at least `commands` more commands have succeeded."""
        wanted = self.outcomes.commands + commands
        await until(lambda: self.outcomes.commands >= wanted, timeout, f"{commands} more successful commands")

    async def _call(self, rng: random.Random, number: int) -> None:
        past: list[tuple[str, str]] = []
        count = 0
        while not self._stopping:
            key = rng.choice(self.keys)
            count += 1
            command_id = f"{self._tag}-{number}-{count}" if rng.random() < FOREIGN_SHARE else new_id()
            if number < self._patient:
                await self._retry(key, command_id)
            elif await self._send(rng, key, command_id):
                past.append((key, command_id))
            if past and rng.random() < REPEAT_SHARE:
                self.outcomes.repeated += 1
                await self._send(rng, *rng.choice(past), repeated=True)
            if self._pause:
                await asyncio.sleep(self._pause * rng.random() * 2)

    async def _retry(self, key: str, command_id: str) -> None:
        outcomes = self.outcomes
        began = time.monotonic()
        outcomes.pending[command_id] = key
        outcomes.sent += 1
        try:
            reply = await self.bus.retry(Add(key), id=command_id, timeout=self._timeout)
        except RequestError as error:
            outcomes.retry_failures.append(f"{type(error).__name__}: {error}")
            return
        outcomes.record_success(key, command_id, reply, began)
        del outcomes.pending[command_id]

    async def _send(self, rng: random.Random, key: str, command_id: str, *, repeated: bool = False) -> bool:
        """Send a command until its outcome is known; return whether it succeeded."""
        outcomes = self.outcomes
        began = time.monotonic()
        gives_up = not repeated and rng.random() < GIVE_UP_SHARE
        pause = 0.01
        doubtful = repeated
        if not repeated:
            outcomes.pending[command_id] = key
        while True:
            outcomes.sent += 1
            try:
                reply = await self.bus.command(Add(key), id=command_id, timeout=self._timeout)
            except RequestError as error:
                outcomes.failures.append(f"{time.strftime('%H:%M:%S')} {key} {command_id}: {error}")
                if error.executed is False and isinstance(error, NotDelivered | Overloaded | DeadlineExceeded):
                    outcomes.refused += 1
                    # Only a first attempt proves that the command had no effect: an earlier one may have had one.
                    if gives_up and not doubtful:
                        outcomes.without_effect.setdefault(key, set()).add(command_id)
                        del outcomes.pending[command_id]
                        return False
                elif error.executed is None and isinstance(error, DeadlineExceeded):
                    outcomes.unknown += 1
                    doubtful = True
                else:
                    outcomes.unexpected.append(
                        f"{type(error).__name__} {error.code} executed={error.executed}: {error}"
                    )
                    doubtful = True
                await asyncio.sleep(pause * (0.5 + rng.random() / 2))
                pause = min(pause * 2, 0.25)
                continue
            outcomes.record_success(key, command_id, reply, began)
            outcomes.pending.pop(command_id, None)
            return True


class OneShotLoad:
    """Callers that send each command once, to a key of its own, so that no later turn carries an outbox on.

    Args:
        bus: Sends the commands.
        make: Creates the command for a key. The key is also the id of the command.
        callers: Number of callers.
        pause: Seconds between two commands of a caller.
        timeout: Seconds after which a caller gives up.
        name: The beginning of the keys.
    """

    def __init__(
        self,
        bus: Bus,
        make: Callable[[str], Command[Any]],
        *,
        callers: int = 8,
        pause: float = 0.005,
        timeout: float = 1.0,
        name: str = "key",
    ) -> None:
        self.sent: dict[str, float] = {}
        """Unix time until which the caller waits or waited, by key of the command."""
        self.done: set[str] = set()
        """Keys of the commands that succeeded."""
        self._bus = bus
        self._make = make
        self._name = name
        self._callers = callers
        self._pause = pause
        self._timeout = timeout
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.get_running_loop().create_task(self._call()) for _ in range(self._callers)]

    async def stop(self) -> None:
        """Send no new commands; return once each caller has a reply or has given up."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def wait_for_more(self, commands: int, timeout: float = 60.0) -> None:
        """Return once at least `commands` more commands have succeeded."""
        wanted = len(self.done) + commands
        await until(lambda: len(self.done) >= wanted, timeout, f"{commands} more successful commands")

    async def _call(self) -> None:
        while not self._stopping:
            key = f"{self._name}-{len(self.sent)}"
            self.sent[key] = time.time() + self._timeout
            try:
                await self._bus.command(self._make(key), id=key, timeout=self._timeout)
                self.done.add(key)
            except RequestError:
                await asyncio.sleep(0.05)  # the command is not repeated, whatever its outcome
            await asyncio.sleep(self._pause)
