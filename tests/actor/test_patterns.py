"""Event patterns: the documented behavior of EventBridge, and properties of all patterns and bodies."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from runtime import Event
from runtime.actor.patterns import MAX_NAMES, MAX_NESTED_ARRAYS, Pattern, compile_branches, compile_pattern
from runtime.errors import DeclarationError
from tests.support.patterns import bodies_for, event_patterns

BODY: dict[str, Any] = {
    "orderId": "1",
    "total": 300,
    "rate": 2.5,
    "paid": True,
    "note": None,
    "file": "picture.PNG",
    "changed": ["products", "total"],
    "tags": [],
    "address": {"country": "DK", "lines": ["a", "b"]},
    "products": [{"id": "a", "size": 1}, {"id": "b", "size": 2}],
}


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ({"orderId": ["1"]}, True),
        ({"orderId": "1"}, True),
        ({"orderId": [1]}, False),
        ({"orderId": ["0", "1"], "total": [300]}, True),
        ({"orderId": ["0", "1"], "total": [301]}, False),
        ({"total": [300.0]}, True),
        ({"paid": [True]}, True),
        ({"paid": [1]}, False),
        ({"total": [True]}, False),
        ({"note": [None]}, True),
        ({"missing": [None]}, False),
        ({"changed": "products"}, True),
        ({"changed": ["address", "total"]}, True),
        ({"changed": ["address"]}, False),
        ({"tags": ["a"]}, False),
        ({"address": {"country": ["DK", "SE"]}}, True),
        ({"address": {"country": ["SE"]}}, False),
        ({"address": {"lines": ["b"]}}, True),
        ({"address": ["DK"]}, False),
        ({"orderId": {"inner": ["1"]}}, False),
        ({"products": {"id": ["b"]}}, True),
        ({"products": {"id": ["a"], "size": [1]}}, True),
        ({"products": {"id": ["a"], "size": [2]}}, False),
        ({"file": [{"prefix": "pic"}]}, True),
        ({"file": [{"prefix": "Pic"}]}, False),
        ({"file": [{"prefix": {"equals-ignore-case": "PIC"}}]}, True),
        ({"total": [{"prefix": "3"}]}, False),
        ({"file": [{"suffix": ".PNG"}]}, True),
        ({"file": [{"suffix": ".png"}]}, False),
        ({"file": [{"suffix": {"equals-ignore-case": ".png"}}]}, True),
        ({"file": [{"equals-ignore-case": "PICTURE.png"}]}, True),
        ({"file": [{"equals-ignore-case": "picture"}]}, False),
        ({"file": [{"anything-but": "picture.PNG"}]}, False),
        ({"file": [{"anything-but": ["a", "b"]}]}, True),
        ({"total": [{"anything-but": [300]}]}, False),
        ({"total": [{"anything-but": ["300"]}]}, True),
        ({"file": [{"anything-but": {"prefix": "pic"}}]}, False),
        ({"file": [{"anything-but": {"prefix": ["a", "pic"]}}]}, False),
        ({"file": [{"anything-but": {"suffix": ".png"}}]}, True),
        ({"file": [{"anything-but": {"wildcard": "*.PNG"}}]}, False),
        ({"file": [{"anything-but": {"equals-ignore-case": ["x", "picture.png"]}}]}, False),
        ({"missing": [{"anything-but": "x"}]}, False),
        ({"changed": [{"anything-but": "products"}]}, True),
        ({"changed": [{"anything-but": ["products", "total"]}]}, False),
        ({"orderId": [{"exists": True}]}, True),
        ({"note": [{"exists": True}]}, True),
        ({"missing": [{"exists": True}]}, False),
        ({"missing": [{"exists": False}]}, True),
        ({"orderId": [{"exists": False}]}, False),
        ({"missing": [{"exists": False}, "x"]}, True),
        ({"address": [{"exists": True}]}, False),
        ({"tags": [{"exists": False}]}, True),
        ({"missing": {"deep": [{"exists": False}]}}, True),
        ({"address": {"country": [{"exists": False}]}}, False),
        ({"total": [{"numeric": [">", 0, "<=", 300]}]}, True),
        ({"total": [{"numeric": [">", 0, "<", 300]}]}, False),
        ({"rate": [{"numeric": ["=", 2.5]}]}, True),
        ({"paid": [{"numeric": [">", 0]}]}, False),
        ({"orderId": [{"numeric": [">", 0]}]}, False),
        ({"total": [{"numeric": ["<", 10]}, {"numeric": [">=", 300]}]}, True),
        ({"file": [{"wildcard": "p*.PNG"}]}, True),
        ({"file": [{"wildcard": "p*x*.PNG"}]}, False),
        ({"file": [{"wildcard": "*"}]}, True),
        ({"file": [{"wildcard": "picture.PNG"}]}, True),
        ({"$or": [{"orderId": ["0"]}, {"total": [300]}]}, True),
        ({"$or": [{"orderId": ["0"]}, {"total": [1]}]}, False),
        ({"orderId": ["1"], "$or": [{"total": [1]}, {"paid": [False]}]}, False),
        ({"address": {"$or": [{"country": ["SE"]}, {"lines": ["a"]}]}}, True),
        ({"address": {"prefix": ["x"]}}, False),
    ],
)
def test_patterns_match_as_eventbridge_documents(pattern: dict[str, Any], expected: bool) -> None:
    assert compile_pattern(pattern)(BODY) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("a*b", "ab", True),
        ("a*b", "a-b", True),
        ("ab*ba", "aba", False),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("a\\\\*", "a\\x", True),
        ("*a*b*", "-b-a-", False),
        ("*a*b*", "-a-b-", True),
    ],
)
def test_the_pieces_of_a_wildcard_do_not_overlap_and_a_star_can_be_escaped(
    pattern: str, text: str, expected: bool
) -> None:
    assert compile_pattern({"f": [{"wildcard": pattern}]})({"f": text}) is expected


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ({}, "where: expected a non-empty object"),
        ([], "where: expected a non-empty object"),
        ({1: ["a"]}, "where: a field name must be a string"),
        ({"a": []}, "where.a: an empty list"),
        ({"a": {}}, "where.a: expected a non-empty object"),
        ({"a": {"b": [object()]}}, "where.a.b[0]: expected a string, number"),
        ({"a": [["x"]]}, "where.a[0]: expected a string, number"),
        ({"a": ["x", {"perfix": "x"}]}, "where.a[1]: unknown operator 'perfix'; the operators are prefix, suffix"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "where.a[0]: expected one operator"),
        ({"a": [{}]}, "where.a[0]: expected one operator"),
        ({"a": [{"prefix": 1}]}, "where.a[0].prefix: expected a string, got 1"),
        ({"a": [{"prefix": {"suffix": "x"}}]}, "where.a[0].prefix: expected a string or equals-ignore-case"),
        ({"a": [{"exists": "yes"}]}, "where.a[0].exists: expected true or false"),
        ({"a": [{"numeric": [">"]}]}, "where.a[0].numeric: expected [comparison, number]"),
        ({"a": [{"numeric": [">", "1"]}]}, "where.a[0].numeric: expected a number, got '1'"),
        ({"a": [{"numeric": ["!=", 1]}]}, "where.a[0].numeric: unknown comparison '!='"),
        ({"a": [{"anything-but": []}]}, "where.a[0].anything-but: an empty list"),
        ({"a": [{"anything-but": {"prefix": []}}]}, "where.a[0].anything-but.prefix: an empty list"),
        ({"a": [{"anything-but": {"numeric": [">", 1]}}]}, "where.a[0].anything-but: expected one of prefix"),
        ({"a": [{"wildcard": "a**b"}]}, "where.a[0].wildcard: two stars in a row"),
        ({"a": [{"wildcard": "a\\b"}]}, "where.a[0].wildcard: a backslash may precede only"),
        ({"$or": []}, "where.$or: expected a list of two patterns or more, got []"),
        ({"$or": [{"a": ["x"]}, "b"]}, "where.$or[1]: expected a non-empty object"),
        ({"$or": [{"a": ["x"]}]}, "where.$or: expected a list of two patterns or more"),
        ({"$or": {"a": ["x"]}}, "where.$or: expected a list of two patterns or more"),
        ({"$or": [{"a": ["x"]}, {"prefix": ["x"]}]}, "where.$or[1].prefix: an operator cannot be a field"),
        ({"$or": [{"a": ["x"]}, {"b": {"<": [1]}}]}, "where.$or[1].b.<: an operator cannot be a field"),
        ({"a": {"b": ["x"]}, "a.b": ["y"]}, "where.a.b: the field 'a.b' has two lists of values"),
        ({"a": ["x"], "$or": [{"a": ["y"]}, {"b": ["z"]}]}, "where.$or[0].a: the field 'a' has two lists"),
        ({"a": [{"numeric": [">", 1, "<", 1]}]}, "where.a[0].numeric: expected a lower bound and then a greater"),
        ({"a": [{"numeric": [">", 0, ">", 0]}]}, "where.a[0].numeric: expected a lower bound and then a greater"),
        ({"a": [{"numeric": [">=", 1, "<=", 1]}]}, "where.a[0].numeric: expected a lower bound and then a greater"),
        ({"a": [{"numeric": ["<", 1, "<", 2]}]}, "where.a[0].numeric: expected a lower bound and then a greater"),
        ({"a": [{"numeric": ["<", 2, ">", 1]}]}, "where.a[0].numeric: expected a lower bound and then a greater"),
        ({"a": [{"numeric": ["=", 1, "<", 2]}]}, "where.a[0].numeric: expected a lower bound and then a greater"),
        ({"a": [{"numeric": [">", True]}]}, "where.a[0].numeric: expected a number, got True"),
        ({"a": [{"numeric": ["=", float("inf")]}]}, "where.a[0].numeric: inf cannot be compared"),
        ({"a": [{"numeric": ["=", float("nan")]}]}, "where.a[0].numeric: nan cannot be compared"),
        ({"a": [{"numeric": ["=", 2**53 + 1]}]}, "where.a[0].numeric: 9007199254740993 cannot be compared"),
        ({"a": [{"anything-but": [10**400]}]}, "where.a[0].anything-but: 1000"),
        ({"a": [float("inf")]}, "where.a[0]: expected a string, number"),
        ({"a": [{"anything-but": None}]}, "where.a[0].anything-but: expected a number, got None"),
        ({"a": [{"anything-but": True}]}, "where.a[0].anything-but: expected a number, got True"),
        ({"a": [{"anything-but": [True]}]}, "where.a[0].anything-but: expected a number, got True"),
        ({"a": [{"anything-but": [1, "x"]}]}, "where.a[0].anything-but: expected only strings or only numbers"),
        ({"a": [{"anything-but": {"prefix": ""}}]}, "where.a[0].anything-but.prefix: an empty prefix"),
        ({"a": [{"anything-but": {"suffix": ["x", ""]}}]}, "where.a[0].anything-but.suffix: an empty suffix"),
        ({"a": [{"anything-but": {"wildcard": ["x", "**"]}}]}, "where.a[0].anything-but.wildcard: two stars"),
        (
            {"a": [{"anything-but": {"prefix": {"equals-ignore-case": "x"}}}]},
            "where.a[0].anything-but.prefix: expected a string",
        ),
        ({"a": [{"cidr": "10.0.0.0"}]}, "where.a[0].cidr: expected a CIDR block"),
        ({"a": [{"cidr": "10.0.0.256/8"}]}, "where.a[0].cidr: expected a CIDR block"),
        ({"a": [{"cidr": "10.0.0.1/32"}]}, "where.a[0].cidr: the prefix must be shorter than 32 bits"),
        ({"a": [{"cidr": "::1/128"}]}, "where.a[0].cidr: the prefix must be shorter than 128 bits"),
        ({"a": [{"cidr": "::1/-1"}]}, "where.a[0].cidr: expected a CIDR block"),
        (
            {"$or": [{"a": {"$or": [{str(i): [1]} for i in range(40)]}}] * 30},
            "where.$or: the alternatives have more than 1,000",
        ),
        ({".".join("a" * (MAX_NAMES + 1)): [1]}, "where: the path of a field may have at most 100 names"),
        ('{"a": [2.0e422]}', "where: 2.0e422 cannot be compared: no double has this value"),
        ('{"a": [1E-325]}', "where: 1E-325 cannot be compared: no double has this value"),
        ('{"a": [NaN]}', "where.a[0]: expected a string, number"),
        ('{"a": [1], "a": [2]}', "where: an object has a name twice: a, a"),
        ('["a"]', 'where: expected a non-empty object, got ["a"]'),
        ('{"a": ', "where: the text is not JSON"),
        ({"a": {"numeric": [">", 1]}}, "where.a: an operator must be in a list"),
        ({"a": {"exists": True}}, "where.a: an operator must be in a list"),
    ],
)
def test_an_invalid_pattern_is_refused_with_its_path(pattern: object, text: str) -> None:
    with pytest.raises(DeclarationError, match="^" + re.escape(text)):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "body", "expected"),
    [
        ({"a": {"b": [{"exists": False}]}}, {"a": [{"b": 1}, {}]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [1, {"b": 1}]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [[{"b": 1}], {}]}, False),
        ({"a": {"b": [{"exists": False}]}}, {"a": [1, {"c": 1}]}, True),
        ({"a": {"b": [{"exists": False}], "c": [1]}}, {"a": [{"b": 1}, {"c": 1}]}, False),
        (
            {"a": {"b": [1], "c": [{"exists": False}]}},
            {"a": [{"b": 1}, {"c": 1}]},
            True,
        ),  # c is absent beside the chosen b
        ({"a": {"b": ["x", {"exists": False}]}}, {"a": [{"b": "y"}, {}]}, False),
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]}, False),
        ({"a": {"b": [1]}, "a.c": [2]}, {"a": [{"b": 1}, {"c": 2}]}, False),
        ({"a": {"b": [1]}, "$or": [{"a.c": [2]}, {"d": [0]}]}, {"a": [{"b": 1}, {"c": 2}]}, False),
        ({"a": {"b": [1]}, "d": {"c": [2]}}, {"a": [{"b": 0}, {"b": 1}], "d": [{"c": 0}, {"c": 2}]}, True),
        ({"a": {"b": {"c": [1], "d": [2]}}}, {"a": [{"b": [{"c": 1}, {"d": 2}]}, {"b": {"c": 1, "d": 2}}]}, True),
        ({"a.b": [1]}, {"a": {"b": 1}}, True),
        ({"a": {"b": [1]}}, {"a.b": 1}, True),
        ({"a.b.c": [1]}, {"a": [{"b.c": 1}]}, True),
        ({"a.b": [{"exists": False}]}, {"a.b": 1, "a": {}}, False),
        ({"a": [1]}, [{"a": 1}], False),
        ({"a": [{"exists": False}]}, [{"a": 1}], True),
        ({"a": [{"equals-ignore-case": "fi"}]}, {"a": "ﬁ"}, False),
        ({"a": [{"equals-ignore-case": "ﬁ"}]}, {"a": "FI"}, True),
        ({"a": [{"equals-ignore-case": "s"}]}, {"a": "ſ"}, False),
        ({"a": [{"equals-ignore-case": "σ"}]}, {"a": "ς"}, False),
        ({"a": [{"equals-ignore-case": "ı"}]}, {"a": "I"}, True),
        ({"a": [{"prefix": {"equals-ignore-case": "fi"}}]}, {"a": "ﬁx"}, False),
        ({"a": [{"prefix": {"equals-ignore-case": "ß"}}]}, {"a": "SSx"}, True),
        ({"a": [{"suffix": {"equals-ignore-case": "ss"}}]}, {"a": "xß"}, False),
        ({"a": [{"suffix": {"equals-ignore-case": "ß"}}]}, {"a": "xSS"}, True),
        ({"a": [{"suffix": {"equals-ignore-case": "b."}}]}, {"a": "aBx"}, False),
        ({"a": [{"anything-but": {"equals-ignore-case": "ss"}}]}, {"a": "ß"}, True),
        ({"a": [{"anything-but": {"wildcard": ["a*", "*b"]}}]}, {"a": "xb"}, False),
        ({"a": [{"anything-but": {"suffix": ["a", "b"]}}]}, {"a": "xb"}, False),
        ({"a": [{"anything-but": {"prefix": "1"}}]}, {"a": 12}, True),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "10.255.0.1"}, True),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "11.0.0.1"}, False),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "10.0.0.1.1"}, False),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "10.0.0.256"}, False),
        ({"a": [{"cidr": "10.0.0.0/31"}]}, {"a": ["10.0.0.2", "10.0.0.1"]}, True),
        ({"a": [{"cidr": "0.0.0.0/0"}]}, {"a": "::1"}, False),
        ({"a": [{"cidr": "::/0"}]}, {"a": 300}, False),
        ({"a": [{"cidr": "2001:db8::/32"}]}, {"a": "2001:DB8:1::f"}, True),
        ({"a": [{"cidr": "2001:db8::/32"}]}, {"a": "2001:db9::"}, False),
        ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "::ffff:a00:1"}, True),
        ({"a": ["::1"]}, {"a": "0:0:0:0:0:0:0:1"}, True),
        ({"a": [{"exactly": "::1"}]}, {"a": "0:0:0:0:0:0:0:1"}, False),
        ({"a": [2**53 + 1]}, {"a": 2**53 + 1}, True),
        ({"a": [2**53 + 1]}, {"a": float(2**53)}, False),
        ({"a": [10**17]}, {"a": 1e17}, True),
        ({"a": [{"numeric": [">", 0]}]}, {"a": 2**60}, False),  # no double has its digits
        ({"a": [{"numeric": [">", 0]}]}, {"a": 10**400}, False),
        ({"a": [{"anything-but": [1]}]}, {"a": True}, True),
        ('{"a": [{"numeric": ["=", 1e2]}]}', {"a": 100}, True),
    ],
)
def test_values_and_arrays_match_as_in_event_ruler(pattern: object, body: object, expected: bool) -> None:
    assert compile_pattern(pattern)(body) is expected


@pytest.mark.parametrize("depth", [MAX_NESTED_ARRAYS, MAX_NESTED_ARRAYS + 1])
def test_arrays_are_looked_at_up_to_a_depth(depth: int) -> None:
    value: object = {"b": 1}
    for _ in range(depth):
        value = [value]
    assert compile_pattern({"a": {"b": [1]}})({"a": value}) is (depth == MAX_NESTED_ARRAYS)


def test_a_large_array_is_searched_in_linear_time() -> None:
    both = {"p": 1, "q": 1}
    pattern = compile_pattern({"a": both, "b": both, "c": {"r": [{"exists": False}]}})
    one_of_both = [{"p": 1} if index % 2 else {"q": 1} for index in range(20_000)]
    # Each of the elements of `a` matches, and for none of them does one of `b`: 400 million combinations.
    assert pattern({"a": [both] * 20_000, "b": one_of_both}) is False
    assert pattern({"a": [both] * 20_000, "b": [*one_of_both, both]}) is True


class Address(Struct, rename="camel"):
    post_code: str
    lines: list[str] = []


class Moved(Event, actor="patterns", rename="camel"):
    order_id: str
    new_address: Address
    old: Address | None
    parts: dict[str, Address]
    points: tuple[Address, ...]
    anything: Any


@pytest.mark.parametrize(
    "pattern",
    [
        {"orderId": ["1"]},
        {"newAddress": {"postCode": ["1"]}},
        {"newAddress.lines": ["a"]},
        {"old": {"postCode": [{"exists": True}]}},
        {"old": [None]},
        {"parts": {"home": {"postCode": ["1"]}}},
        {"points": {"postCode": ["1"]}},
        {"anything": {"x": {"y": ["1"]}}},
        {"$or": [{"orderId": ["1"]}, {"newAddress": {"lines": ["a"]}}]},
    ],
)
def test_a_pattern_may_name_the_fields_of_its_event(pattern: dict[str, Any]) -> None:
    compile_pattern(pattern, "where", Moved)


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ({"order_id": ["1"]}, "where.order_id: Moved has no field 'order_id' on the wire; did you mean 'orderId'?"),
        ({"orderid": ["1"]}, "where.orderid: Moved has no field 'orderid' on the wire; did you mean 'orderId'?"),
        ({"quantity": [{"exists": False}]}, "where.quantity: Moved has no field 'quantity' on the wire"),
        (
            {"newAddress": {"post_code": ["1"]}},
            "where.newAddress.post_code: Moved has no field 'newAddress.post_code' on the wire; "
            "did you mean 'newAddress.postCode'?",
        ),
        (
            {"new_address.postCode": ["1"]},
            "where.new_address.postCode: Moved has no field 'new_address' on the wire; did",
        ),
        ({"points": {"x": ["1"]}}, "where.points.x: Moved has no field 'points.x' on the wire"),
        ({"orderId": {"x": ["1"]}}, "where.orderId.x: Moved has no field 'orderId.x' on the wire"),
        (
            {"$or": [{"orderId": ["1"]}, {"order": ["1"]}]},
            "where.$or[1].order: Moved has no field 'order' on the wire; did",
        ),
    ],
)
def test_a_field_that_the_event_does_not_have_is_refused(pattern: dict[str, Any], text: str) -> None:
    with pytest.raises(DeclarationError, match="^" + re.escape(text)):
        compile_pattern(pattern, "where", Moved)


literals = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
)
names = st.sampled_from(["a", "b", "c", "$or", "prefix", "numeric", "exists", "anything-but", "wildcard"])
json_values = st.recursive(
    literals, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
plain = st.sampled_from(["a", "b", "c"])
operands: st.SearchStrategy[dict[str, Any]] = (
    st.builds(lambda text: {"prefix": text}, st.text("ab", max_size=2))
    | st.builds(lambda text: {"suffix": text}, st.text("ab", max_size=2))
    | st.builds(lambda flag: {"exists": flag}, st.booleans())
    | st.builds(lambda number: {"numeric": [">", number]}, st.integers(-3, 3))
    | st.builds(lambda value: {"anything-but": [value]}, st.text(max_size=5) | st.integers(-9, 9))
)
matchers = st.lists(literals | operands, min_size=1, max_size=3)
patterns = st.dictionaries(plain, matchers, min_size=1, max_size=3)
bodies = st.dictionaries(plain, literals | st.lists(literals | st.text("ab", max_size=3), max_size=3))


@given(json_values, json_values)
def test_compiling_raises_declaration_errors_only_and_matching_never_raises(pattern: object, body: object) -> None:
    try:
        matches = compile_pattern(pattern)
    except DeclarationError:
        return
    assert matches(body) in (True, False)


@given(patterns, bodies)
def test_fields_are_anded_and_values_are_ored(pattern: dict[str, list[Any]], body: dict[str, Any]) -> None:
    expected = all(any(compile_pattern({f: [m]})(body) for m in listed) for f, listed in pattern.items())
    assert compile_pattern(pattern)(body) is expected
    either = [{field: listed} for field, listed in pattern.items()] * 2
    assert compile_pattern({"$or": either})(body) is any(compile_pattern(branch)(body) for branch in either)
    assert compile_pattern({"x": pattern})({"x": body}) is expected


@given(patterns, plain, st.lists(literals | st.text("ab", max_size=3), min_size=1, max_size=4))
def test_an_array_matches_when_an_element_does(pattern: dict[str, list[Any]], field: str, values: list[Any]) -> None:
    single = {field: pattern.get(field, ["a"])}
    matches = compile_pattern(single)
    assert matches({field: values}) is any(matches({field: value}) for value in values)


comparable = st.text(max_size=5) | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)


@given(literals, literals)
def test_literals_match_values_that_are_equal_in_json(wanted: Any, value: Any) -> None:
    equal = isinstance(wanted, bool) is isinstance(value, bool) and wanted == value
    assert compile_pattern({"a": [wanted]})({"a": value}) is equal


@given(comparable, literals)
def test_anything_but_matches_each_value_that_is_not_equal(unwanted: Any, value: Any) -> None:
    equal = not isinstance(value, bool) and unwanted == value
    assert compile_pattern({"a": [{"anything-but": [unwanted]}]})({"a": value}) is not equal


@given(st.lists(st.text("ab.\n", max_size=2), min_size=1, max_size=5), st.text("ab.\n", max_size=10))
def test_wildcards_match_as_the_regular_expression_would(pieces: list[str], text: str) -> None:
    pieces = [pieces[0], *(piece for piece in pieces[1:-1] if piece), *pieces[1:][-1:]]
    regex = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)
    pattern = {"f": {"$or": [{"g": [{"wildcard": "*".join(pieces)}]}, {"h": [1]}]}}
    assert compile_pattern(pattern)({"f": {"g": text}}) is bool(regex.fullmatch(text))


@given(st.floats(allow_nan=False) | st.integers(-(2**53), 2**53), st.integers(-5, 5), st.integers(1, 9))
def test_a_numeric_range_matches_the_values_within_it(value: float, low: int, width: int) -> None:
    high = low + width
    pattern = {"n": [{"numeric": [">", low, "<=", high]}]}
    assert compile_pattern(pattern)({"n": value}) is (low < value <= high)


@given(st.data(), event_patterns)
def test_the_test_of_single_conditions_agrees_with_the_search_in_arrays(
    data: st.DataObject, pattern: dict[str, Any]
) -> None:
    compiled = Pattern(compile_branches(pattern))
    body = data.draw(bodies_for(pattern))
    fields = body if isinstance(body, dict) else {}
    assert compiled.matches(body) is compiled._matches_nested(compiled._collect(fields))
