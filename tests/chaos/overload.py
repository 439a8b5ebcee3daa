"""An actor with a known capacity, for tests with five times that load."""

import asyncio
from typing import ClassVar

from msgspec import Struct

from runtime import Actor, Command, Options, Query, command, query

CONCURRENCY = 8
"""Commands that run at the same time."""

SERVICE_TIME = 0.02
"""Seconds per command. With `CONCURRENCY` it sets the capacity, independently of the machine."""

MAILBOX = 64
"""Commands that may wait."""


class Done(Struct, frozen=True):
    """The number of commands that a key has handled."""

    count: int = 0


class Work(Command[int], actor="slow", key="key"):
    key: str


class GetDone(Query[Done], actor="slow", key="key"):
    key: str


class Slow(Actor[Done]):
    """Sleeps for the service time in each command."""

    name = "slow"
    options: ClassVar[Options] = Options(concurrency=CONCURRENCY, mailbox=MAILBOX, lane=MAILBOX)

    @command
    async def work(self, message: Work) -> int:
        await asyncio.sleep(SERVICE_TIME)
        self.state = Done((self.state or Done()).count + 1)
        return self.state.count

    @query
    async def get_done(self, message: GetDone) -> Done:
        return self.state or Done()
