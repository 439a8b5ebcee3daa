"""Inputs against the schemas of events and messages: certain mistakes are found, and nothing that could fit is refused."""

from typing import Any, Literal

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtime.router.input_check import check_input
from runtime.router.inputs import Occurrence, PathMissing, compile_input
from runtime.wire.schemas import Schema, schema


class User(msgspec.Struct, rename="camel"):
    name: str
    first_name: str | None = None


class Item(msgspec.Struct, rename="camel"):
    product_id: str
    quantity: int


class Placed(msgspec.Struct, rename="camel"):
    order_id: str
    total: float
    state: Literal["NEW", "PAID"]
    user: User
    items: list[Item]
    note: str | None = None
    pair: tuple[str, int] = ("a", 1)
    free: Any = None


class Canceled(msgspec.Struct, rename="camel"):
    order_id: str
    reason: str


class Customer(msgspec.Struct, rename="camel"):
    name: str


class Charge(msgspec.Struct, rename="camel"):
    order_id: str
    amount: float
    quantity: int = 1
    state: Literal["PAID", "OPEN"] = "OPEN"
    note: str | None = None
    customer: Customer | None = None
    tags: list[str] = []
    extra: dict[str, int] = {}
    anything: Any = None


PLACED = {"orders.Placed": schema(Placed)}
BOTH = {**PLACED, "orders.Canceled": schema(Canceled)}
CHARGE = ("payments.Charge", schema(Charge))
GOOD: dict[str, Any] = {"orderId": "$.orderId", "amount": "$.total"}


def problems(value: object, events: dict[str, Schema] = PLACED, message: Any = CHARGE) -> list[str]:
    return list(map(str, check_input(compile_input(value, where="input"), events, message)))


@pytest.mark.parametrize(
    "value",
    [
        GOOD,
        {**GOOD, "orderId": "order {$.orderId} of {$.user.firstName?}"},
        {**GOOD, "orderId": "$.orderId?"},
        {**GOOD, "orderId": "$key"},
        {**GOOD, "amount": 3, "quantity": "$.total"},
        {**GOOD, "amount": "$.items[0].quantity", "quantity": "$.pair[1]"},
        {**GOOD, "amount": "$.items[-1].quantity"},
        {**GOOD, "state": "$.state"},
        {**GOOD, "state": "PAID", "note": None},
        {**GOOD, "note": "$.note"},
        {**GOOD, "customer": "$.user"},
        {**GOOD, "customer": {"name": "$.user.firstName"}},
        {**GOOD, "tags": ["$.note?", "$.user.name", "x"], "extra": {"any": 3}},
        {**GOOD, "tags": "$.items[*].productId"},
        {**GOOD, "anything": {"a": ["$event", "$"]}, "quantity": "$.free.deep[3]"},
        {**GOOD, "quantity": "$event.extension", "note": "$event.data.note"},
        "$.free",
    ],
)
def test_an_input_that_may_fit_has_no_problem(value: object) -> None:
    assert problems(value) == []


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"orderId": "$.orderId"}, "input: the required field amount of payments.Charge is not given"),
        (
            {**GOOD, "orderId": "$.orderid"},
            "input.orderId: $.orderid: the event orders.Placed has no field $.orderid (is orderId meant?)",
        ),
        (
            {**GOOD, "note": "by {$.user.phone}"},
            "input.note: $.user.phone: the event orders.Placed has no field $.user.phone (it has firstName, name)",
        ),
        (
            {**GOOD, "anything": "$.items[*].price"},
            "input.anything: $.items[*].price: the event orders.Placed has no field $.items[*].price"
            " (it has productId, quantity)",
        ),
        (
            {**GOOD, "note": "$.orderId[0]?"},
            "input.note: $.orderId[0]?: the event orders.Placed has no list at $.orderId",
        ),
        ({**GOOD, "amounts": 1}, "input.amounts: payments.Charge has no field amounts (is amount meant?)"),
        (
            {**GOOD, "amount": "12"},
            'input.amount: the constant is "12", and the field amount of payments.Charge is number',
        ),
        (
            {**GOOD, "amount": "$.orderId"},
            "input.amount: $.orderId of the event orders.Placed is string, and the field amount of payments.Charge is number",
        ),
        (
            {**GOOD, "amount": "{$.total}"},
            "input.amount: the text is string, and the field amount of payments.Charge is number",
        ),
        (
            {**GOOD, "quantity": None},
            "input.quantity: the constant is null, and the field quantity of payments.Charge is integer",
        ),
        (
            {**GOOD, "quantity": "$time"},
            "input.quantity: $time is string, and the field quantity of payments.Charge is integer",
        ),
        (
            {**GOOD, "state": "NEW"},
            'input.state: the constant is "NEW", and the field state of payments.Charge is one of "OPEN", "PAID"',
        ),
        (
            {**GOOD, "tags": ["a", {"b": 1}]},
            "input.tags[1]: the object is object, and the field tags[1] of payments.Charge is string",
        ),
        (
            {**GOOD, "customer": {"name": 1}},
            "input.customer.name: the constant is 1, and the field customer.name of payments.Charge is string",
        ),
        (
            {**GOOD, "customer": "$.items[0]"},
            "input.customer: $.items[0] of the event orders.Placed has no field name,"
            " which the field customer of payments.Charge requires",
        ),
        (
            {**GOOD, "customer": {}},
            "input.customer: the required field name of the field customer of payments.Charge is not given",
        ),
        ("$", "input: $ of the event orders.Placed has no field amount, which payments.Charge requires"),
        (["a"], "input: the list is array, and payments.Charge is object"),
    ],
)
def test_a_part_that_never_fits_is_named(value: object, expected: str) -> None:
    assert problems(value) == [expected]


def test_a_path_of_several_events_has_to_be_in_each_or_optional() -> None:
    value = {**GOOD, "amount": 1, "note": "$.reason"}
    assert problems(value, BOTH) == [
        "input.note: $.reason: the event orders.Placed has no field $.reason"
        " (it has free, items, note, orderId, pair, state, total, user)"
    ]
    assert problems({**value, "note": "$.reason?"}, BOTH) == []
    assert len(problems({**value, "note": "$.none?"}, BOTH)) == 2


def test_without_schemas_anything_may_fit() -> None:
    assert problems({"a": "$.none.deep"}, {}, None) == []
    assert problems({"a": "$.none.deep", **GOOD}, {}, ("payments.Charge", {})) == []
    assert len(problems({"a": "$.none"}, PLACED, None)) == 1


PATHS = ["$", "$.orderId", "$.total", "$.state", "$.user", "$.user.name", "$.user.firstName", "$.items", "$.items[0]"]
PATHS += [
    "$.items[*].quantity",
    "$.items[-1].quantity?",
    "$.note",
    "$.note?",
    "$.pair",
    "$.pair[1]",
    "$.free",
    "$.free.a?",
]
PARTS = st.sampled_from([*PATHS, "$key", "$event", "{$.total}", "x", "PAID", 1, 2.5, None, True, [], ["$.note?", "x"]])
FIELDS = ["orderId", "amount", "quantity", "state", "note", "customer", "tags", "extra", "anything"]
EVENTS = st.builds(
    Placed,
    order_id=st.text(max_size=3),
    total=st.integers(0, 3).map(float) | st.just(1.5),
    state=st.sampled_from(["NEW", "PAID"]),
    user=st.builds(User, name=st.text(max_size=3), first_name=st.none() | st.text(max_size=3)),
    items=st.lists(st.builds(Item, product_id=st.just("p"), quantity=st.integers(0, 3)), max_size=2),
    note=st.none() | st.text(max_size=3),
    pair=st.tuples(st.text(max_size=3), st.integers(0, 3)),
    free=st.none() | st.integers(0, 3) | st.text(max_size=3) | st.dictionaries(st.just("a"), st.integers(0, 3)),
)


@given(st.dictionaries(st.sampled_from(FIELDS), PARTS, max_size=2), EVENTS)
def test_an_input_that_fits_one_event_has_no_problem(parts: dict[str, Any], event: Placed) -> None:
    value = {**GOOD, **parts}
    body = msgspec.json.decode(msgspec.json.encode(event))
    occurrence = Occurrence(attributes={"id": "1"}, body=body, key="k", rule="r", target="t")
    try:
        made: Any = compile_input(value, where="input").make(occurrence)
        msgspec.json.decode(msgspec.json.encode(made), type=Charge)
    except (PathMissing, msgspec.ValidationError):
        return
    assume(value.keys() == made.keys())  # a part that is left out says nothing about its type
    assert problems(value) == []
