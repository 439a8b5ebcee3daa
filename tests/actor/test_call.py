"""The call of a handler: what a task can do that the handler has left behind."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, Index, Query, Rejected, command, query, react
from runtime.nats.server import EmbeddedServer
from runtime.testing import worker
from tests.support.probe import running


class Desk(msgspec.Struct, frozen=True):
    name: str
    count: int = 0


class Tidy(Command[None], actor="desk", key="name"):
    name: str
    how: str = ""


class GetDesk(Query[Desk | None], actor="desk", key="name"):
    name: str
    how: str = ""


class DeskTidied(Event, actor="desk", key="name"):
    name: str
    how: str = ""


LEFT: dict[str, asyncio.Task[Any]] = {}
"""The tasks that handlers have left behind, by the action that they try."""

ENDED = asyncio.Event()
"""Set by the test when the handler has ended."""


async def _call_later(actor: "Desks", how: str) -> Any:
    await ENDED.wait()
    assert (actor.key, actor.message_id is not None, actor.now > 0, actor.attempt) == ("a", True, True, 1)
    assert actor.state is None or actor.state.name == "a"
    return await ACTIONS[how](actor)


def _plain(action: Callable[["Desks"], Any]) -> Callable[["Desks"], Awaitable[Any]]:
    async def run(actor: "Desks") -> Any:
        return action(actor)

    return run


class Desks(Actor[Desk], indexes=[Index(order="name")]):
    name = "desk"

    def _leave(self, how: str) -> None:
        if how == "reject":
            raise Rejected("no")
        if how:
            LEFT[how] = asyncio.get_running_loop().create_task(_call_later(self, how))

    @command
    async def tidy(self, message: Tidy) -> None:
        self._leave(message.how)

    @query
    async def get(self, message: GetDesk) -> Desk | None:
        self._leave(message.how)
        return self.state

    @react
    async def on_desk_tidied(self, event: DeskTidied) -> None:
        self._leave(event.how)


ACTIONS: dict[str, Callable[[Desks], Awaitable[Any]]] = {
    "emit": _plain(lambda actor: actor.emit(DeskTidied("a"))),
    "change state": _plain(lambda actor: setattr(actor, "state", Desk("a", 1))),
    "set a timer": _plain(lambda actor: actor.remind(1, Tidy("a"))),
    "schedule": _plain(lambda actor: actor.schedule("@daily", Tidy("a"), name="t")),
    "cancel": _plain(lambda actor: actor.cancel("t")),
    "wait for its commit": _plain(lambda actor: actor.on_commit(list)),
    "command": lambda actor: actor.command(Tidy("b")),
    "query": lambda actor: actor.query(GetDesk("b")),
    "list": lambda actor: actor.list(),
}


async def refused(how: str) -> str:
    """Return the text of the error of a task that was left behind."""
    ENDED.set()
    with pytest.raises(RuntimeError) as caught:
        await LEFT.pop(how)
    return str(caught.value)


@pytest.fixture(autouse=True)
def _handler_runs() -> None:
    ENDED.clear()


async def test_a_call_after_the_end_of_its_handler_raises(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Desks, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Tidy("a"))
        before = await system.record("desk", "a")
        for how in ACTIONS:
            ENDED.clear()
            await system.bus.command(Tidy("a", how))
            assert "desk command.tidy: the handler has ended: it cannot " in await refused(how)
            ENDED.clear()
            await system.bus.emit(DeskTidied("a", how))
            await system.until(lambda: LEFT)
            ENDED.set()
            await asyncio.wait([LEFT[how]])
            assert "desk react.on_desk_tidied: the handler has ended" in await refused(how)
        for how in ("query", "list"):
            ENDED.clear()
            await system.bus.query(GetDesk("a", how))
            assert "desk query.get: the handler has ended" in await refused(how)
        after = await system.record("desk", "a")
        assert before is not None and after is not None and after.state == before.state and not after.outbox
        events = await system.stored_events("desk")
        assert len(events) == len(ACTIONS), "those of the test itself"


async def test_a_call_after_the_end_of_its_handler_raises_in_the_test_kit() -> None:
    desks = worker(Desks, key="a")
    for how in ACTIONS:
        ENDED.clear()
        for message, handler in ((Tidy("a", how), desks.tidy), (DeskTidied("a", how), desks.on_desk_tidied)):
            await handler(message)
            assert "the handler has ended" in await refused(how)
            ENDED.clear()
    assert (desks.state, desks.emitted, desks.timers, desks.sent) == (None, [], [], [])
