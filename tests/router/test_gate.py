"""The gate of a target: its rate, its concurrency, and its circuit."""

import asyncio

import pytest

from runtime.backoff import Backoff
from runtime.router.gate import Bucket, Circuit, Gate, GateLimits
from runtime.router.outcomes import Again, Delivered, Permanent
from tests.support.waiting import until


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = 100.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bucket_spreads_what_a_second_does_not_hold(clock: Clock) -> None:
    bucket = Bucket(2.0, clock)
    assert [bucket.take() for _ in range(4)] == [0.0, 0.0, 0.5, 1.0]
    clock.time += 1.5
    assert bucket.take() == 0.0
    clock.time += 1000
    assert [bucket.take() for _ in range(3)] == [0.0, 0.0, 0.5]


def test_a_slow_rate_begins_at_once(clock: Clock) -> None:
    bucket = Bucket(0.1, clock)
    assert [bucket.take() for _ in range(3)] == pytest.approx([0.0, 10.0, 20.0])


def test_a_circuit_opens_after_failures_in_a_row_and_its_pauses_grow(clock: Clock) -> None:
    circuit = Circuit(GateLimits(failures=3, pause=Backoff(first=8.0, longest=20.0)), clock)
    for outcome in (Again("a"), Again("a"), Permanent("b"), Again("a"), Again("a")):
        circuit.record(outcome)
        assert not circuit.is_open
        assert circuit.delay() == 0.0
    for shortest, longest in ((4, 8), (8, 16), (10, 20), (10, 20)):
        circuit.record(Again("a"))
        assert circuit.is_open
        assert shortest <= (circuit.delay() or 0) <= longest
        clock.time += 20
        assert circuit.delay() == 0.0
        assert circuit.begin()
        assert circuit.delay() is None, "one probe at a time"
        circuit.end_probe()
    circuit.record(Delivered(200))
    assert not circuit.is_open
    assert not circuit.begin()


def test_a_wish_holds_up_a_target_and_is_no_failure(clock: Clock) -> None:
    circuit = Circuit(GateLimits(failures=1, pause=Backoff(first=1.0, longest=60.0)), clock)
    circuit.record(Again("busy", after=30.0))
    circuit.record(Delivered(200))
    assert (circuit.is_open, circuit.delay()) == (False, 30.0), "the answer to an earlier attempt changes nothing"
    circuit.record(Again("busy", after=86_400.0))
    assert circuit.delay() == 60.0


def test_a_probe_with_a_wish_is_a_failure(clock: Clock) -> None:
    circuit = Circuit(GateLimits(failures=1, pause=Backoff(first=8.0, longest=60.0)), clock)
    circuit.record(Again("down"))
    clock.time += 8
    circuit.record(Again("busy", after=0.0))
    assert 8 <= (circuit.delay() or 0) <= 16


async def test_attempts_at_one_time_are_limited() -> None:
    gate = Gate(GateLimits(concurrency=2))
    running: list[int] = []
    most: list[int] = []
    release = asyncio.Event()

    async def attempt(number: int) -> None:
        async with gate.attempt():
            running.append(number)
            most.append(len(running))
            await release.wait()
            gate.record(Delivered(200))
            running.remove(number)

    tasks = [asyncio.create_task(attempt(number)) for number in range(5)]
    await until(lambda: len(running) == 2)
    release.set()
    await asyncio.gather(*tasks)
    assert max(most) == 2


async def test_a_rate_delays_attempts() -> None:
    gate = Gate(GateLimits(rate=50.0))
    loop = asyncio.get_running_loop()
    begin = loop.time()
    for _ in range(53):
        async with gate.attempt():
            pass
    assert loop.time() - begin >= 2 / 50


async def test_one_probe_passes_an_open_circuit_and_a_success_lets_all_pass() -> None:
    gate = Gate(GateLimits(failures=1, pause=Backoff(first=0.01, longest=0.01)))
    async with gate.attempt():
        gate.record(Again("down"))
    assert gate.condition().state == "down"
    inside: list[int] = []
    answers = [asyncio.Event() for _ in range(3)]

    async def attempt(number: int) -> None:
        async with gate.attempt():
            inside.append(number)
            await answers[number].wait()
            gate.record(Again("down") if number == 0 else Delivered(200))

    tasks = [asyncio.create_task(attempt(number)) for number in range(3)]
    await until(lambda: inside == [0])
    answers[0].set()
    await until(lambda: inside == [0, 1])
    assert gate.condition().state == "down"
    answers[1].set()
    answers[2].set()
    await asyncio.gather(*tasks)
    assert inside == [0, 1, 2]
    assert gate.condition().state == "on"


async def test_a_probe_that_is_canceled_lets_the_next_one_pass() -> None:
    gate = Gate(GateLimits(failures=1, pause=Backoff(first=0.01, longest=0.01)))
    async with gate.attempt():
        gate.record(Again("down"))
    inside: list[int] = []

    async def attempt(number: int) -> None:
        async with gate.attempt():
            inside.append(number)
            await asyncio.Event().wait()

    tasks = [asyncio.create_task(attempt(number)) for number in range(2)]
    await until(lambda: inside == [0])
    tasks[0].cancel()
    await until(lambda: inside == [0, 1])
    tasks[1].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
