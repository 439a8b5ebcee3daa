"""Outcomes: `executed` in an error belongs to the message, and is false only if none of its runs has done anything."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec
import pytest

from runtime import (
    Actor,
    Command,
    DeadlineExceeded,
    NotDelivered,
    Options,
    Rejected,
    RequestError,
    TooLarge,
    command,
)
from runtime.host import drain
from runtime.nats.server import EmbeddedServer
from tests.support.bank import Bank, Deposit, GetBalance
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running


class Paid(msgspec.Struct, frozen=True):
    total: int = 0
    memo: str = ""


class Pay(Command[int], actor="payer", key="account"):
    """Pays to an account of the bank by a nested command, and ends as `then` says. ``wait``, ``again`` and ``deaf`` wait at a gate."""

    account: str
    to: str
    then: str = ""


class PayFreely(Command[int], actor="payers"):
    """The same without state."""

    to: str
    then: str = ""


class Nobody(Command[None], actor="nobody"):
    """A command that no process serves."""


class Stop(BaseException):
    """An exception of an application that is no `Exception`."""


ENDS: dict[str, type[BaseException]] = {
    "interrupt": KeyboardInterrupt,
    "exit": SystemExit,
    "cancelled": asyncio.CancelledError,
    "closed": GeneratorExit,
    "own": Stop,
    "error": ZeroDivisionError,
}
"""The exceptions of callbacks."""


def raise_error(name: str) -> None:
    raise ENDS[name]


async def pay(actor: Actor[Any], message: Pay | PayFreely) -> int:
    RUN_COUNTS[f"pay {message.to}"] += 1
    await actor.command(Deposit(message.to, 1))
    RUN_COUNTS[f"paid {message.to}"] += 1
    match message.then:
        case "reject":
            raise Rejected("no")
        case "nobody":
            await actor.command(Nobody())
        case "wait" | "again":
            await gate(message.to).wait()
            if message.then == "again":
                await actor.command(Deposit(message.to, 1))
        case "deaf":
            while not gate(message.to).is_set():
                try:
                    await gate(message.to).wait()
                except asyncio.CancelledError:
                    continue
    return 1


class Payer(Actor[Paid]):
    name = "payer"

    @command
    async def pay(self, message: Pay) -> int:
        if message.then in ENDS:
            self.on_commit(lambda: raise_error(message.then))
        else:
            await pay(self, message)
        paid = (self.state or Paid()).total + 1
        self.state = Paid(paid, "x" * 20_000 if message.then == "too large" else "")
        return paid


class Payers(Actor):
    name = "payers"

    @command
    async def pay_freely(self, message: PayFreely) -> int:
        if message.then in ENDS:
            self.on_commit(lambda: raise_error(message.then))
            return 1
        return await pay(self, message)


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    options = {"payer": Options(limit=5), "payers": Options(limit=5)}
    async with running(Bank, Payer, Payers, url=nats_server.url, namespace=namespace, options=options) as started:
        stream = f"{namespace}-payer-turns"
        info = await started.jetstream.stream_info(stream)
        config = msgspec.json.encode({**info.config, "max_msg_size": 10_000})
        await started.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", config, timeout=5)
        yield started


async def failure(request: Awaitable[Any]) -> RequestError:
    with pytest.raises(RequestError) as raised:
        await request
    return raised.value


@pytest.mark.parametrize(("then", "kind"), [("reject", Rejected), ("nobody", NotDelivered), ("too large", TooLarge)])
async def test_a_refusal_after_a_nested_command_has_an_unknown_outcome(
    system: Probe, namespace: str, then: str, kind: type
) -> None:
    requests = [failure(system.bus.command(Pay("a", f"{namespace}-1", then)))]
    if then != "too large":
        requests.append(failure(system.bus.command(PayFreely(f"{namespace}-2", then))))
    for number, told in enumerate(await asyncio.gather(*requests), 1):
        assert isinstance(told, kind) and told.executed is None
        assert await system.bus.query(GetBalance(f"{namespace}-{number}")) == 1


async def _crash(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    for actor in ("payer", "payers"):
        system.crash(actor)


async def _lose_the_lease(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    system.expire("payer")
    _open_gates(system)


async def _cut_a_drain_short(system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drain, "_DRAIN_TIMEOUT", 0.05)
    for actor in ("payer", "payers"):
        system.drain(actor)


def _open_gates(system: Probe) -> None:
    for number in (1, 2):
        gate(f"{system.served('payer').namespace}-{number}").set()


@pytest.mark.parametrize(
    ("end", "then"),
    [(_crash, "wait"), (_crash, "deaf"), (_cut_a_drain_short, "wait"), (_lose_the_lease, "again")],
)
async def test_the_end_of_an_ownership_leaves_the_outcome_unknown_after_a_nested_command(
    system: Probe, namespace: str, monkeypatch: pytest.MonkeyPatch, then: str, end: Any
) -> None:
    first, second = f"{namespace}-1", f"{namespace}-2"
    sent = [asyncio.ensure_future(failure(system.bus.command(Pay("a", first, then), timeout=20)))]
    if end is not _lose_the_lease:
        sent.append(asyncio.ensure_future(failure(system.bus.command(PayFreely(second, then), timeout=20))))
    await system.until(lambda: all(RUN_COUNTS[f"paid {to}"] for to in (first, second)[: len(sent)]))
    behind = asyncio.ensure_future(failure(system.bus.command(Pay("a", first), timeout=20)))
    await system.until(lambda: system.waiting("payer", "a"))
    await end(system, monkeypatch)
    for told in await asyncio.gather(*sent):
        assert isinstance(told, DeadlineExceeded) and told.executed is None
    assert (await behind).executed is False, "it has not run"
    _open_gates(system)
    assert await system.bus.query(GetBalance(first)) == 1, "a process without the lease sends no command"


async def test_an_abandoned_handler_leaves_the_outcome_unknown_if_it_has_sent_a_command(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.turns.overrun.GRACE", 0.1)
    monkeypatch.setattr("runtime.turns.overrun.LAST_GRACE", 0.1)
    limit = Options(limit=0.1)
    options = {"payer": limit, "payers": limit}
    async with running(Bank, Payer, Payers, url=nats_server.url, namespace=namespace, options=options) as system:
        first, second = f"{namespace}-1", f"{namespace}-2"
        told = await asyncio.gather(
            failure(system.bus.command(Pay("a", first, "deaf"))), failure(system.bus.command(PayFreely(second, "deaf")))
        )
        assert [(type(each), each.executed) for each in told] == [(DeadlineExceeded, None)] * 2
        _open_gates(system)


@pytest.mark.parametrize("raised", ENDS)
async def test_a_turn_that_is_stored_is_answered_whatever_its_callbacks_raise(
    system: Probe, namespace: str, caplog: pytest.LogCaptureFixture, raised: str
) -> None:
    asked = system.note_exits()
    owner = system.ownership("payer")
    batch = [Pay("a", namespace, raised if number % 3 == 0 else "") for number in range(9)]
    requests = [*map(system.bus.command, batch), system.bus.command(PayFreely(namespace, raised))]
    assert await asyncio.gather(*requests) == [*range(1, 10), 1]
    assert [type(each) for each in asked] == ([ENDS[raised]] * 4 if raised in ("exit", "interrupt") else [])
    assert system.ownership("payer") is owner and await system.bus.command(Pay("a", namespace)) == 10
    failed = [record for record in caplog.records if "an on_commit callback failed" in record.getMessage()]
    assert len(failed) == 4
