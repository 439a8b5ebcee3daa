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

import click
import msgspec

from runtime.cli.failures import usage
from runtime.wire.codec import UNDECODABLE
from runtime.wire.printable import lone_surrogate

Schema = Mapping[str, Any]

_PAIR = re.compile(r"([^=:]+)(:?=)(.*)", re.DOTALL)


def is_pairs(arguments: Sequence[str]) -> bool:
    """Return whether the arguments are pairs, whose types depend on the schema."""
    return bool(arguments) and not _is_body(arguments)


def body(arguments: Sequence[str], schema: Schema | None) -> bytes:
    """Return the JSON body for the arguments, ``{}`` if there are none. Ends the command if they are invalid."""
    if _is_body(arguments):
        text = sys.stdin.buffer.read() if arguments[0] == "-" else arguments[0]
        json_value(text, "the body is not JSON")
        return text.encode() if isinstance(text, str) else text
    values: dict[str, Any] = {}
    for argument in arguments:
        match = _PAIR.fullmatch(argument)
        if match is None:
            usage(f"{argument!r}: write key=value, key:=json, or one JSON body")
        key, sign, text = match.groups()
        if lone_surrogate(argument):
            usage(f"{key}: it is not UTF-8")
        path = key.split(".")
        field = _field(schema, path)
        _set(
            values,
            path,
            json_value(text, f"{key}:={text[:80]}: not JSON") if sign == ":=" else _value(text, field, schema),
        )
    return msgspec.json.encode(values)


def json_value(text: str | bytes, place: str) -> Any:
    """Return the value of a JSON text. Another text ends the command; `place` begins the error."""
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        usage(f"{place}: it has too many levels")
    except UnicodeError:
        usage(f"{place}: it is not UTF-8")
    except msgspec.DecodeError as error:
        usage(f"{place}: {error}")


def completions(schema: Schema, given: Sequence[str], text: str) -> list[str]:
    """Return what may follow on a command line: fields that are not given, as ``key=``, or values of an enum.

    Args:
        schema: The schema of the message.
        given: The arguments before. Bash splits them: ``key``, ``=``, ``value``; and leaves an ``=`` at the end out.
        text: The argument that is being typed.
    """
    whole = _joined(given)
    key, sign, value = text.partition("=")
    if whole and _PAIR.fullmatch(whole[-1]) is None and not _is_body(whole):
        return _values(schema, whole[-1], text)  # Bash, behind the sign
    if whole and given[-1] == "=":
        return _values(schema, whole[-1].removesuffix("="), text)
    if sign:
        return [f"{key}={each}" for each in _values(schema, key, value)]
    used = {match[1] for each in whole if (match := _PAIR.fullmatch(each)) is not None}
    *above, last = text.split(".")
    objects = [each for each in _choices(_at(schema, above), schema) if "properties" in each]
    names = {name: field for each in objects for name, field in each["properties"].items() if name.startswith(last)}
    paths = {".".join([*above, name]): field for name, field in names.items()}
    return [f"{path}{_sign(field, schema)}" for path, field in paths.items() if path not in used]


def _joined(given: Sequence[str]) -> list[str]:
    """Return the arguments as they were typed, which Bash splits at each sign."""
    whole: list[str] = []
    for place, each in enumerate(given):
        if whole and (each in ("=", ":", ":=") or given[place - 1] in ("=", ":=")):
            whole[-1] += each
        else:
            whole.append(each)
    return whole


def _values(schema: Schema, key: str, text: str) -> list[str]:
    """Return the values of a field that begin with a text, if it has only some values."""
    values: list[Any] = []
    for each in _choices(_at(schema, key.split(".")), schema):
        values += each.get("enum", [])
        values += [True, False] if each.get("type") == "boolean" else []
    texts = [each if isinstance(each, str) else msgspec.json.encode(each).decode() for each in values]
    return [each for each in texts if each.startswith(text)]


def _at(schema: Schema, path: Sequence[str]) -> Schema | None:
    """Return the schema of the field at `path`, or None if there is none."""
    try:
        return _field(schema, path)
    except click.UsageError:
        return None


def _sign(field: Schema, schema: Schema) -> str:
    """Return what follows the name of a field: the fields of an object, JSON for a list, or any other value."""
    kinds = [each.get("type") for each in _choices(field, schema)]
    if any("properties" in each for each in _choices(field, schema)):
        return "."
    return ":=" if kinds and all(kind in ("array", "object", "null") for kind in kinds) else "="


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


def _value(text: str, field: Schema | None, schema: Schema | None) -> Any:
    kinds = {str(kind) for each in _choices(field, schema) for kind in _kinds(each)}
    quoted = len(text) > 1 and text[0] == text[-1] == '"'
    if "string" in kinds and not quoted and not (text == "null" and "null" in kinds):
        return text
    try:
        return msgspec.json.decode(text)
    except UNDECODABLE:
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
