"""Commits: a turn whose state cannot be stored fails alone."""

import asyncio
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, HandlerFailed, Options, Query, RetryPolicy, command, query, react
from runtime.nats.server import EmbeddedServer
from tests.support.probe import running


class Kept(msgspec.Struct, frozen=True):
    total: int = 0
    last: Any = None


class Keep(Command[None], actor="keeper", key="name"):
    name: str
    good: bool = True


class GetKept(Query[int], actor="keeper", key="name"):
    name: str


class ThingLeft(Event, actor="keeper", key="name"):
    name: str
    good: bool


class Keeper(Actor[Kept]):
    """Keeps a value in its state that cannot be encoded, if asked to, and never removes it."""

    name = "keeper"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01))

    def _keep(self, good: bool) -> None:
        before = self.state or Kept()
        self.state = Kept(before.total + 1, before.last if good else 9**5000)

    @command
    async def keep(self, message: Keep) -> None:
        await asyncio.sleep(0)
        self._keep(message.good)

    @react
    async def on_thing_left(self, event: ThingLeft) -> None:
        self._keep(event.good)

    @query
    async def get(self, message: GetKept) -> int:
        return self.state.total if self.state else 0


@pytest.mark.parametrize("keys", [1, 3])
async def test_a_state_that_cannot_be_stored_fails_alone(
    nats_server: EmbeddedServer, namespace: str, keys: int
) -> None:
    async with running(Keeper, url=nats_server.url, namespace=namespace) as system:
        told = await asyncio.gather(
            *(system.bus.command(Keep(f"key {n % keys}", good=n % 5 > 0), timeout=20) for n in range(60)),
            return_exceptions=True,
        )
        for number, outcome in enumerate(told):
            assert outcome is None if number % 5 else isinstance(outcome, HandlerFailed) and outcome.executed is False
        assert sum([await system.bus.query(GetKept(f"key {n}")) for n in range(keys)]) == 48
        assert system.is_ready("keeper")


async def test_an_event_whose_state_cannot_be_stored_is_retried_and_then_dead_lettered(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Keeper, url=nats_server.url, namespace=namespace) as system:
        for good in (True, False, True):
            await system.bus.emit(ThingLeft("a", good))

        async def handled() -> bool:
            return await system.bus.query(GetKept("a")) == 2

        await system.until(handled)
        [letter] = await system.stored_dead_letters("keeper")
        assert letter.headers is not None and b"Dead-Attempts: 2" in letter.headers and b"4300" in letter.headers
