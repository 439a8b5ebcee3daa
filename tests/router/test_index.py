"""The index of rules: it finds the same rules as a loop over all patterns, through each kind of change."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from runtime.actor.patterns import MAX_NESTED_ARRAYS, compile_pattern
from runtime.errors import DeclarationError
from runtime.router.index import Index
from tests.support.patterns import bodies_for, event_patterns

TYPES = ["orders.OrderCreated", "orders.OrderPaid", "stock.Reserved"]


def index_of(**rules: object) -> Index:
    index = Index()
    for name, pattern in rules.items():
        assert pattern is None or isinstance(pattern, Mapping)
        index.add(name, None, pattern)
    return index


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        ({"a": [True]}, {"a": True}),
        ({"a": [1]}, {"a": 1.0}),
        ({"a": [{"numeric": ["=", 1]}]}, {"a": 1}),
        ({"a": [2**53 + 1]}, {"a": 2**53 + 1}),
        ({"a": [None]}, {"a": None}),
        ({"a": ["é" * 100_000]}, {"a": "é" * 100_000}),
        ({"a": [{"prefix": "é" * 10_000}]}, {"a": "é" * 100_000}),
        ({"a": [{"prefix": ""}]}, {"a": ""}),
        ({"a": ["::1"]}, {"a": "0:0:0:0:0:0:0:1"}),
        ({"a": [{"exactly": "::1"}]}, {"a": "::1"}),
        ({"a": {"b": ["x"]}}, {"a": [[{"b": 1}], [{"b": ["y", "x"]}]]}),
        ({"a.b.c": ["x"]}, {"a.b": {"c": "x"}}),
        ({"a": {"b": {"c": ["x"]}}}, {"a": {"b.c": "x"}}),
        ({".": ["x"]}, {".": "x"}),
        ({"$or": [{"a": ["x"]}, {"b": ["y"]}]}, {"b": "y"}),
        ({"$or": [{"a": [{"exists": False}]}, {"b": ["y"]}]}, {"b": "z"}),
        ({"a": [{"exists": False}, "x"]}, {"b": 1}),
        ({"a": [{"exists": False}, "x"]}, []),
        ({"a": ["x", "x", {"prefix": "x"}, {"suffix": "x"}]}, {"a": "x"}),
        (MappingProxyType({"a": [MappingProxyType({"suffix": "x"})]}), {"a": "x"}),
    ],
)
def test_a_rule_is_found_and_its_removal_leaves_nothing(pattern: Any, body: object) -> None:
    assert compile_pattern(pattern)(body)
    index = index_of(rule=pattern, twin=pattern)
    assert index.match("orders.OrderCreated", body) == ["rule", "twin"]
    index.remove("twin")
    assert index.match("orders.OrderCreated", body) == ["rule"]
    index.remove("rule")
    assert index.match("orders.OrderCreated", body) == []
    assert vars(index) == vars(Index())


@pytest.mark.parametrize(
    ("pattern", "body"),
    [
        ({"a": [1]}, {"a": True}),
        ({"a": [False]}, {"a": 0}),
        ({"a": [{"exactly": "::1"}]}, {"a": "0:0:0:0:0:0:0:1"}),
        ({"a": [{"prefix": "xy"}]}, {"a": "x"}),
        ({"a": {"b": ["x"]}}, {"b": "x"}),
        ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]}),
        ({"a": [1]}, [{"a": 1}]),
        ({"a": [1], "b": [{"exists": False}]}, {"a": 1, "b": 1}),
    ],
)
def test_a_rule_that_does_not_match_is_not_found(pattern: Any, body: object) -> None:
    assert not compile_pattern(pattern)(body)
    assert index_of(rule=pattern).match("orders.OrderCreated", body) == []


def test_a_removal_leaves_nothing_beside_other_rules() -> None:
    index, alone = index_of(kept={"a.b": [1]}), index_of(kept={"a.b": [1]})
    for pattern in (
        {"a": {"c.d": ["x", {"prefix": "y"}, {"suffix": "z"}, "::1"]}},
        {"a.b": [2]},
        {"$or": [{"e": 1}, {"f": 2}]},
    ):
        index.add("other", None, pattern)
        index.remove("other")
    [places, expected] = (each._places["*"] for each in (index, alone))
    assert {above: [*names] for above, names in places._below.items()} == {
        above: [*names] for above, names in expected._below.items()
    }
    assert [*places._leaves] == ["a.b"]
    assert [*places._leaves["a.b"].keys] == [1]


@pytest.mark.parametrize("depth", [MAX_NESTED_ARRAYS, MAX_NESTED_ARRAYS + 1, MAX_NESTED_ARRAYS + 2])
def test_arrays_are_looked_at_as_deep_as_patterns_do(depth: int) -> None:
    for leaf, pattern in (({"b": 1}, {"a": {"b": [1]}}), (1, {"a": [1]})):
        value: object = leaf
        for _ in range(depth):
            value = [value]
        expected = ["rule"] if compile_pattern(pattern)({"a": value}) else []
        assert index_of(rule=pattern).match("orders.OrderCreated", {"a": value}) == expected


def test_the_types_of_a_rule_are_those_of_its_events() -> None:
    index = Index()
    index.add("one", ["orders.OrderCreated"], None)
    index.add("two", ["orders.OrderCreated", "stock.Reserved"], {"a": [1]})
    index.add("source", ["orders.*", "orders.OrderCreated"], {"a": [1]})
    index.add("all", None, {"a": [1]})
    index.add("empty", [], None)
    assert index.match("orders.OrderCreated", {"a": 1}) == ["all", "empty", "one", "source", "two"]
    assert index.match("orders.OrderPaid", {"a": 1}) == ["all", "empty", "source"]
    assert index.match("ordersx.OrderPaid", {"a": 1}) == ["all", "empty"]
    assert index.match("stock.Reserved", {"a": 1}) == ["all", "empty", "two"]
    assert index.match("stock.Reserved", {"a": 2}) == ["empty"]


def test_a_name_is_used_once_and_a_faulty_pattern_changes_nothing() -> None:
    index = index_of(rule={"a": [1]})
    with pytest.raises(ValueError, match="has a rule 'rule' already"):
        index.add("rule", None, {"a": [2]})
    with pytest.raises(DeclarationError, match=r"^rule rule: pattern\.a: an empty list matches nothing"):
        index.replace("rule", None, {"a": []})
    assert index.match("orders.OrderCreated", {"a": 1}) == ["rule"]
    index.replace("rule", ["stock.Reserved"], {"a": [2]})
    index.replace("other", None, None)
    index.remove("none")
    assert index.match("orders.OrderCreated", {"a": 1}) == ["other"]
    assert index.match("stock.Reserved", {"a": 2}) == ["other", "rule"]
    assert (len(index), "rule" in index, "none" in index) == (2, True, False)


def test_of_two_fields_that_find_a_rule_the_one_with_fewer_rules_does() -> None:
    index = Index()
    tested: list[str] = []
    for number in range(50):
        name = f"{number:02}"
        index.add(name, None, {"country": ["DK"], "customer": {"id": [name]}, "total": [{"anything-but": [7]}]})
        matches = index._rules[name].matches
        assert matches is not None
        index._rules[name].matches = lambda body, name=name, matches=matches: tested.append(name) or matches(body)
    assert index.match("orders.OrderCreated", {"country": "DK", "customer": {"id": "20"}, "total": 1}) == ["20"]
    assert len(tested) <= 3


@settings(max_examples=60)
@given(st.data(), st.lists(event_patterns, max_size=4))
def test_the_index_finds_the_rules_that_a_loop_finds(data: st.DataObject, listed: list[dict[str, Any]]) -> None:
    body = data.draw(bodies_for(*listed))
    index = index_of(**{str(number): pattern for number, pattern in enumerate(listed)})
    expected = [str(number) for number, pattern in enumerate(listed) if compile_pattern(pattern)(body)]
    assert index.match("orders.OrderCreated", body) == expected


class Changes(RuleBasedStateMachine):
    """Adds, replaces and removes rules, beside a dictionary of all patterns."""

    def __init__(self) -> None:
        super().__init__()
        self.index = Index()
        self.known: dict[str, tuple[list[str], Any]] = {}

    @rule(
        name=st.sampled_from("pqrst"),
        types=st.lists(st.sampled_from([*TYPES, "orders.*"])),
        pattern=event_patterns | st.none(),
    )
    def put(self, name: str, types: list[str], pattern: Any) -> None:
        (self.index.replace if name in self.known else self.index.add)(name, types, pattern)
        self.known[name] = types, pattern

    @rule(name=st.sampled_from("pqrst"))
    def remove(self, name: str) -> None:
        self.index.remove(name)
        self.known.pop(name, None)

    @rule(type_=st.sampled_from(TYPES), data=st.data())
    def compare(self, type_: str, data: st.DataObject) -> None:
        body = data.draw(bodies_for(*(pattern for _, pattern in self.known.values() if pattern is not None)))
        expected = [
            name
            for name, (types, pattern) in sorted(self.known.items())
            if (not types or type_ in types or (type_.startswith("orders.") and "orders.*" in types))
            and (pattern is None or compile_pattern(pattern)(body))
        ]
        assert self.index.match(type_, body) == expected, json.dumps(body)

    @invariant()
    def is_empty_without_rules(self) -> None:
        if not self.known:
            assert vars(self.index) == vars(Index())


TestChanges = Changes.TestCase
TestChanges.settings = settings(max_examples=20, stateful_step_count=20)
