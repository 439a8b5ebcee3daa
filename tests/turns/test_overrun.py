"""Overruns: a handler that runs for too long is logged, cut, and abandoned; its message fails and its key is free."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from runtime import DeadlineExceeded, DeclarationError, HandlerFailed, Options, RequestError, command
from runtime.host import drain
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import read_failure
from runtime.turns import overrun, workers
from tests.support.calling import Echo, Gateway
from tests.support.commits import replace_commit
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.hanging import (
    ATTEMPTS,
    RETRY,
    Do,
    DoAll,
    DoLong,
    Happened,
    Job,
    Later,
    Look,
    LookAll,
    Sloth,
    Slow,
)
from tests.support.probe import Probe, running

LIMIT = Options(limit=0.1, retry=RETRY)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PERIOD", 0.02)
    monkeypatch.setattr(workers, "GRACE", 0.2)
    monkeypatch.setattr(overrun, "GRACE", 0.2)
    monkeypatch.setattr(overrun, "LAST_GRACE", 0.1)


@asynccontextmanager
async def slow(server: EmbeddedServer, namespace: str, options: Options = LIMIT) -> AsyncIterator[Probe]:
    chosen = {"slow": options, "sloth": options}
    async with running(Slow, Sloth, url=server.url, namespace=namespace, options=chosen) as system:
        owners = system.ownership("slow"), system.ownership("sloth")
        yield system
        assert owners == (system.ownership("slow"), system.ownership("sloth")), "a part has failed"


async def failure(request: Any) -> RequestError:
    with pytest.raises(RequestError) as raised:
        await request
    return raised.value


@pytest.mark.parametrize("how", ["plain", "clean", "other", "returns"])
async def test_a_request_is_cut_at_its_limit(nats_server: EmbeddedServer, namespace: str, how: str) -> None:
    how = f"{how} {namespace}"
    async with slow(nats_server, namespace) as system:
        bus = system.bus
        requests = [
            bus.command(Do("k", how)),
            bus.command(DoAll(how)),
            bus.query(Look("k", how)),
            bus.query(LookAll(how)),
        ]
        if how.startswith("returns"):
            await asyncio.gather(*requests[2:])  # The value of a query that returns in spite of its cut is right.
            requests = requests[:2]
        behind = asyncio.ensure_future(bus.command(Do("k")))
        errors = await asyncio.gather(*requests, return_exceptions=True)
        assert {(type(each), getattr(each, "executed", 0)) for each in errors} == {(DeadlineExceeded, False)}
        assert all(str(each).endswith("the handler was cut at its limit of 0.1 s") for each in errors)
        assert await behind == 1, "the key is free, and nothing of the cut handler is stored"
        assert await system.stored_events("slow") == []
        assert RUN_COUNTS[f"cut {how}"] == RUN_COUNTS[f"hang {how}"] == 4
        if how.startswith("clean"):
            assert RUN_COUNTS[f"cleaned {how}"] == 4


async def test_reactions_timers_and_jobs_are_cut_in_each_attempt(nats_server: EmbeddedServer, namespace: str) -> None:
    how = f"plain {namespace}"
    async with slow(nats_server, namespace) as system:
        await system.bus.emit(Happened("event", how))
        await system.bus.command(Later("timer", how))
        await system.bus.command(Job("job", how))
        await system.until(lambda: _dead(system, "slow", 3))
        await system.until(lambda: _dead(system, "sloth", 1))
        failures = [
            read_failure(each.headers)
            for actor in ("slow", "sloth")
            for each in await system.stored_dead_letters(actor)
        ]
        assert sorted(each.reason for each in failures) == [
            "TimeoutError: job was cut at its limit of 0.1 s",
            "TimeoutError: on_happened was cut at its limit of 0.1 s",
            "TimeoutError: on_happened was cut at its limit of 0.1 s",
            "TimeoutError: ring was cut at its limit of 0.1 s",
        ]
        assert {each.attempts for each in failures} == {ATTEMPTS} and RUN_COUNTS[f"cut {how}"] == 3 * ATTEMPTS
        assert [await system.bus.command(Do(key)) for key in ("event", "timer", "job")] == [1, 1, 1]


async def _dead(system: Probe, actor: str, count: int) -> bool:
    return len(await system.stored_dead_letters(actor)) >= count


async def test_a_request_is_cut_at_the_deadline_of_its_caller(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    how = f"plain {namespace}"
    async with slow(nats_server, namespace, Options()) as system:
        requests: list[Any] = [
            system.bus.command(Do("k", how), timeout=0.2),
            system.bus.command(DoAll(how), timeout=0.2),
            system.bus.query(Look("k", how), timeout=0.2),
            system.bus.query(LookAll(how), timeout=0.2),
        ]
        errors = await asyncio.gather(*requests, return_exceptions=True)
        assert {type(each) for each in errors} == {DeadlineExceeded}
        assert await system.bus.command(Do("k")) == 1
        await system.until(lambda: RUN_COUNTS[f"cut {how}"] == 4)
        lines = [record.getMessage() for record in caplog.records if "was cut" in record.getMessage()]
        assert any(
            line.startswith("slow: command.do of key 'k' was cut at the deadline of its caller") for line in lines
        )
        names = [event[1] for span in system.tracing.finished() for event in span.events]
        assert names.count("handler.cut") == 4
        assert system.served("slow").tracer.counter("actorloom.handlers.cut", {}).value == 2


@pytest.mark.parametrize("how", ["plain", "deaf"])
async def test_hung_queries_without_deadlines_give_way_to_others(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Their callers, programs without this library, name no deadline. The actors have no limit, which is the default."""
    monkeypatch.setattr(overrun, "CROWDED", 0.3)
    body = json.dumps({"name": "k", "how": f"{how} {namespace}"}).encode()
    async with slow(nats_server, namespace, Options(retry=RETRY)) as system:
        for number in range(300):
            actor = ("slow", "sloth")[number % 2]
            connection, subject = (
                system.connection,
                f"{namespace}.{actor}.query.{'look' if number % 2 == 0 else 'look_all'}",
            )
            for _ in range(2):
                connection.publish(subject, body, reply=b"_INBOX.gone")
        last = [await system.bus.query(Look("k"), timeout=15), await system.bus.query(LookAll(), timeout=15)]
        assert last == [0, 1]
        gate(namespace).set()


async def test_hung_commands_without_deadlines_give_way_and_other_messages_do_not(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(overrun, "CROWDED", 0.1)
    how = f"plain {namespace}"
    async with slow(nats_server, namespace, Options(retry=RETRY, concurrency=2)) as system:
        await system.bus.emit(Happened("event", how))
        await system.until(lambda: RUN_COUNTS[f"hang {how}"] == 1)
        command = system.connection.request(
            f"{namespace}.slow.command.do", json.dumps({"name": "k", "how": how}).encode(), timeout=15
        )
        hung = asyncio.ensure_future(command)
        await system.until(lambda: RUN_COUNTS[f"hang {how}"] == 2)
        assert await system.bus.command(Do("other"), timeout=15) == 1
        assert b"the handler was cut at 0.1 s without a deadline" in (await hung).payload
        assert RUN_COUNTS[f"cut {how}"] == 1, "the reaction goes on"
        await system.bus.emit(Happened("event 2", how))
        await system.bus.emit(Happened("event 3"))
        await system.until(lambda: "slow: messages wait (1), and each of the 2 workers" in caplog.text)
        gate(namespace).set()


async def test_an_infinite_limit_lifts_the_cut_at_the_deadline(nats_server: EmbeddedServer, namespace: str) -> None:
    how = f"plain {namespace}"
    async with slow(nats_server, namespace) as system:
        assert isinstance(await failure(system.bus.command(DoLong("k", how), timeout=0.1)), DeadlineExceeded)
        behind = asyncio.ensure_future(system.bus.command(Do("k"), timeout=20))
        await system.until(lambda: system.waiting("slow", "k"))
        gate(namespace).set()
        assert await behind == 1, "a commit after the deadline is refused"
        assert RUN_COUNTS[f"passed {how}"] == 1 and not RUN_COUNTS[f"cut {how}"]


async def test_a_cut_leaves_nothing_behind_in_its_worker(nats_server: EmbeddedServer, namespace: str) -> None:
    """A task counts its cancellations. A later handler in it that awaits a cancelled future must fail, and not be ended."""
    options = {"gateway": Options(limit=0.05, concurrency=1)}
    async with running(Gateway, url=nats_server.url, namespace=namespace, options=options) as system:
        for _ in range(3):
            assert isinstance(await failure(system.bus.query(Echo(f"gate never {namespace}"))), DeadlineExceeded)
            assert isinstance(await failure(system.bus.query(Echo("cancel"))), HandlerFailed)
            assert await system.bus.query(Echo("works")) == "works"


async def test_a_handler_that_ignores_its_cut_is_abandoned(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    how = f"deaf {namespace}"
    async with slow(nats_server, namespace, msgspec.structs.replace(LIMIT, concurrency=1)) as system:
        bus = system.bus
        sent = asyncio.ensure_future(bus.command(Do("k", how), timeout=20))
        await system.until(lambda: RUN_COUNTS[f"hang {how}"])
        behind = [asyncio.ensure_future(bus.command(Do(key), timeout=20)) for key in ("k", "k", "other")]
        error = await failure(sent)
        assert isinstance(error, DeadlineExceeded) and error.executed is False, "it has sent no command"
        assert await asyncio.gather(*behind) == [1, 2, 1], "the key is free, and the only worker is replaced"
        assert RUN_COUNTS[f"deaf {namespace}"] == 1, "cancelled twice: the first ended the wait"
        (line,) = [record.getMessage() for record in caplog.records if "is abandoned" in record.getMessage()]
        assert "slow: command.do of key 'k'" in line and "_ignore_all" in line and "runtime/turns" not in line
        held = [
            asyncio.ensure_future(bus.command(DoLong("k", how), timeout=20)) for how in (f"plain {namespace}-b", "well")
        ]
        await system.until(lambda: system.waiting("slow", "k"))
        requests = system.requests("slow")
        gate(namespace).set()
        await system.until(lambda: RUN_COUNTS[f"over {namespace}"])
        assert RUN_COUNTS[f"refused {namespace}"] == 5
        assert (system.requests("slow"), system.waiting("slow", "k")) == (requests, 1), (
            "its end starts and answers nothing"
        )
        gate(f"{namespace}-b").set()
        assert [*await asyncio.gather(*held), await bus.query(Look("late"))] == [3, 4, 0]
        assert len(await system.stored_events("slow")) == 1, "that of the handler which was held"


@pytest.mark.parametrize("send", [Look("k", "deaf"), LookAll("deaf"), DoAll("deaf"), Happened("k", "deaf")])
async def test_any_message_is_ended_if_its_handler_does_not_end(
    nats_server: EmbeddedServer, namespace: str, send: Any
) -> None:
    how = f"deaf {namespace}"
    message = msgspec.structs.replace(send, how=how)
    async with slow(nats_server, namespace) as system:
        if isinstance(send, Happened):
            await system.bus.emit(message)
            await system.until(lambda: _dead(system, "slow", 1))
            assert RUN_COUNTS[f"hang {how}"] == ATTEMPTS
        else:
            asked = system.bus.command if isinstance(send, DoAll) else system.bus.query
            assert isinstance(await failure(asked(message)), DeadlineExceeded)
        requests = system.requests("sloth")
        gate(namespace).set()
        await system.until(lambda: RUN_COUNTS[f"over {namespace}"])
        assert await system.bus.command(Do("k")) == 1
        assert system.requests("sloth") == requests, "the end of the handler answers nothing"


async def test_a_turn_is_not_cut_during_its_commit(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with slow(nats_server, namespace) as system:
        journal = system.journal("slow")
        commit, started = journal.commit, asyncio.Event()

        async def late(*arguments: Any, **options: Any) -> int:
            started.set()
            await gate(namespace).wait()
            return await commit(*arguments, **options)

        replace_commit(monkeypatch, journal, late)
        sent = asyncio.ensure_future(system.bus.command(Do("k"), timeout=20))
        await started.wait()
        held = asyncio.ensure_future(failure(system.bus.command(DoAll(f"plain {namespace}2"), timeout=20)))
        assert isinstance(await held, DeadlineExceeded), "the sweep has run for longer than the limit"
        gate(namespace).set()
        assert await sent == 1


async def test_a_slow_handler_is_logged_and_counted(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    def lines() -> list[str]:
        return [record.getMessage() for record in caplog.records if "has been running for" in record.getMessage()]

    async with slow(nats_server, namespace, Options(slow=0.05)) as system:
        sent = [asyncio.ensure_future(system.bus.command(Do("k", how), timeout=20))
                for how in (f"plain {namespace}", "well", "well")]  # fmt: skip
        await system.until(lambda: len(lines()) >= 3)
        gate(namespace).set()
        assert await asyncio.gather(*sent) == [1, 2, 3]
        assert lines()[2] == "slow: command.do of key 'k' has been running for 0 s; 2 messages wait behind it"
        assert system.served("slow").tracer.counter("actorloom.handlers.slow", {}).value == 1


async def test_a_drain_names_the_handlers_that_it_cuts(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain, "_DRAIN_TIMEOUT", 0.2)
    how = f"plain {namespace}"
    async with running(Slow, Sloth, url=nats_server.url, namespace=namespace) as system:
        sent = [asyncio.ensure_future(failure(system.bus.command(Do("k", how), timeout=20))),
                asyncio.ensure_future(failure(system.bus.query(LookAll(how), timeout=20)))]  # fmt: skip
        await system.until(lambda: RUN_COUNTS[f"hang {how}"] == 2)
        system.runner.stop()
        assert {each.code for each in await asyncio.gather(*sent)} == {503}
        await system.until(lambda: not system.is_serving("slow"))
        lines = [record.getMessage() for record in caplog.records if "cut short" in record.getMessage()]
        assert sorted(lines) == [
            "sloth: the drain was cut short after 0 s, it left query.look, which has been running for 0 s",
            "slow: the drain was cut short after 0 s, it left command.do of key 'k', which has been running for 0 s",
        ]


@pytest.mark.parametrize("limit", [0, -1, float("nan"), True, "5"])
def test_a_limit_is_a_number_of_seconds_above_zero(limit: Any) -> None:
    with pytest.raises(DeclarationError, match=r"handler: limit = .*: it must be a number of seconds above 0"):

        @command(limit=limit)
        async def handler(self: Slow, message: Do) -> int:
            return 0
