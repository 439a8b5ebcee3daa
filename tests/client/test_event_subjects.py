"""The choice of events by subjects: the filters of a consumer never overlap, and let each chosen event pass."""

from itertools import combinations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import DeclarationError, Event, Query
from runtime.client.event_subjects import ALL, EventSubject, filters_of, read_event_subject, subject_of
from runtime.wire.subjects import Names


class OrderCreated(Event, actor="orders", key="order_id"):
    order_id: str


class GetAny(Query[None], actor="orders"):
    pass


tokens = st.sampled_from(["a", "b", "c", "%"])
chosen = st.builds(EventSubject, st.sampled_from(["*", "x", "y"]), tokens | st.just("*"), tokens | st.just("*"))


def passes(filter_: str, subject: str) -> bool:
    """Match a subject as the server does."""
    wanted, found = filter_.split("."), subject.split(".")
    return len(wanted) == len(found) and all(one in ("*", other) for one, other in zip(wanted, found, strict=True))


@given(st.lists(chosen, min_size=1, max_size=5), tokens, tokens)
def test_the_filters_let_each_chosen_event_pass(subjects: list[EventSubject], name: str, key: str) -> None:
    names = Names("x", "shop")
    filters = filters_of(subjects, names)
    stored = f"shop.x.event.{name}.3.{key}"
    wanted = any(each.covers(EventSubject("x", name, key)) for each in subjects)
    assert subject_of(f"shop.x.event.{name}.{key}") == EventSubject("x", name, key)
    assert not wanted or any(passes(each, stored) for each in filters)
    assert bool(filters) == any(each.actor in ("*", "x") for each in subjects)
    for one, other in combinations(filters, 2):
        both = zip(one.split("."), other.split("."), strict=True)
        assert not all(mine == its or "*" in (mine, its) for mine, its in both), (
            "the server refuses overlapping filters"
        )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (">", ALL),
        ("*.event.>", ALL),
        ("orders.>", EventSubject("orders")),
        ("orders.event.*", EventSubject("orders")),
        ("orders.event.order_created", EventSubject("orders", "order_created")),
        ("*.event.order_created.7", EventSubject("*", "order_created", "7")),
        ("orders.OrderCreated", EventSubject("orders", "order_created")),
        (OrderCreated, EventSubject("orders", "order_created")),
    ],
)
def test_a_subject_a_type_and_a_class_name_events(given: Any, expected: EventSubject) -> None:
    assert read_event_subject(given, "tap") == expected


@pytest.mark.parametrize(
    "given",
    ["", "orders", "orders.*", "orders.command.x", "orders.event.a.b.c", "orders.ev*nt.a", "a..b", ">.event.a", 7],
)
def test_another_text_is_refused_with_the_forms_that_exist(given: Any) -> None:
    with pytest.raises(
        DeclarationError, match=r"tap: .*write a subject as orders\.event\.\*, a type as orders\.OrderCreated"
    ):
        read_event_subject(given, "tap")


def test_another_class_is_refused() -> None:
    with pytest.raises(DeclarationError, match="GetAny is not the class of an event"):
        read_event_subject(GetAny, "tap")
