"""Timers: set with the turn, on time, once, replaced and cancelled by name, and kept over a restart."""

import asyncio
import re
import signal
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import (
    Accepted,
    Actor,
    Command,
    DeclarationError,
    Event,
    Forbidden,
    HandlerFailed,
    Options,
    Query,
    RetryPolicy,
    command,
    new_key,
    query,
)
from runtime.admin.doctor import RunningService, examine
from runtime.nats.server import EmbeddedServer
from runtime.storage.record import Kind, Outgoing, decode_record, encode_record
from runtime.storage.schedules import timer_headers, timer_subject
from runtime.testing import worker
from runtime.wire import header_block
from runtime.wire.buckets import Partition
from runtime.wire.ids import key_for
from runtime.wire.subjects import Names
from tests.host.test_host import connected
from tests.support.handlers import gate
from tests.support.probe import Probe, running
from tests.support.process import ROOT, running_command
from tests.support.waiting import until

RANG: dict[str, list[float]] = defaultdict(list)
"""The Unix seconds at which the alarms of a key rang."""
FAILURES: dict[str, int] = {}
"""The number of runs of a key that are still to fail."""
HELD: set[str] = set()
"""The keys whose alarms wait at a gate of the same name."""


class Bell(msgspec.Struct, frozen=True):
    notes: list[str] = []


class Ring(Command[None], actor="bell", key="name"):
    name: str
    note: str = ""


class SetAlarm(Command[str], actor="bell", key="name"):
    name: str
    after: float
    note: str = ""
    called: str | None = None
    fail: bool = False


class Every(Command[None], actor="bell", key="name"):
    name: str
    schedule: str
    zone: str = ""


class CancelAlarm(Command[None], actor="bell", key="name"):
    name: str
    called: str
    fail: bool = False


class Work(Command[Accepted], actor="bell", key="name"):
    name: str


class WorkDone(Event, actor="bell", key="name"):
    name: str
    id: str


class GetBell(Query[Bell], actor="bell", key="name"):
    name: str


class SetFor(Command[None], actor="bell", key="name"):
    """Sets a timer for its own key, and then one for `other`."""

    name: str
    other: str
    recurring: bool = False


class NewBell(Command[None], actor="bell", key=new_key):
    pass


class CastBell(Command[Accepted], actor="bell", key=new_key):
    pass


class Wind(Command[None], actor="bell", key="name"):
    name: str


class WindLater(Command[None], actor="bell", key="name"):
    name: str
    direct: bool = False


class Polish(Command[None], actor="bell", key="name"):
    name: str


class Call(Command[None], actor="caller", key="name"):
    name: str
    later: bool = False


class Bells(Actor[Bell]):
    name = "bell"
    options = Options(retry=RetryPolicy(attempts=3, first=0.05, longest=0.1))

    @command
    async def ring(self, message: Ring) -> None:
        RANG[message.name].append(time.time())
        if message.name in HELD:
            await gate(message.name).wait()
        if FAILURES.get(message.name, 0) > 0:
            FAILURES[message.name] -= 1
            raise RuntimeError("on purpose")
        self.state = Bell([*(self.state or Bell()).notes, message.note])

    @command
    async def set_alarm(self, message: SetAlarm) -> str:
        name = self.remind(message.after, Ring(message.name, message.note), name=message.called)
        if message.fail:
            raise RuntimeError("on purpose")
        return name

    @command
    async def every(self, message: Every) -> None:
        self.schedule(message.schedule, Ring(message.name, "again"), name="often", zone=message.zone)

    @command
    async def cancel_alarm(self, message: CancelAlarm) -> None:
        self.cancel(message.called)
        if message.fail:
            raise RuntimeError("on purpose")

    @command(accept=True)
    async def work(self, message: Work) -> None:
        RANG[message.name].append(time.time())
        if FAILURES.get(message.name, 0) > 0:
            FAILURES[message.name] -= 1
            raise RuntimeError("on purpose")
        self.state = Bell([*(self.state or Bell()).notes, "worked"])
        self.emit(WorkDone(message.name, self.message_id))

    @command
    async def set_for(self, message: SetFor) -> None:
        self.state = Bell(["set"])
        self.remind(60, Ring(message.name), name="own")
        other: Any = {
            "another key": Ring(message.name + "'s neighbor"),
            "a new key": NewBell(),
            "no handler": Polish(message.name),
            "another actor": Call("x"),
            "an event": WorkDone(message.name, "1"),
        }[message.other]
        if message.recurring:
            self.schedule("@daily", other, name="theirs")
        else:
            self.remind(0, other)

    @command
    async def new_bell(self, message: NewBell) -> None:
        pass

    @command(accept=True)
    async def cast_bell(self, message: CastBell) -> None:
        self.state = Bell(["cast"])

    @command(internal=True)
    async def wind(self, message: Wind) -> None:
        self.state = Bell([*(self.state or Bell()).notes, "wound"])

    @command
    async def wind_later(self, message: WindLater) -> None:
        if message.direct:
            await self.command(Wind("neighbor"))
        self.remind(0, Wind(message.name))

    @query
    async def get_bell(self, message: GetBell) -> Bell:
        return self.state or Bell()


class Callers(Actor):
    """Without state: it notes the key that its handler sees."""

    name = "caller"

    @command
    async def call(self, message: Call) -> None:
        if message.later:
            self.remind(0, Call(message.name))
        RANG[f"called {self.key}"].append(time.time())


async def notes(system: Probe, name: str) -> list[str]:
    return (await system.bus.query(GetBell(name))).notes


async def until_notes(system: Probe, name: str, *expected: str) -> None:
    """Return when the notes of a bell are the expected ones."""

    async def rung() -> bool:
        return len(await notes(system, name)) >= len(expected)

    await system.until(rung)
    assert await notes(system, name) == list(expected)


async def stored_timers(system: Probe, namespace: str) -> list[str]:
    """Return the subjects of the stored timers, waiting or fired."""
    return [
        each.subject
        async for each in system.jetstream.read(f"{namespace}-bell-turns", f"{namespace}.bell.*.>")
        if ".timer." in each.subject or ".schedule." in each.subject
    ]


async def test_the_sweep_reads_no_timer_that_its_own_process_has_received(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    """Its first two looks at the stream are five seconds apart. The checkpoint accounts for these timers before that."""
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        names = [f"account {number}" for number in range(10)]
        await asyncio.gather(*(system.bus.command(SetAlarm(name, 0.5, name)) for name in names))
        await asyncio.gather(*(until_notes(system, name, name) for name in names))
        await system.wait_published("bell")
        end = (await system.jetstream.stream_info(f"{namespace}-bell-turns")).state.last_seq
        await system.until(lambda: system.relay("bell").checkpoint.position >= end, timeout=3)


async def test_a_timer_rings_once_after_its_delay(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        start = time.time()
        for after, name in ((0.6, "later"), (0, "a b.c")):
            await system.bus.command(SetAlarm(name, after, "x"))
        await until_notes(system, "a b.c", "x")
        assert RANG["later"] == []
        await until_notes(system, "later", "x")
        assert RANG["later"][0] - start >= 0.6 and len(RANG["later"]) == len(RANG["a b.c"]) == 1


async def test_a_timer_is_deleted_after_it_rang(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        for number in range(10):
            await system.bus.command(SetAlarm("clean", 0.2 * (number % 2), str(number)))
        await until_notes(system, "clean", *(await until_all_rang(system)))

        async def none_stored() -> bool:
            return await stored_timers(system, namespace) == []

        await system.until(none_stored)


async def until_all_rang(system: Probe) -> list[str]:
    """Return the notes of "clean" once each of its ten alarms has rung."""

    async def all_of_them() -> bool:
        return len(await notes(system, "clean")) == 10

    await system.until(all_of_them)
    found = await notes(system, "clean")
    assert sorted(found) == [str(number) for number in range(10)]
    return found


async def test_a_turn_that_fails_sets_and_cancels_nothing(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        with pytest.raises(HandlerFailed):
            await system.bus.command(SetAlarm("failed", 0, "x", fail=True))
        await system.bus.command(SetAlarm("failed", 0.3, "y", "named"))
        with pytest.raises(HandlerFailed):
            await system.bus.command(CancelAlarm("failed", "named", fail=True))
        await until_notes(system, "failed", "y")


async def test_a_timer_of_the_same_name_and_key_is_replaced(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        for key, second in (("by later", 0.5), ("by now", 0)):
            await bus.command(SetAlarm(key, 0.4, "first", "alarm"))
            await bus.command(SetAlarm(key, second, "second", "alarm"))
            await bus.command(SetAlarm(key, 0.7, "end", "other"))
        await bus.command(SetAlarm("elsewhere", 0.4, "first", "alarm"))
        await until_notes(system, "by later", "second", "end")
        await until_notes(system, "by now", "second", "end")
        await until_notes(system, "elsewhere", "first")


async def test_a_timer_is_cancelled_by_its_name(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        bus = system.bus
        given = await bus.command(SetAlarm("k", 0.4, "first"))
        await bus.command(SetAlarm("k", 0.4, "second", "named"))
        await bus.command(SetAlarm("k", 0.5, "end"))
        await bus.command(CancelAlarm("k", given))
        await bus.command(CancelAlarm("k", "named"))
        await bus.command(CancelAlarm("k", "never set"))
        await until_notes(system, "k", "end")

        async def none_stored() -> bool:
            return await stored_timers(system, namespace) == []

        await system.until(none_stored)


async def test_timers_survive_a_restart_of_actor_and_server(namespace: str) -> None:
    async with EmbeddedServer(port=0) as server:
        async with running(Bells, url=server.url, namespace=namespace) as system:
            bus = system.bus
            await bus.command(SetAlarm("down", 0.3, "rings while down", "alarm"))
            await bus.command(SetAlarm("cancelled", 0.3, "no", "alarm"))
            await bus.command(CancelAlarm("cancelled", "alarm"))
            await bus.command(SetAlarm("replaced", 0.3, "no", "alarm"))
            await bus.command(SetAlarm("replaced", 0.4, "yes", "alarm"))
            await bus.command(SetAlarm("up", 1.2, "rings when up"))
        server.kill()
        await asyncio.sleep(0.5)  # Some timers are due meanwhile.
        await server.start()
        async with running(Bells, url=server.url, namespace=namespace) as system:
            await until_notes(system, "down", "rings while down")
            await until_notes(system, "replaced", "yes")
            await until_notes(system, "up", "rings when up")
            assert await notes(system, "cancelled") == []


@pytest.mark.parametrize("cancelled", [True, False])
async def test_a_cancelled_or_replaced_timer_stays_away_after_a_kill_of_the_server(
    namespace: str, cancelled: bool
) -> None:
    async with EmbeddedServer(port=0) as server:
        async with running(Bells, url=server.url, namespace=namespace) as system:
            await system.bus.command(SetAlarm("k", 60, "no", "alarm"))
            if cancelled:
                await system.bus.command(CancelAlarm("k", "alarm"))
            else:
                await system.bus.command(SetAlarm("k", 0.2, "yes", "alarm"))
                await until_notes(system, "k", "yes")

            async def none_stored() -> bool:
                return await stored_timers(system, namespace) == []

            await system.until(none_stored)
            server.kill()
            await server.start()
            await system.connection.wait_connected(10)
            assert await stored_timers(system, namespace) == []


@pytest.mark.parametrize("partitions", [1, 2])
async def test_an_internal_command_is_sent_by_timers_only(
    nats_server: EmbeddedServer, namespace: str, partitions: int
) -> None:
    options = {"bell": Options(partitions=partitions)}
    async with running(Bells, url=nats_server.url, namespace=namespace, options=options) as system:
        with pytest.raises(Forbidden, match=r"\.bell\.command\.wind: only timers of bell send this command") as raised:
            await system.bus.command(Wind("wound"))
        assert (raised.value.code, raised.value.executed) == (403, False)
        for body in (b'{"name":"wound"}', b"{}", b"\xff"):
            found = await system.connection.request(f"{namespace}.bell.command.wind", body, timeout=5)
            assert header_block.get(found.headers, header_block.SERVICE_ERROR_CODE) == "403"
        with pytest.raises(HandlerFailed):
            await system.bus.command(WindLater("wound", direct=True))
        await system.bus.command(WindLater("wound"))
        await until_notes(system, "wound", "wound")
        assert await notes(system, "neighbor") == []
        info = await system.connection.request("$SRV.INFO.bell", b"", timeout=5)
        listed = {each["name"] for each in msgspec.json.decode(info.payload)["endpoints"]}
        assert "wind_later" in listed and "wind" not in listed


async def test_a_schedule_rings_repeatedly_until_it_is_cancelled(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Every("every", "@every 1s"))
        await system.bus.command(Every("cron", "* * * * * *", "Europe/Berlin"))
        await until_notes(system, "every", "again", "again")
        await until_notes(system, "cron", *["again"] * len(await notes(system, "cron")))
        assert len(await notes(system, "cron")) >= 1
        await system.bus.command(CancelAlarm("every", "often"))
        await system.bus.command(CancelAlarm("cron", "often"))
        await system.wait_published("bell")
        rang = len(RANG["every"]), len(RANG["cron"])
        await system.bus.command(SetAlarm("after", 1.3))
        await until_notes(system, "after", "")
        assert (len(RANG["every"]), len(RANG["cron"])) <= (rang[0] + 1, rang[1] + 1)


async def stored_none(system: Probe, namespace: str) -> bool:
    return await stored_timers(system, namespace) == []


async def stored_notes(system: Probe, namespace: str, *expected: str) -> bool:
    """Return whether the stored firings have these notes."""
    stream, names = f"{namespace}-bell-turns", Names("bell", namespace)
    found = [each async for each in system.jetstream.read(stream, names.timer("*", "*"))]
    return [msgspec.json.decode(each.payload)["note"] for each in found] == list(expected)


def firing(system: Probe, namespace: str, key: str, note: str, name: str = "often") -> Any:
    """Publish a firing of a schedule, as the server's scheduler does."""
    headers = header_block.START + b"".join(
        (
            header_block.line(header_block.TIMER_COMMAND, b"Ring"),
            header_block.line(header_block.TIMER_RECURRING, b"true"),
            header_block.line(header_block.IDEMPOTENCY_KEY, f"{key}-{name}".encode()),
        )
    ) + header_block.END  # fmt: skip
    body = msgspec.json.encode(Ring(key, note))
    return system.jetstream.publish(Names("bell", namespace).timer(key, name), body, headers=headers)


@pytest.mark.parametrize("failing", [False, True])
async def test_of_the_firings_of_a_schedule_one_runs_and_the_newest_waits(
    nats_server: EmbeddedServer, namespace: str, failing: bool
) -> None:
    key = f"slow {failing}".replace(" ", "-")
    HELD.add(key)
    if failing:
        FAILURES[key] = 1
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        await firing(system, namespace, key, "0")
        await until(lambda: len(RANG[key]) == 1)
        for number in range(1, 6):
            await firing(system, namespace, key, str(number))
        await firing(system, namespace, key, "other", name="seldom")
        await until(lambda: system.in_hand("bell") == 3)
        gate(key).set()
        await until_notes(system, key, "0", "5", "other")
        assert len(RANG[key]) == 3 + failing
        await system.until(lambda: stored_none(system, namespace))


async def test_a_firing_that_waits_survives_the_end_of_its_process(nats_server: EmbeddedServer, namespace: str) -> None:
    HELD.add("cut")
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        for number in range(3):
            await firing(system, namespace, "cut", str(number))
        await until(lambda: len(RANG["cut"]) == 1 and system.waiting("bell", "cut") == 1)
        await system.until(lambda: stored_notes(system, namespace, "2"))
        system.crash("bell")
        await until(lambda: len(RANG["cut"]) == 2)
        gate("cut").set()
        await until_notes(system, "cut", "2")


async def test_a_failing_timer_is_retried_and_becomes_a_dead_letter(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    FAILURES.update({"twice": 2, "always": 99})
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(SetAlarm("twice", 0, "x"))
        await system.bus.command(SetAlarm("always", 0.1, "x"))
        await until_notes(system, "twice", "x")
        [letter] = await system.until(lambda: system.stored_dead_letters("bell"))
        headers = header_block.parse(letter.headers)
        assert letter.subject == f"{namespace}.bell.dead.ring" and headers["Dead-Attempts"] == "3"
        assert len(RANG["twice"]) == len(RANG["always"]) == 3

        async def none_stored() -> bool:
            return await stored_timers(system, namespace) == []

        await system.until(none_stored)


async def test_a_timer_that_is_published_twice_rings_once(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the owner died before the acknowledgement, and the next owner published after the duplicate window.
    monkeypatch.setattr("runtime.storage.key_dedup.CLOCK_MARGIN", 0.0)
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        jetstream = system.served("bell").jetstream
        sent: list[tuple[bytes, bytes, bytes]] = []
        publish = jetstream.publish_callback

        def spy(subject: str, payload: bytes, headers: bytes, callback: Any) -> None:
            if ".timer." in subject:
                sent.append((subject.encode(), payload, headers))
            publish(subject, payload, headers, callback)

        monkeypatch.setattr(jetstream, "publish_callback", spy)
        await system.bus.command(SetAlarm("again", 0, "x"), id="foreign")
        await until_notes(system, "again", "x")
        for number in range(32):
            await system.bus.command(Ring("again", str(number)))
        await system.until_dedup_stored("bell", "again")
        system.forget_recent("bell", "again")
        [(subject, payload, headers)] = sent
        await jetstream.publish(subject, payload, headers=headers.replace(b"Nats-Msg-Id", b"Was-Id"))
        await system.bus.command(SetAlarm("again", 0.2, "end"))
        await until_notes(system, "again", "x", *map(str, range(32)), "end")


async def test_a_long_job_runs_once_after_it_was_accepted(nats_server: EmbeddedServer, namespace: str) -> None:
    FAILURES["job"] = 1
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        for _ in range(3):
            assert (await system.bus.command(Work("job"), id="job-1")).id == "job-1"
        await until_notes(system, "job", "worked")
        assert len(RANG["job"]) == 2, "the first run failed"
        events = await system.stored_events("bell")
        assert [msgspec.json.decode(each.payload)["name"] for each in events] == ["job"]


async def test_the_reply_to_a_long_job_has_the_key_that_it_creates(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        accepted = await system.bus.command(CastBell(), id="cast-1")
        assert accepted == Accepted("cast-1", key_for("cast-1")) == await system.bus.command(CastBell(), id="cast-1")
        await until_notes(system, accepted.key, "cast")
        assert await system.bus.command(Work("known"), id="job-2") == Accepted("job-2", "known")


async def test_an_accepted_job_runs_even_if_its_owner_dies_before_publishing_it(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        system.relay("bell").stop()  # As if the process were killed right after the commit.
        assert (await system.bus.command(Work("left"), id="left-1")).id == "left-1"
        stored = await system.stored_turn("bell", "left")
        assert stored is not None and decode_record(stored.payload, stored.subject).outbox
        assert encode_record(decode_record(stored.payload, "s")) == stored.payload
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        await until_notes(system, "left", "worked")
        assert len(RANG["left"]) == 1


class Chime(Command[None], actor="chimes", key="name"):
    name: str


class ChimeLater(Command[None], actor="chimes", key="name"):
    name: str


class ChimeSlowly(Command[Accepted], actor="chimes", key="name"):
    name: str


class GetChimes(Query[Bell], actor="chimes", key="name"):
    name: str


class FormerChimes(Actor[Bell]):
    """The version before the rename. Its timer waits, and its long job fails."""

    name = "chimes"
    options = Options(retry=RetryPolicy(attempts=100, first=60, longest=60))

    @command
    async def chime(self, message: Chime) -> None: ...

    @command
    async def chime_later(self, message: ChimeLater) -> None:
        self.remind(0.3, Chime(message.name), name="at noon")

    @command(accept=True)
    async def chime_slowly(self, message: ChimeSlowly) -> None:
        RANG[message.name].append(time.time())
        raise RuntimeError("on purpose")


class Toll(Command[None], actor="chimes", key="name", formerly="Chime"):
    name: str


class TollSlowly(Command[Accepted], actor="chimes", key="name", formerly=("ChimeSlowly",)):
    name: str


class UnawareChimes(Actor[Bell]):
    """A version in which the commands are missing."""

    name = "chimes"

    @query
    async def get_chimes(self, message: GetChimes) -> Bell:
        return self.state or Bell()

    @command
    async def chime_later(self, message: ChimeLater) -> None: ...


class Chimes(UnawareChimes):
    name = "chimes"

    @command
    async def toll(self, message: Toll) -> None:
        self.state = Bell([*(self.state or Bell()).notes, "ding"])

    @command(accept=True)
    async def toll_slowly(self, message: TollSlowly) -> None:
        self.state = Bell([*(self.state or Bell()).notes, "slow"])


async def test_timers_and_jobs_of_a_renamed_command_run_under_its_former_name(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(FormerChimes, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(ChimeSlowly("clock"))
        await system.until(lambda: RANG["clock"])
        await system.bus.command(ChimeLater("tower"))

    unaware = "declare formerly='Chime' in the class line of the new one"
    async with running(UnawareChimes, url=nats_server.url, namespace=namespace) as system:
        await system.until(lambda: unaware in caplog.text)
        assert "chimes: timer 'at noon' of key 'tower' sends the command 'Chime'" in caplog.text
        service = RunningService("chimes", command_types=frozenset({"ChimeLater"}))
        findings = [finding async for finding in examine(system.connection, namespace=namespace, running=[service])]
        assert (
            "1 timers or tells send 'Chime', which it does not handle; the first one is 'at noon' of key 'tower'"
            in {finding.text for finding in findings}
        )

    async with running(Chimes, url=nats_server.url, namespace=namespace) as system:

        async def rang() -> bool:
            found = [await system.bus.query(GetChimes(name)) for name in ("tower", "clock")]
            return [bell.notes for bell in found] == [["ding"], ["slow"]]

        await system.until(rang)


@pytest.mark.parametrize("recurring", [False, True])
async def test_a_timer_that_is_not_for_its_own_key_is_refused(
    nats_server: EmbeddedServer, namespace: str, recurring: bool, caplog: pytest.LogCaptureFixture
) -> None:
    texts = {
        "another key": "a timer of key 'a' cannot send a command to key \"a's neighbor\"",
        "a new key": "this command creates a new one",
        "no handler": "Polish: a timer is a command to oneself, and 'bell' has no handler for it",
        "another actor": "Call is no command of 'bell'",
        "an event": "WorkDone is no command of 'bell'",
    }
    async with running(Bells, url=nats_server.url, namespace=namespace) as system:
        for other, text in texts.items():
            with pytest.raises(HandlerFailed):
                await system.bus.command(SetFor("a", other, recurring))
            assert text in caplog.text
            with pytest.raises(DeclarationError, match=re.escape(text)):
                await worker(Bells).set_for(SetFor("a", other, recurring))
        assert await notes(system, "a") == [] and await stored_timers(system, namespace) == []


async def test_a_stored_timer_runs_under_the_key_of_its_command(nats_server: EmbeddedServer, namespace: str) -> None:
    """An earlier version stored timers for another key under the key that had set them."""
    async with running(Bells, Callers, url=nats_server.url, namespace=namespace) as system:
        body = msgspec.Raw(msgspec.json.encode(Ring("theirs", "ding")))
        entry = Outgoing("id-1", Kind.TIMER, "Ring", "mine", body, time.time(), timer="t")
        names = system.served("bell").names
        subject, block = timer_subject(names, entry), timer_headers(names, entry, 1, b"")
        await system.jetstream.publish(subject, bytes(body), headers=block)
        await until_notes(system, "theirs", "ding")
        assert await notes(system, "mine") == []
        await system.bus.command(Call("k", later=True))
        await system.until(lambda: len(RANG["called k"]) == 2)


async def test_timers_of_all_partitions_ring_once_after_a_kill(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    """Timers are set for the own key, so each is in the stream and in the consumer of its partition."""
    partitioned = {"bell": msgspec.structs.replace(Bells.options, partitions=8)}
    target = ["run", "tests.intake.test_timers:Bells", "--nats", nats_server.url, "--namespace", namespace]
    keys = [f"bell-{number}" for number in range(16)]
    settings = tmp_path / "actorloom.toml"
    settings.write_text("[actors.bell]\npartitions = 8\n")
    arguments = [*target, "--config", str(settings), "--lease-ttl", "1"]
    async with running_command(*arguments, cwd=ROOT) as first, connected(nats_server, namespace) as bus:
        for key in keys:
            await bus.command(SetAlarm(key, 0.0, "at once"))
            await bus.command(SetAlarm(key, 1.0, "late", "late"))
            await bus.command(SetAlarm(key, 60.0, "never", "never"))
            await bus.command(SetAlarm(key, 60.0, "replaced", "next"))
            await bus.command(SetAlarm(key, 1.0, "next", "next"))
            await bus.command(CancelAlarm(key, "never"))
        await bus.command(Every(keys[0], "@every 1s"))
        first.signal(signal.SIGKILL)
        await first.wait()
        async with running(Bells, url=nats_server.url, namespace=namespace, options=partitioned, lease_ttl=1) as system:
            for key in keys[1:]:
                await until_notes(system, key, "at once", "late", "next")
            await system.until(lambda: len(RANG[keys[0]]) >= 2)
            await bus.command(CancelAlarm(keys[0], "often"))

            async def none_stored() -> bool:
                for number in range(8):
                    names = Names("bell", namespace, Partition(8, number))
                    for subjects in (names.timer("*", "*"), names.schedule("*", "*")):
                        info = await system.jetstream.stream_info(names.turns_stream, subjects=subjects)
                        if info.state.subjects:
                            return False
                return True

            await system.until(none_stored)
