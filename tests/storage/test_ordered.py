"""Ordered values: against a sorted list, through every split and every run that empties."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.storage import ordered
from runtime.storage.ordered import Ordered


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of four, so that a few values make many."""
    monkeypatch.setattr(ordered, "_MAX_RUN", 4)


@given(st.lists(st.integers(0, 30), max_size=120), st.integers(-1, 31))
def test_same_as_a_sorted_list(steps: list[int], start: int) -> None:
    """A step takes a value in, or out where it is in."""
    held: set[int] = set()
    values = Ordered[int]()
    for step in steps:
        if step in held:
            values.remove(step)
        else:
            values.add(step)
        held ^= {step}
        assert bool(values) == bool(held)
        assert list(values.ascending()) == sorted(held)
        assert list(values.descending()) == sorted(held, reverse=True)
        assert list(values.ascending(start)) == [value for value in sorted(held) if value > start]
        assert list(values.descending(start)) == [value for value in sorted(held, reverse=True) if value < start]


def test_no_run_grows_beyond_its_bound() -> None:
    values = Ordered[int]()
    for value in [*range(100), *range(300, 200, -1)]:
        values.add(value)
    assert max(len(run) for run in values._runs) <= ordered._MAX_RUN
    for value in range(100):
        values.remove(value)
    assert all(values._runs)


def test_another_type_is_refused() -> None:
    values = Ordered[Any]()
    values.add(1)
    with pytest.raises(TypeError):
        list(values.ascending("a"))
