"""An id stands for one message: another use of it is refused, discloses nothing, and takes nothing from the true owner."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, HandlerFailed, IdReused, Options, Rejected, RetryPolicy, command, react
from runtime.actor.message import Accepted
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetters
from runtime.wire import header_block
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from tests.support.handlers import RUN_COUNTS, gate
from tests.support.probe import Probe, running

SECRET = "secret-4711"


class Account(msgspec.Struct, frozen=True):
    balance: int = 0
    note: str = ""


class Deposit(Command[Account], actor="vault", key="name"):
    name: str
    amount: int
    note: str = ""
    at: float = 0.0


class Withdraw(Command[Account], actor="vault", key="name"):
    name: str
    amount: int


class DepositLater(Command[Accepted], actor="vault", key="name"):
    name: str
    amount: int
    gate: str = ""


class Deposited(Event, actor="vault"):
    """An event without a key, so that those of all accounts have the same subject."""

    name: str
    amount: int


class Vault(Actor[Account]):
    name = "vault"

    def _add(self, amount: int, note: str = "") -> Account:
        before = self.state or Account()
        self.state = Account(before.balance + amount, note or before.note)
        return self.state

    @command
    async def deposit(self, message: Deposit) -> Account:
        RUN_COUNTS[f"deposit {message.name}"] += 1
        if message.note.startswith("gate "):
            await gate(message.note).wait()
        self.emit(Deposited(message.name, message.amount))
        return self._add(message.amount, message.note)

    @command
    async def withdraw(self, message: Withdraw) -> Account:
        return self._add(-message.amount)

    @command(accept=True)
    async def deposit_later(self, message: DepositLater) -> None:
        RUN_COUNTS[f"later {message.name}"] += 1
        if message.gate == "fails once" and RUN_COUNTS[f"later {message.name}"] == 1:
            raise RuntimeError("fails on purpose")
        if message.gate not in ("", "fails once"):
            await gate(message.gate).wait()
        self._add(message.amount)


class Transfer(Command[Account], actor="teller"):
    """Sends one command to `name`, which depends on the test, and fails at its first attempts."""

    name: str
    step: str = ""


class Teller(Actor):
    """A stateless actor whose handler takes the path that a test has chosen."""

    name = "teller"

    @command
    async def transfer(self, message: Transfer) -> Account:
        RUN_COUNTS[f"transfer {message.name}"] += 1
        path = PATHS[message.name].pop(0)
        reply: Account = await self.command(path)
        if PATHS[message.name]:
            raise RuntimeError("the handler runs again")
        return reply


PATHS: dict[str, list[Command[Account]]] = {}
"""The nested commands of `Teller`, one for each run, by the name in `Transfer`."""


class Ledger(Actor[Account]):
    """Reacts to deposits with one account for all."""

    name = "ledger"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01))

    @react(key="name")
    async def on_deposited(self, event: Deposited) -> None:
        self.state = Account((self.state.balance if self.state else 0) + event.amount)


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncIterator[Probe]:
    async with running(Vault, Teller, url=nats_server.url, namespace=namespace) as running_system:
        yield running_system


async def balance(system: Probe, name: str) -> int:
    return (await system.bus.command(Withdraw(name, 0))).balance


async def refused(request: Awaitable[object]) -> IdReused:
    """Check that a request is refused as the reuse of an id, and return the error."""
    with pytest.raises(IdReused) as caught:
        await request
    error = caught.value
    assert (error.code, error.kind, error.remote) == (409, "IdReused", True)
    assert not isinstance(error, Rejected)
    assert SECRET not in str(error)
    return error


OTHERS = {
    "another command": lambda name: Withdraw(name, 30),
    "another amount": lambda name: Deposit(name, 7, SECRET),
    "another field": lambda name: Deposit(name, 100, "mine"),
    "a long job": lambda name: DepositLater(name, 100),
}


@pytest.mark.parametrize("where", ["record", "dedup entry", "after a reload"])
async def test_another_use_of_an_id_is_refused_and_discloses_nothing(system: Probe, where: str) -> None:
    for kind, command_id in (("chosen", "k1"), ("created", new_id())):
        name = f"{where} {kind}"
        first = await system.bus.command(Deposit(name, 100, SECRET), id=command_id)
        if where == "dedup entry":
            for _ in range(30):
                await system.bus.command(Withdraw(name, 0), id=new_id())
            await system.until_dedup_stored("vault", name)
            assert await system.evict("vault", name) >= 1
        elif where == "after a reload":
            system.forget("vault", name)
        for other in OTHERS.values():
            assert (await refused(system.bus.command(other(name), id=command_id))).executed is False
        assert await system.bus.command(Deposit(name, 100, SECRET), id=command_id) == first
        assert await balance(system, name) == 100 and RUN_COUNTS[f"deposit {name}"] == 1


async def test_a_refusal_has_the_same_bytes_whatever_the_id_stands_for(system: Probe, namespace: str) -> None:
    await system.bus.command(Deposit("bytes-a", 1, SECRET), id="used")
    await system.bus.command(Withdraw("bytes-b", 2), id="used")
    replies: set[tuple[bytes, bytes | None]] = set()
    for name in ("bytes-a", "bytes-b"):
        body = json.dumps({"name": name, "amount": 5}).encode()
        reply = await system.connection.request(
            f"{namespace}.vault.command.deposit",
            body,
            headers=header_block.encode([("Idempotency-Key", "used")]),
            timeout=5,
        )
        replies.add((reply.payload, header_block.get(reply.headers, header_block.SERVICE_ERROR_CODE)))
    [(payload, code)] = replies
    assert code == "409" and SECRET.encode() not in payload
    error = json.loads(payload)["error"]
    assert (error["code"], error["kind"], error["executed"]) == (409, "IdReused", False)


async def test_an_id_is_compared_byte_for_byte(system: Probe, namespace: str) -> None:
    async def send(body: bytes, content_type: str = "application/json") -> bytes:
        headers = header_block.encode([("Idempotency-Key", "bytes"), ("Content-Type", content_type)])
        reply = await system.connection.request(f"{namespace}.vault.command.deposit", body, headers=headers, timeout=5)
        return reply.payload

    first = await send(b'{"name":"raw","amount":5}')
    assert await send(b'{"name":"raw","amount":5}') == first
    for other in (b'{"name":"raw","amount":5 }', b'{"amount":5,"name":"raw"}', b'{"name":"raw","amount":5,"x":1}'):
        assert b'"IdReused"' in await send(other)
    packed = msgspec.msgpack.encode({"name": "raw", "amount": 5})
    assert b"IdReused" in await send(packed, "application/msgpack")


async def test_a_second_command_under_the_id_of_a_running_one_is_compared_with_it(system: Probe) -> None:
    name = "in flight"
    first = asyncio.ensure_future(system.bus.command(Deposit(name, 100, "gate flight"), id="k1"))
    await system.until(lambda: RUN_COUNTS[f"deposit {name}"])
    again = asyncio.ensure_future(system.bus.command(Deposit(name, 100, "gate flight"), id="k1"))
    other = asyncio.ensure_future(system.bus.command(Withdraw(name, 100), id="k1"))
    await system.until(lambda: system.waiting("vault", name) == 2)
    gate("gate flight").set()
    assert await again == await first
    assert (await refused(other)).executed is False
    assert await balance(system, name) == 100


async def test_the_id_of_a_refused_command_is_free(system: Probe) -> None:
    await system.bus.command(Deposit("free", 1), id="taken")
    await refused(system.bus.command(Withdraw("free", 1), id="taken"))
    assert (await system.bus.command(Withdraw("free", 1), id="free")).balance == 0


async def test_an_id_at_another_key_is_another_id_and_so_are_its_events(system: Probe) -> None:
    await system.bus.command(Deposit("one", 1), id="both")
    await system.bus.command(Deposit("two", 2), id="both")
    stored = await system.stored_events("vault")
    assert [json.loads(each.payload)["name"] for each in stored] == ["one", "two"]


async def test_a_long_job_keeps_its_id_and_its_bytes(system: Probe, namespace: str) -> None:
    body = b'{ "name":"job", "amount": 5, "gate":"job", "unknown": [1] }'
    headers = header_block.encode([("Idempotency-Key", "job-1")])

    async def send(body: bytes) -> bytes:
        subject = f"{namespace}.vault.command.deposit_later"
        return (await system.connection.request(subject, body, headers=headers, timeout=5)).payload

    assert await send(body) == b'{"id":"job-1","key":"job"}' == await send(body)
    assert b'"IdReused"' in await send(b'{"name":"job","amount":50,"gate":"job"}')
    await system.wait_published("vault")
    stored = await system.jetstream.get_last(f"{namespace}-vault-turns", f"{namespace}.vault.timer.job.job-1")
    assert stored is not None and stored.payload == body
    gate("job").set()

    async def done() -> bool:
        return await balance(system, "job") == 5

    await system.until(done)


async def test_a_job_is_redriven_with_its_bytes_and_takes_effect_once(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    options = {"vault": Options(retry=RetryPolicy(attempts=1))}
    body = b'{ "name":"redriven", "unknown": "\\u00e4", "amount": 5, "gate":"fails once" }'
    async with running(Vault, url=nats_server.url, namespace=namespace, options=options) as system:
        await system.connection.request(f"{namespace}.vault.command.deposit_later", body, timeout=5)

        async def letters() -> list[Any]:
            return await system.stored_dead_letters("vault")

        [letter] = await system.until(letters)
        assert letter.payload == body
        dead = DeadLetters(system.jetstream, Names("vault", namespace))
        assert await dead.redrive(letter.sequence)
        for number in range(2):  # copies of the redriven message
            block = header_block.join(
                *(header_block.line(name.encode(), value.encode()) for name, value in header_block.parse(letter.headers).items()
                  if not name.startswith("Nats-")),
                header_block.line(b"Nats-Msg-Id", b"copy %d" % number),
            )  # fmt: skip
            await system.jetstream.publish(f"{namespace}.vault.redrive.deposit_later.k", body, headers=block)

        async def empty() -> bool:
            return (await system.jetstream.stream_info(f"{namespace}-vault-dead")).state.messages == 0

        await system.until(empty)
        # A late copy of the timer itself is the same message too.
        timer = f"{namespace}.vault.timer.redriven.copy"
        job_id = header_block.get(letter.headers, b"Dead-Id") or ""
        block = header_block.encode([("Idempotency-Key", job_id), ("Actorloom-Command", "DepositLater")])
        await system.jetstream.publish(timer, body, headers=block)

        async def done() -> bool:
            return await system.jetstream.get_last(f"{namespace}-vault-turns", timer) is None

        await system.until(done)
        assert await system.stored_dead_letters("vault") == []
        assert await balance(system, "redriven") == 5 and RUN_COUNTS["later redriven"] == 2


async def test_a_timer_whose_id_was_used_becomes_a_dead_letter(system: Probe, namespace: str) -> None:
    await system.bus.command(DepositLater("timer", 5, "timer"))
    await system.wait_published("vault")
    record = await system.record("vault", "timer")
    assert record is not None
    timer_id = record.outbox[-1].id
    assert await system.stored_dead_letters("vault") == []
    gate("timer").set()

    async def done() -> bool:
        return await balance(system, "timer") == 5

    await system.until(done)
    # The same timer again does nothing, and another one under its id is not lost without a trace.
    subject, lines = f"{namespace}.vault.timer.timer.again", [("Idempotency-Key", timer_id)]
    block = header_block.encode([*lines, ("Actorloom-Command", "DepositLater")])
    await system.jetstream.publish(subject, b'{"name":"timer","amount":5,"gate":"timer"}', headers=block)
    await system.jetstream.publish(subject + "2", b'{"name":"timer","amount":99,"gate":"timer"}', headers=block)

    async def letters() -> list[str]:
        return [
            header_block.get(each.headers, b"Dead-Reason") or "" for each in await system.stored_dead_letters("vault")
        ]

    [reason] = await system.until(letters)
    assert reason.startswith("IdReused: ")
    assert await balance(system, "timer") == 5


async def test_a_command_cannot_take_the_id_of_an_event(nats_server: EmbeddedServer, namespace: str) -> None:
    class Pay(Command[Account], actor="ledger", key="name"):
        name: str

    class PayingLedger(Ledger):
        name = "ledger"

        @command
        async def pay(self, message: Pay) -> Account:
            self.state = Account(-1)
            return self.state

    async with running(Vault, PayingLedger, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Pay("a"), id="e1.on_deposited")
        await system.bus.emit(Deposited("a", 10), id="e1")

        async def letters() -> list[str]:
            return [
                header_block.get(each.headers, b"Dead-Reason") or ""
                for each in await system.stored_dead_letters("ledger")
            ]

        [reason] = await system.until(letters)
        assert reason.startswith("IdReused: ")
        await system.bus.emit(Deposited("a", 10), id="e2")

        async def handled() -> bool:
            return (await system.state("ledger", "a")).balance == 9

        await system.until(handled)
        await refused(system.bus.command(Pay("a"), id="e2.on_deposited"))


async def run_twice(system: Probe, name: str, *paths: Command[Account]) -> Account:
    """Run `Transfer` once for each path, under one id, and return the reply of the last run."""
    PATHS[name] = list(paths)
    for _ in paths[1:]:
        with pytest.raises(HandlerFailed):
            await system.bus.command(Transfer(name), id=f"t {name}")
    return await system.bus.command(Transfer(name), id=f"t {name}")


async def test_a_handler_that_takes_another_path_sends_another_command(system: Probe) -> None:
    reply = await run_twice(system, "path", Deposit("path", 10), Withdraw("path", 4))
    assert reply.balance == 6 == await balance(system, "path")
    await run_twice(system, "key", Deposit("key-a", 10), Deposit("key-b", 10))
    assert await balance(system, "key-b") == 10


async def test_a_handler_that_sends_another_body_gets_the_first_reply_and_the_field_is_logged(
    system: Probe, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "actorloom.intake"):
        assert (await run_twice(system, "same", Deposit("same", 10), Deposit("same", 10))).balance == 10
        assert "another body" not in caplog.text
        first = await run_twice(system, "clock", Deposit("clock", 10, at=1.5), Deposit("clock", 10, at=2.5))
    assert first.balance == 10 == await balance(system, "clock")
    [line] = [record.getMessage() for record in caplog.records if "another body" in record.getMessage()]
    assert "vault.command.deposit" in line and "differ: at" in line and "teller" in line
    counter = system.served("vault").tracer.counter("actorloom.commands.changed", {})
    assert counter.value == 1


async def test_a_forged_derived_id_from_another_sender_is_refused(system: Probe, namespace: str) -> None:
    PATHS["forged"] = [Deposit("forged", 10, SECRET)]
    await system.bus.command(Transfer("forged"), id="t forged")
    record = await system.record("vault", "forged")
    assert record is not None
    for chain in ("", "other/x", "teller/x"):
        headers = [("Idempotency-Key", record.handled[-1].id), *([("Call-Chain", chain)] if chain else [])]
        reply = await system.connection.request(
            f"{namespace}.vault.command.deposit",
            b'{"name":"forged","amount":1}',
            headers=header_block.encode(headers),
            timeout=5,
        )
        assert b'"IdReused"' in reply.payload and SECRET.encode() not in reply.payload


async def test_an_actor_without_state_refuses_a_chosen_id_before_its_handler_runs(system: Probe) -> None:
    name = "stateless"
    PATHS[name] = [Deposit(name, 10)]
    first = await system.bus.command(Transfer(name), id="s1")
    assert (await refused(system.bus.command(Transfer(name, "other"), id="s1"))).executed is False
    assert await system.bus.command(Transfer(name), id="s1") == first
    assert RUN_COUNTS[f"transfer {name}"] == 1 and await balance(system, name) == 10


async def test_an_actor_without_state_admits_that_it_sent_commands_before_it_found_the_reuse(system: Probe) -> None:
    name, created = "late", new_id()
    PATHS[name] = [Deposit(name, 10), Withdraw(name, 3)]
    with pytest.raises(HandlerFailed):
        await system.bus.command(Transfer(name), id=new_id())
    PATHS[name] = [Deposit(name, 10)]
    await system.bus.command(Transfer(name), id=created)
    PATHS[name] = [Withdraw(name, 3)]
    assert (await refused(system.bus.command(Transfer(name, "other"), id=created))).executed is None
