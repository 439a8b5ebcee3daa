"""Inputs as data: paths, texts with paths, their errors, and any JSON as it is."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.router.inputs import InputError, Occurrence, PathMissing, compile_input, compile_text

WHERE = "rule big, target crm: input"

BODY: dict[str, Any] = {
    "orderId": "1",
    "total": 12.5,
    "paid": True,
    "note": None,
    "user": {"name": 'Ann "A" O\\Neil\n', "first-name": "Ann", "tags": []},
    "items": [{"id": 1, "parts": [{"p": 1}, {"p": 2}]}, {"id": 2, "gift": True, "parts": []}],
    "odd name.": {"it's": 7},
    "*": 8,
}


def occurrence(body: object = BODY, key: str | None = "k1") -> Occurrence:
    attributes = {
        "specversion": "1.0",
        "id": "e1",
        "source": "/orders",
        "type": "orders.Placed",
        "time": "2026-11-28T10:00:00Z",
    }
    return Occurrence(attributes=attributes, body=body, key=key, rule="big", target="crm")


def made(value: object, body: object = BODY, key: str | None = "k1") -> Any:
    return compile_input(value, where=WHERE).make(occurrence(body, key))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("$", BODY),
        ("$.orderId", "1"),
        ("$.total", 12.5),
        ("$.paid", True),
        ("$.note", None),
        ("$.user.first-name", "Ann"),
        ("$.items[0].id", 1),
        ("$.items[-1].id", 2),
        ("$.items[*].id", [1, 2]),
        ("$.items[*].parts[*].p", [1, 2]),
        (["$.items[*].gift?"], [[True]]),
        (["$.items[*].none?"], [[]]),
        ("$.user.tags[*].none", []),
        (r"$['odd name.']['it\'s']", 7),
        ("$['*']", 8),
        ("$id $type".split(), ["e1", "orders.Placed"]),
        (["$source", "$key", "$time"], ["/orders", "k1", "2026-11-28T10:00:00Z"]),
        (["$rule", "$target"], ["big", "crm"]),
        ("$event.data.orderId", "1"),
        ("$event.specversion", "1.0"),
        ({"a": "$.none?", "b": ["$.none.deep?", 1, "$.items[7]?"]}, {"b": [1]}),
        ({"$.orderId": "{}"}, {"$.orderId": "{}"}),
        ("Order {$.orderId} is {$.paid}", "Order 1 is true"),
        ("{$.orderId}{$rule}", "1big"),
        ("{$.total}", "12.5"),
        ("{$.note}/{$.items[*].id}/{$.user.tags}", "null/[1,2]/[]"),
        ("Dear {$.user.none?}!", "Dear !"),
        ("$$5 and $$", "$5 and $"),
        ("{$$.orderId} {}", "{$.orderId} {}"),
        ("{{$.orderId}}", "{1}"),
        ("$$$$", "$$"),
    ],
)
def test_a_text_becomes_the_value_of_its_paths(value: object, expected: object) -> None:
    assert made(value) == expected


def test_the_whole_event_has_its_attributes_and_its_body() -> None:
    event = made({"event": "$event"})["event"]
    assert event.pop("data") == BODY
    assert event == occurrence().attributes


@pytest.mark.parametrize(
    ("value", "place", "path"),
    [
        ({"a": [1, "$.none"]}, ".a[1]", "$.none"),
        ({"a": {"b": "x {$.user.none}"}}, ".a.b", "$.user.none"),
        ("$.orderId.deep", "", "$.orderId.deep"),
        ("$.items[2]", "", "$.items[2]"),
        ("$.user[0]", "", "$.user[0]"),
        ("$.items.id", "", "$.items.id"),
        ("$.items[*].gift", "", "$.items[*].gift"),
        ("$.user[*]", "", "$.user[*]"),
        ("$event.subject", "", "$event.subject"),
    ],
)
def test_a_missing_path_is_named(value: object, place: str, path: str) -> None:
    with pytest.raises(PathMissing) as caught:
        made(value)
    assert caught.value.path == path
    assert str(caught.value) == f"{WHERE}{place}: the event has no {path} (write {path}? if it is optional)"


def test_the_key_of_an_event_without_one_is_missing() -> None:
    assert made({"key": "$key?"}, key=None) == {}
    with pytest.raises(PathMissing, match=r"no \$key "):
        made("$key", key=None)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"a": ["$.b c"]}, ".a[0]: '$.b c' is not a path: it ends at ' c'"),
        ("$.", ": '$.' is not a path: it ends at '.'"),
        ("$.a?.b", "it ends at '.b'"),
        ("$.a[x]", "it ends at '[x]'"),
        ("$['']", "is not a path"),
        ("$5", ": '$5' is not a path: it ends at '5'"),
        ("$orderId", "$orderId is not known: write $.orderId for a field of the event, or one of $event, $id,"),
        ("{$name}", "$name is not known"),
        ("for 5$", "begins with a single dollar sign: write a path as {$.field}, and a dollar sign as $$"),
        ("a $.b", "'$.b' begins with a single dollar sign"),
        ("$$$.b", "'$.b' begins with a single dollar sign"),
        ("{$.a", "has no path in braces: it ends at ''"),
        ("{$.a b}", "'{$.a b}' has no path in braces: it ends at ' b}'"),
        ("$.a?", "$.a? cannot be optional: it is the whole input"),
        ({"a": float("nan")}, ".a: nan is not a JSON number"),
        ({"a": 2**64}, ".a: an integer has 64 bits at most"),
        ({1: "a"}, ": the name 1 of a field is not a text: write it in quotes"),
        ({"a": b"b"}, ".a: a value of the type bytes is not JSON: write it as a text"),
        ({"a": "\ud800"}, ".a: the text has half of a character"),
        ({"a": "$.\ud800"}, ".a: "),
    ],
)
def test_a_wrong_input_is_refused_with_its_place(value: object, text: str) -> None:
    with pytest.raises(InputError) as caught:
        compile_input(value, where=WHERE)
    assert str(caught.value).startswith(WHERE)
    assert text in str(caught.value)


def test_an_input_without_end_is_refused() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(InputError, match="more than 64 levels"):
        compile_input(endless, where=WHERE)


def test_a_header_is_a_text_with_paths() -> None:
    assert compile_text("order {$.orderId}", where="h").make(occurrence()) == "order 1"
    with pytest.raises(InputError, match=r"h: '\$.orderId' begins with a single dollar sign"):
        compile_text("$.orderId", where="h")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def escaped(value: Any) -> Any:
    """Return an input that stands for a value as it is."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [escaped(each) for each in value]
    return {name: escaped(each) for name, each in value.items()} if isinstance(value, dict) else value


@given(JSON)
def test_any_json_passes_as_it_is_once_dollar_signs_are_doubled(value: Any) -> None:
    assert made(escaped(value)) == value


@given(JSON, TEXTS)
def test_any_value_of_an_event_arrives_as_it_is(value: Any, text: str) -> None:
    body = {"value": value, "text": text}
    result = made({"whole": "$", "value": "$.value", "list": ["$.text"], "quoted": 'say "{$.text}"\\'}, body)
    assert result == {"whole": body, "value": value, "list": [text], "quoted": f'say "{text}"\\'}
    assert json.loads(msgspec.json.encode(result)) == result


@given(st.text("$?{}[]*.'ab0-\\", max_size=12), JSON)
def test_a_text_is_refused_or_gives_json(text: str, body: Any) -> None:
    try:
        result = made([text], body)
    except InputError:
        return
    msgspec.json.encode(result)
