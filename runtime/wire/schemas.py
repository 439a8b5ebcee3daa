"""JSON Schemas of types: exactly what the codec decodes, in the standard vocabulary of 2020-12.

The schemas of msgspec are the base. Its keyword ``discriminator`` and its formats ``decimal`` and ``partial-time`` are not
part of the vocabulary, and validators that refuse unknown keywords refuse the whole schema. Texts with a form, such as dates
and base64, have a ``pattern``, because a ``format`` alone is not checked by most validators.
"""

from typing import Any, get_args, get_origin

import msgspec
from msgspec import inspect
from msgspec._json_schema import _build_name_map, _collect_component_types, _SchemaGenerator

from runtime.errors import DeclarationError
from runtime.wire.codec import name_of, undefined_type
from runtime.wire.regex import portable
from runtime.wire.tokens import KEY_TIERS

Schema = dict[str, Any]
"""A JSON Schema (2020-12)."""

_END = r"$(?!\n)"
_LEAP = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_DATE = (
    "(?!0000)(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)"
    f"|02-(?:0[1-9]|1[0-9]|2[0-8]))|{_LEAP}-02-29)"
)
_TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?"
_ZONE = "(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):?[0-5][0-9])"
_BASE64 = "(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"
_DURATION = (
    f"[+-]?[Pp](?=[0-9Tt])(?:{_NUMBER}[Dd])?(?:[Tt](?=[0-9])(?:{_NUMBER}[Hh])?(?:{_NUMBER}[Mm])?(?:{_NUMBER}[Ss])?)?"
)
_UUID = "[0-9A-Fa-f]{8}(?:(?:-[0-9A-Fa-f]{4}){3}-|[0-9A-Fa-f]{12})[0-9A-Fa-f]{12}"
_DECIMAL = (
    r"[+-]?(?:(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
    "|[Ii][Nn][Ff](?:[Ii][Nn][Ii][Tt][Yy])?|[Ss]?[Nn][Aa][Nn][0-9]*)"
)


def schema(kind: Any) -> Schema:
    """Return the JSON Schema of a type, complete in itself.

    Raises:
        DeclarationError: A field has a type that is not defined.
        TypeError: The type has no JSON Schema.
    """
    try:
        described = inspect.type_info(kind)
    except NameError as error:
        raise undefined_type(name_of(kind), error) from None
    components = _collect_component_types([described])
    names = _build_name_map(components)
    generator = _Generator(names)
    found = generator.to_schema(described)
    if components:
        found["$defs"] = {names[cls]: generator.to_schema(each, False) for cls, each in components.items()}
    return found


def check_schema(kind: Any, label: str | None = None) -> None:
    """Check that a type has a JSON Schema. Types without one cannot be decoded either.

    Args:
        kind: The type.
        label: Its name in the error text; by default its own.

    Raises:
        DeclarationError: The type, or the type of a field in it, has none. The text names the field.
    """
    name = label or name_of(kind)
    try:
        schema(kind if kind is not None else type(None))
    except (TypeError, RecursionError, ValueError) as error:
        path = _field_without_schema(kind, set())
        place = f"{name}: field {path}" if path else name
        raise DeclarationError(f"{place} has a type without a JSON Schema: {error}") from None


def _field_without_schema(kind: Any, seen: set[int]) -> str:
    """Return the path of the first field whose type has no JSON Schema: ``items.price``. Empty if it is the type itself."""
    if id(kind) in seen:
        return ""
    seen.add(id(kind))
    if not (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return next((path for each in get_args(kind) if (path := _field_without_schema(each, seen))), "")
    for field in msgspec.structs.fields(kind):
        try:
            schema(field.type)
        except (TypeError, RecursionError, ValueError):
            inner = _field_without_schema(field.type, seen)
            return f"{field.encode_name}.{inner}" if inner else field.encode_name
    return ""


class _Generator(_SchemaGenerator):
    def to_schema(self, t: Any, check_ref: bool = True) -> Schema:
        found = super().to_schema(t, check_ref)
        while isinstance(t, inspect.Metadata):
            t = t.type
        if "$ref" not in found:
            self._mend(t, found)
        return found

    def _mend(self, kind: Any, found: Schema) -> None:
        if isinstance(kind, inspect.StrType):
            if kind.pattern is not None:
                found["pattern"] = portable(kind.pattern)
        elif isinstance(kind, inspect.SetType | inspect.FrozenSetType):
            if kind.min_length is None and kind.max_length is None:
                found.pop("uniqueItems", None)  # a repeated item is taken once
        elif isinstance(kind, inspect.DictType):
            self._name_properties(kind.key_type, found)
        elif isinstance(kind, inspect.UnionType):
            for node in (found, *found.get("anyOf", ())):
                if "discriminator" in node:
                    node["required"] = [node.pop("discriminator")["propertyName"]]
        elif isinstance(kind, inspect.StructType):
            if kind.tag_field is not None and not kind.array_like:
                found["required"].remove(kind.tag_field)  # only a union needs the tag, and requires it
        elif isinstance(kind, inspect.DecimalType):
            found.pop("type")
            found.pop("format", None)
            found["anyOf"] = [{"type": "string", "pattern": f"^{_DECIMAL}{_END}"}, {"type": "number"}]
        elif form := _form(kind):
            found["pattern"] = f"^{form}{_END}"
            if found.get("format") == "partial-time":
                del found["format"]

    def _name_properties(self, key: Any, found: Schema) -> None:
        while isinstance(key, inspect.Metadata):
            key = key.type
        if isinstance(key, inspect.StrType | inspect.AnyType):
            return
        values = [each.value for each in key.cls] if isinstance(key, inspect.EnumType) else getattr(key, "values", None)
        found["propertyNames"] = {"enum": [str(value) for value in values]} if values else self.to_schema(key)


def _form(kind: Any) -> str:
    """Return the regular expression of a text with a form; empty for other types."""
    if isinstance(kind, inspect.DateTimeType | inspect.TimeType):
        zone = _ZONE if kind.tz is True else "" if kind.tz is False else f"{_ZONE}?"
        return f"{_DATE}[Tt ]{_TIME}{zone}" if isinstance(kind, inspect.DateTimeType) else f"{_TIME}{zone}"
    return next((form for each, form in _FORMS.items() if isinstance(kind, each)), "")


_FORMS: dict[type, str] = {
    inspect.DateType: _DATE,
    inspect.TimeDeltaType: _DURATION,
    inspect.UUIDType: _UUID,
    inspect.BytesType: _BASE64,
    inspect.ByteArrayType: _BASE64,
    inspect.MemoryViewType: _BASE64,
}

WIDER_PATTERNS: dict[str, set[str]] = {
    f"^{start}{_ZONE}?{_END}": {f"^{start}{_ZONE}{_END}", f"^{start}{_END}"}
    for start in (f"{_DATE}[Tt ]{_TIME}", _TIME)
}
"""The pattern of times with or without a zone, and the patterns of which it matches every text.

`runtime.contracts` compares patterns as texts. If a pattern of this module becomes wider, the former one has its place here:
otherwise each actor with such a field would have broken its contract."""

_KEY: Schema = {
    "anyOf": [
        {"type": "string", "maxLength": length, **({"pattern": f"^{each}*{_END}"} if each is not None else {})}
        for length, each in KEY_TIERS
    ]
}
"""The rule for a text that is a key (see `KEY_TIERS`)."""


def with_key(described: Schema, root: Any, path: str) -> Schema:
    """Return the schema of a message type with the rule for its key added.

    Args:
        described: The schema of the type.
        root: The type.
        path: The path of the field that has the key.
    """
    rule = _key_rule(root, path.split("."))
    return {**described, **rule} if rule is not None else described


def _key_rule(kind: Any, names: list[str]) -> Schema | None:
    struct = struct_in(kind)
    field = next((each for each in msgspec.structs.fields(struct) if each.name == names[0]), None) if struct else None
    if struct is None or field is None or (get_origin(struct) or struct).__struct_config__.array_like:
        return None
    inner = _rule_of(field.type) if len(names) == 1 else _key_rule(field.type, names[1:])
    if inner is None:
        return None
    value: Any = field.default
    if field.default_factory is not msgspec.NODEFAULT:
        value = field.default_factory()
    for name in names[1:]:
        value = getattr(value, name, None)
    has_default = isinstance(value, str | int)
    rule: Schema = {"type": "object", "properties": {field.encode_name: inner}}
    return rule if has_default else {**rule, "required": [field.encode_name]}


def _rule_of(kind: Any) -> Schema:
    found = inspect.type_info(kind)
    while isinstance(found, inspect.Metadata):
        found = found.type
    if isinstance(found, inspect.IntType):
        return {}
    if isinstance(found, inspect.StrType):
        return _KEY
    return {"anyOf": [*_KEY["anyOf"], {"type": "integer"}]}


def struct_in(kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a type is, or the only one in its union with None or other types; None if there is none."""
    found = inspect.type_info(kind)
    while isinstance(found, inspect.Metadata):
        found = found.type
    kinds = found.types if isinstance(found, inspect.UnionType) else (found,)
    structs = [each.cls for each in kinds if isinstance(each, inspect.StructType)]
    return structs[0] if len(structs) == 1 else None
