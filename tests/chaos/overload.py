"""An actor of a known capacity, to be asked for five times as much."""

import asyncio
from typing import ClassVar

from msgspec import Struct

from runtime import Actor, Command, Options, Query, command, query

CONCURRENCY = 8
SERVICE_TIME = 0.02
"""Seconds that one command takes: so many at once make the capacity, whatever the machine."""
MAILBOX = 64


class Done(Struct, frozen=True):
    """How many commands a key has had."""

    count: int = 0


class Work(Command[int], actor="slow", key="key"):
    key: str


class GetDone(Query[Done], actor="slow", key="key"):
    key: str


class Slow(Actor[Done]):
    """Takes its time."""

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
