"""The shapes of a JSON Schema: each kind of value that it permits, with all rules for it in one place.

A schema may scatter the rules of one value over ``$ref``, ``allOf``, ``anyOf`` and the keywords beside them. `Document.shapes`
collects them. It looks one level deep: the fields of an object and the items of an array stay schemas, so that a recursive
type has an end.
"""

import re
from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Final

import msgspec

from runtime.errors import CodecError
from runtime.wire.json_pointers import resolve

Node = tuple[Any, ...]
"""Schemas that hold for one value together. An empty node permits every value."""

_KINDS: Final = ("null", "boolean", "number", "string", "array", "object")
_NOTES: Final = frozenset(
    "title description default examples deprecated readOnly writeOnly contentEncoding contentMediaType $comment $id $schema "
    "$anchor $defs definitions".split()
)
"""The keywords that permit and refuse nothing."""
_READ: Final = frozenset(
    "type enum const $ref allOf anyOf oneOf minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength "
    "pattern format minItems maxItems uniqueItems prefixItems items properties required additionalProperties propertyNames "
    "minProperties maxProperties".split()
)
_LENGTHS: Final = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
}


class Limit(msgspec.Struct, frozen=True):
    """The smallest or largest number that is permitted."""

    value: float
    exclusive: bool = False
    """Whether `value` itself is refused."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of values, and the rules for them."""

    kind: str
    """``null``, ``boolean``, ``integer``, ``number``, ``string``, ``array`` or ``object``."""
    values: tuple[Any, ...] | None = None
    """The only values; None if the other rules decide alone."""
    low: Limit | None = None
    high: Limit | None = None
    steps: frozenset[float] = frozenset()
    """The numbers of which each value is a multiple."""
    shortest: int = 0
    """The smallest number of characters, items or fields."""
    longest: int | None = None
    """The largest number of them; None for no limit."""
    patterns: frozenset[str] = frozenset()
    formats: frozenset[str] = frozenset()
    unique: bool = False
    """Whether all items differ."""
    prefix: tuple[Node, ...] = ()
    """The first items."""
    rest: Node | None = ()
    """The items behind `prefix`. None: a writer has none, and a reader ignores them."""
    properties: Mapping[str, Node] = {}
    required: frozenset[str] = frozenset()
    tag: str = ""
    """The field that names the type of a struct. A writer always writes it, though no schema of a single type requires it."""
    others: Node | None = ()
    """The fields that are not in `properties`. None: a writer has none, and a reader ignores them."""
    names: Node = ()
    """The names of fields."""
    rules: frozenset[str] = frozenset()
    """Keywords that this module does not read, with their values as text."""

    def item(self, index: int) -> Node | None:
        """Return the node of an item; None if a writer has no such item, and a reader ignores it."""
        return self.prefix[index] if index < len(self.prefix) else self.rest


class Document:
    """A schema that is complete in itself.

    Args:
        schema: The schema.
    """

    def __init__(self, schema: Any) -> None:
        self.root: Node = (schema,)
        self._schema = schema
        self._found: dict[tuple[int, ...], list[Shape]] = {}

    def shapes(self, node: Node) -> list[Shape]:
        """Return the shapes of the values that a node permits: none if it permits no value.

        Raises:
            CodecError: A ``$ref`` leads nowhere.
        """
        key = tuple(map(id, node))
        if key not in self._found:
            found = (self._shapes(each, ()) for each in node)
            self._found[key] = reduce(_both, found) if node else _anything()
        return self._found[key]

    def resolved(self, node: Node) -> Node:
        """Return the schemas to which the references of a node lead, so that each type is one node. Raises `CodecError`."""
        return tuple(map(self._resolved, node))

    def _resolved(self, schema: Any) -> Any:
        seen: list[Any] = []
        while isinstance(schema, dict) and "$ref" in schema and not (schema.keys() - _NOTES - {"$ref"}):
            if any(each is schema for each in seen):
                break
            seen.append(schema)
            schema = self._target(schema["$ref"])
        return schema

    def _shapes(self, schema: Any, within: tuple[str, ...]) -> list[Shape]:
        if not isinstance(schema, dict):
            return [] if schema is False else _anything()
        found = _own(schema)
        if isinstance(ref := schema.get("$ref"), str):
            if ref in within:
                return []  # A type that is defined as itself has no value.
            found = _both(found, self._shapes(self._target(ref), (*within, ref)))
        for each in schema.get("allOf", ()):
            found = _both(found, self._shapes(each, within))
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                found = _both([shape for each in schema[keyword] for shape in self._shapes(each, within)], found)
        return found

    def _target(self, ref: str) -> Any:
        try:
            return resolve(self._schema, ref)
        except LookupError:
            raise CodecError(f"the schema has the reference {ref}, which leads nowhere") from None


def accepts(shape: Shape, value: Any) -> bool:
    """Return whether a shape permits a text, number, boolean or null."""
    kind = kind_of(value)
    if kind != shape.kind and (kind, shape.kind) != ("integer", "number"):
        return False
    if shape.values is not None and not any(same(value, each) for each in shape.values):
        return False
    if kind == "string":
        long = len(value) < shape.shortest or (shape.longest is not None and len(value) > shape.longest)
        return not long and all(_matches(each, value) for each in shape.patterns)
    if kind in ("integer", "number"):
        return not above(shape.low, value) and not below(shape.high, value) and not any(value % n for n in shape.steps)
    return True


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False  # Another language has such expressions.


def above(limit: Limit | None, value: float) -> bool:
    """Return whether a smallest number refuses a value."""
    return limit is not None and (value < limit.value or (limit.exclusive and value == limit.value))


def below(limit: Limit | None, value: float) -> bool:
    """Return whether a largest number refuses a value."""
    return limit is not None and (value > limit.value or (limit.exclusive and value == limit.value))


def same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal. In Python, True is also 1."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list() | tuple():
            return "array"
        case _:
            return "object"


def _anything() -> list[Shape]:
    return [Shape(kind=kind) for kind in _KINDS]


def _own(schema: Mapping[str, Any]) -> list[Shape]:
    """Return the shapes by the keywords of a schema itself."""
    types = schema.get("type", _KINDS)
    types = (types,) if isinstance(types, str) else tuple(types)
    rules = frozenset(
        f"{keyword} {msgspec.json.encode(value, order='deterministic').decode()}"
        for keyword, value in schema.items()
        if keyword not in _READ and keyword not in _NOTES and not keyword.startswith("x-")
    )
    shapes = [_shape(kind, schema, rules) for kind in types]
    values: Iterable[Any] | None = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is None:
        return shapes
    grouped: dict[str, list[Any]] = {}
    for value in values:
        grouped.setdefault(kind_of(value), []).append(value)
    return _both(shapes, [Shape(kind=kind, values=tuple(each)) for kind, each in grouped.items()])


def _shape(kind: str, schema: Mapping[str, Any], rules: frozenset[str]) -> Shape:
    least, most = _LENGTHS.get(kind, ("", ""))
    given: dict[str, Any] = {"shortest": schema.get(least, 0), "longest": schema.get(most)}
    if kind in ("integer", "number"):
        given |= {"low": _limit(schema, "inimum", max), "high": _limit(schema, "aximum", min)}
        given["steps"] = frozenset([schema["multipleOf"]] if "multipleOf" in schema else [])
    elif kind == "string":
        given["patterns"] = frozenset([schema["pattern"]] if "pattern" in schema else [])
        given["formats"] = frozenset([schema["format"]] if "format" in schema else [])
    elif kind == "array":
        given |= _array(schema)
    elif kind == "object":
        given |= _object(schema)
    return Shape(kind=kind, rules=rules, **given)


def _limit(schema: Mapping[str, Any], name: str, tighter: Any) -> Limit | None:
    plain, exclusive = schema.get(f"m{name}"), schema.get(f"exclusiveM{name}")
    if plain is None or exclusive is None:
        return Limit(exclusive, True) if exclusive is not None else Limit(plain) if plain is not None else None
    return Limit(exclusive, True) if tighter(plain, exclusive) == exclusive else Limit(plain)


def _array(schema: Mapping[str, Any]) -> dict[str, Any]:
    prefix = tuple((each,) for each in schema.get("prefixItems", ()))
    rest: Node | None = (schema["items"],) if "items" in schema else None if prefix else ()
    found: dict[str, Any] = {"prefix": prefix, "rest": rest, "unique": bool(schema.get("uniqueItems"))}
    if schema.get("items") is False:
        found["longest"] = min(len(prefix), schema.get("maxItems", len(prefix)))
    return found


def _object(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties: Mapping[str, Any] = schema.get("properties", {})
    others: Node | None = None if "properties" in schema else ()
    if "additionalProperties" in schema:
        others = (schema["additionalProperties"],)
    required = frozenset(schema.get("required", ()))
    # msgspec puts the tag first, and gives it no default. `runtime.wire.schemas` does not require it.
    first = next(iter(properties), "")
    single = first not in required and isinstance(each := properties.get(first), dict) and set(each) == {"enum"}
    return {
        "properties": {name: (each,) for name, each in properties.items()},
        "required": required,
        "tag": first if single and len(properties[first]["enum"]) == 1 else "",
        "others": others,
        "names": (schema["propertyNames"],) if "propertyNames" in schema else (),
    }


def _both(ones: list[Shape], others: list[Shape]) -> list[Shape]:
    """Return the shapes of the values that both lists permit."""
    return [both for one in ones for other in others if (both := _meet(one, other)) is not None]


def _meet(one: Shape, other: Shape) -> Shape | None:
    """Return the shape of the values that two shapes permit; None if their kinds exclude each other, or no value is left."""
    kinds = {one.kind, other.kind}
    if len(kinds) > 1 and kinds != {"integer", "number"}:
        return None
    values = one.values if one.values is not None else other.values
    if values is not None:
        values = tuple(each for each in values if accepts(one, each) and accepts(other, each))
        if not values:
            return None
        if "null" in kinds or ("boolean" in kinds and len(set(values)) == 2):
            values = None  # these are all values of the kind
    limits = [each for each in (one.longest, other.longest) if each is not None]
    size = range(max(len(one.prefix), len(other.prefix)))
    return Shape(
        kind="integer" if "integer" in kinds else one.kind,
        values=values,
        low=_tighter(one.low, other.low, 1),
        high=_tighter(one.high, other.high, -1),
        steps=one.steps | other.steps,
        shortest=max(one.shortest, other.shortest),
        longest=min(limits, default=None),
        patterns=one.patterns | other.patterns,
        formats=one.formats | other.formats,
        unique=one.unique or other.unique,
        prefix=tuple((*(one.item(index) or ()), *(other.item(index) or ())) for index in size),
        rest=_closed(one.rest, other.rest),
        properties={
            name: (*one.properties.get(name, ()), *other.properties.get(name, ()))
            for name in {**one.properties, **other.properties}
        },
        required=one.required | other.required,
        tag=one.tag or other.tag,
        others=_closed(one.others, other.others),
        names=(*one.names, *other.names),
        rules=one.rules | other.rules,
    )


def _closed(one: Node | None, other: Node | None) -> Node | None:
    """Return the node of the fields or items that two shapes do not list. A rule for them outweighs that nothing is known."""
    if one is None or other is None:
        return one or other or None
    return (*one, *other)


def _tighter(one: Limit | None, other: Limit | None, sign: int) -> Limit | None:
    limits = [each for each in (one, other) if each is not None]
    return max(limits, key=lambda each: (sign * each.value, each.exclusive), default=None)
