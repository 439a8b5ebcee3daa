"""A trip is booked as a whole or not at all: after a refusal, a crash, a failure, and a fault at each step."""

import asyncio
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar

import pytest

from examples.booking.messages import (
    BookRoom,
    BookSeat,
    BookTrip,
    CancelRoom,
    CancelSeat,
    GetPayments,
    GetRooms,
    GetSeats,
    GetTrip,
    ListTrips,
    Pay,
    Status,
    Trip,
    TripEnded,
)
from examples.booking.services import Flights, Hotels, Payments
from examples.booking.trips import Trips
from runtime import Bus, CodecError, DeadlineExceeded, Options, Rejected, RetryPolicy, command
from runtime.testing import Actors, EmbeddedServer, System, worker
from runtime.testing.faults import FAULTS, survive
from tests.support.process import run_command

ROOT = Path(__file__).parents[2]
SERVICES = (Flights, Hotels, Payments)


def trip(trip_id: str = "t1", amount: int = 600) -> BookTrip:
    return BookTrip(trip_id, flight="LH1", hotel="Ritz", card="4242", amount=amount)


def record(trip_id: str = "t1", amount: int = 600, **fields: Any) -> Trip:
    """Return the state of a trip."""
    return Trip(trip_id, "LH1", "Ritz", "4242", amount, **fields)


async def booked(bus: Bus) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    """Return the trips with a seat, with a room, and with a payment."""
    return (await bus.query(GetSeats("LH1")), await bus.query(GetRooms("Ritz")), await bus.query(GetPayments("4242")))


async def ended(system: System, message: BookTrip) -> Status:
    """Book a trip, and wait for its end."""
    async with system.bus.events(TripEnded, key=message.trip_id) as ends, asyncio.timeout(30):
        await system.bus.command(message, id=message.trip_id)
        return (await anext(ends)).status


async def test_a_refusal_undoes_in_reverse() -> None:
    trips = worker(
        Trips,
        state=record(booked=1),
        replies={BookRoom: None, Pay: Rejected("no credit"), CancelRoom: None, CancelSeat: None},
    )
    await trips.book_trip(trip())
    assert [type(message) for message in trips.sent] == [BookRoom, Pay, CancelRoom, CancelSeat]
    assert trips.state == record(status=Status.REFUSED, reason="no credit")
    assert trips.emitted == [TripEnded("t1", Status.REFUSED, "no credit")]


async def test_an_unknown_outcome_undoes_nothing() -> None:
    trips = worker(Trips, state=record(booked=2), replies={Pay: DeadlineExceeded("no reply")})
    with pytest.raises(DeadlineExceeded):
        await trips.book_trip(trip())
    assert trips.state == record(booked=2)


async def test_another_command_for_a_trip_undoes_what_the_first_has_booked() -> None:
    """The job of the first is a dead letter, for example."""
    trips = worker(Trips, state=record(booked=1), replies={BookRoom: Rejected("no room"), CancelSeat: None})
    await trips.book_trip(BookTrip("t1", flight="LH2", hotel="Adlon", card="5252", amount=1))
    assert trips.sent == [BookRoom("Ritz", "t1"), CancelSeat("LH1", "t1")]


async def test_a_trip_ends_once() -> None:
    ended = record(status=Status.REFUSED, reason="no credit")
    trips = worker(Trips, state=ended)
    await trips.book_trip(trip())
    assert (trips.sent, trips.emitted, trips.state) == ([], [], ended)


async def test_a_trip_whose_first_step_fails_is_stored() -> None:
    trips = worker(Trips, replies={BookSeat: DeadlineExceeded("no reply")})
    with pytest.raises(DeadlineExceeded):
        await trips.book_trip(trip())
    assert trips.checkpoints == [record()]


async def test_trips_are_booked_and_listed(actors: Actors) -> None:
    async with actors(Trips, *SERVICES) as system:
        assert await ended(system, trip("t1", 600)) == Status.BOOKED
        assert await ended(system, trip("t2", 600)) == Status.REFUSED
        assert await ended(system, trip("t3", 400)) == Status.BOOKED
        assert await booked(system.bus) == (("t1", "t3"), ("t1", "t3"), {"t1": 600, "t3": 400})
        refused = await system.bus.query(ListTrips(Status.REFUSED))
        assert refused.items == [record("t2", status=Status.REFUSED, reason="the card 4242 is refused")]


async def test_an_amount_is_positive(actors: Actors) -> None:
    async with actors(Trips, Payments) as system:
        for message in (trip(amount=0), Pay("4242", "t1", amount=-600)):
            with pytest.raises(CodecError, match="amount"):
                await system.bus.command(message)


async def test_trips_of_all_partitions_are_booked(actors: Actors) -> None:
    options = {actor.name: Options(partitions=4) for actor in (Trips, *SERVICES)}
    async with actors(Trips, *SERVICES, apart=True, options=options) as system, system.bus.events(TripEnded) as ends:
        for number in range(24):  # three for each hotel, which has two rooms
            message = BookTrip(f"t{number}", f"LH{number % 12}", f"H{number % 8}", f"c{number % 6}", amount=1)
            await system.bus.command(message, id=message.trip_id)
        async with asyncio.timeout(30):
            statuses = {(end := await anext(ends)).trip_id: end.status for _ in range(24)}
        trips = {trip_id for trip_id, status in statuses.items() if status == Status.BOOKED}
        assert len(trips) == 16
        listed = await system.bus.query(ListTrips(Status.BOOKED))
        assert {each.trip_id for each in listed.items} == trips
        seats = [await system.bus.query(GetSeats(f"LH{number}")) for number in range(12)]
        rooms = [await system.bus.query(GetRooms(f"H{number}")) for number in range(8)]
        payments = [await system.bus.query(GetPayments(f"c{number}")) for number in range(6)]
        assert [sorted(chain(*each)) for each in (seats, rooms, payments)] == [sorted(trips)] * 3


async def test_a_trip_goes_on_after_a_crash(actors: Actors) -> None:
    async with actors(Trips, *SERVICES, apart=True) as system, system.bus.events(TripEnded) as ends:
        await system.crash("payments")
        await system.bus.command(trip(), id="t1")

        async def waits() -> bool:
            return (await system.bus.query(ListTrips(Status.BOOKING))).items == [record(booked=2)]

        await system.until(waits)
        await system.crash("trips")
        await system.restart()
        assert (await anext(ends)).status == Status.BOOKED
        assert await booked(system.bus) == (("t1",), ("t1",), {"t1": 600})


class BrokenHotels(Hotels):
    broken: ClassVar[bool] = True

    @command
    async def book_room(self, message: BookRoom) -> None:
        if self.broken:
            raise RuntimeError("the hotels are broken")
        await super().book_room(message)


async def actorloom(*arguments: str) -> str:
    """Run the command line, and return its output."""
    ran = await run_command(*arguments, cwd=ROOT)
    assert ran.code == 0, ran
    return ran.out


async def test_a_trip_that_has_failed_goes_on_after_a_redrive(
    actors: Actors, nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"trips": Options(retry=RetryPolicy(attempts=2, first=0.01))}
    flags = ("--service", "trips", "--nats", nats_server.url, "--namespace", "broken")
    async with actors(Trips, Flights, BrokenHotels, Payments, namespace="broken", options=options) as system:
        await system.bus.command(trip(), id="t1")

        async def failed() -> bool:
            return "book_trip" in await actorloom("dlq", "ls", *flags)

        await system.until(failed)
        assert (await system.bus.query(ListTrips(Status.BOOKING))).items == [record(booked=1)]
        monkeypatch.setattr(BrokenHotels, "broken", False)
        async with system.bus.events(TripEnded) as ends:
            await actorloom("dlq", "redrive", *flags)
            assert (await anext(ends)).status == Status.BOOKED


async def test_a_trip_survives_a_fault_at_each_step(nats_server: EmbeddedServer) -> None:
    async def drive(bus: Bus) -> None:
        await bus.retry(trip("t1"), id="t1")
        await bus.retry(trip("t2"), id="t2")

    async def verify(bus: Bus) -> None:
        first, second = [await bus.query(GetTrip(trip_id)) for trip_id in ("t1", "t2")]
        assert {first.status, second.status} == {Status.BOOKED, Status.REFUSED}
        seats, rooms, payments = await booked(bus)
        assert seats == rooms == tuple(payments)
        assert len(payments) == 1

    faults = [fault for fault in FAULTS if "checkpoint" in fault or "commit" in fault or "reply" in fault]
    assert await survive([Trips, *SERVICES], drive, verify, url=nats_server.url, faults=faults) == faults
