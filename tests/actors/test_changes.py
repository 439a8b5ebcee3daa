"""The changed fields of a `[Resource]Modified` event, and the dates that order changes."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from actorloom_shop.changes import changed, stamp
from tests.actors.samples import ADDRESS, ORDER, SHIRT, order


class Thing(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    first_name: str = ""
    inner: "Thing | None" = None
    many: tuple[int, ...] = ()


def test_equal_states_have_no_changes() -> None:
    assert changed(ORDER, order()) == ()


def test_paths_are_dotted_camel_case_in_field_order() -> None:
    new = order(total=1, modified_date="x", address=replace(ADDRESS, street_address="Street 2", post_code="75001"))
    assert changed(ORDER, new) == ("modifiedDate", "address.streetAddress", "address.postCode", "total")


def test_a_changed_array_is_one_path() -> None:
    assert changed(ORDER, order(products=(SHIRT,))) == ("products",)
    assert changed(ORDER, order(products=(replace(SHIRT, quantity=1), *ORDER.products[1:]))) == ("products",)


def test_an_object_of_one_state_alone_is_one_path() -> None:
    assert changed(Thing(), Thing(inner=Thing("a"))) == ("inner",)
    assert changed(Thing(inner=Thing("a", many=(1,))), Thing(inner=Thing("b"))) == ("inner.firstName", "inner.many")


things = st.recursive(
    st.builds(Thing, st.text(max_size=2), st.none(), st.lists(st.integers(0, 2), max_size=2).map(tuple)),
    lambda inner: st.builds(Thing, st.text(max_size=2), st.none() | inner),
    max_leaves=4,
)


@given(things, things)
def test_paths_are_returned_if_and_only_if_states_differ(old: Thing, new: Thing) -> None:
    paths = changed(old, new)
    assert bool(paths) is (old != new)
    assert set(paths) == set(changed(new, old))
    assert len(set(paths)) == len(paths)


def test_a_date_is_utc_of_fixed_width() -> None:
    assert stamp(0) == "1970-01-01T00:00:00.000000Z"
    assert stamp(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"


@given(st.lists(st.floats(0, 4e9), min_size=2, max_size=5))
def test_dates_grow_even_if_the_clock_is_set_back(clock: list[float]) -> None:
    dates = [stamp(clock[0])]
    for now in clock[1:]:
        dates.append(stamp(now, after=dates[-1]))
    assert dates == sorted(set(dates))
    assert dates[-1] >= stamp(max(clock))
