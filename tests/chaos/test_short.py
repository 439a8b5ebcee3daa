"""The short chaos suite: every scenario that takes seconds, with a fixed seed. `make chaos` runs all of them in full."""

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
    "tells",
    "raced-timers",
    "dead-letters",
    "exits",
    "race",
    "zombie",
    "steps",
    "kills",
    "drain",
    "call-cycles",
    "poison",
    "shop",
    "wire",
    "bank-pauses",
    "bank-refused",
    "partitions",
)


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SHORT)
def test_a_scenario_keeps_its_promises(scenario: str) -> None:
    result = run(scenario, seed=1, short=True)
    assert result.good, describe(result, short=True)


@pytest.mark.parametrize(
    ("megabytes", "handles", "good"), [(0.0, 0.0, True), (0.1, 0.05, True), (1.0, 0.0, False), (0.0, 1.0, False)]
)
def test_the_soak_distinguishes_growth_from_noise(megabytes: float, handles: float, good: bool) -> None:
    """Memory and handles grow by these amounts per sample. Every tenth of the 40 samples is a peak, and the first ones are higher."""
    peaks = [20.0 if number % 10 == 3 else 0.0 for number in range(40)]
    start = [10.0 - number if number < 10 else 0.0 for number in range(40)]
    samples = Samples(
        [number * 2.5 for number in range(40)],
        [(35 - start[number] + peaks[number] + number * megabytes) * 2**20 for number in range(40)],
        [7 + peaks[number] + number * handles for number in range(40)],
    )
    result = Result("soak", 1)
    judge(result, "survivor", samples)
    assert result.good is good, result.problems
