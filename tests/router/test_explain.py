"""Why an event does not match: the first field that does not, in a sentence, and never for an event that matches."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.actor.patterns import compile_pattern
from runtime.errors import DeclarationError
from runtime.router.explain import NOT_THERE, Mismatch, explain
from tests.support.patterns import bodies_for, event_patterns

BODY: dict[str, Any] = {
    "orderId": "1",
    "total": 50,
    "paid": True,
    "note": None,
    "tags": [],
    "changed": ["a", "b"],
    "customer": {"country": "DK", "name": "Åse"},
    "products": [{"id": "a", "size": 1}, {"id": "b", "size": 2}],
}


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ({"orderId": ["1"], "total": [300]}, "total is 50, but the pattern wants [300]"),
        ({"orderId": ["2"], "total": [300]}, 'orderId is "1", but the pattern wants ["2"]'),
        ({"total": 300}, "total is 50, but the pattern wants [300]"),
        (
            {"total": [{"numeric": [">", 100]}, 7]},
            'total is 50, but the pattern wants [{"numeric":[">",100]},7]',
        ),
        ({"paid": [1]}, "paid is true, but the pattern wants [1]"),
        ({"note": [{"exists": False}]}, 'note is null, but the pattern wants [{"exists":false}]'),
        ({"customer": {"name": [{"prefix": "å"}]}}, 'customer.name is "Åse", but the pattern wants [{"prefix":"å"}]'),
        ({"customer.city": ["Aarhus"]}, f'customer.city is {NOT_THERE}, but the pattern wants ["Aarhus"]'),
        ({"customer": [{"exists": True}]}, 'customer is an object, but the pattern wants [{"exists":true}]'),
        ({"tags": [{"wildcard": "*"}]}, 'tags is an empty array, but the pattern wants [{"wildcard":"*"}]'),
        (
            {"changed": [{"cidr": "10.0.0.0/8"}]},
            'no element of changed fits: changed is ["a","b"], but the pattern wants [{"cidr":"10.0.0.0/8"}]',
        ),
        (
            {"products": {"size": [{"anything-but": [1, 2]}]}},
            'no element of products fits: products.size is [1,2], but the pattern wants [{"anything-but":[1,2]}]',
        ),
        (
            {"products": {"id": ["a"], "size": [2]}},
            "products.size does not match [2] in the same array element as products.id",
        ),
        (
            {"products": {"size": [{"exists": False}]}},
            'no element of products fits: products.size is [1,2], but the pattern wants [{"exists":false}]',
        ),
        (
            {"orderId": ["1"], "$or": [{"total": [300]}, {"customer": {"country": ["SE"]}}]},
            "no alternative of $or holds: (1) total is 50, but the pattern wants [300]; "
            '(2) customer.country is "DK", but the pattern wants ["SE"]',
        ),
        (
            {"customer": {"$or": [{"country": ["SE"]}, {"$or": [{"x": [1]}, {"y": [2]}]}]}},
            'no alternative of customer.$or holds: (1) customer.country is "DK", but the pattern wants ["SE"]; '
            "(2) no alternative of customer.$or holds: (1) customer.x is not there, but the pattern wants [1]; "
            "(2) customer.y is not there, but the pattern wants [2]",
        ),
        ('{"total": [300]}', "total is 50, but the pattern wants [300]"),
    ],
)
def test_the_first_field_that_does_not_match_is_named(pattern: Any, sentence: str) -> None:
    assert str(explain(pattern, BODY)) == sentence


def test_an_absent_field_of_another_element_is_not_the_reason() -> None:
    pattern = {"a": {"c": [{"exists": False}], "b": [1]}, "d": [1]}
    body = {"a": [{"b": 1}, {"c": 1}], "d": 2}
    assert str(explain(pattern, body)) == "d is 2, but the pattern wants [1]"
    assert explain(pattern, {**body, "d": 1}) is None


def test_a_long_value_is_shortened_and_the_parts_of_a_mismatch_are_data() -> None:
    found = explain({"a": [{"suffix": "x"}]}, {"a": "é" * 1_000_000})
    assert found == Mismatch("a", '[{"suffix":"x"}]', f'"{"é" * 199}…')
    assert explain({"a": [1]}, [1]) == Mismatch("a", "[1]", NOT_THERE)


def test_an_invalid_pattern_is_refused() -> None:
    with pytest.raises(DeclarationError, match=r"^pattern\.a: an empty list"):
        explain({"a": []}, {})


@settings(max_examples=60)
@given(st.data(), event_patterns)
def test_an_event_is_explained_exactly_if_it_does_not_match(data: st.DataObject, pattern: dict[str, Any]) -> None:
    body = data.draw(bodies_for(pattern))
    found = explain(pattern, body)
    assert (found is None) is compile_pattern(pattern)(body)
    if found is not None and not found.beside and not found.alternatives:
        assert compile_pattern({found.path: json.loads(found.wanted)})(body) is False
        assert (found.found == NOT_THERE) <= compile_pattern({found.path: [{"exists": False}]})(body)
