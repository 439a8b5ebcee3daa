"""Paths in JSON Schemas: of the project's types, and a property of all schemas and the values that fit them."""

from typing import Any, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from runtime.wire.schema_paths import UNKNOWN, at_path, field_names, required_fields
from runtime.wire.schemas import schema, with_key


class Cat(msgspec.Struct, tag="cat"):
    lives: int
    names: list[str | None] = []


class Dog(msgspec.Struct, tag="dog"):
    name: str
    puppies: "list[Dog]" = []


class Point(NamedTuple):
    x: int
    y: str


class Row(msgspec.Struct, array_like=True):
    code: str


class Owner(msgspec.Struct, rename="camel"):
    first_pet: Cat | Dog | None
    counts: dict[str, int]
    anything: Any
    color: Literal["red", "blue", 3]
    point: Point
    row: Row
    matrix: list[list[float]] = []
    by_name: dict[Literal["home"], Cat] = {}
    open: dict[str, Any] = {}


OWNER = schema(Owner)


def types(path: tuple[str | int, ...], *, through_arrays: bool = False) -> list[str] | None:
    found = at_path(OWNER, path, through_arrays=through_arrays)
    return None if found is UNKNOWN else [each["type"] for each in found]


@pytest.mark.parametrize(
    ("path", "expected", "through"),
    [
        ((), ["object"], ["object"]),
        (("firstPet",), ["object", "object", "null"], ["object", "object", "null"]),
        (("first_pet",), [], []),
        (("firstPet", "lives"), ["integer"], ["integer"]),
        (("firstPet", "type"), ["string", "string"], ["string", "string"]),
        (("firstPet", "age"), [], []),
        (("firstPet", "names"), ["array"], ["string", "null"]),
        (("firstPet", "names", 5), ["string", "null"], []),
        (("firstPet", "puppies", "name"), [], ["string"]),
        (("firstPet", "puppies", 0, "puppies", 1, "name"), ["string"], []),
        (("counts", "any"), ["integer"], ["integer"]),
        (("counts", "any", "more"), [], []),
        (("anything",), None, None),
        (("anything", "x", 1), None, None),
        (("open", "x", "y"), None, None),
        (("color",), ["integer", "string"], ["integer", "string"]),
        (("point",), ["array"], ["integer", "string"]),
        (("point", 1), ["string"], []),
        (("point", 2), [], []),
        (("row", 0), ["string"], []),
        (("row", 1), [], []),
        (("matrix",), ["array"], ["number"]),
        (("matrix", 1, 2), ["number"], []),
        (("byName", "home", "lives"), ["integer"], ["integer"]),
        (("byName", "work", "lives"), [], []),
    ],
)
def test_a_path_has_the_types_of_its_values(
    path: tuple[str | int, ...], expected: list[str] | None, through: list[str] | None
) -> None:
    assert types(path) == expected
    assert types(path, through_arrays=True) == through


def test_a_literal_keeps_the_values_of_each_type() -> None:
    found = at_path(OWNER, ["color"])
    assert found is not UNKNOWN
    assert [sorted(each["enum"]) for each in found] == [[3], ["blue", "red"]]


def test_the_required_fields_are_those_of_each_alternative() -> None:
    assert required_fields(OWNER) == {"firstPet", "counts", "anything", "color", "point", "row"}
    assert required_fields(schema(Cat | Dog)) == {"type"}
    assert required_fields(OWNER, ["firstPet"]) == frozenset(), "it may be null"
    assert required_fields(OWNER, ["byName", "home"]) == {"lives"}
    assert required_fields(OWNER, ["firstPet", "puppies"], through_arrays=True) == {"name"}
    assert required_fields({"type": ["object", "string"], "required": ["a"]}) == frozenset(), "a text has no fields"
    assert required_fields(OWNER, ["anything"]) == required_fields(OWNER, ["none"]) == frozenset()


def test_the_names_of_fields_are_those_of_all_alternatives() -> None:
    assert field_names(OWNER, ["firstPet"]) == {"type", "lives", "names", "name", "puppies"}
    assert field_names(OWNER, ["firstPet", "puppies"], through_arrays=True) == {"name", "puppies", "type"}
    assert field_names(OWNER, ["anything"]) == field_names(OWNER, ["counts"]) == frozenset()


def test_the_rule_of_a_key_is_one_of_the_field() -> None:
    class Named(msgspec.Struct):
        name: str | int
        size: int = 0

    found = with_key(schema(Named), Named, "name")
    assert required_fields(found) == {"name"}
    for field, expected in (("size", {"integer"}), ("name", {"string", "integer"}), ("age", set[str]())):
        alternatives = at_path(found, [field])
        assert alternatives is not UNKNOWN
        assert {each["type"] for each in alternatives} == expected


@pytest.mark.parametrize(
    ("described", "path", "expected"),
    [
        ({"$ref": "elsewhere.json"}, ["a"], UNKNOWN),
        ({"$ref": "#/$defs/None"}, ["a"], UNKNOWN),
        ({"$ref": "#/$defs/A~1b", "$defs": {"A/b": {"type": "null"}}}, [], [{"type": "null"}]),
        ({"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}, {"type": "null"}]}}}, [], UNKNOWN),
        ({"type": "object", "properties": {"a": False}}, ["a"], []),
        ({"type": ["object", "string"], "properties": {"a": {"const": 1}}}, ["a"], 1),
        ({"type": "object", "properties": {}, "patternProperties": {"^a": {"type": "null"}}}, ["a"], UNKNOWN),
        ({"type": "object", "properties": {"b": True}, "additionalProperties": {"type": "null"}}, ["a"], 1),
        ({"allOf": [{"type": "string"}, {"type": "number"}]}, [], []),
        ({"allOf": [{"enum": [1, "a"]}, {"enum": [True, 1.0]}]}, [], 1),
        ({"allOf": [{"anyOf": [{"enum": [i]} for i in range(20)]}] * 8}, [], 20),
        ({"allOf": [{"anyOf": [{"minimum": i} for i in range(20)]}] * 8}, [], UNKNOWN),
    ],
)
def test_other_schemas_are_read_as_far_as_they_are_understood(described: Any, path: list[str], expected: Any) -> None:
    found = at_path(described, path)
    assert (len(found) if isinstance(expected, int) and found is not UNKNOWN else found) == expected


values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1) | st.sampled_from([1.0, 0.5, "", "x"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=6,
)
scalars: st.SearchStrategy[Any] = (
    st.booleans()
    | st.builds(lambda kind: {"type": kind}, st.sampled_from(["null", "boolean", "integer", "number", "string"]))
    | st.builds(lambda kinds: {"type": kinds}, st.just(["integer", "array", "object"]))
    | st.builds(lambda listed: {"enum": listed}, st.lists(values, min_size=1, max_size=3))
    | st.builds(lambda name: {"$ref": f"#/$defs/{name}"}, st.sampled_from("PQ"))
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return (
        st.builds(lambda a, b: {"type": "object", "properties": {"a": a, "b": b}}, inner, inner)
        | st.builds(lambda a, rest: {"properties": {"a": a}, "additionalProperties": rest}, inner, inner)
        | st.builds(lambda rest: {"type": "object", "additionalProperties": rest, "required": ["a"]}, inner)
        | st.builds(lambda items: {"type": "array", "items": items}, inner)
        | st.builds(lambda first, items: {"type": "array", "prefixItems": [first], "items": items}, inner, inner)
        | st.builds(lambda a, b: {"anyOf": [a, b], "required": ["b"]}, inner, inner)
        | st.builds(lambda a, b: {"allOf": [a, b]}, inner, inner)
    )


schemas = st.recursive(scalars, _containers, max_leaves=6)


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    yield path, value
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in parts:
        yield from _places(part, (*path, name))


def _fits(described: Any, value: Any) -> bool:
    try:
        return Draft202012Validator(described).is_valid(value)
    except RecursionError:  # a reference to itself has no meaning
        return False


@given(schemas, schemas, schemas, values)
def test_a_value_that_fits_has_only_parts_that_are_described(root: Any, p: Any, q: Any, value: Any) -> None:
    whole = {"allOf": [root], "$defs": {"P": p, "Q": {"anyOf": [q, {"type": "array", "items": {"$ref": "#/$defs/P"}}]}}}
    if not _fits(whole, value):
        return
    for path, part in _places(value):
        results = [at_path(whole, path)]
        if not isinstance(part, list):
            results.append(at_path(whole, [name for name in path if isinstance(name, str)], through_arrays=True))
        for found in results:
            assert found is UNKNOWN or any(_fits({**each, "$defs": whole["$defs"]}, part) for each in found), path
    assert not required_fields(whole) or required_fields(whole) <= set(value)
