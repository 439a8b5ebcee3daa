"""The circuit breaker and the retry budget, with a simulated clock."""

import pytest

from runtime.client.breaker import Breaker, BreakerPolicy, RetryBudget
from runtime.options import RetryPolicy


class Clock:
    """A clock whose seconds the test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


POLICY = BreakerPolicy(failures=3, min_duration=1.0, probe_interval=0.5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(POLICY, clock)


def open_circuit(breaker: Breaker, clock: Clock) -> None:
    """Open the circuit by failures."""
    assert [breaker.record_failure() for _ in range(3)] == [False] * 3
    clock.now += 1.0
    assert breaker.record_failure()


def test_a_circuit_opens_after_failures_in_a_row_over_some_time(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        assert not breaker.record_failure() and breaker.allows(), (
            "a short burst of failures occurs when the owner changes"
        )
    clock.now += 1.0
    assert breaker.record_failure() and breaker.is_open and not breaker.allows()


def test_a_reply_between_failures_keeps_the_circuit_closed(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        breaker.record_failure()
        breaker.record_failure()
        clock.now += 1.0
        breaker.record_reply()
    assert breaker.allows() and breaker.failures == 0


def test_a_reply_to_a_probe_closes_the_circuit(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker, clock)
    clock.now += 0.5
    assert breaker.allows() and not breaker.allows(), "one probe"
    breaker.record_reply()
    assert breaker.allows() and breaker.allows()


def test_each_interval_permits_one_probe_even_if_the_last_one_has_no_reply(breaker: Breaker, clock: Clock) -> None:
    open_circuit(breaker, clock)
    for _ in range(3):
        clock.now += 0.49
        assert not breaker.allows()
        clock.now += 0.02
        assert breaker.allows() and not breaker.allows(), "the last probe has no reply yet"
    assert not breaker.record_failure(), "the circuit was open already"
    clock.now += 0.01
    assert not breaker.allows(), "a late failure changes nothing"
    clock.now += 0.5
    assert breaker.allows()


def test_the_budget_permits_retries_for_a_share_of_requests() -> None:
    budget = RetryBudget(share=0.5, limit=2.0)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend() and not budget.spend()
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False], "the budget saves at most `limit` retries"


def test_the_most_specific_class_decides_whether_an_error_is_permanent() -> None:
    policy = RetryPolicy(permanent=("OSError",), transient=("ConnectionError",))
    assert policy.is_permanent(FileNotFoundError()) is True
    assert policy.is_permanent(ConnectionResetError()) is False
    assert policy.is_permanent(ValueError()) is None
