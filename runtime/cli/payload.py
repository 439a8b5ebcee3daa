"""The body of a message from the command line: ``key=value`` pairs, typed by the schema of the message, or JSON.

- ``key=value``: a string if the schema allows one; otherwise JSON, or a string if the value is not JSON. ``key="3"`` is
  always a string.
- ``key:=json``: JSON.
- ``a.b=1``: a nested field.
- A single argument that begins with ``{`` or ``[`` is the whole body. ``-`` reads the body from stdin.
"""

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

import msgspec

from runtime.cli.failures import usage

Schema = Mapping[str, Any]

_PAIR = re.compile(r"([^=:]+)(:?=)(.*)", re.DOTALL)


def is_pairs(arguments: Sequence[str]) -> bool:
    """Return whether the arguments are pairs, whose types depend on the schema."""
    return bool(arguments) and not _is_body(arguments)


def body(arguments: Sequence[str], schema: Schema | None) -> bytes:
    """Return the JSON body for the arguments, ``{}`` if there are none. Ends the command if they are invalid."""
    if _is_body(arguments):
        text = sys.stdin.buffer.read() if arguments[0] == "-" else arguments[0].encode()
        try:
            msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            usage(f"the body is not JSON: {error}")
        return text
    values: dict[str, Any] = {}
    for argument in arguments:
        match = _PAIR.fullmatch(argument)
        if match is None:
            usage(f"{argument!r}: write key=value, key:=json, or one JSON body")
        key, sign, text = match.groups()
        path = key.split(".")
        field = _field(schema, path)
        _set(values, path, _json(key, text) if sign == ":=" else _value(text, field, schema))
    return msgspec.json.encode(values)


def _is_body(arguments: Sequence[str]) -> bool:
    return len(arguments) == 1 and (arguments[0] == "-" or arguments[0].lstrip()[:1] in ("{", "["))


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, last = path
    for name in above:
        below = values.setdefault(name, {})
        if not isinstance(below, dict):
            usage(f"{'.'.join(path)}: {name} has a value already and is not an object")
        values = cast("dict[str, Any]", below)
    values[last] = value


def _json(key: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        usage(f"{key}:={text}: not JSON: {error}")


def _value(text: str, field: Schema | None, schema: Schema | None) -> Any:
    kinds = {str(kind) for each in _choices(field, schema) for kind in _kinds(each)}
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    if "string" in kinds and not quoted and not (text == "null" and "null" in kinds):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _field(schema: Schema | None, path: Sequence[str]) -> Schema | None:
    """Return the schema of the field at `path`, or None if it is unknown. Ends the command if there is no such field."""
    found: Schema | None = schema
    for depth, name in enumerate(path):
        objects = [each for each in _choices(found, schema) if "properties" in each]
        if not objects:
            return None
        properties: dict[str, Any] = {}
        for each in objects:
            properties |= each["properties"]
        if name not in properties:
            matches = get_close_matches(name, properties, 1) or sorted(properties)
            hint = f"did you mean {matches[0]!r}?" if len(matches) == 1 else f"the fields are {', '.join(matches)}"
            usage(f"{'.'.join(path[: depth + 1])}: no such field: {hint}")
        found = properties[name]
    return found


def _choices(schema: Schema | None, root: Schema | None) -> Iterator[Schema]:
    """Yield the alternatives of a schema, with references resolved in `root`."""
    if schema is None:
        return
    if isinstance(reference := schema.get("$ref"), str):
        definitions: Mapping[str, Any] = (root or {}).get("$defs", {})
        yield from _choices(definitions.get(reference.rpartition("/")[2]), root)
    elif "anyOf" in schema:
        for each in schema["anyOf"]:
            yield from _choices(each, root)
    else:
        yield schema


def _kinds(schema: Schema) -> list[Any]:
    if "enum" in schema:
        return ["string" for value in schema["enum"] if isinstance(value, str)]
    kind = schema.get("type", [])
    return cast("list[Any]", kind) if isinstance(kind, list) else [kind]
