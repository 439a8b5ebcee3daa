"""Unusual exceptions: each ends one message, whatever it is, and no other message notices."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, HandlerFailed, Query, Rejected, RequestError, command, query
from runtime.actor.message import Message
from runtime.client.raw import RawClient
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import read_failure
from tests.support.probe import Probe, running
from tests.support.unusual import (
    ATTEMPTS,
    FAILURES,
    RAISED,
    REFUSALS,
    Act,
    ActOddly,
    Ask,
    AskOddly,
    Happened,
    Later,
    Odd,
    Oddly,
    Work,
)

TASKS: list[asyncio.Task[None]] = []
"""The tasks of the handlers below, as an application keeps them to cancel them later."""


class Built(msgspec.Struct, frozen=True):
    count: int = 0


class Build(Command[int], actor="long", key="name"):
    name: str
    wait: bool = True
    reset: bool = False


class Watch(Query[int], actor="long", key="name"):
    name: str
    wait: bool = True


class WatchFree(Query[int], actor="longfree"):
    wait: bool = True


async def wait_for_cancellation(wait: bool) -> None:
    task = asyncio.current_task()
    assert task is not None
    TASKS.append(task)
    if wait:
        await asyncio.Event().wait()


class Long(Actor[Built]):
    """Its handlers wait until a test cancels their task."""

    name = "long"

    @command
    async def build(self, message: Build) -> int:
        self.state = None if message.reset else Built((self.state or Built()).count + 1)
        await wait_for_cancellation(message.wait)
        return 0 if self.state is None else self.state.count

    @query
    async def watch(self, message: Watch) -> int:
        await wait_for_cancellation(message.wait)
        return (self.state or Built()).count


class LongFree(Actor):
    name = "longfree"

    @query
    async def watch(self, message: WatchFree) -> int:
        await wait_for_cancellation(message.wait)
        return 0


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Odd, Oddly, url=nats_server.url, namespace=namespace) as running_system:
        owners = running_system.ownership("odd"), running_system.ownership("oddly")
        yield running_system
        assert owners == (running_system.ownership("odd"), running_system.ownership("oddly")), "a part has failed"


async def outcome(request: object) -> RequestError:
    with pytest.raises(RequestError) as raised:
        await request  # type: ignore[misc]
    return raised.value


async def test_every_exception_of_a_query_or_command_is_answered_at_once(
    system: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    bus = system.bus
    for how in RAISED:
        sent = [
            bus.query(Ask("k", how)),
            bus.query(AskOddly(how)),
            bus.command(Act("k", how)),
            bus.command(ActOddly(how)),
        ]
        beside = asyncio.gather(*(bus.command(Act(f"other {number}")) for number in range(3)), bus.query(AskOddly()))
        errors = await asyncio.gather(*sent, return_exceptions=True)
        await beside
        assert all(isinstance(each, RequestError) for each in errors), (how, errors)
        if how in FAILURES:
            assert {(type(each), getattr(each, "code", 0)) for each in errors} == {(HandlerFailed, 500)}, how
        else:
            assert all(isinstance(each, Rejected) and each.code == 409 and each.executed is False for each in errors), (
                how
            )
            assert all(len(each.args[0]) <= 512 for each in errors)
    assert await bus.query(Ask("k")) == 0, "no failed command has changed the state"
    assert await bus.query(Ask("other 1")) == len(RAISED)
    text = f"{system.served('odd').names.request('command', 'act')} failed"
    logged = sum(record.getMessage().startswith(text) for record in caplog.records)
    assert logged == len(FAILURES) - 2, "each once; `remote` and `own 500` are warnings"


async def test_an_application_may_cancel_the_task_of_a_handler(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Long, LongFree, url=nats_server.url, namespace=namespace) as system:
        owners = system.ownership("long"), system.ownership("longfree")
        bus = system.bus
        for _ in range(3):
            for sent in (bus.command(Build("k")), bus.query(Watch("k")), bus.query(WatchFree())):
                TASKS.clear()
                error = asyncio.ensure_future(outcome(sent))
                [task] = await system.until(lambda: TASKS)
                task.cancel()
                assert isinstance(await error, HandlerFailed)
                assert "the application has cancelled the task of the handler" in caplog.text
                caplog.clear()
            assert await bus.command(Build("k", wait=False)) == 1, "nothing is stored, and the key is free"
            assert await bus.query(WatchFree(wait=False)) == 0
            for task in TASKS:  # It has ended its handler, and waits for the next one.
                task.cancel()
            assert await bus.query(WatchFree(wait=False)) == 0
            assert await bus.query(Watch("k", wait=False)) == 1
            await bus.command(Build("k", wait=False, reset=True))
        assert owners == (system.ownership("long"), system.ownership("longfree")), "a part has failed"


async def test_the_text_of_a_refusal_arrives(system: Probe) -> None:
    texts = {how: (await outcome(system.bus.command(Act("k", how)))).args[0] for how in REFUSALS}
    assert texts["refused"] == "plain" and texts["refused bare"] == "bare"
    assert texts["refused half"] == "half a character: ?"
    assert texts["refused control"] == "nul \x00 escape \x1b[2J bell \x07 lines \r\n\r\n next"
    assert texts["refused mute"] == "(no text: its __str__ raised Panic)"


async def test_a_message_whose_type_raises_is_answered_or_dead_lettered(system: Probe, namespace: str) -> None:
    client = RawClient(system.connection, namespace=namespace)
    body = b'{"name":"k","touchy":{"how":"bad"}}'
    for send, name in ((client.query, "ask_touchy"), (client.command, "act_touchy")):
        reply = await send("odd", name, body)
        assert isinstance(reply.error, HandlerFailed) and b"in a check" not in reply.payload
    await client.emit("odd", "touched", body, key="k")
    letters = await system.until(lambda: system.stored_dead_letters("odd"))
    assert read_failure(letters[0].headers).reason == "Panic: bad in a check"
    assert await system.bus.query(Ask("k")) == 0


async def test_a_message_becomes_a_dead_letter_after_its_attempts(system: Probe) -> None:
    bus = system.bus
    for number, how in enumerate(RAISED):
        await bus.emit(Happened(f"event {number}", how))
        await bus.command(Later(f"timer {number}", how))
        await bus.command(Work(f"job {number}", how))
        await bus.emit(Happened("beside"))
    await system.until(lambda: _dead(system, "odd", 3 * len(RAISED)))
    await system.until(lambda: _dead(system, "oddly", len(RAISED)))
    for actor, reactions in (("odd", {"on_happened", "ring", "work"}), ("oddly", {"on_happened"})):
        failures = [read_failure(letter.headers) for letter in await system.stored_dead_letters(actor)]
        assert {failure.reaction for failure in failures} == reactions
        assert {failure.attempts for failure in failures} == {ATTEMPTS}
    await system.until(lambda: _done(system, "beside", len(RAISED)))
    assert await bus.query(Ask("event 0")) == 0


async def _dead(system: Probe, actor: str, count: int) -> bool:
    return len(await system.stored_dead_letters(actor)) >= count


async def _done(system: Probe, name: str, count: int) -> bool:
    return await system.bus.query(Ask(name)) == count


async def test_a_callback_after_the_commit_may_raise_anything(system: Probe) -> None:
    for number, how in enumerate(RAISED, 1):
        assert await system.bus.command(Act("k", after=how)) == number
    assert await system.bus.query(Ask("k")) == len(RAISED)


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (Ask("k", "exit"), 500),
        (AskOddly("exit"), 500),
        (Act("k", "exit"), 500),
        (ActOddly("exit"), 500),
        (Act("k", after="exit"), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Message) else str(value),
)
async def test_an_exit_in_a_handler_drains_and_ends_the_block(
    nats_server: EmbeddedServer, namespace: str, send: Any, code: int | None
) -> None:
    codes: list[int | None] = []
    beside: list[asyncio.Future[int]] = []
    with pytest.raises(SystemExit) as raised:  # noqa: PT012 - the exception is raised at the end of the block
        async with running(Odd, Oddly, url=nats_server.url, namespace=namespace) as system:
            beside.extend(asyncio.ensure_future(system.bus.command(Act("other"))) for _ in range(3))
            try:
                await (system.bus.query(send) if isinstance(send, Query) else system.bus.command(send))
                codes.append(None)
            except RequestError as error:
                codes.append(error.code)
            await asyncio.Event().wait()
    assert raised.value.code == 3 and codes == [code]
    assert [await each for each in beside] == [1, 2, 3], "the drain has finished the other messages"
