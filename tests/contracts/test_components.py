"""The definitions of schemas in a document: unique names, and the same meaning as before."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from runtime.admin.discovery import Service
from runtime.contracts.components import Components, schemas_of
from runtime.contracts.pointers import dangling
from runtime.wire.schemas import Schema

AT = "#/components/schemas/"
NAMES = st.sampled_from(["Item", "Order", "a b", "a_b", "basket.Item"])
LEAVES: st.SearchStrategy[Schema] = st.sampled_from([{"type": "integer"}, {"type": "string"}, {"type": "boolean"}])


@st.composite
def messages(draw: st.DrawFn) -> list[tuple[str, Schema]]:
    """Schemas of three services whose definitions have few names, so that many of them meet, and refer to one another."""
    found: list[tuple[str, Schema]] = []
    for _ in range(draw(st.integers(1, 5))):
        names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
        fields = LEAVES | st.sampled_from([{"$ref": f"#/$defs/{name}"} for name in names])
        # A field is optional: a definition may refer to itself.
        definitions = {name: {"type": "object", "properties": {"x": draw(fields)}} for name in names}
        ref = {"$ref": f"#/$defs/{draw(st.sampled_from(names))}"}
        found.append((draw(st.sampled_from(["basket", "stockroom", "a"])), {**ref, "$defs": definitions}))
    return found


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.sampled_from([1, "text", True]), lambda inner: st.fixed_dictionaries({"x": inner}), max_leaves=2
)


@given(messages(), st.lists(VALUES, max_size=4), st.booleans())
def test_a_schema_means_the_same_in_a_document(found: list[tuple[str, Schema]], values: list[Any], old: bool) -> None:
    components = Components(found, AT, draft_07=old)
    document = {"components": {"schemas": components.schemas}}
    assert list(dangling(document)) == []
    validator: Any = Draft7Validator if old else Draft202012Validator
    for owner, schema in found:
        placed = {**document, "allOf": [components.use(owner, schema)]}
        for value in values:
            assert validator(placed).is_valid(value) == Draft202012Validator(schema).is_valid(value)


@given(messages(), st.randoms())
def test_names_do_not_depend_on_the_order_of_schemas(found: list[tuple[str, Schema]], random: Any) -> None:
    shuffled = random.sample(found, len(found))
    assert Components(found, AT).schemas == Components(shuffled, AT).schemas


def test_types_of_one_name_get_the_name_of_their_service(unusual: list[Service]) -> None:
    names = Components(schemas_of(unusual), AT).schemas.keys()
    assert {"basket.Item", "stockroom.Item", "Found_Item_"} <= names
    assert "Item" not in names


def test_two_types_of_one_name_in_one_service_get_a_hash() -> None:
    texts: Schema = {"$ref": "#/$defs/Item", "$defs": {"Item": {"type": "string"}}}
    numbers: Schema = {"$ref": "#/$defs/Item", "$defs": {"Item": {"type": "integer"}}}
    first, second = Components([("a", texts), ("a", numbers)], AT).schemas
    assert first.startswith("a.Item.") and second.startswith("a.Item.") and first != second


def test_a_name_in_the_data_of_a_schema_is_no_reference() -> None:
    ref = {"$ref": "#/$defs/Item"}
    schema: Schema = {
        "properties": {"$ref": {"type": "string"}, "default": ref, "enum": ref},
        "default": ref,
        "$defs": {"Item": {"enum": [ref]}},
    }
    components = Components([("a", schema)], AT)
    used = components.use("a", schema)
    placed = {"$ref": f"{AT}Item"}
    assert used == {"properties": {"$ref": {"type": "string"}, "default": placed, "enum": placed}, "default": ref}
    assert components.schemas == {"Item": {"enum": [ref]}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (
            {"prefixItems": [{}], "items": False, "minItems": 1},
            {"items": [{}], "additionalItems": False, "minItems": 1},
        ),
        ({"$ref": "#x", "title": "A"}, {"allOf": [{"$ref": "#x"}, {"title": "A"}]}),
        ({"properties": {"prefixItems": {"type": "string"}}}, {"properties": {"prefixItems": {"type": "string"}}}),
    ],
)
def test_the_words_of_2020_12_become_those_of_draft_07(schema: Schema, expected: Schema) -> None:
    assert Components([], AT, draft_07=True).use("a", schema) == expected
