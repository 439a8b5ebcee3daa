"""The time of a test: `System.skip` fires the timers that are due by then, and `System.fire` one that is not."""

from datetime import UTC, datetime

import pytest
from msgspec import Struct

from runtime import Actor, Command, Event, Query, Rejected, command, query, react
from runtime.actor.schedules import next_time
from runtime.testing import Actors, System

DAY = 86_400.0


class Diary(Struct, frozen=True):
    entries: tuple[tuple[str, float, float], ...] = ()
    """The note, `now`, and `due`; 0.0 for none."""


class Note(Command[None], actor="diary", key="key"):
    key: str
    text: str
    again: float = 0.0
    """Seconds after which the note is made once more."""


class Set(Command[float], actor="diary", key="key"):
    """Sets timers, in seconds, and a schedule. The reply is the time."""

    key: str
    after: tuple[float, ...] = ()
    every: str = ""
    zone: str = ""
    again: float = 0.0


class Cancel(Command[None], actor="diary", key="key"):
    key: str


class Refuse(Command[None], actor="diary", key="key"):
    key: str


class ReadDiary(Query[Diary], actor="diary", key="key"):
    key: str


class Noted(Event, actor="diary", key="key"):
    key: str


class Sweep(Command[None], actor="diary", key="key"):
    key: str = "swept"


class Diaries(Actor[Diary]):
    name = "diary"

    @command
    async def set(self, message: Set) -> float:
        for number, after in enumerate(message.after):
            self.remind(after, Note(message.key, f"{after:g}", message.again), name=f"{number}")
        if message.every:
            self.schedule(message.every, Note(message.key, "tick"), name="schedule", zone=message.zone)
        return self.now

    @command
    async def note(self, message: Note) -> None:
        self.state = Diary((*(self.state or Diary()).entries, (message.text, self.now, self.due or 0.0)))
        self.emit(Noted(message.key))
        if message.again:
            self.remind(message.again, message, name="again")

    @command
    async def cancel_all(self, message: Cancel) -> None:
        self.cancel("0")
        self.cancel("again")
        self.cancel("schedule")

    @command
    async def refuse(self, message: Refuse) -> None:
        raise Rejected("no")

    @query
    async def read_diary(self, message: ReadDiary) -> Diary:
        return self.state or Diary()


class SweptDiaries(Diaries):
    @command(every="0 0 3 * * *", zone="Europe/Berlin")
    async def sweep(self, message: Sweep) -> None:
        self.state = Diary((*(self.state or Diary()).entries, ("sweep", self.now, self.due or 0.0)))


FAR = f"0 0 {(datetime.now(UTC).hour + 12) % 24} * * *"
"""Half a day from now, so that no test which skips minutes meets it."""


class FarDiaries(SweptDiaries):
    @command(every=FAR)
    async def sweep(self, message: Sweep) -> None:
        await super().sweep(message)


class Echo(Actor[Diary]):
    """Sets a timer in a reaction."""

    name = "echo"

    @react
    async def on_noted(self, event: Noted) -> None:
        self.state = Diary((("noted", self.now, 0.0),))


async def entries(system: System, key: str = "a") -> tuple[tuple[str, float, float], ...]:
    return (await system.bus.query(ReadDiary(key))).entries


async def test_a_skip_fires_what_is_due_in_order_at_its_time(actors: Actors) -> None:
    async with actors(Diaries) as system:
        before = await system.bus.command(Set("a", (7200.0, 60.0, 3600.0)))
        assert await system.skip(50) == 0 and await entries(system) == ()
        assert await system.skip(3600) == 2
        for (text, now, due), after in zip(await entries(system), (60, 3600), strict=True):
            assert text == f"{after}" and 0 <= now - before - after < 1 and 0 <= due - before - after < 1
        assert await system.skip(DAY) == 1 and len(await entries(system)) == 3
        assert 0 <= await system.bus.command(Set("a")) - before - 50 - 3600 - DAY < 5


async def test_a_skip_fires_the_timers_that_its_commands_set(actors: Actors) -> None:
    async with actors(Diaries) as system:
        before = await system.bus.command(Set("a", (60.0,), again=60.0))
        assert await system.skip(299) == 4
        found = [now - before for _, now, _ in await entries(system)]
        assert all(60 * n <= each < 60 * n + 1 for n, each in enumerate(found, 1)), found


async def test_a_timer_that_is_set_after_a_skip_has_a_time_ahead_and_fires_nevertheless(actors: Actors) -> None:
    async with actors(Diaries) as system:
        await system.skip(3600)
        before = await system.bus.command(Set("a", (0.2,)))
        assert [now >= before + 0.2 for _, now, _ in await system.until(lambda: entries(system))] == [True]


@pytest.mark.parametrize("every", ["@every 1h", "0 30 * * * *", "@hourly"])
async def test_a_schedule_fires_at_each_of_its_times(actors: Actors, every: str) -> None:
    async with actors(Diaries) as system:
        before = await system.bus.command(Set("a", every=every))
        # Half an hour at a time: the phase of an interval stays. It begins when the server has stored it, a moment later.
        fired = [await system.skip(seconds) for seconds in (1, *[3600 / 2] * 4, 3 * 3600)]
        wanted, last = list[float](), before
        while (last := next_time(every, "", last) or 0.0) <= before + 1 + 5 * 3600:
            wanted.append(last)
        found = [due for _, _, due in await entries(system)]
        assert sum(fired) == len(found) >= 5 and found == sorted(found)
        assert all(0 <= due - each < 1 for due, each in zip(found, wanted, strict=True)), (found, wanted)
        await system.bus.command(Cancel("a"))
        assert await system.skip(3 * 3600) == 0


async def test_a_schedule_in_a_time_zone_runs_once_for_each_of_its_times(actors: Actors) -> None:
    async with actors(SweptDiaries) as system:
        before = await system.bus.command(Set("a", every="0 0 3 * * *", zone="Europe/Berlin"))
        assert await system.skip(3 * DAY) == 6, "the schedule that is set, and the declared one"
        for key in ("a", "swept"):
            found = [due for _, _, due in await entries(system, key)]
            assert len(found) == 3 and found[0] == next_time("0 0 3 * * *", "Europe/Berlin", before)


async def test_fire_sends_a_declared_schedule_whenever_it_is_called(actors: Actors) -> None:
    async with actors(FarDiaries) as system:
        for times in (1, 2):
            await system.fire(Sweep())
            assert len(await entries(system, "swept")) == times
        before = await system.bus.command(Set("a", (60.0,), every=FAR))
        await system.fire(Note("a", "tick"))
        await system.fire(Note("a", "60"))
        found = await entries(system)
        assert [text for text, _, _ in found] == ["tick", "60"] and all(due - before < 10 for _, _, due in found)
        with pytest.raises(LookupError, match=r"no timer and no schedule waits that sends Note\(key='a', text='60'"):
            await system.fire(Note("a", "60"))  # a timer fires once
        assert await system.skip(120) == 0


def namesake() -> type[Actor[Diary]]:
    """Return another actor with a schedule that sends a `Sweep`."""

    class Sweep(Command[None], actor="attic", key="key"):
        key: str = "swept"

    class Attic(Actor[Diary]):
        name = "attic"

        @command(every="@daily")
        async def sweep(self, message: Sweep) -> None: ...

    return Attic


async def test_fire_tells_commands_of_one_name_apart(actors: Actors) -> None:
    async with actors(namesake(), SweptDiaries) as system:
        await system.fire(Sweep())
        assert len(await entries(system, "swept")) == 1


async def test_a_command_that_fails_for_good_ends_a_skip(actors: Actors) -> None:
    class Refusing(Diaries):
        @command
        async def set(self, message: Set) -> float:
            self.remind(60, Refuse(message.key))
            return self.now

    async with actors(Refusing) as system:
        await system.bus.command(Set("a"))
        assert await system.skip(60) == 1
        assert await system.skip(3600) == 0


async def test_events_of_fired_commands_are_published(actors: Actors) -> None:
    async with actors(Diaries, Echo) as system:
        await system.bus.command(Set("a", (60.0,)))
        await system.skip(60)
        await system.until(lambda: any(span.service == "echo" for span in system.tracing.finished()))


async def test_two_systems_have_times_of_their_own(actors: Actors) -> None:
    async with actors(Diaries) as one, actors(Diaries, namespace="other") as two:
        await two.skip(DAY)
        early, late = await one.bus.command(Set("a")), await two.bus.command(Set("a"))
        assert late - early > DAY - 60
