"""Recurring commands: declared with ``every=``, stored once over all processes, changed, paused and taken back."""

import asyncio
import struct
import time
import zoneinfo
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, ConfigurationError, DeclarationError, Options, command, new_key
from runtime.nats.server import EmbeddedServer
from runtime.testing import worker
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running
from tests.support.waiting import until

RAN: dict[str, list[float | None]] = defaultdict(list)
"""For each note, the times for which its firings were meant."""


class Log(msgspec.Struct, frozen=True):
    last: float = 0.0


class Sweep(Command[None], actor="broom"):
    key: str = "main"
    note: str = ""


class SweepKeyed(Command[None], actor="broom", key="key"):
    key: str = "main"
    note: str = ""


def broom(every: str = "@every 1s", zone: str = "", note: str = "", state: bool = True, **arguments: Any) -> Any:
    """Return a version of the actor, whose command recurs; without `every` it does not."""
    kind: Any = SweepKeyed if state else Sweep
    base: Any = Actor[Log] if state else Actor

    class Brooms(base):
        name = "broom"

        async def sweep(self, message: Any) -> None:
            RAN[note].append(self.due)
            if state:
                self.state = Log(self.due or 0.0)

        sweep.__annotations__ = {"message": kind, "return": None}
        sweep = command(every=every, zone=zone, **arguments)(sweep) if every else command(sweep)

    return Brooms


async def schedules(system: Probe, namespace: str) -> list[tuple[str, str, str]]:
    """Return the key and name of each stored schedule, its expression and its zone."""
    names = Names("broom", namespace)
    stored = [each async for each in system.jetstream.read(names.turns_stream, names.schedule("*", "*"))]
    headers = [header_block.parse(each.headers) for each in stored]
    return [
        (".".join(each.subject.split(".")[-2:]), found["Nats-Schedule"], found.get("Nats-Schedule-Time-Zone", ""))
        for each, found in zip(stored, headers, strict=True)
    ]


@pytest.fixture(params=[True, False], ids=["state", "stateless"])
def state(request: pytest.FixtureRequest) -> bool:
    return request.param


def token(state: bool) -> str:
    return "main" if state else "_"


async def test_a_command_recurs_without_a_first_kick(nats_server: EmbeddedServer, namespace: str, state: bool) -> None:
    note = f"first {state}"
    async with running(broom(note=note, state=state), url=nats_server.url, namespace=namespace) as system:
        await until(lambda: len(RAN[note]) >= 2)
        first, second = RAN[note][:2]
        assert first is not None and second is not None and 0.5 < second - first < 5
        assert await schedules(system, namespace) == [(f"{token(state)}.@{kind(state)}", "@every 1s", "")]


def kind(state: bool) -> str:
    return "sweep_keyed" if state else "sweep"


async def test_it_recurs_once_over_all_processes_and_restarts(
    nats_server: EmbeddedServer, namespace: str, state: bool
) -> None:
    actor = broom("0 0 3 * * *", "Europe/Berlin", state=state)
    expected = [(f"{token(state)}.@{kind(state)}", "0 0 3 * * *", "Europe/Berlin")]
    async with running(actor, url=nats_server.url, namespace=namespace) as first:
        await first.until(lambda: has(first, namespace, expected))
        before = await sequence(first, namespace)
        if not state:  # with a state, another process stands by
            async with running(actor, url=nats_server.url, namespace=namespace):
                assert await sequence(first, namespace) == before
    async with running(actor, url=nats_server.url, namespace=namespace) as again:
        await again.until(lambda: has(again, namespace, expected))
        assert await sequence(again, namespace) == before, "the phase of an interval stays"


async def has(system: Probe, namespace: str, expected: list[tuple[str, str, str]]) -> bool:
    return await schedules(system, namespace) == expected


async def sequence(system: Probe, namespace: str) -> list[int]:
    names = Names("broom", namespace)
    return [each.sequence async for each in system.jetstream.read(names.turns_stream, names.schedule("*", "*"))]


async def test_a_new_version_changes_the_schedule_and_an_older_one_brings_its_own_back(
    nats_server: EmbeddedServer, namespace: str, state: bool
) -> None:
    versions = [("@daily", "Europe/Berlin"), ("@hourly", ""), ("@daily", "Europe/Berlin"), ("@daily", "")]
    for every, zone in versions:
        actor = broom(every, zone, state=state)
        async with running(actor, url=nats_server.url, namespace=namespace) as system:
            expected = [(f"{token(state)}.@{kind(state)}", every, zone)]
            await system.until(lambda system=system, expected=expected: has(system, namespace, expected))


async def test_a_command_that_recurs_no_more_takes_its_schedule_back(
    nats_server: EmbeddedServer, namespace: str, state: bool
) -> None:
    note = f"end {state}"
    async with running(broom(note=note, state=state), url=nats_server.url, namespace=namespace) as system:
        await until(lambda: bool(RAN[note]))
    for actor, options in (
        (broom("", note=note, state=state), None),
        (broom(note=note, state=state), {"broom": Options(every={"sweep": "off"})}),
    ):
        async with running(broom(note=note, state=state), url=nats_server.url, namespace=namespace) as system:
            await system.until(lambda system=system: stored(system, namespace))
        count = len(RAN[note])
        async with running(actor, url=nats_server.url, namespace=namespace, options=options) as system:
            await system.until(lambda system=system: has(system, namespace, []))
            assert len(RAN[note]) == count, "the firing that showed it was dropped"


async def stored(system: Probe, namespace: str) -> bool:
    return len(await schedules(system, namespace)) == 1


async def test_a_setting_gives_it_another_schedule(nats_server: EmbeddedServer, namespace: str, state: bool) -> None:
    actor = broom("0 0 3 * * *", "Europe/Berlin", state=state)
    options = {"broom": Options(every={"sweep": "@every 90s"})}
    async with running(actor, url=nats_server.url, namespace=namespace, options=options) as system:
        expected = [(f"{token(state)}.@{kind(state)}", "@every 90s", "")]
        await system.until(lambda: has(system, namespace, expected))


@pytest.mark.parametrize("every", [{"sweep": "sometimes"}, {"clean": "@daily"}])
async def test_an_invalid_setting_is_refused(
    nats_server: EmbeddedServer, namespace: str, every: dict[str, str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"broom: Options\.every"):
        async with running(broom(), url=nats_server.url, namespace=namespace, options={"broom": Options(every=every)}):
            pass


async def test_after_a_downtime_it_runs_once_for_the_time_that_was_missed(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(broom(note="down"), url=nats_server.url, namespace=namespace):
        await until(lambda: bool(RAN["down"]))
    names = Names("broom", namespace)
    begun, count = time.time(), len(RAN["down"])
    async with running(broom("", note="other"), url=nats_server.url, namespace=f"{namespace}x") as other:

        async def fired() -> bool:
            last = await other.jetstream.get_last(names.turns_stream, names.timer("main", "@sweep_keyed"))
            return last is not None and last.time > begun + 2

        await other.until(fired)
    async with running(broom("@daily", note="down"), url=nats_server.url, namespace=namespace):
        await until(lambda: len(RAN["down"]) > count)
        late = RAN["down"][count]
        assert late is not None and begun < late < time.time()
        assert len(RAN["down"]) == count + 1


@pytest.mark.parametrize("partitions", [1, 4])
async def test_the_owner_of_its_key_stores_it(nats_server: EmbeddedServer, namespace: str, partitions: int) -> None:
    options = {"broom": Options(partitions=partitions)}
    note = f"parts {partitions}"
    async with running(broom(note=note), url=nats_server.url, namespace=namespace, options=options):
        await until(lambda: len(RAN[note]) >= 2)


def test_a_handler_sees_for_which_time_it_runs() -> None:
    sweeper = worker(broom(note="worker"), due=5.0)
    asyncio.run(sweeper.sweep(SweepKeyed()))
    assert RAN["worker"] == [5.0]


class Tick(Command[None], actor="clock", key="key"):
    key: str = "each"


class Strike(Command[None], actor="clock", key="key"):
    key: str = "once"


class Miss(Command[None], actor="clock", key="key"):
    key: str = "never"


def zone_file(shift: int, at: int) -> bytes:
    """Return the file of a time zone (RFC 8536) that is UTC, and changes by `shift` seconds at a Unix time."""

    def block(form: str) -> bytes:
        types = struct.pack(">lBB", 0, 0, 0) + struct.pack(">lBB", shift, 0, 4)
        counts = struct.pack(">6l", 0, 0, 0, 1, 2, 8)
        return b"TZif2" + bytes(15) + counts + struct.pack(f">{form}", at) + b"\1" + types + b"AAA\0BBB\0"

    return block("l") + block("q") + b"\n\n"


async def test_on_the_day_on_which_clocks_change_a_time_comes_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    """The zones are made up: their clocks go back, and forward, by four seconds, soon after the server has started."""
    change = int(time.time()) + 8
    zones = tmp_path / "Test"
    zones.mkdir()
    (zones / "Back").write_bytes(zone_file(-4, change))
    (zones / "Forward").write_bytes(zone_file(4, change))
    monkeypatch.setenv("ZONEINFO", str(tmp_path))
    zoneinfo.reset_tzpath([str(tmp_path), *zoneinfo.TZPATH])

    def at(seconds: int) -> str:
        """Return the schedule of a time of the day, which is read before the clocks change."""
        return f"{datetime.fromtimestamp(change + seconds, UTC):%-S %-M %-H} * * *"

    class Clocks(Actor[Log]):
        name = "clock"

        @command(every="* * * * * *", zone="Test/Back")
        async def tick(self, message: Tick) -> None:
            RAN["tick"].append(self.due)

        @command(every=at(-2), zone="Test/Back")
        async def strike(self, message: Strike) -> None:
            RAN["strike"].append(self.due)
            self.state = Log(self.due or 0.0)

        @command(every=at(2), zone="Test/Forward")
        async def miss(self, message: Miss) -> None:
            RAN["miss"].append(self.due)

    try:
        async with (
            EmbeddedServer(port=0) as server,
            running(Clocks, url=server.url, namespace=namespace) as system,
        ):
            await system.until(lambda: bool(RAN["tick"]) and (RAN["tick"][-1] or 0.0) >= change + 6)
            names = Names("clock", namespace)
            assert RAN["strike"] == [change - 2], "at the first of two equal local times"
            ticks = [each or 0.0 for each in RAN["tick"]]
            # Of firings that wait only the newest runs, so a machine that stands still leaves seconds out.
            assert sorted(set(ticks)) == ticks, "each second once"
            assert len({*range(change - 1, change + 6)} & {*map(int, ticks)}) > 1
            assert RAN["miss"] == [], "this local time does not come on this day"
            fired = await system.jetstream.stream_info(names.turns_stream, subjects=names.schedule("*", "*"))
            assert fired.state.messages
    finally:
        zoneinfo.reset_tzpath()


class Begin(Command[None], actor="wrong", key="key"):
    key: str


class MakeNew(Command[None], actor="wrong", key=new_key):
    pass


class CountHere(Command[None], actor="wrong", key="key"):
    key: int = "x"  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("message", "arguments", "text"),
    [
        (
            Begin,
            {"every": "@daily"},
            r"every: Begin is sent with the defaults of its fields, and has none that fit: .*'key'",
        ),
        (MakeNew, {"every": "@daily"}, "every: MakeNew makes a new key each time"),
        (
            CountHere,
            {"every": "@daily"},
            "every: CountHere is sent with the defaults of its fields, and has none that fit",
        ),
        (SweepKeyed, {"every": "sometimes"}, "every: 'sometimes' is no schedule"),
        (SweepKeyed, {"every": "@every 1s", "zone": "Europe/Berlin"}, "every: 'Europe/Berlin' is no time zone for"),
        (SweepKeyed, {"zone": "Europe/Berlin"}, "every: '' is no schedule"),
    ],
)
def test_a_declaration_that_cannot_recur_is_refused(message: Any, arguments: dict[str, str], text: str) -> None:
    async def handle(self: Any, message: Any) -> None: ...

    handle.__annotations__ = {"message": message, "return": None}
    with pytest.raises(DeclarationError, match=rf"Wrong\.handle: {text}"):
        type("Wrong", (Actor,), {"name": message.__contract__.actor, "handle": command(**arguments)(handle)})


async def test_no_timer_has_the_name_of_a_recurring_command() -> None:
    class Brooms(Actor[Log]):
        name = "broom"

        @command
        async def sweep(self, message: SweepKeyed) -> None:
            self.remind(1, SweepKeyed(), name="@sweep_keyed")

    with pytest.raises(DeclarationError, match="the name of a timer cannot begin with @"):
        await worker(Brooms, key="main").sweep(SweepKeyed())
