"""The short chaos suite: every scenario that fits into seconds, with a fixed seed; `make chaos` runs all in full."""

import pytest

from tests.chaos.__main__ import describe, run
from tests.chaos.cell import Result
from tests.chaos.scenarios.soak import Samples, judge

SHORT = (
    "control-deduplication",
    "control-check",
    "control-recovery",
    "recovery",
    "timers",
    "raced-timers",
    "dead-letters",
    "endings",
    "race",
    "zombie",
    "steps",
    "kills",
    "drain",
    "circles",
    "poison",
    "shop",
    "wire",
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SHORT)
def test_holds_in_chaos(scenario: str) -> None:
    result = run(scenario, seed=1, short=True)
    assert result.good, describe(result, short=True)


@pytest.mark.parametrize(
    ("megabytes", "handles", "good"), [(0.0, 0.0, True), (0.1, 0.05, True), (1.0, 0.0, False), (0.0, 1.0, False)]
)
def test_the_soak_tells_growth_from_noise(megabytes: float, handles: float, good: bool) -> None:
    """Both grow so much with every sample of 40; each tenth sample is a peak, and the first ones are a start."""
    noise = [20.0 if number % 10 == 3 else 0.0 for number in range(40)]
    start = [10.0 - number if number < 10 else 0.0 for number in range(40)]
    samples = Samples(
        [number * 2.5 for number in range(40)],
        [(35 - start[number] + noise[number] + number * megabytes) * 2**20 for number in range(40)],
        [7 + noise[number] + number * handles for number in range(40)],
    )
    result = Result("soak", 1)
    judge(result, "survivor", samples)
    assert result.good is good, result.problems
