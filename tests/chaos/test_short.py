"""The short chaos suite: every scenario that fits into seconds, with a fixed seed; `make chaos` runs all in full."""

import pytest

from tests.chaos.__main__ import describe, run

SHORT = ("control-deduplication", "control-check", "race", "zombie", "steps", "kills", "shop")


@pytest.mark.timeout(120)
@pytest.mark.parametrize("scenario", SHORT)
def test_holds_in_chaos(scenario: str) -> None:
    result = run(scenario, seed=1, short=True)
    assert result.good, describe(result, short=True)
