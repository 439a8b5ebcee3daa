"""The comparison of schemas: the table of changes exactly, and the permitted ones by encoding with one type and decoding with another."""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from runtime.contracts.compatibility import Break, breaks
from runtime.errors import CodecError
from runtime.wire.codec import Codec
from runtime.wire.schemas import schema, with_key
from tests.support.evolving import Kind, kinds


def struct(**fields: Any) -> Any:
    """Return a struct; a field is a type, or a type and its default."""
    return msgspec.defstruct(
        "Order",
        [(name, *(each if isinstance(each, tuple) else (each,))) for name, each in fields.items()],
        kw_only=True,
    )


def union(*tags: str) -> Any:
    """Return a struct with a field that is a union of structs with these tags, or the only one of them."""
    members = [msgspec.defstruct(tag, [("id", str), (tag.lower(), str)], tag=True) for tag in tags]
    kind = members[0]
    for each in members[1:]:
        kind = kind | each
    return struct(how=kind)


def small(**rule: Any) -> Any:
    return Annotated[int, Meta(**rule)]


def text(**rule: Any) -> Any:
    return Annotated[str, Meta(**rule)]


_ORDER = struct(id=str, total=int)
_LINE, _TEXTUAL = (msgspec.defstruct("Line", [("id", str), ("total", kind)]) for kind in (int, str))
_CHANGES: list[tuple[str, Any, Any, list[tuple[str, str]], list[tuple[str, str]]]] = [
    # change, old, new, breaks for a new reader of old data, breaks for an old reader of new data
    ("add optional", _ORDER, struct(id=str, total=int, note=(str, "")), [], []),
    ("add required", _ORDER, struct(id=str, total=int, note=str), [("note", "field-required")], []),
    ("remove optional", struct(id=str, total=int, note=(str, "")), _ORDER, [], []),
    ("remove required", _ORDER, struct(id=str), [], [("total", "field-removed")]),
    ("to required", struct(id=str, total=(int, 0)), _ORDER, [("total", "field-required")], []),
    ("to optional", _ORDER, struct(id=str, total=(int, 0)), [], [("total", "field-optional")]),
    ("rename", _ORDER, struct(id=str, sum=int), [("sum", "field-required")], [("total", "field-removed")]),
    ("int to float", _ORDER, struct(id=str, total=float), [], [("total", "type-widened")]),
    ("float to int", struct(id=str, total=float), _ORDER, [("total", "type-narrowed")], []),
    ("to nullable", _ORDER, struct(id=str, total=int | None), [], [("total", "type-widened")]),
    ("from nullable", struct(id=str, total=int | None), _ORDER, [("total", "type-narrowed")], []),
    ("to any", _ORDER, struct(id=str, total=Any), [], [("total", "type-widened")]),
    ("other type", _ORDER, struct(id=str, total=str), [("total", "type-changed")], [("total", "type-changed")]),
    ("higher minimum", struct(n=small(ge=0)), struct(n=small(ge=1)), [("n", "bound-tightened")], []),
    ("above 0 is from 1", struct(n=small(gt=0)), struct(n=small(ge=1)), [], []),
    ("lower maximum", struct(n=small(le=9)), struct(n=small(lt=9)), [("n", "bound-tightened")], []),
    ("no bound", struct(n=small(le=9)), struct(n=int), [], [("n", "bound-loosened")]),
    ("multiple", struct(n=small(multiple_of=10)), struct(n=small(multiple_of=5)), [], [("n", "bound-loosened")]),
    ("shorter", struct(s=text(max_length=9)), struct(s=text(max_length=8)), [("s", "bound-tightened")], []),
    ("longer", struct(s=text(min_length=2)), struct(s=text(min_length=3)), [("s", "bound-tightened")], []),
    ("pattern", struct(s=str), struct(s=text(pattern="^a")), [("s", "pattern-changed")], []),
    (
        "other pattern",
        struct(s=text(pattern="^a")),
        struct(s=text(pattern="^b")),
        [("s", "pattern-changed")],
        [("s", "pattern-changed")],
    ),
    (
        "fewer items",
        struct(s=Annotated[list[int], Meta(max_length=3)]),
        struct(s=Annotated[list[int], Meta(max_length=2)]),
        [("s", "bound-tightened")],
        [],
    ),
    ("item", struct(s=list[int]), struct(s=list[int | None]), [], [("s[]", "type-widened")]),
    ("dict value", struct(s=dict[str, int]), struct(s=dict[str, float]), [], [("s.*", "type-widened")]),
    ("tuple item", struct(s=tuple[int, str]), struct(s=tuple[int, int]), [("s[1]", "type-changed")], [("s[1]", "type-changed")]),
    ("tuple length", struct(s=tuple[int]), struct(s=tuple[int, int]), [("s", "bound-tightened")], [("s", "bound-loosened")]),
    ("add value", struct(s=Literal["a"]), struct(s=Literal["a", "b"]), [], [("s", "value-added")]),
    ("remove value", struct(s=Literal["a", "b"]), struct(s=Literal["a"]), [("s", "value-removed")], []),
    ("value to text", struct(s=Literal["a"]), struct(s=str), [], [("s", "type-widened")]),
    ("add member", union("Card", "Cash"), union("Card", "Cash", "Coin"), [], [("how.type", "value-added")]),
    ("remove member", union("Card", "Cash", "Coin"), union("Card", "Cash"), [("how.type", "value-removed")], []),
    ("only member", union("Card"), union("Card", "Cash"), [], [("how.type", "value-added")]),
    ("inner field", struct(a=list[_LINE]), struct(a=list[_TEXTUAL]), [("a[].total", "type-changed")], [("a[].total", "type-changed")]),
    ("time without zone", struct(t=Annotated[datetime, Meta(tz=True)]), struct(t=datetime), [], [("t", "pattern-changed")]),
    ("text of a time", struct(t=datetime), struct(t=str), [], [("t", "pattern-changed")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "backward", "forward"), [each[1:] for each in _CHANGES], ids=[c[0] for c in _CHANGES]
)
def test_each_change_breaks_the_sides_of_the_table(
    old: Any, new: Any, backward: list[tuple[str, str]], forward: list[tuple[str, str]]
) -> None:
    before, after = schema(old), schema(new)
    assert [(each.field, each.kind) for each in breaks(before, after)] == backward
    assert [(each.field, each.kind) for each in breaks(after, before, newer="writer")] == forward
    assert breaks(before, before) == breaks(after, after) == []


class Tree(msgspec.Struct):
    name: str
    children: list["Tree"] = []


class Named(msgspec.Struct):
    name: str
    label: str
    children: list["Named"] = []


def test_a_recursive_type_is_compared_to_its_end() -> None:
    assert breaks(schema(Tree), schema(Tree)) == []
    found = breaks(schema(Tree), schema(Named))
    assert found == [Break("label", "field-required", "absent", "required")], "the inner ones are the same pair"


def test_a_break_has_the_old_and_the_new_rule() -> None:
    forward = breaks(schema(struct(n=int | None)), schema(struct(n=small(ge=1))))
    assert [str(each) for each in forward] == [
        "n was integer or null, is integer (type-narrowed)",
        "n was any integer, is at least 1 (bound-tightened)",
    ]
    backward = breaks(schema(struct(s=Literal["a", "b"])), schema(struct(s=Literal["a"])), newer="writer")
    assert [str(each) for each in backward] == ['s was one of "a", is one of "a", "b" (value-added)']
    assert str(Break("", "type-changed", "integer", "string")) == "the value was integer, is string (type-changed)"


def test_a_bound_counts_one_thing_in_the_singular() -> None:
    sizes = breaks(schema(struct(s=text(max_length=2))), schema(struct(s=text(min_length=1, max_length=1))))
    assert [(each.old, each.new) for each in sizes] == [
        ("at most 2 characters", "at least 1 character and at most 1 character")
    ]


def test_a_strict_reader_refuses_fields_that_it_does_not_know() -> None:
    strict = msgspec.defstruct("Order", [("id", str)], forbid_unknown_fields=True)
    assert breaks(schema(_ORDER), schema(strict)) == [Break("total", "field-removed", "present", "refused")]
    assert breaks(schema(strict), schema(_ORDER), newer="reader") == [
        Break("total", "field-required", "absent", "required")
    ]
    keyed = with_key(schema(strict), strict, "id")
    assert Break("total", "field-removed", "present", "refused") in breaks(schema(_ORDER), keyed)


def test_a_key_that_is_added_narrows_its_field() -> None:
    plain, keyed = schema(_ORDER), with_key(schema(_ORDER), _ORDER, "id")
    assert breaks(keyed, keyed) == breaks(keyed, plain) == []
    assert [(each.field, each.kind) for each in breaks(plain, keyed)] == [("id", "bound-tightened")]


def test_schemas_of_other_tools_are_read() -> None:
    nullable = {"type": ["integer", "null"], "const": 1}
    assert breaks(nullable, {"oneOf": [{"type": "number", "minimum": 1}, {"type": "string"}]}) == []
    assert [each.kind for each in breaks({"type": "string"}, {"type": "string", "format": "email"})] == [
        "pattern-changed"
    ]
    assert [each.kind for each in breaks({}, {"not": {"type": "null"}})] == ["rule-changed"]
    assert breaks({"type": "array", "items": False}, {"type": "array", "maxItems": 0}) == []
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    assert breaks(loop, {"type": "null"}) == []
    with pytest.raises(CodecError, match="the reference #/\\$defs/b, which leads nowhere"):
        breaks({"$ref": "#/$defs/b"}, {})


@given(st.data(), kinds(), kinds())
@settings(max_examples=60, deadline=None)
def test_no_break_means_that_everything_is_read(data: st.DataObject, writer: Kind, reader: Kind) -> None:
    _read_if_permitted(data, writer, reader)


@given(st.data(), kinds(), st.integers(0, 2**16))
@settings(max_examples=60, deadline=None)
def test_a_small_change_is_permitted_only_if_everything_is_read(data: st.DataObject, kind: Kind, seed: int) -> None:
    changed = kind.changed(seed)
    _read_if_permitted(data, kind, changed)
    _read_if_permitted(data, changed, kind)
    assert breaks(schema(kind.type), schema(kind.type)) == []


def _read_if_permitted(data: st.DataObject, writer: Kind, reader: Kind) -> None:
    if breaks(schema(writer.type), schema(reader.type)):
        return
    value = data.draw(writer.values)
    body = Codec[Any](writer.type).encode(value)
    Codec[Any](reader.type).decode(body)


def test_most_reported_breaks_have_a_witness() -> None:
    shown: list[bool] = []

    @given(st.data(), kinds(), st.integers(0, 2**16))
    @settings(max_examples=80, deadline=None, derandomize=True, database=None)
    def collect(data: st.DataObject, kind: Kind, seed: int) -> None:
        changed = kind.changed(seed)
        if breaks(schema(kind.type), schema(changed.type)):
            values = data.draw(st.lists(kind.values, min_size=20, max_size=20))
            shown.append(any(_refuses(changed, Codec[Any](kind.type).encode(each)) for each in values))

    collect()
    assert len(shown) > 15
    assert sum(shown) / len(shown) > 0.8


def _refuses(kind: Kind, body: bytes) -> bool:
    try:
        Codec[Any](kind.type).decode(body)
    except CodecError:
        return True
    return False
