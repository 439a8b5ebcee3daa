"""Pauses between attempts: they double, have a limit, and are random."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import RetryPolicy
from runtime.backoff import Backoff

BACKOFF = Backoff(first=0.5, longest=30.0)


@pytest.mark.parametrize(("failures", "pause"), [(1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (10_000, 30.0)])
def test_the_pause_doubles_up_to_the_longest(failures: int, pause: float) -> None:
    assert BACKOFF.nominal(failures) == pause


@given(st.integers(1, 200))
def test_a_delay_is_between_half_and_all_of_the_pause(failures: int) -> None:
    assert BACKOFF.nominal(failures) / 2 <= BACKOFF.delay(failures) <= BACKOFF.nominal(failures)


def test_delays_differ() -> None:
    assert len({BACKOFF.delay(5) for _ in range(50)}) > 40


@given(st.floats(0.001, 100))
def test_pauses_add_up_to_the_total(total: float) -> None:
    pauses = list(BACKOFF.pauses(total))
    assert sum(pauses) == pytest.approx(total)
    for failures, pause in enumerate(pauses[:-1], 1):
        assert BACKOFF.nominal(failures) / 2 <= pause <= BACKOFF.nominal(failures)


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_the_delay_of_a_retry_policy_is_that_of_a_backoff_with_the_given_jitter(attempt: int, random: float) -> None:
    policy = RetryPolicy(first=0.5, longest=30.0)
    assert policy.delay(attempt, random) == BACKOFF.nominal(attempt) * (0.5 + random / 2)
