"""Schemas as HTML: the type of a value in one line, with links to named types, and the fields of an object as a table.

All texts of a schema are escaped here. References are those of `Components` with ``#type-`` before the name, so they are links.
"""

import re
from html import escape
from typing import Any, Final, cast

import msgspec

from runtime.wire.schemas import Schema

AT: Final = "#type-"
"""The beginning of a reference to a type, and of its anchor on the page."""

_RANGES: Final = (
    ("minLength", "maxLength", "character", "characters"),
    ("minItems", "maxItems", "item", "items"),
    ("minProperties", "maxProperties", "entry", "entries"),
)
"""The constraints that count something, with its name."""

_BOUNDS: Final = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "multipleOf": "multiple of {}",
    "format": "format {}",
}
"""The texts of constraints with one value."""

_CODE = re.compile("`([^`]+)`")

_END: Final = r"$(?!\n)"
"""The end of a text in the patterns of this package, which readers know as ``$``."""


def text_html(text: str) -> str:
    """Return a text, such as the first line of a docstring, with its names in backticks as code."""
    return _CODE.sub(r"<code>\1</code>", escape(text))


def type_html(schema: Any) -> str:
    """Return the type of a value in one line."""
    if not isinstance(schema, dict) or not schema:
        return "nothing" if schema is False else "any"
    found = cast("Schema", schema)
    if isinstance(ref := found.get("$ref"), str):
        return f'<a href="{escape(ref)}">{escape(ref.removeprefix(AT))}</a>' if ref.startswith(AT) else escape(ref)
    for word, between in (("anyOf", " | "), ("oneOf", " | "), ("allOf", " &amp; ")):
        if options := _list(found.get(word)):
            return between.join(dict.fromkeys(_option(each) for each in options))
    if "const" in found or "enum" in found:
        return " | ".join(map(_value, _list(found.get("enum")) or [found.get("const")]))
    kinds = found.get("type")
    if isinstance(kinds, list):
        return " | ".join(escape(str(each)) for each in cast("list[Any]", kinds))
    return _kind(str(kinds or ("object" if "properties" in found else "any")), found)


def constraints_html(schema: Any) -> str:
    """Return the constraints of a value, with commas between them; empty if there are none."""
    found = _object(schema)
    texts = [escape(text) for each in _RANGES if (text := _range(found.get(each[0]), found.get(each[1]), *each[2:]))]
    texts += [escape(form.format(found[word])) for word, form in _BOUNDS.items() if word in found]
    if isinstance(pattern := found.get("pattern"), str):
        texts.append(f"matches <code>{escape(pattern.replace(_END, '$'))}</code>")
    if found.get("uniqueItems"):
        texts.append("no item twice")
    if "propertyNames" in found:
        texts.append(f"names: {type_html(found['propertyNames'])}")
    if isinstance(items := found.get("items"), dict) and (of_items := constraints_html(items)):
        texts.append(f"each {of_items}")
    return ", ".join(texts)


def fields_html(schema: Schema, key: str = "") -> str:
    """Return the fields of an object as a table, or another schema as one line.

    Args:
        schema: The schema.
        key: The path of the field that has the key, as on the wire (``new.orderId``); empty if there is none.
    """
    properties = _object(schema.get("properties"))
    if not properties:
        line = (
            "no fields"
            if schema.get("type") == "object" and "additionalProperties" not in schema
            else type_html(schema)
        )
        bounds = constraints_html(schema)
        return f'<p class="type">{line}{f" ({bounds})" if bounds else ""}</p>'
    required = _list(schema.get("required"))
    rows = [_row(name, each, name in required, key) for name, each in properties.items()]
    head = "<tr><th>Field<th>Type<th>Required<th>Meaning and limits</tr>"
    return f'<div class="wide"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def _row(name: str, schema: Any, required: bool, key: str) -> str:
    found = _object(schema)
    parts = [constraints_html(schema)]
    if "default" in found and not required:
        parts.append(f"default {_value(found['default'])}")
    meaning = text_html(str(found.get("description", "")))
    rules = ", ".join(each for each in parts if each)
    outer, _, inner = key.partition(".")
    mark = f' <span class="mark">key{f": {escape(inner)}" if inner else ""}</span>' if name == outer else ""
    return (
        f"<tr><td><code>{escape(name)}</code>{mark}<td>{type_html(schema)}<td>{'yes' if required else 'no'}"
        f"<td>{meaning}{'<br>' if meaning and rules else ''}{f'<small>{rules}</small>' if rules else ''}</tr>"
    )


def _range(least: Any, most: Any, one: str, many: str) -> str:
    """Return the text of a smallest and largest number, each None if there is none."""
    if least in (None, 0):
        return "" if most is None else f"at most {most} {one if most == 1 else many}"
    if most is None:
        return f"at least {least} {one if least == 1 else many}"
    return f"{least} to {most} {many}" if least != most else f"{least} {one if least == 1 else many}"


def _option(schema: Any) -> str:
    bounds = constraints_html(schema)
    return f"{type_html(schema)} ({bounds})" if bounds else type_html(schema)


def _kind(kind: str, schema: Schema) -> str:
    if kind == "array":
        if several := _list(schema.get("prefixItems")):
            return f"[{', '.join(map(type_html, several))}]"
        return f"list of {type_html(schema['items'])}" if schema.get("items") else "list"
    if kind != "object":
        return escape(kind)
    if properties := _object(schema.get("properties")):
        required = _list(schema.get("required"))
        fields = (
            f"{escape(name)}{'' if name in required else '?'}: {type_html(each)}" for name, each in properties.items()
        )
        return f"{{{', '.join(fields)}}}"
    return f"map of {type_html(values)}" if (values := schema.get("additionalProperties")) else "object"


def _value(value: Any) -> str:
    return f"<code>{escape(msgspec.json.encode(value).decode())}</code>"


def _object(value: Any) -> Schema:
    return cast("Schema", value) if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
