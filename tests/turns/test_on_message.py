"""`Actor.on_message`: the code of an actor around each message, and the headers that it reads there."""

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
from opentelemetry import baggage, context

from runtime import (
    Actor,
    Command,
    DeclarationError,
    Event,
    HandlerFailed,
    Message,
    Options,
    Query,
    Rejected,
    RetryPolicy,
    command,
    query,
    react,
)
from runtime.nats.server import EmbeddedServer
from runtime.testing import worker
from runtime.wire import header_block
from tests.support.probe import running

SEEN: list[str] = []
"""The calls of the mixins, in order."""


class Tally(msgspec.Struct, frozen=True):
    value: int = 0


class Add(Command[int], actor="tally", key="name"):
    name: str
    by: int = 1


class Later(Command[None], actor="tally", key="name"):
    name: str


class GetTally(Query[int], actor="tally", key="name"):
    name: str


class Added(Event, actor="tally", key="name"):
    name: str
    by: int


class Seen(Event, actor="tally", key="name"):
    name: str
    what: str


class StockError(Exception):
    pass


class Audited(Actor[Any]):
    """Outermost: emits an event in the turn of each command, and translates errors of a library."""

    async def on_message(self, message: Message, handle: Callable[[], Awaitable[Any]]) -> Any:
        kind = type(message).__name__
        SEEN.append(f"audit {kind} of {self.headers.get('X-User', 'nobody')}")
        if isinstance(message, Command):
            self.emit(Seen(self.key, kind))
        try:
            return await super().on_message(message, handle)
        except StockError as error:
            raise Rejected(str(error)) from error
        finally:
            SEEN.append(f"end {kind}")


class Tenant(Actor[Any]):
    """Inner: reads the tenant, and answers without the handler if there is none to call."""

    async def on_message(self, message: Message, handle: Callable[[], Awaitable[Any]]) -> Any:
        SEEN.append(f"tenant {baggage.get_baggage('tenant')}")
        if isinstance(message, Add) and message.by == 100:
            return -100
        value = await handle()
        if isinstance(message, Add) and message.by == 200:
            return await handle()
        return value


class Tallies(Audited, Tenant, Actor[Tally]):
    name = "tally"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01))

    @command
    async def add(self, message: Add) -> int:
        if message.by < 0:
            raise StockError(f"{message.by} is not in stock")
        value = (self.state.value if self.state else 0) + message.by
        self.state = Tally(value)
        self.emit(Added(message.name, message.by))
        return value

    @command
    async def later(self, message: Later) -> None:
        self.remind(0, Add(message.name, 5))

    @query
    async def get_tally(self, message: GetTally) -> int:
        return self.state.value if self.state else 0

    @react
    async def on_added(self, event: Added) -> None:
        SEEN.append(f"reaction to {event.by}")


@pytest.fixture(autouse=True)
def _clean() -> None:
    SEEN.clear()


async def test_mixins_run_around_each_message_in_the_order_of_the_class_line(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Tallies, url=nats_server.url, namespace=namespace) as system:
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        try:
            assert await system.bus.command(Add("a", 2)) == 2
        finally:
            context.detach(token)
        await system.until(lambda: "end Added" in SEEN)
        assert SEEN == [
            "audit Add of nobody", "tenant acme", "end Add",
            "audit Added of nobody", "tenant acme", "reaction to 2", "end Added",
        ]  # fmt: skip
        SEEN.clear()
        assert await system.bus.query(GetTally("a")) == 2
        assert SEEN == ["audit GetTally of nobody", "tenant None", "end GetTally"]
        SEEN.clear()
        await system.bus.command(Later("a"))
        await system.until(lambda: "end Added" in SEEN)
        assert [each for each in SEEN if each.startswith("audit")] == [
            "audit Later of nobody", "audit Add of nobody", "audit Added of nobody"
        ]  # fmt: skip
        assert await system.bus.query(GetTally("a")) == 7


async def test_what_it_raises_returns_and_emits_belongs_to_the_turn(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Tallies, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(Rejected, match="-1 is not in stock"):
            await system.bus.command(Add("a", -1))
        assert await system.bus.command(Add("a", 100)) == -100
        with pytest.raises(HandlerFailed):
            await system.bus.command(Add("a", 200))
        assert await system.bus.query(GetTally("a")) == 0
        found = [each.payload for each in await system.stored_events("tally")]
        assert found == [b'{"name":"a","what":"Add"}'], "of the command that was answered without its handler"


async def test_headers_can_be_read_in_each_kind_of_handler(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Tallies, url=nats_server.url, namespace=namespace) as system:
        headers = header_block.encode([("X-User", "ann"), ("X-User", "bob")])
        for subject, body in (
            ("query.get_tally", b'{"name":"a"}'),
            ("command.add", b'{"name":"a"}'),
        ):
            await system.connection.request(f"{namespace}.tally.{subject}", body, headers=headers, timeout=5)
        await system.until(lambda: "end Added" in SEEN)
        assert [each for each in SEEN if "of ann" in each] == ["audit GetTally of ann", "audit Add of ann"]


async def test_a_test_runs_it_too() -> None:
    tallies = worker(Tallies, key="a", headers={"X-User": "ann"})
    assert await tallies.add(Add("a", 3)) == 3
    assert SEEN == ["audit Add of ann", "tenant None", "end Add"]
    assert tallies.emitted == [Seen("a", "Add"), Added("a", 3)]


def test_an_actor_that_does_not_override_it_runs_the_bare_method() -> None:
    class Plain(Actor[Tally]):
        name = "tally"

        @command
        async def add(self, message: Add) -> int:
            return 1

    assert Plain.handlers.commands["add"].run is Plain.add
    assert Tallies.handlers.commands["add"].run is not Tallies.add
    assert Actor.on_message is Plain.on_message


def test_it_must_be_a_coroutine_function() -> None:
    with pytest.raises(DeclarationError, match=r"Wrong\.on_message must be a coroutine function"):

        class Wrong(Actor[Tally]):
            name = "tally"

            def on_message(self, message: Any, handle: Any) -> Any:  # type: ignore[override]
                return handle()


async def _without_handle(self: Any, message: Any) -> Any:
    pass


@pytest.mark.parametrize(
    ("hook", "parameters"), [("on_message", "self, message, handle"), ("on_start", "self"), ("on_stop", "self")]
)
def test_a_hook_has_the_parameters_with_which_it_is_called(hook: str, parameters: str) -> None:
    with pytest.raises(DeclarationError, match=rf"Wrong\.{hook} must have the parameters \({parameters}\)"):
        type("Wrong", (Actor,), {"name": "wrong", hook: _without_handle})
