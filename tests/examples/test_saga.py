"""The saga of the examples: each booking once, and each undo once and in reverse, whatever is killed, lost or failing."""

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from opentelemetry.trace import SpanKind

from examples.saga import (
    BookFlight,
    Booking,
    BookTrip,
    CancelFlight,
    CancelTrip,
    Flights,
    GetTrip,
    ListTrips,
    Trip,
    TripBooked,
    TripCancelled,
    Trips,
)
from runtime import NotFound, Options, Rejected, RetryPolicy
from runtime.nats.server import EmbeddedServer
from runtime.testing import worker
from tests.support.probe import Probe, running
from tests.support.process import ROOT, run_command, running_command
from tests.support.trips import FAILING, LOST, REFUSED_ONCE, SENT, SERVICES, LossyTrips, done_for

PAGE = (ROOT / "docs" / "sagas.md").read_text()
FORWARD = ("BookFlight", "BookRoom", "ChargeCard")
BACK = ("CancelRoom", "CancelFlight")


async def trip_of(system: Probe, trip_id: str) -> Trip | None:
    try:
        return await system.bus.query(GetTrip(trip_id))
    except NotFound:
        return None


async def until_status(system: Probe, trip_id: str, status: str) -> Trip:
    async def reached() -> Trip | None:
        trip = await trip_of(system, trip_id)
        return trip if trip is not None and trip.status == status else None

    return await system.until(reached, timeout=40)


async def test_a_second_command_goes_on_with_a_step_of_the_first(nats_server: EmbeddedServer, namespace: str) -> None:
    """A cancelled job has left its first step behind: done, and not stored in the trip."""
    async with running(Trips, *SERVICES, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(BookFlight("left"))
        await system.bus.command(BookTrip("left", price=300))
        assert (await until_status(system, "left", "booked")).done == 3


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("refused", "steps"), [("", FORWARD), ("ChargeCard", ("ChargeCard", *BACK))], ids=["forward", "undo"]
)
async def test_a_trip_goes_on_after_a_kill_at_each_step(
    refused: str, steps: tuple[str, ...], nats_server: EmbeddedServer, namespace: str
) -> None:
    """The process of each trip is killed at its step. The next process ends that trip, and is killed in a trip of its own.

    A card that has refused would pay the next time. So a trip that forgets its decision to undo pays for a room that it has cancelled.
    """
    where = ("--nats", nats_server.url, "--namespace", namespace, "--lease-ttl", "1")
    faults = [f"{step} {at}" for step in steps for at in ("sent", "answered", "stored")]
    faults = [fault for fault in faults if fault != f"{refused} sent"]  # the refusal may get lost with it, or not
    trips = {f"{namespace}-{number}": fault for number, fault in enumerate(faults)}
    # The refusal has not become a decision if the process dies before its checkpoint.
    undone = {trip for trip, fault in trips.items() if refused and fault != f"{refused} answered"}
    statuses = {trip: "undone" if trip in undone else "booked" for trip in trips}
    if refused:
        REFUSED_ONCE.update(f"{refused} of {trip}" for trip in trips)
    async with running(*SERVICES, url=nats_server.url, namespace=namespace) as system:
        before = None
        for trip, fault in [*trips.items(), (None, None)]:
            step, _, at = (fault or "").partition(" ")
            kill = {"KILL": f"{step} of {trip} {at}"}
            command = ("run", "tests.support.trips:KilledTrips", *where)
            async with running_command(*command, cwd=ROOT, env=kill, ready="serves") as process:
                if before is not None:
                    await until_status(system, before, statuses[before])
                if trip is not None:
                    await system.bus.command(BookTrip(trip, 300), id=f"{trip}-job")
                    assert await process.wait() == -9, f"not killed at {fault}"
            before = trip
        for kind, status in ((TripBooked, "booked"), (TripCancelled, "undone")):
            expected = [trip for trip in trips if statuses[trip] == status]
            async with system.bus.events(kind, since="first") as events, asyncio.timeout(20):
                assert [(await anext(events)).trip_id for _ in expected] == expected
    bookings = {"booked": [*FORWARD], "undone": [*FORWARD[:2], *BACK]}
    assert {trips[trip]: done_for(trip) for trip in trips} == {trips[trip]: bookings[statuses[trip]] for trip in trips}


@pytest.mark.parametrize(
    "faults", [("reply", "reply"), ("request", "request"), ("reply", "full"), ("request", "full")], ids="-".join
)
async def test_a_step_whose_outcome_is_unknown_is_undone_too(
    faults: tuple[str, ...], nats_server: EmbeddedServer, namespace: str
) -> None:
    trip_id = f"trip-{namespace}"
    LOST[f"BookRoom of {trip_id}"] = [*faults]
    async with running(LossyTrips, *SERVICES, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(BookTrip(trip_id, 300))
        trip = await until_status(system, trip_id, "undone")
    assert trip.reason.startswith(f"BookRoom of {trip_id}: ")
    room = ["BookRoom"] if "reply" in faults else []
    assert done_for(trip_id) == ["BookFlight", *room, "CancelRoom", "CancelFlight"]
    assert (SENT[f"BookRoom of {trip_id}"], SENT[f"BookFlight of {trip_id}"]) == (2, 1)


async def test_a_lost_reply_is_asked_for_again(nats_server: EmbeddedServer, namespace: str) -> None:
    trip_id = f"trip-{namespace}"
    LOST[f"BookRoom of {trip_id}"] = ["reply"]
    async with running(LossyTrips, *SERVICES, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(BookTrip(trip_id, 300))
        await until_status(system, trip_id, "booked")
    assert done_for(trip_id) == [*FORWARD]


async def test_a_trip_waits_for_a_service_that_no_process_serves(nats_server: EmbeddedServer, namespace: str) -> None:
    trip_id = f"trip-{namespace}"
    flights, *others = SERVICES
    async with running(LossyTrips, *others, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(BookTrip(trip_id, 300))
        await system.until(lambda: SENT[f"BookFlight of {trip_id}"] > LossyTrips.options.retry.attempts)
        async with running(flights, url=nats_server.url, namespace=namespace):
            await until_status(system, trip_id, "booked")
    assert done_for(trip_id) == [*FORWARD]


async def test_a_booking_that_arrives_after_its_undo_is_refused() -> None:
    flights = worker(Flights, key="rome")
    await flights.cancel_flight(CancelFlight("rome"))
    assert flights.state == Booking(held=False)
    with pytest.raises(Rejected, match="cancelled before"):
        await flights.book_flight(BookFlight("rome"))


async def test_an_undo_that_fails_for_good_is_listed_and_goes_on_after_a_redrive(
    nats_server: EmbeddedServer, namespace: str, tmp_path: Path
) -> None:
    trip_id = f"trip-{namespace}"
    failing = f"CancelFlight of {trip_id}"
    FAILING.add(failing)
    where = ("--nats", nats_server.url, "--namespace", namespace)
    async with running(LossyTrips, *SERVICES, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(BookTrip(trip_id, 3000), id="job")
        await system.until(lambda: system.stored_dead_letters("trips"))
        assert [(each.trip_id, each.done) for each in await system.bus.query(ListTrips("undoing"))] == [(trip_id, 1)]
        query, listing, redrive = re.findall(r"(?m)^actorloom (.*)$", PAGE)
        shown = await run_command(*shlex.split(query), *where, cwd=tmp_path)
        assert (shown.code, trip_id in shown.out) == (0, True), shown
        listed = await run_command(*shlex.split(listing), *where, cwd=tmp_path)
        assert (listed.code, "cancel_flight" in listed.out) == (0, True), listed

        FAILING.discard(failing)
        redriven = await run_command(*shlex.split(redrive), *where, cwd=tmp_path)
        assert redriven.code == 0, redriven
        await until_status(system, trip_id, "undone")
        assert await system.bus.query(ListTrips("undoing")) == []
    assert done_for(trip_id) == ["BookFlight", "BookRoom", "CancelRoom", "CancelFlight"]
    assert {step: SENT[f"{step} of {trip_id}"] for step in ("BookFlight", "BookRoom", "CancelRoom", "CancelFlight")} == {
        "BookFlight": 1, "BookRoom": 1, "CancelRoom": 1, "CancelFlight": 3,
    }  # fmt: skip


@pytest.mark.parametrize("status", ["booking", "undoing"])
async def test_a_trip_whose_job_was_cancelled_is_undone_by_a_command(
    status: str, nats_server: EmbeddedServer, namespace: str
) -> None:
    """The job is cancelled while it waits for another attempt at the card, or at the flight."""
    trip_id = f"trip-{namespace}"
    failing = f"{'ChargeCard' if status == 'booking' else 'CancelFlight'} of {trip_id}"
    FAILING.add(failing)
    async with running(PatientTrips, *SERVICES, url=nats_server.url, namespace=namespace) as system:
        message = BookTrip(trip_id, 300 if status == "booking" else 3000)
        await system.bus.command(message, id="job")
        await system.until(lambda: SENT[failing] > 0)
        assert await system.bus.cancel(message, id="job") is True
        assert [each.trip_id for each in await system.bus.query(ListTrips(status))] == [trip_id]
        FAILING.discard(failing)
        await system.bus.command(CancelTrip(trip_id))
        await until_status(system, trip_id, "undone")
    card = ["RefundCard"] if status == "booking" else []
    assert done_for(trip_id) == ["BookFlight", "BookRoom", *card, "CancelRoom", "CancelFlight"]


class PatientTrips(LossyTrips):
    name = "trips"
    options = Options(retry=RetryPolicy(first=600.0, longest=600.0))


async def test_the_trace_of_a_trip_shows_each_step(nats_server: EmbeddedServer, namespace: str) -> None:
    trip_id = f"trip-{namespace}"
    async with running(LossyTrips, *SERVICES, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(BookTrip(trip_id, 3000))
        await until_status(system, trip_id, "undone")
        [picture] = re.findall(r"(?ms)^```\n(trips/book_trip.*?)^```", PAGE)
        steps = [re.split(r"  +", line.lstrip("└├─ "))[0] for line in picture.splitlines()]

        def shown() -> bool:
            spans = sorted(system.trace_of(root="trips/book_trip"), key=lambda span: span.start)
            names = [span.name for span in spans if span.kind is SpanKind.CLIENT or span.name == "checkpoint trips"]
            job = [span.name for span in spans if span.name.startswith(f"process {namespace}.trips.timer")]
            return [*names[:1], *(each.replace(f"{namespace}.", "") for each in job), *names[1:]] == steps

        await system.until(shown)


def test_the_code_of_the_page_is_that_of_the_example() -> None:
    blocks = re.findall(r"(?ms)^```python\n(.*?)^```", PAGE)
    example = dedent_all((ROOT / "examples" / "saga.py").read_text())
    assert len(blocks) > 4
    assert [block for block in blocks if dedent_all(block) not in example] == []


def dedent_all(text: str) -> str:
    return re.sub(r"(?m)^ +", "", text)
