"""The parts of a pattern that no event matches, by the schema of the event; what could match is never among them."""

from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import Event
from runtime.actor.patterns import compile_pattern
from runtime.router.fields import Problem, unknown_fields
from runtime.wire.schemas import schema
from tests.support.patterns import matchers


class Status(Enum):
    NEW = "NEW"
    PAID = "PAID"


class Address(msgspec.Struct, rename="camel"):
    post_code: str
    lines: list[str] = []


class Cash(msgspec.Struct, tag="cash"):
    amount: float


class Card(msgspec.Struct, tag="card"):
    number: str
    amount: int = 0


class Placed(Event, actor="fields", rename="camel"):
    order_id: str
    status: Status
    total: int
    price: Decimal
    at: datetime
    gift: bool
    size: Literal["s", "m", 3]
    address: Address
    old: Address | None
    pay: Cash | Card
    products: list[Address]
    tags: list[str]
    counts: dict[str, int]
    anything: Any
    note: str | None = None


SCHEMA = schema(Placed)


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ({"order_id": ["1"]}, "order_id: no event has the field 'order_id'; did you mean 'orderId'?"),
        ({"ORDERID": ["1"]}, "ORDERID: no event has the field 'ORDERID'; did you mean 'orderId'?"),
        ({"quantity": [1]}, "quantity: no event has the field 'quantity'"),
        (
            {"address": {"postcode": ["1"]}},
            "address.postcode: no event has the field 'address.postcode'; did you mean 'address.postCode'?",
        ),
        ({"addressx.postCode": ["1"]}, "addressx.postCode: no event has the field 'addressx'; did you mean 'address'?"),
        ({"orderId": {"x": ["1"]}}, "orderId.x: no event has the field 'orderId.x'"),
        ({"products": {"lines": {"x": ["1"]}}}, "products.lines.x: no event has the field 'products.lines.x'"),
        ({"pay": {"numberx": ["1"]}}, "pay.numberx: no event has the field 'pay.numberx'; did you mean 'pay.number'?"),
        (
            {"address": ["x"]},
            "address: the field 'address' is an object; name a field in it, such as 'address.postCode'",
        ),
        (
            {"products": ["x"]},
            "products: the field 'products' is an object; name a field in it, such as 'products.postCode'",
        ),
        ({"orderId": [1]}, "orderId: 1 never matches: the field is a string"),
        ({"orderId": [{"numeric": [">", 1]}]}, 'orderId: {"numeric":[">",1]} never matches: the field is a string'),
        ({"total": ["1"]}, 'total: "1" never matches: the field is an integer'),
        ({"total": [1.5]}, "total: 1.5 never matches: the field is an integer"),
        ({"total": [True]}, "total: true never matches: the field is an integer"),
        ({"total": [{"prefix": "1"}]}, 'total: {"prefix":"1"} never matches: the field is an integer'),
        ({"counts": {"x": ["1"]}}, 'counts.x: "1" never matches: the field is an integer'),
        ({"gift": ["true"]}, 'gift: "true" never matches: the field is a boolean'),
        ({"note": [0]}, "note: 0 never matches: the field is a string or null"),
        (
            {"status": ["Paid"]},
            'status: "Paid" never matches: the field is one of "NEW", "PAID"; did you mean "PAID"?',
        ),
        (
            {"status": [{"anything-but": ["NEW", "PAID"]}]},
            'status: {"anything-but":["NEW","PAID"]} never matches: the field is one of "NEW", "PAID"',
        ),
        ({"size": [{"numeric": ["<", 3]}]}, 'size: {"numeric":["<",3]} never matches: the field is one of 3, "m", "s"'),
        ({"pay": {"type": ["check"]}}, 'pay.type: "check" never matches: the field is one of "cash", "card"'),
        ({"orderId": [{"exists": False}]}, 'orderId: {"exists":false} never matches: each event has the field'),
        (
            {"address": {"postCode": [{"exists": False}]}},
            'address.postCode: {"exists":false} never matches: each event has the field',
        ),
    ],
)
def test_a_field_that_never_matches_is_named_with_the_reason(pattern: dict[str, Any], problem: str) -> None:
    [found] = unknown_fields(pattern, SCHEMA)
    assert str(found).replace('"card", "cash"', '"cash", "card"') == problem
    assert found.fatal


@pytest.mark.parametrize(
    "pattern",
    [
        {"orderId": ["1"], "status": ["NEW"], "total": [1, 2.0], "gift": [True], "size": [3]},
        {"price": ["1.5", 1.5], "at": [{"prefix": "2026"}]},
        {"address": {"postCode": ["1"], "lines": [{"exists": False}]}},
        {"address.postCode": [{"cidr": "10.0.0.0/8"}]},
        {"old": [None]},
        {"old": {"postCode": [{"exists": False}]}},
        {"pay": {"amount": [1.5], "number": [{"exists": False}], "type": ["cash"]}},
        {"products": {"postCode": [{"exists": False}], "lines": ["a"]}},
        {"tags": [{"exists": False}]},
        {"counts": {"any.name": [1]}},
        {"anything": {"x": {"y": [{"numeric": [">", 1]}]}}},
        {"anything": ["x"]},
        {"note": [None, "x", {"exists": False}]},
        {"status": [{"prefix": "P"}, {"anything-but": "NEW"}, {"exists": True}]},
    ],
)
def test_a_pattern_that_could_match_has_no_problems(pattern: dict[str, Any]) -> None:
    assert unknown_fields(pattern, SCHEMA) == []


def test_a_long_path_is_not_checked() -> None:
    assert unknown_fields({".".join(["anything"] + ["x"] * 90): [1]}, SCHEMA) == []
    assert unknown_fields({"orderId." + ".".join("x" * 90): [1]}, SCHEMA) == []


def test_a_problem_beside_alternatives_is_not_fatal() -> None:
    assert unknown_fields({"status": ["NEW", "OLD"]}, SCHEMA) == [
        Problem("status", '"OLD" never matches: the field is one of "NEW", "PAID"', fatal=False)
    ]
    alternatives = {"$or": [{"total": ["x"]}, {"orderId": ["1"]}]}
    assert [problem.fatal for problem in unknown_fields(alternatives, SCHEMA)] == [False]
    alternatives["$or"][1] = {"nothing": ["1"]}
    assert [problem.fatal for problem in unknown_fields(alternatives, SCHEMA)] == [True, True]
    assert [problem.fatal for problem in unknown_fields({"nothing": [{"exists": False}]}, SCHEMA)] == [False]
    assert [problem.fatal for problem in unknown_fields({"address": [{"exists": False}]}, SCHEMA)] == [False]


class Inner(msgspec.Struct, omit_defaults=True):
    a: str
    b: int | None = None


class Small(msgspec.Struct, omit_defaults=True):
    a: Literal["a", "ab", 1]
    b: list[Inner]
    c: Inner | bool
    d: dict[str, float] = {}
    e: str = ""


inners = st.builds(Inner, st.sampled_from(["", "a", "ab"]), st.none() | st.integers(-1, 2))
smalls = st.builds(
    Small,
    st.sampled_from(["a", "ab", 1]),
    st.lists(inners, max_size=2),
    inners | st.booleans(),
    st.dictionaries(st.sampled_from(["x", "y.z"]), st.sampled_from([0.0, 2.5]), max_size=2),
    st.sampled_from(["", "a"]),
)
paths = st.sampled_from(["a", "b", "b.a", "b.b", "c", "c.a", "c.b", "d.x", "d.y.z", "e", "f", "a.x", "c.c"])


@settings(max_examples=150)
@given(st.dictionaries(paths, matchers, min_size=1, max_size=2), smalls)
def test_a_pattern_that_matches_an_event_has_no_fatal_problem(pattern: dict[str, Any], event: Small) -> None:
    if compile_pattern(pattern)(msgspec.json.decode(msgspec.json.encode(event))):
        assert not any(problem.fatal for problem in unknown_fields(pattern, schema(Small)))
