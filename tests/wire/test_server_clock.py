"""The clock of the server: samples, their bounds, and local clocks that are set or suspended."""

import random
import time

import pytest

from runtime.wire import server_clock
from runtime.wire.server_clock import TOLERATED, ServerClock


class Machine:
    """The clocks of a machine, in seconds: `elapsed`, and its wall clock, which is ahead of the server's by `skew`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, skew: float = 0.0) -> None:
        self.elapsed = 1000.0
        self.server = 1_800_000_000.0
        self.skew = skew
        monkeypatch.setattr(server_clock, "elapsed", lambda: self.elapsed)
        monkeypatch.setattr(time, "time", lambda: self.server + self.skew)

    def wait(self, seconds: float) -> None:
        """Let time pass, for the server too."""
        self.elapsed += seconds
        self.server += seconds

    def sample(self, clock: ServerClock, there: float = 0.0, back: float = 0.0) -> bool:
        """Ask the server: the question travels for `there` seconds, the answer for `back` seconds."""
        sent = self.elapsed
        self.wait(there)
        answer = self.server
        self.wait(back)
        return clock.add(sent, self.elapsed, answer)

    def error(self, clock: ServerClock) -> float:
        """Return by how many seconds the clock is wrong."""
        return abs(clock.now() - self.server)


def test_without_a_sample_the_wall_clock_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, skew=-30)
    clock = ServerClock()
    assert not clock.known and clock.bound is None and not clock.skewed
    assert clock.now() == pytest.approx(machine.server - 30)
    machine.skew = 5
    clock.follow_wall()
    assert clock.now() == pytest.approx(machine.server + 5)


@pytest.mark.parametrize("seed", range(20))
def test_no_sample_makes_the_clock_more_wrong_than_its_bound(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    rng = random.Random(seed)
    machine = Machine(monkeypatch, skew=rng.choice((-60.0, -10.0, -0.5, 0.0, 0.5, 30.0)))
    clock = ServerClock()
    for _ in range(200):
        machine.wait(rng.choice((0.1, 1.0, 60.0, 3600.0)))
        if rng.random() < 0.2:
            machine.skew += rng.uniform(-40, 40)  # the wall clock is set
        machine.sample(clock, rng.expovariate(20), rng.expovariate(20))
        if clock.known:
            assert clock.bound is not None and machine.error(clock) <= clock.bound + 1e-6
    assert clock.known and machine.error(clock) < TOLERATED


def test_a_slow_answer_replaces_no_better_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, skew=-60)
    clock = ServerClock()
    assert machine.sample(clock, 0.001, 0.001)
    machine.wait(1)
    assert not machine.sample(clock, 0.0, 2.0)
    assert machine.error(clock) < 0.001


def test_a_slow_answer_counts_if_it_shows_that_the_wall_clock_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right, wrong = Machine(monkeypatch, skew=0.5), ServerClock()
    assert not right.sample(wrong, 0.0, 4.0) and not wrong.known
    machine = Machine(monkeypatch, skew=-60)
    clock = ServerClock()
    assert machine.sample(clock, 0.0, 4.0) and clock.known and machine.error(clock) <= 2.0


def test_a_clock_of_the_server_that_is_set_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    clock = ServerClock()
    machine.sample(clock, 0.001, 0.001)
    machine.server += 20
    assert machine.sample(clock, 0.2, 0.2)
    assert machine.error(clock) < 0.21


def test_a_suspended_machine_needs_no_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, skew=-10)
    clock = ServerClock()
    machine.sample(clock, 0.001, 0.001)
    machine.wait(8 * 3600)  # `elapsed` goes on meanwhile
    assert machine.error(clock) < 0.001


@pytest.mark.parametrize(("skew", "skewed"), [(0.0, False), (0.9, False), (-1.1, True), (30.0, True)])
def test_only_a_difference_that_is_certain_counts_as_skew(
    monkeypatch: pytest.MonkeyPatch, skew: float, skewed: bool
) -> None:
    machine = Machine(monkeypatch, skew)
    clock = ServerClock()
    machine.sample(clock, 0.01, 0.01)
    assert clock.skew == pytest.approx(skew, abs=0.001) and clock.skewed is skewed
    uncertain = ServerClock()
    machine.sample(uncertain, 40.0, 40.0)
    assert not uncertain.skewed
