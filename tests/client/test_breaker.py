"""The circuit breaker and the budget for retries, by a clock of the test's own."""

import pytest

from runtime.client.breaker import Breaker, BreakerPolicy, RetryBudget
from runtime.options import RetryPolicy


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


POLICY = BreakerPolicy(failures=3, lasting=1.0, pause=0.5)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(POLICY, clock)


def opened(breaker: Breaker, clock: Clock) -> None:
    """Have the circuit open now."""
    assert [breaker.failed() for _ in range(3)] == [False] * 3
    clock.now += 1.0
    assert breaker.failed()


def test_it_opens_after_failures_in_a_row_that_last(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        assert not breaker.failed() and breaker.allows(), "a burst within a moment is a change of hands"
    clock.now += 1.0
    assert breaker.failed() and breaker.is_open and not breaker.allows()


def test_an_answer_between_failures_keeps_it_closed(breaker: Breaker, clock: Clock) -> None:
    for _ in range(10):
        breaker.failed()
        breaker.failed()
        clock.now += 1.0
        breaker.answered()
    assert breaker.allows() and breaker.failing == 0


def test_an_answer_to_a_probe_closes_it(breaker: Breaker, clock: Clock) -> None:
    opened(breaker, clock)
    clock.now += 0.5
    assert breaker.allows() and not breaker.allows(), "one probe"
    breaker.answered()
    assert breaker.allows() and breaker.allows()


def test_a_probe_is_let_through_in_each_pause_whatever_became_of_the_one_before(breaker: Breaker, clock: Clock) -> None:
    opened(breaker, clock)
    for _ in range(3):
        clock.now += 0.49
        assert not breaker.allows()
        clock.now += 0.02
        assert breaker.allows() and not breaker.allows(), "the one before has not been answered"
    assert not breaker.failed(), "it was open already"
    clock.now += 0.01
    assert not breaker.allows(), "a failure that is told late changes nothing"
    clock.now += 0.5
    assert breaker.allows()


def test_retries_are_a_share_of_requests() -> None:
    budget = RetryBudget(share=0.5, most=2.0)
    assert [budget.spend() for _ in range(3)] == [True, True, False]
    budget.earn()
    assert not budget.spend()
    budget.earn()
    assert budget.spend() and not budget.spend()
    for _ in range(100):
        budget.earn()
    assert [budget.spend() for _ in range(3)] == [True, True, False], "no more than `most` are saved up"


def test_the_most_specific_class_says_whether_an_error_is_permanent() -> None:
    policy = RetryPolicy(permanent=("OSError",), transient=("ConnectionError",))
    assert policy.is_permanent(FileNotFoundError()) is True
    assert policy.is_permanent(ConnectionResetError()) is False
    assert policy.is_permanent(ValueError()) is None
