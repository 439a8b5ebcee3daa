"""Event patterns: the documented behavior of EventBridge, and properties of all patterns and bodies."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.actor.patterns import compile_pattern
from runtime.errors import DeclarationError

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
        ({"a": [{"numeric": [">", "1"]}]}, "where.a[0].numeric: expected a number after '>'"),
        ({"a": [{"numeric": ["!=", 1]}]}, "where.a[0].numeric: unknown comparison '!='"),
        ({"a": [{"anything-but": []}]}, "where.a[0].anything-but: an empty list"),
        ({"a": [{"anything-but": {"prefix": []}}]}, "where.a[0].anything-but.prefix: an empty list"),
        ({"a": [{"anything-but": {"numeric": [">", 1]}}]}, "where.a[0].anything-but: expected one of prefix"),
        ({"a": [{"wildcard": "a**b"}]}, "where.a[0].wildcard: two stars in a row"),
        ({"a": [{"wildcard": "a\\b"}]}, "where.a[0].wildcard: a backslash may precede only"),
        ({"$or": []}, "where.$or: expected a list of patterns"),
        ({"$or": [{"a": ["x"]}, "b"]}, "where.$or[1]: expected a non-empty object"),
        ({"a": {"numeric": [">", 1]}}, "where.a: an operator must be in a list"),
        ({"a": {"exists": True}}, "where.a: an operator must be in a list"),
    ],
)
def test_an_invalid_pattern_is_refused_with_its_path(pattern: object, text: str) -> None:
    with pytest.raises(DeclarationError, match="^" + re.escape(text)):
        compile_pattern(pattern)


literals = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
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
    | st.builds(lambda value: {"anything-but": [value]}, literals)
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
    either = [{field: listed} for field, listed in pattern.items()]
    assert compile_pattern({"$or": either})(body) is any(compile_pattern(branch)(body) for branch in either)
    assert compile_pattern({"x": pattern})({"x": body}) is expected


@given(patterns, plain, st.lists(literals | st.text("ab", max_size=3), min_size=1, max_size=4))
def test_an_array_matches_when_an_element_does(pattern: dict[str, list[Any]], field: str, values: list[Any]) -> None:
    single = {field: pattern.get(field, ["a"])}
    matches = compile_pattern(single)
    assert matches({field: values}) is any(matches({field: value}) for value in values)


@given(literals, literals)
def test_literals_match_values_that_are_equal_in_json(wanted: Any, value: Any) -> None:
    equal = isinstance(wanted, bool) is isinstance(value, bool) and wanted == value
    assert compile_pattern({"a": [wanted]})({"a": value}) is equal
    assert compile_pattern({"a": [{"anything-but": [wanted]}]})({"a": value}) is not equal


@given(st.lists(st.text("ab.\n", max_size=2), min_size=1, max_size=5), st.text("ab.\n", max_size=10))
def test_wildcards_match_as_the_regular_expression_would(pieces: list[str], text: str) -> None:
    pieces = [pieces[0], *(piece for piece in pieces[1:-1] if piece), *pieces[1:][-1:]]
    regex = re.compile(".*".join(map(re.escape, pieces)), re.DOTALL)
    assert compile_pattern({"f": {"$or": [{"g": [{"wildcard": "*".join(pieces)}]}]}})({"f": {"g": text}}) is bool(
        regex.fullmatch(text)
    )


@given(st.floats(allow_nan=False) | st.integers(), st.integers(-5, 5), st.integers(-5, 5))
def test_a_numeric_range_matches_the_values_within_it(value: float, low: int, high: int) -> None:
    pattern = {"n": [{"numeric": [">", low, "<=", high]}]}
    assert compile_pattern(pattern)({"n": value}) is (low < value <= high)
