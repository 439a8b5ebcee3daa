"""Schedules: the check in the turn accepts what nats-server accepts, and nothing else."""

import random
from datetime import UTC, datetime

import pytest

from runtime.actor.schedules import meant_time, next_time, schedule_fault
from runtime.errors import PublishError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import INVALID_SCHEDULE_CODES
from runtime.nats.server import EmbeddedServer
from runtime.storage.streams import turns_config
from runtime.wire import header_block
from runtime.wire.subjects import Names

BOUNDS = [(0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
ODD = (
    "? */5 */0 */1 L W 1#2 5- -5 *-3 *-x ?/2 1,2, 1/2/3 1-2-3 jan DEC Sun mon-fri fri-mon jan-mar/2 +5 -0 007 1.5 x "
    "99999999999999999999 1/+2 1/-2 5,* *,5/2"
).split()
PREDEFINED = [
    "@yearly",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
    "@Daily",
    "@reboot",
    "@every",
    "@every  1s",
]
ZONES = ["", "", "", "UTC", "Local", "Europe/Berlin", "US/Pacific", "GMT+0", "Europe", "Mars/Olympus"]


def number(random: random.Random, place: int) -> str:
    low, high = BOUNDS[place]
    return str(random.choice([*(random.randint(low, high) for _ in range(6)), low - 1, high + 1, low, high]))


def field(random: random.Random, place: int) -> str:
    forms = [
        lambda: "*",
        lambda: number(random, place),
        lambda: f"{number(random, place)}-{number(random, place)}",
        lambda: f"{number(random, place)}/{random.randint(0, 9)}",
        lambda: f"*/{random.randint(0, 70)}",
        lambda: f"{field(random, place)},{number(random, place)}",
        lambda: random.choice(ODD),
    ]
    return random.choices(forms, [35, 20, 15, 10, 8, 6, 6])[0]()


def pattern(random: random.Random) -> str:
    """Return a schedule: of each kind, valid or not, and on days that may not exist."""
    kind = random.random()
    if kind < 0.15:
        numbers, units = ["1", "10", "0.5", ".5", "1.", "999", "0", "-1", "+2"], "ns us µs μs ms s m h d".split()
        return "@every " + "".join(random.choice(numbers) + random.choice(units) for _ in range(random.randint(1, 3)))
    if kind < 0.2:
        return random.choice(PREDEFINED)
    if kind < 0.35:
        day, month = (
            random.choice(["29", "30", "31", "29-31", "30,31"]),
            random.choice(["2", "feb", "4,6", "9/2", "2-2"]),
        )
        return f"0 0 0 {day} {month} {random.choice(['*', '?', '1', '*/2', '0-6'])}"
    count = random.choice([6] * 18 + [5, 7])
    return " ".join(field(random, place % 6) for place in range(count))


async def test_the_check_agrees_with_the_server(nats_server: EmbeddedServer, namespace: str) -> None:
    generator = random.Random(19)
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream, names = JetStream(connection), Names("clock", namespace)
        await jetstream.ensure_stream(turns_config(names))
        differences, accepted = [], 0
        for each in range(1500):
            every, zone = pattern(generator), generator.choice(ZONES)
            lines = [(b"Nats-Schedule", every), (b"Nats-Schedule-Target", names.timer("k", str(each)))]
            lines += [(b"Nats-Schedule-Time-Zone", zone)] if zone else []
            block = header_block.join(*(header_block.line(name, value.encode()) for name, value in lines))
            refusal = 0
            try:
                await jetstream.publish(names.schedule("k", str(each)), b"{}", headers=block)
            except PublishError as error:
                refusal = error.err_code
            assert refusal == 0 or refusal in INVALID_SCHEDULE_CODES
            accepted += not refusal
            if bool(refusal) != (schedule_fault(every, zone) is not None):
                differences.append((every, zone, refusal))
        await jetstream.delete_stream(names.turns_stream)
    assert differences == [] and 300 < accepted < 1200


@pytest.mark.parametrize(
    ("every", "zone", "text"),
    [
        ("0 0 24 * * *", "", "'24' is no hour (0 to 23)"),
        ("* * * * *", "", "a cron expression of six fields"),
        ("0 0 0 30 2 *", "", "it matches no day of the next 5 years"),
        ("0 0 0 31 4,6,9,11 ?", "", "it matches no day of the next 5 years"),
        (", * * * * *", "", "',' is no second (0 to 59)"),
        ("0 0 9 * * 7", "", "'7' is no day of the week (0 to 6)"),
        ("@every 10ms", "", "its interval is not between a second and a hundred years"),
        ("@every 2000000h", "", "is not between a second and a hundred years"),
        ("@every 1h", "UTC", "an interval has none"),
        ("@daily", "Mars/Olympus", "'Mars/Olympus' is no time zone that this machine knows"),
        ("@daily", "../Berlin", "is no time zone"),
        ("@daily\r\nX: y", "", "is no schedule"),
        ("@at 2030-01-01T00:00:00Z", "", "is no schedule"),
    ],
)
def test_the_fault_of_a_schedule_is_named(every: str, zone: str, text: str) -> None:
    assert text in (schedule_fault(every, zone) or "")


@pytest.mark.parametrize(
    "every", ["0 0 0 29 2 *", "0 0 0 29 feb ?", "0 0 0 30 2 MON", "@every 1h1.5s", "*/10 * 8-18/2 * * mon-fri"]
)
def test_a_schedule_that_fires_is_accepted(every: str) -> None:
    assert schedule_fault(every) is None


@pytest.mark.parametrize(
    ("pattern", "fired", "name"),
    [
        ("0 30 2 * * *", "00:30:00.0", "2026-10-25T02:30:00"),
        ("0 30 2 * * *", "00:29:59.7", "2026-10-25T02:30:00"),
        ("0 30 2 * * *", "00:59:59.9", "2026-10-25T02:30:00"),
        ("0 30 2 * * *", "01:00:00.2", "2026-10-25T02:30:00"),
        ("0 30 2 * * *", "01:30:00.0", "2026-10-25T02:30:00"),
        ("0 30 2 * * *", "09:00:00.0", "2026-10-25T02:30:00"),
        ("0 0 3 * * *", "01:59:59.0", "2026-10-24T03:00:00"),
        ("0 0 3 * * *", "02:00:00.0", "2026-10-25T03:00:00"),
        ("0 */15 * * * *", "00:30:00.0", "2026-10-25T02:30:00+02:00"),
        ("0 */15 * * * *", "01:30:00.0", "2026-10-25T02:30:00+01:00"),
        ("@hourly", "01:10:00.0", "2026-10-25T02:00:00+01:00"),
        ("@daily", "01:10:00.0", "2026-10-25T00:00:00"),
        ("0 0 12 * * 1", "01:10:00.0", "2026-10-19T12:00:00"),
        ("0 0 0 29 2 *", "01:10:00.0", "2024-02-29T00:00:00"),
    ],
)
def test_a_firing_has_the_local_time_for_which_it_was_meant(pattern: str, fired: str, name: str) -> None:
    """On this day, clocks in Berlin go from 03:00 back to 02:00 at 01:00 UTC."""
    at = datetime.fromisoformat(f"2026-10-25T{fired}00+00:00").timestamp()
    found = meant_time(pattern, "Europe/Berlin", at)
    assert found is not None and found.name == name and found.time <= at + 0.5


@pytest.mark.parametrize(("pattern", "zone"), [("@every 1s", ""), ("@daily", "Mars/Phobos"), ("0 0 0 30 2 *", "UTC")])
def test_a_schedule_without_times_has_none(pattern: str, zone: str) -> None:
    assert meant_time(pattern, zone, 1_790_000_000.0) is None


@pytest.mark.parametrize(
    ("pattern", "zone", "after", "expected"),
    [
        ("@every 1m30s", "", "2026-03-01T00:00:00", "2026-03-01T00:01:30"),
        ("@daily", "", "2026-12-31T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 3 * * *", "Europe/Berlin", "2026-03-28T03:00:00", "2026-03-29T01:00:00"),
        ("0 0 3 * * *", "Europe/Berlin", "2026-10-24T12:00:00", "2026-10-25T02:00:00"),
        ("30 15 10 13 * fri", "", "2026-01-01T00:00:00", "2026-01-02T10:15:30"),
        ("0 0 0 29 2 *", "", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("*/20 * * * * *", "", "2026-01-01T00:00:40", "2026-01-01T00:01:00"),
    ],
)
def test_the_next_time_of_a_schedule(pattern: str, zone: str, after: str, expected: str) -> None:
    found = next_time(pattern, zone, datetime.fromisoformat(after).replace(tzinfo=UTC).timestamp())
    assert found is not None and datetime.fromtimestamp(found, UTC).isoformat() == f"{expected}+00:00"
