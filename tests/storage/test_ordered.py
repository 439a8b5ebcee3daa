"""Ordered values, against a sorted list: runs are split and removed on the way."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.storage import ordered
from runtime.storage.ordered import Ordered


@pytest.fixture(autouse=True)
def short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limit runs to four values, so that a few values fill many runs."""
    monkeypatch.setattr(ordered, "_MAX_RUN", 4)


@given(st.lists(st.integers(0, 30), max_size=120), st.integers(-1, 31))
def test_it_equals_a_sorted_list(steps: list[int], start: int) -> None:
    """Each step adds a value, or removes it if it is present."""
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


def test_a_value_of_another_type_is_refused() -> None:
    values = Ordered[Any]()
    values.add(1)
    with pytest.raises(TypeError):
        list(values.ascending("a"))
