"""Stored messages that cannot be read: each costs its own key, and is logged once. The other keys of the actor go on."""

import asyncio
import logging
import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, Index, NotDelivered, Query, command, query, react
from runtime.admin.doctor import examine
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.record import Handled, Kind, Outgoing, Record, Unreadable, decode_record, encode_record
from runtime.wire import header_block
from runtime.wire.ids import new_id
from tests.support.probe import Probe, running


class Account(msgspec.Struct, frozen=True):
    name: str
    total: int = 0


class Pay(Command[int], actor="bank", key="name"):
    name: str
    amount: int


class PayLater(Command[None], actor="bank", key="name"):
    name: str
    amount: int


class GetTotal(Query[int], actor="bank", key="name"):
    name: str


class ListNames(Query[list[str]], actor="bank"):
    pass


class Paid(Event, actor="bank", key="name"):
    name: str
    amount: int


class SalaryPaid(Event, actor="payroll", key="name"):
    name: str
    amount: int


class SendSalary(Command[None], actor="payroll"):
    name: str
    amount: int


class Payroll(Actor):
    name = "payroll"

    @command
    async def send_salary(self, message: SendSalary) -> None:
        self.emit(SalaryPaid(message.name, message.amount))


class Bank(Actor[Account], indexes=[Index(order="name")]):
    name = "bank"

    @command
    async def pay(self, message: Pay) -> int:
        account = self.state or Account(message.name)
        self.state = Account(account.name, account.total + message.amount)
        self.emit(Paid(message.name, message.amount))
        return self.state.total

    @command
    async def pay_later(self, message: PayLater) -> None:
        self.remind(0.01, Pay(message.name, message.amount))

    @query
    async def get_total(self, message: GetTotal) -> int:
        return self.state.total if self.state else 0

    @query
    async def list_names(self, message: ListNames) -> list[str]:
        return [account.name for account in (await self.list()).items]

    @react
    async def on_salary_paid(self, event: SalaryPaid) -> None:
        account = self.state or Account(event.name)
        self.state = Account(account.name, account.total + event.amount)


GOOD = encode_record(
    Record(new_id(), 1, msgspec.Raw(b'{"name":"good","total":5}'), [Handled(new_id(), msgspec.Raw(b"5"), 1.0, "")])
)


def entry(**changes: Any) -> bytes:
    """Return a record whose outbox has one entry, with changes."""
    sound = Outgoing(new_id(), Kind.EVENT, "Paid", "x", msgspec.Raw(b'{"name":"x","amount":1}'), 1.0)
    return encode_record(Record("c", outbox=[msgspec.structs.replace(sound, **changes)]))


def damages() -> Iterator[tuple[str, bytes]]:
    """Return the names and bodies of records that cannot be read."""
    yield "empty", b""
    yield "text", b"not a record"
    yield "binary", bytes(range(256))
    yield "truncated", GOOD[: len(GOOD) // 2]
    yield "array", b"[]"
    yield "nested", b'{"commit_id":"c","x":' + b"[" * 100_000
    yield "handled", b'{"commit_id":"c","handled":[["i",null,"x"]]}'
    yield "state", b'{"commit_id":"c","state":{"name":5}}'
    yield "old-state", b'{"commit_id":"c","state_version":0,"state":{"name":"a"}}'
    yield "new-state", b'{"commit_id":"c","state_version":9,"state":{"name":"a"}}'
    yield "format", b'{"commit_id":"c","format":3}'
    yield "new-format", b'{"format":3,"all":"new"}'
    yield "token", entry(token="a b")
    yield "wildcard", entry(token=">")
    yield "name", entry(name="Paid\r\nPUB x 0")
    yield "id", entry(id="a\r\nb: c")
    yield "time", entry(time=1e300)
    generator = random.Random(7)
    for number in range(20):
        body = bytearray(GOOD)
        for _ in range(generator.randrange(1, 6)):
            body[generator.randrange(len(body))] = generator.randrange(128, 160)  # no byte of UTF-8 text begins so
        yield f"changed-{number}", bytes(body)


DAMAGED = dict(damages())
ODD_HEADERS = (
    b"NATS/1.0\r\nno colon here\r\n: no name\r\nIdempotency-Key: \xff\xfe\r\nActorloom-Turn: "
    + b"9" * 5000
    + b"\r\n\r\n"
)


async def damage(jetstream: JetStream, namespace: str) -> None:
    """Store every kind of message that nobody can read, in the turns stream of a bank that does not run."""
    own = f"{namespace}.bank."
    for key, body in DAMAGED.items():
        headers = ODD_HEADERS if len(key) % 2 else None
        await jetstream.publish(f"{own}turn.{key}", body, headers=headers)
    for stray in (
        "turn.%ZZ",
        "turn.a.b",
        "turn._",
        "timer.stray",
        "timer.%ZZ.n",
        "schedule.x.y.z",
        "dedup.x",
        "relay.x",
    ):
        await jetstream.publish(own + stray, GOOD)
    await jetstream.publish(f"{own}turn.".encode() + b"\xff\xfe", GOOD)
    await jetstream.publish(f"{own}timer.good.name", b"{", headers=ODD_HEADERS)
    for digits in (b"9" * 5000, "٣".encode(), b"999999999"):
        await jetstream.publish(f"{own}relay.checkpoint", digits)
    await jetstream.publish(f"{own}positions.{namespace}-payroll-events.bank", b'{"floor":' + b"[" * 100_000)


async def assert_serves(system: Probe, *, total: int) -> None:
    """Assert that queries, commands, events, timers and lists of the good key work, and that the damaged keys are refused."""
    bus = system.bus
    assert await bus.command(Pay("good", 1)) == total + 1
    await bus.command(PayLater("good", 2))
    await bus.emit(SalaryPaid("good", 3))

    async def paid() -> bool:
        return await bus.query(GetTotal("good")) == total + 6

    await system.until(paid)
    assert await bus.query(ListNames()) == ["good"]
    for key in DAMAGED:
        for request in (bus.query(GetTotal(key)), bus.command(Pay(key, 1))):
            with pytest.raises(NotDelivered) as refused:
                await request
            assert refused.value.executed is False and refused.value.code == 503 and refused.value.remote
            assert "malformed" not in str(refused.value) and "Expected" not in str(refused.value)


async def test_an_unreadable_record_costs_its_key_alone(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {"url": nats_server.url, "namespace": namespace}
    async with running(Bank, Payroll, **options) as system:
        assert await system.bus.command(Pay("good", 4)) == 4
        # An outbox that the next owner must find, behind a checkpoint that is no number.
        sound = entry(token="unsent", body=msgspec.Raw(b'{"name":"unsent","amount":8}'))
        await system.jetstream.publish(f"{namespace}.bank.turn.unsent", sound)
        stored = await system.stored_turn("bank", "good")
        assert stored is not None
        await damage(system.jetstream, namespace)
        await system.jetstream.delete_message(f"{namespace}-bank-turns", 1)
    caplog.clear()
    async with running(Bank, Payroll, **options) as system:
        await assert_serves(system, total=4)
        events = [msgspec.json.decode(each.payload) for each in await system.stored_events("bank")]
        assert {"name": "unsent", "amount": 8} in events
        letters = await system.until(lambda: _dead(system, 3))
        assert len(letters) == 3
        assert system.restarts("bank") == 0
        await system.relay("bank").sweep()
        await system.relay("bank").sweep()
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    for key in DAMAGED:
        assert sum(f".turn.{key}: " in line or f"key {key!r}" in line for line in lines) == 1, key
    assert sum("keys are not listed" in line for line in lines) == 1
    caplog.clear()
    # The next owner finds the records of a newer format again: only a process of that version can publish them.
    async with running(Bank, Payroll, **options) as system:
        await assert_serves(system, total=10)
        findings = [each async for each in examine(system.connection, namespace=namespace, probe=False)]
        (broken,) = [
            each for each in findings if each.subject == "bank" and each.status == "fail" and "read" in each.text
        ]
        (newer,) = [each for each in findings if each.subject == "bank" and each.text.startswith("2 records cannot")]
        # The doctor does not know the type of the states. It finds four strays beside the damaged records.
        known = sum(not _is_record(body) for body in DAMAGED.values()) + 4
        assert broken.text.startswith(f"{known - 2} records cannot be read: ")
        assert newer.status == "warn" and "record format" in newer.text
    assert sum("record format" in record.getMessage() for record in caplog.records) == 2


def _is_record(body: bytes) -> bool:
    try:
        decode_record(body, "bank.turn.x")
    except Unreadable:
        return False
    return True


async def _dead(system: Probe, count: int) -> list[Any]:
    letters = await system.stored_dead_letters("bank")
    return letters if len(letters) >= count else []


async def test_a_record_that_is_damaged_and_mended_while_the_actor_runs(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Bank, Payroll, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        await asyncio.gather(*(bus.command(Pay(name, 1)) for name in ("a", "b", "c")))
        sound = await system.stored_turn("bank", "b")
        assert sound is not None
        await system.wait_published("bank")
        await system.jetstream.publish(sound.subject, b"{}")
        # The first turns after the damage conflict with it; they load the record, and are refused.
        found = await asyncio.gather(*(bus.command(Pay("b", 1)) for _ in range(20)), return_exceptions=True)
        assert {type(each) for each in found} == {NotDelivered}
        assert await bus.query(ListNames()) == ["a", "c"]
        assert await bus.command(Pay("a", 1)) == 2
        assert [each.getMessage() for each in caplog.records if "bank.turn.b" in each.getMessage()] == [
            f"bank: a key is refused, and missing from lists: {sound.subject}: the stored record is unreadable: "
            "Object missing required field `commit_id`"
        ]
        # The service knows the type of its states, and reports a state that does not fit it.
        await system.jetstream.publish(sound.subject, b'{"commit_id":"c","state":{"name":5}}')
        with pytest.raises(NotDelivered):
            await bus.query(GetTotal("b"))
        assert system.runner.warnings() == [
            f"bank: 1 stored message cannot be read: {sound.subject}: the stored state does not fit Account: "
            "Expected `str`, got `int` - at `$.name`"
        ]
        await system.jetstream.publish(sound.subject, sound.payload)
        assert await bus.command(Pay("b", 1)) == 2
        assert await bus.query(ListNames()) == ["a", "b", "c"] and not system.runner.warnings()
        assert system.restarts("bank") == 0


async def test_an_unreadable_dedup_entry_refuses_the_ids_that_it_may_list(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Bank, Payroll, url=nats_server.url, namespace=namespace) as system:
        key = system.served("bank").names.dedup_entry("a", "mine")
        await system.bus.command(Pay("a", 1))
        dedup = system.journal("bank").dedup
        for body in (b"", b"{}", b'[["mine"]]', b"[" * 100_000):
            await system.jetstream.publish(key, body)
            with pytest.raises(Unreadable, match="cannot be read"):
                await dedup.find("a", "mine")
        await system.jetstream.publish(key, b"[]")
        assert await dedup.find("a", "mine") is None
        assert await dedup.find("a", "other") is None


def test_a_stored_number_is_read_in_bounds() -> None:
    assert [header_block.number(text) for text in ("0", b"12", "9" * 19)] == [0, 12, 10**19 - 1]
    assert {header_block.number(text) for text in ("", None, "-1", "1.5", "٣", b"\xb2", "9" * 5000, " 1")} == {None}
