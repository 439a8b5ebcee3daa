"""The table of bounds in docs/operations.md has the values of the constants, and names each of them."""

from pathlib import Path

from runtime.cli import event_loop
from runtime.client import bus
from runtime.host import drain, ending, hooks, process, signals
from runtime.turns import overrun

TABLE = Path(__file__).parents[2] / "docs" / "operations.md"

BOUNDS = [
    ("a drain", drain._DRAIN_TIMEOUT),
    ("of these, for a former owner", drain._FORMER),
    ("of these, for quiet", drain._QUIET),
    ("the close of", ending.CLOSE_TIMEOUT),
    ("of these, for cancelled handlers", overrun.CLOSE_GRACE),
    ("the release of a lease", ending.RELEASE_TIMEOUT),
    ("a cancelled handler", overrun.GRACE),
    ("a handler that was cancelled", overrun.LAST_GRACE),
    ("a request with neither", overrun.CROWDED),
    ("`on_start`", hooks._SLOW),
    ("`on_stop`", hooks._STOP_TIMEOUT),
    ("a cancelled `on_start`", overrun.GRACE),
    ("all exporters", process._SHUTDOWN_TIMEOUT),
    ("tasks, and then threads", event_loop._END),
    ("a blocked event loop", signals._BLOCKED),
    ("the `retryAfter`", bus._LONGEST_PAUSE),
]
"""The beginning of each row, and the constant."""


def test_the_table_of_bounds_has_the_values_of_the_constants() -> None:
    section = TABLE.read_text().partition("### Bounds of waits")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in section.splitlines() if line.startswith("|")]
    assert len(rows) - 2 == len(BOUNDS)
    for (wait, seconds, _), (start, constant) in zip(rows[2:], BOUNDS, strict=True):
        assert wait.startswith(start) and float(seconds) == constant, wait


def test_the_bounds_of_the_close_leave_time_for_its_parts() -> None:
    assert overrun.CLOSE_GRACE < overrun.GRACE
    assert overrun.CLOSE_GRACE + 2.5 < ending.CLOSE_TIMEOUT, "subscriptions, consumers, then handlers"
