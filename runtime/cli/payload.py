"""The body of a message from the command line: ``key=value`` pairs typed by the message's schema, or JSON.

``key=value``: text where the schema wants text, else JSON where it is some, else text; ``key="3"`` is text in any case.
``key:=json``: JSON. ``a.b=1`` is nested. A single argument that begins with ``{``, or ``-`` for stdin, is the whole body.
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
    """Whether the arguments are pairs, for which the schema is worth asking for."""
    return bool(arguments) and not _is_body(arguments)


def body(arguments: Sequence[str], schema: Schema | None) -> bytes:
    """Return the JSON that the arguments stand for; no arguments are ``{}``. Ends the command where they are wrong."""
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
        wanted = _field(schema, path)
        _set(values, path, _json(key, text) if sign == ":=" else _value(text, wanted, schema))
    return msgspec.json.encode(values)


def _is_body(arguments: Sequence[str]) -> bool:
    return len(arguments) == 1 and (arguments[0] == "-" or arguments[0].lstrip()[:1] in ("{", "["))


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, last = path
    for name in above:
        below = values.setdefault(name, {})
        if not isinstance(below, dict):
            usage(f"{'.'.join(path)}: {name} has a value already, and no fields")
        values = cast("dict[str, Any]", below)
    values[last] = value


def _json(key: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        usage(f"{key}:={text}: not JSON: {error}")


def _value(text: str, wanted: Schema | None, schema: Schema | None) -> Any:
    kinds = {str(kind) for each in _choices(wanted, schema) for kind in _kinds(each)}
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    if "string" in kinds and not quoted and not (text == "null" and "null" in kinds):
        return text
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def _field(schema: Schema | None, path: Sequence[str]) -> Schema | None:
    """Return the schema of the field at `path`, None where nothing is known. Ends the command where there is no such."""
    where: Schema | None = schema
    for depth, name in enumerate(path):
        objects = [each for each in _choices(where, schema) if "properties" in each]
        if not objects:
            return None
        properties: dict[str, Any] = {}
        for each in objects:
            properties |= each["properties"]
        if name not in properties:
            near = get_close_matches(name, properties, 1) or sorted(properties)
            said = f"did you mean {near[0]!r}?" if len(near) == 1 else f"there are {', '.join(near)}"
            usage(f"{'.'.join(path[: depth + 1])}: there is no such field: {said}")
        where = properties[name]
    return where


def _choices(where: Schema | None, root: Schema | None) -> Iterator[Schema]:
    """The alternatives of a schema, references followed."""
    if where is None:
        return
    if isinstance(reference := where.get("$ref"), str):
        definitions: Mapping[str, Any] = (root or {}).get("$defs", {})
        yield from _choices(definitions.get(reference.rpartition("/")[2]), root)
    elif "anyOf" in where:
        for each in where["anyOf"]:
            yield from _choices(each, root)
    else:
        yield where


def _kinds(schema: Schema) -> list[Any]:
    if "enum" in schema:
        return ["string" for value in schema["enum"] if isinstance(value, str)]
    kind = schema.get("type", [])
    return cast("list[Any]", kind) if isinstance(kind, list) else [kind]
