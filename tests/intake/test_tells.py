"""Commands by `tell`: they leave with the turn, run once in effect, and wait for an actor that is down."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import CodecError, DeclarationError, HandlerFailed, PublishError
from runtime.actor.message import encode_message
from runtime.admin.doctor import RunningService, examine
from runtime.admin.repartition import repartition
from runtime.errors import InvalidValue
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.storage.record import (
    EVENT,
    TELL,
    Outgoing,
    Record,
    Unreadable,
    decode_record,
    encode_record,
    lowest_format,
)
from runtime.testing import worker
from runtime.wire import header_block
from runtime.wire.ids import key_for
from runtime.wire.subjects import Names
from tests.host.test_host import connected
from tests.host.test_refusals import Guarded
from tests.support.probe import Probe, running
from tests.support.process import ROOT, running_command
from tests.support.told import (
    MENDED,
    RUNS,
    SEEN,
    Audit,
    Charge,
    Clerks,
    Count,
    GetHeard,
    GetLedger,
    Heralds,
    Listeners,
    OpenTill,
    PartedClerks,
    PartedTills,
    Proclaim,
    RenamedTills,
    Shout,
    Tills,
    Write,
)


async def ledger(system: Any, till: str) -> tuple[int, ...]:
    """Return the numbers that a till has been charged, in their order."""
    return (await system.bus.query(GetLedger(till))).numbers


async def until_charged(system: Any, till: str, *numbers: int) -> None:
    async def charged() -> bool:
        return await ledger(system, till) == numbers

    await system.until(charged)


async def letters(system: Probe, namespace: str) -> list[DeadLetter]:
    return [each async for each in DeadLetters(system.jetstream, Names("till", namespace)).read()]


async def tells(jetstream: JetStream, namespace: str) -> list[str]:
    """Return the subjects of the commands that wait in the stream of the till."""
    names = Names("till", namespace)
    return [each.subject async for each in jetstream.read(names.tells_stream, f"{names.told()}.*.*")]


@pytest.fixture(params=[Tills, PartedTills], ids=["whole", "parted"])
def tills(request: pytest.FixtureRequest) -> Any:
    return request.param


async def test_commands_arrive_in_the_order_in_which_a_key_tells_them(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    async with running(Clerks, tills, url=nats_server.url, namespace=namespace) as system:
        for number in range(0, 40, 2):
            for till in ("a", "b", "c"):
                await system.bus.command(Write("slip", till, number, does="twice"))
        for till in ("a", "b", "c"):
            await until_charged(system, till, *range(40))
        await system.until(lambda: system.relay("till").checkpoint.tracking)
        assert await tells(system.jetstream, namespace) == []


async def test_a_command_leaves_if_and_only_if_the_turn_commits(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Clerks, Tills, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(HandlerFailed):
            await system.bus.command(Write("slip", "a", 1, does="fail"))
        await system.bus.command(Write("slip", "a", 2), id="mine")
        await system.bus.command(Write("slip", "a", 2), id="mine")
        await system.bus.command(Write("slip", "a", 3))
        await until_charged(system, "a", 2, 3)


async def test_a_command_under_one_id_takes_effect_once_however_it_comes(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        till = f"till-{namespace}"
        for _ in range(2):
            assert await system.bus.tell(Charge(till, 1), id="one") == "one"
        await until_charged(system, till, 1)
        subject = Names("till", namespace).tell("charge", till)
        again = header_block.encode(
            [("Nats-Msg-Id", "other"), ("Idempotency-Key", "one"), ("Actorloom-Command", "Charge")]
        )
        await system.jetstream.publish(subject, encode_message(Charge(till, 1)), headers=again)
        assert await system.bus.command(Charge(till, 1), id="one") == 1
        await system.bus.command(Charge(till, 2), id="two")
        await system.bus.tell(Charge(till, 2), id="two")
        await system.bus.tell(Charge(till, 3))
        await until_charged(system, till, 1, 2, 3)
        assert RUNS[f"{till} 1"] == RUNS[f"{till} 2"] == 1
        await system.bus.tell(Charge(till, 4), id="one")
        await system.until(lambda: letters(system, namespace))
        (letter,) = await letters(system, namespace)
        assert "IdReused" in letter.failure.reason


async def test_another_command_under_the_id_of_one_that_waits_becomes_a_dead_letter(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    till = f"till-{namespace}"
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        await system.bus.tell(Charge(till, 1), id="one", after=3)
        await system.bus.tell(Charge(till, 2), id="one", after=3)
        await system.until(lambda: letters(system, namespace))
        await until_charged(system, till, 1)
        (letter,) = await letters(system, namespace)
        assert "IdReused" in letter.failure.reason and letter.failure.id == "one"


async def test_a_plain_client_tells_with_a_body_alone(nats_server: EmbeddedServer, namespace: str, tills: Any) -> None:
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        names = Names("till", namespace)
        await system.jetstream.publish(names.tell("charge", "a"), b'{"till":"a","number":1}')
        await until_charged(system, "a", 1)
        await system.jetstream.publish(names.tell("charge", "a"), b'{"till":"a"}')
        await system.until(lambda: letters(system, namespace))
        (letter,) = await letters(system, namespace)
        assert letter.name == "charge" and "number" in letter.failure.reason
        assert letter.failure.subject == names.tell("charge", "a")


async def test_a_command_that_is_due_at_no_time_becomes_a_dead_letter(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        subject, wrong = Names("till", namespace).tell("charge", "a"), ("1e300", "1e10", "inf", "nan", "tomorrow")
        for each in wrong:
            headers = header_block.encode([("Actorloom-Due", each)])
            await system.jetstream.publish(subject, encode_message(Charge("a", 1)), headers=headers)
        await system.jetstream.publish(subject, encode_message(Charge("a", 2)))
        await until_charged(system, "a", 2)

        async def given_up() -> bool:
            return len(await letters(system, namespace)) == len(wrong)

        await system.until(given_up)
        reasons = {each.failure.reason for each in await letters(system, namespace)}
        assert reasons == {
            f"CodecError: {subject}: Actorloom-Due: {each!r} is not a time in Unix seconds within the next hundred years"
            for each in wrong
        }


async def test_the_empty_key_is_told(nats_server: EmbeddedServer, namespace: str, tills: Any) -> None:
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        await system.bus.tell(Charge("", 1))
        await system.bus.tell(Charge("", 2), after=1)
        await until_charged(system, "", 1, 2)
        assert not await letters(system, namespace)


async def test_a_command_of_another_partition_becomes_a_dead_letter(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(PartedTills, url=nats_server.url, namespace=namespace) as system:
        for key in ("a", "b", "c", "d", "e"):
            await system.jetstream.publish(Names("till", namespace).tell("charge", key), b'{"till":"z","number":1}')

        async def ended() -> bool:
            return len(await letters(system, namespace)) + len(await ledger(system, "z")) == 5

        await system.until(ended)
        assert all("publish it with 'z'" in each.failure.reason for each in await letters(system, namespace))


async def test_a_failing_command_is_repeated_and_then_a_dead_letter_of_its_target(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    till = f"till-{namespace}"
    async with running(Clerks, tills, url=nats_server.url, namespace=namespace) as system:
        for number, does in enumerate(("fail once", "reject", "fail", "")):
            await system.bus.command(Write("slip", till, number, told=does))
        await until_charged(system, till, 0, 3)
        rejected, failed = await letters(system, namespace)
        assert (rejected.failure.attempts, failed.failure.attempts) == (1, 3)
        assert "Rejected: refused on purpose" in rejected.failure.reason
        assert await tells(system.jetstream, namespace) == []
        MENDED.add(till)
        dead = DeadLetters(system.jetstream, Names("till", namespace))
        for letter in (failed, rejected, failed):
            await dead.redrive(letter.sequence)
        await until_charged(system, till, 0, 3, 2, 1)
        assert await letters(system, namespace) == []


async def test_a_command_with_a_new_key_has_the_key_of_its_id(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        opened = {await system.bus.tell(OpenTill(number)): number for number in range(8)}
        for tell_id, number in opened.items():
            await until_charged(system, key_for(tell_id), number)


async def test_a_long_job_is_told(nats_server: EmbeddedServer, namespace: str, tills: Any) -> None:
    async with running(tills, url=nats_server.url, namespace=namespace) as system:
        await system.bus.tell(Count("a", 1), id="job")
        await until_charged(system, "a", 1)


async def test_a_command_that_is_due_later_waits_as_a_timer_of_its_actor(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    async with running(Clerks, tills, url=nats_server.url, namespace=namespace) as system:
        late = await system.bus.command(Write("slip", "a", 1, after=3600))
        await system.bus.tell(Charge("a", 4), after=0.4)
        await system.bus.tell(Charge("a", 3), after=0.2)
        await system.bus.tell(Charge("a", 2))
        await until_charged(system, "a", 2, 3, 4)
        names = Names("till", namespace)
        waiting = [
            each
            for part in names.partitions(tills.options.partitions)
            async for each in system.jetstream.read(part.turns_stream, part.schedule("*", "*"))
        ]
        (timer,) = waiting
        assert timer.subject.endswith(f".schedule.a.@tell:{late}")
        assert header_block.parse(timer.headers)["Actorloom-Command"] == "Charge"
        assert await tells(system.jetstream, namespace) == []


async def test_a_command_that_is_due_while_its_actor_is_down_runs_as_soon_as_it_is_up(
    nats_server: EmbeddedServer, namespace: str, tills: Any
) -> None:
    async with running(Clerks, tills, url=nats_server.url, namespace=namespace) as system:
        await system.bus.tell(Charge("a", 1))
        await until_charged(system, "a", 1)
    async with running(Clerks, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Write("slip", "a", 2, after=0.05))
        await system.bus.command(Write("slip", "a", 3))
        await system.until(lambda: tells(system.jetstream, namespace))
    async with running(tills, url=nats_server.url, namespace=namespace) as system:

        async def both() -> bool:
            return sorted(await ledger(system, "a")) == [1, 2, 3]

        await system.until(both)


async def test_commands_to_an_actor_that_has_never_run_wait_and_events_pass_them(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(Clerks, url=nats_server.url, namespace=namespace) as system:
        for number in range(3):
            await system.bus.command(Write("slip", "a", number, does="twice" if number == 1 else ""))
        names = Names("clerk", namespace)

        async def emitted() -> bool:
            info = await system.jetstream.stream_info(names.events_stream)
            return info.state.last_seq == 6

        await system.until(emitted)
        await system.until(system.runner.warnings)
        (warning,) = system.runner.warnings()
        assert "commands that till is told wait" in warning and "till.tell.charge.a" in warning
        assert caplog.text.count("commands that till is told wait") == 1

        async def all_parked() -> bool:
            return len(await parked(system.jetstream, names)) == 4

        await system.until(all_parked)
    async with connected(nats_server, namespace) as bus:
        assert await parked(JetStream(bus.connection), names) == [0, 1, 2, 2]


async def parked(jetstream: JetStream, names: Names) -> list[int]:
    """Return the numbers of the parked charges, in the order of the stream."""
    return [
        msgspec.json.decode(each.payload, type=Charge).number
        async for each in jetstream.read(names.turns_stream, names.parked("*", "till", "*"))
    ]


async def test_what_waits_survives_kills_and_arrives_in_order_when_its_actor_comes(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    arguments = ("--nats", nats_server.url, "--namespace", namespace, "--lease-ttl", "1")
    number = 0
    async with connected(nats_server, namespace) as bus:
        for _ in range(3):
            async with running_command(
                "run", "tests.support.told:Clerks", *arguments, cwd=ROOT, ready="serves"
            ) as clerks:
                for slip in ("s", "t"):
                    for _ in range(2):
                        await bus.command(Write(slip, f"till of {slip}", number), timeout=20)
                        number += 1
                clerks.signal(signal.SIGKILL)
                await clerks.wait()
        # The relay has read the records of both slips, and the checkpoint moves on with those of others.
        async with (
            running_command("run", "tests.support.told:Clerks", *arguments, cwd=ROOT),
            running_command("run", "tests.support.told:Tills", *arguments, cwd=ROOT),
        ):
            for slip, numbers in (("s", (0, 1, 4, 5, 8, 9)), ("t", (2, 3, 6, 7, 10, 11))):
                till = f"till of {slip}"

                async def charged(till: str = till, numbers: tuple[int, ...] = numbers) -> bool:
                    return (await bus.query(GetLedger(till), timeout=20)).numbers == numbers

                async def look(charged: Any = charged) -> None:
                    while not await charged():
                        pass

                await asyncio.wait_for(look(), 25)


async def test_what_is_parked_is_sent_on_in_order_when_the_target_takes_it(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, tills: Any
) -> None:
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    async with running(Clerks, url=nats_server.url, namespace=namespace) as system:
        for number in range(20):
            await system.bus.command(Write("slip", "a", number))
        await system.until(system.runner.warnings)
        async with running(tills, url=nats_server.url, namespace=namespace):
            for number in range(20, 40):
                await system.bus.command(Write("slip", "a", number))
            await until_charged(system, "a", *range(40))
            await system.until(lambda: not system.runner.warnings())
            assert await parked(system.jetstream, Names("clerk", namespace)) == []
            await system.bus.command(Write("slip", "a", 40))
            await until_charged(system, "a", *range(41))


async def test_what_a_former_owner_has_parked_late_is_sent_on(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.05)
    names, subject = Names("clerk", namespace), Names("till", namespace).tell("charge", "a")
    headers = header_block.encode([("Actorloom-Tell", subject), ("Idempotency-Key", "late")])
    async with running(Clerks, Tills, url=nats_server.url, namespace=namespace) as system:
        await system.jetstream.publish(
            names.parked("slip", "till", "late"), encode_message(Charge("a", 1)), headers=headers
        )
        await until_charged(system, "a", 1)
        await system.until(lambda: not system.runner.warnings())


async def test_a_missing_permission_to_tell_holds_back_no_event(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    guarded = Guarded(tmp_path)
    async with guarded.server:
        await guarded.deny(publish=f"{namespace}.till.tell.>")
        async with (
            running(Tills, url=guarded.admin, namespace=namespace),
            running(Clerks, url=guarded.url, namespace=namespace) as system,
        ):
            await system.bus.command(Write("slip", "a", 1))
            names = Names("clerk", namespace)

            async def emitted() -> bool:
                return (await system.jetstream.stream_info(names.events_stream)).state.last_seq == 2

            await system.until(emitted)
            await guarded.deny()
            await until_charged(system, "a", 1)


async def test_an_actor_without_state_tells_and_is_told(nats_server: EmbeddedServer, namespace: str) -> None:
    SEEN.clear()
    async with running(Heralds, Tills, url=nats_server.url, namespace=namespace) as system:
        await system.bus.tell(Proclaim("a", 1))
        await system.bus.tell(Proclaim("a", 2), after=0.1)
        await until_charged(system, "a", 1, 2)
        assert sorted(SEEN) == [1, 2]


async def test_what_an_actor_without_state_parks_is_sent_on_by_any_process(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    monkeypatch.setattr("runtime.host.checks._TICK", 0.05)
    async with (
        running(Heralds, url=nats_server.url, namespace=namespace) as one,
        running(Heralds, url=nats_server.url, namespace=namespace),
    ):
        for number in range(12):
            await one.bus.command(Proclaim("a", number))
        async with running(Tills, url=nats_server.url, namespace=namespace) as system:

            async def charged() -> bool:
                return sorted(await ledger(system, "a")) == [*range(12)]

            await system.until(charged)


@pytest.mark.parametrize(("before", "after"), [(1, 4), (4, 1)])
async def test_what_waits_moves_with_the_partitions(
    nats_server: EmbeddedServer, namespace: str, before: int, after: int
) -> None:
    kinds: dict[int, Any] = {1: Tills, 4: PartedTills}
    senders: dict[int, Any] = {1: Clerks, 4: PartedClerks}
    keys = [f"key-{number}" for number in range(6)]
    async with running(kinds[before], senders[before], url=nats_server.url, namespace=namespace) as system:
        for key in keys:
            await system.bus.tell(Charge(key, 0))
            await until_charged(system, key, 0)
            await system.bus.command(Write(key, key, 1))
            await until_charged(system, key, 0, 1)
            await system.bus.tell(Charge(key, 5), after=3.0)
    async with connected(nats_server, namespace) as bus:
        jetstream = JetStream(bus.connection)
        for number in (2, 3):
            for key in keys:
                await bus.tell(Charge(key, number))
        async with running(senders[before], url=nats_server.url, namespace=namespace) as system:
            for key in keys:
                for number in (1, 2):
                    await system.bus.command(Shout(key, key, number))
            await system.until(lambda: parked_of(jetstream, namespace, before, 12))
        for actor in ("till", "clerk"):
            assert await repartition(jetstream, Names(actor, namespace), after)
    async with running(kinds[after], senders[after], Listeners, url=nats_server.url, namespace=namespace) as system:
        for key in keys:

            async def charged(key: str = key) -> bool:
                found = await ledger(system, key)
                # The delayed one comes whenever the machine is as far.
                return 5 in found and [each for each in found if each != 5] == [0, 1, 2, 3]

            await system.until(charged)

            async def heard(key: str = key) -> bool:
                return (await system.bus.query(GetHeard(key))).numbers == (1, 2)

            await system.until(heard)


async def parked_of(jetstream: JetStream, namespace: str, partitions: int, count: int) -> bool:
    """Return whether the partitions of the clerks have parked so many tells."""
    found = 0
    for names in Names("clerk", namespace).partitions(partitions):
        found += len([each async for each in jetstream.read(names.turns_stream, names.parked("*", "*", "*"))])
    return found == count


async def test_an_unknown_command_waits_for_a_version_that_handles_it(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names("till", namespace)
    headers = header_block.encode([("Idempotency-Key", "x"), ("Actorloom-Command", "Levy")])
    async with running(Tills, url=nats_server.url, namespace=namespace) as system:
        await system.jetstream.publish(names.tell("levy", "a"), encode_message(Charge("a", 1)), headers=headers)
        await system.until(lambda: "it is told the command 'levy'" in caplog.text)
        service = RunningService("till", command_types=frozenset({"Charge"}))
        found = [each.text async for each in examine(system.connection, namespace=namespace, running=[service])]
        assert any("'Levy', which it does not handle" in each for each in found)
    async with running(RenamedTills, url=nats_server.url, namespace=namespace) as system:

        async def charged() -> bool:
            return (await system.bus.query(GetLedger("a"))).numbers == (1,)

        await system.until(charged, 60)


async def test_what_cannot_be_told_is_refused(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Tills, url=nats_server.url, namespace=namespace) as system:
        for wrong in (-1.0, float("nan"), float("inf"), "1", None):
            with pytest.raises(DeclarationError, match=r"Charge: after = "):
                await system.bus.tell(Charge("a", 1), after=wrong)  # type: ignore[arg-type]
        with pytest.raises(DeclarationError, match="only commands are told"):
            await system.bus.tell(GetLedger("a"))  # type: ignore[arg-type]
        with pytest.raises(InvalidValue, match=r"\$\.number"):
            await system.bus.tell(Charge("a", "one"))  # type: ignore[arg-type]
        with pytest.raises(CodecError, match="id"):
            await system.bus.tell(Charge("a", 1), id="")
        with pytest.raises(CodecError, match="too long"):
            await system.bus.tell(Charge("a" * 5000, 1))
        with pytest.raises(PublishError, match=r"no stream takes .*\.clerk\.tell\.write\.s"):
            await system.bus.tell(Write("s", "a", 1))
        await system.bus.tell(Audit("a", 1), id="inner")
        await system.until(lambda: letters(system, namespace))
        (letter,) = await letters(system, namespace)
        assert "Forbidden" in letter.failure.reason and letter.failure.attempts == 1
        assert await system.redrive("till") == 1
        (letter,) = await letters(system, namespace)
        assert "Forbidden" in letter.failure.reason
        assert await ledger(system, "a") == ()


async def test_a_worker_records_what_is_told_and_refuses_what_cannot_be() -> None:
    clerk = worker(Clerks, key="slip", message_id="m")
    told = await clerk.write(Write("slip", "a", 1, after=5.0, does="twice"))
    assert clerk.told == [Charge("a", 1), Charge("a", 2)]
    assert told == await worker(Clerks, key="slip", message_id="m").write(Write("slip", "a", 1))
    with pytest.raises(RuntimeError):
        await worker(Clerks, key="slip").write(Write("slip", "a", 1, does="fail"))
    till = worker(Tills, key="a")
    with pytest.raises(DeclarationError, match="Audit is internal"):
        till.actor.tell(Audit("a", 1))
    with pytest.raises(DeclarationError, match="a query changes nothing: it cannot tell"):
        worker(Clerks, key="slip", writable=False).actor.tell(Charge("a", 1))
    with pytest.raises(DeclarationError, match="only commands are told"):
        till.actor.tell(GetLedger("a"))


async def test_one_trace_shows_who_told_what(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Clerks, Tills, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Write("slip", "a", 1))
        await until_charged(system, "a", 1)
        wanted = [f"publish {namespace}.till.tell.charge.{{key}}", f"process {namespace}.till.tell.charge.{{key}}"]

        def names() -> list[str]:
            return [span.name for span in system.trace_of(root="clerk/write")]

        await system.until(lambda: "commit till" in names() and set(wanted) <= set(names()))
        publish, process = (next(s for s in system.trace_of(root="clerk/write") if s.name == name) for name in wanted)
        assert process.parent_id == publish.span_id


def test_only_a_record_with_a_tell_has_the_newer_format() -> None:
    event = Outgoing("1", EVENT, "Written", "s", msgspec.Raw(b"{}"), 1.0)
    tell = Outgoing("2", TELL, "Charge", "a", msgspec.Raw(b"{}"), 0.0, target="till")
    assert (lowest_format([], {}), lowest_format([event], {}), lowest_format([event, tell], {})) == (1, 1, 2)
    assert b"format" not in encode_record(Record("c", outbox=[event]))
    assert decode_record(encode_record(Record("c", outbox=[tell], format=2)), "s").outbox == [tell]
    for wrong in (msgspec.structs.replace(tell, target=""), msgspec.structs.replace(event, target="till")):
        with pytest.raises(Unreadable):
            decode_record(encode_record(Record("c", outbox=[wrong], format=2)), "s")
