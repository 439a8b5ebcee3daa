"""Refusals with a time to retry: over the wire, for `Bus.retry`, for reactions and commands by `tell`, and on the command line."""

import asyncio
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, Options, Rejected, RetryPolicy, command, react
from runtime.nats.server import EmbeddedServer
from tests.support.probe import running
from tests.support.process import ROOT, run_command

RUNS: dict[str, list[float]] = defaultdict(list)
"""By door, the times of the loop at which its handlers ran."""


class Closed(Rejected):
    pass


class Door(msgspec.Struct, frozen=True):
    entries: int = 0


class Enter(Command[int], actor="doors", key="door"):
    door: str
    times: int = 1
    """How often it is refused."""
    wait: float | None = 0.2


class Knocked(Event, actor="visitors", key="door"):
    door: str
    times: int = 1
    wait: float | None = 0.2


class Doors(Actor[Door]):
    name = "doors"
    options = Options(retry=RetryPolicy(attempts=5, first=0.01))

    def _enter(self, door: str, times: int, wait: float | None) -> int:
        RUNS[door].append(asyncio.get_running_loop().time())
        if len(RUNS[door]) <= times:
            raise Closed("the door is closed", retry_after=wait)
        self.state = Door((self.state or Door()).entries + 1)
        return self.state.entries

    @command
    async def enter(self, message: Enter) -> int:
        return self._enter(message.door, message.times, message.wait)

    @react(key="door")
    async def on_knocked(self, event: Knocked) -> None:
        self._enter(event.door, event.times, event.wait)


@pytest.fixture
def door(namespace: str) -> str:
    return f"door-{namespace}"


async def test_the_caller_gets_the_time_and_retry_waits_for_it(
    nats_server: EmbeddedServer, namespace: str, door: str
) -> None:
    async with running(Doors, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(Closed) as refused:
            await system.bus.command(Enter(door))
        assert (refused.value.retry_after, refused.value.executed) == (0.2, False)
        assert await system.bus.retry(Enter(door, times=2), policy=RetryPolicy(attempts=5, first=0.0)) == 1
        one, two, three = RUNS[door]
        assert three - two >= 0.19 and len(RUNS[door]) == 3 and two > one
        with pytest.raises(Closed) as refused:
            await system.bus.retry(Enter(door, times=99, wait=None))
        assert refused.value.retry_after is None and len(RUNS[door]) == 4


@pytest.mark.parametrize("how", ["event", "tell"])
async def test_an_event_or_a_told_command_has_its_next_attempt_then(
    nats_server: EmbeddedServer, namespace: str, door: str, how: str
) -> None:
    async with running(Doors, url=nats_server.url, namespace=namespace) as system:
        message: Any = Knocked(door, times=2) if how == "event" else Enter(door, times=2)
        await (system.bus.emit(message) if how == "event" else system.bus.tell(message))
        await system.until(lambda: len(RUNS[door]) == 3)
        one, two, three = RUNS[door]
        assert min(two - one, three - two) >= 0.19
        assert await system.dead_letters("doors") == []


async def test_without_a_time_an_event_becomes_a_dead_letter_at_once(
    nats_server: EmbeddedServer, namespace: str, door: str
) -> None:
    async with running(Doors, url=nats_server.url, namespace=namespace) as system:
        await system.bus.emit(Knocked(door, times=99, wait=None))
        await system.until(lambda: system.dead_letters("doors"))
        assert len(RUNS[door]) == 1


async def test_the_command_line_prints_the_time(nats_server: EmbeddedServer, namespace: str, door: str) -> None:
    async with running(Doors, url=nats_server.url, namespace=namespace):
        done = await run_command(
            *("command", "doors.enter", f"door={door}", "--nats", nats_server.url, "--namespace", namespace), cwd=ROOT
        )
    assert (done.code, done.out) == (3, "")
    assert "409 Closed: the door is closed; retry after 0.2 s" in done.err
