"""The description of a service: its operations, events and reactions, with JSON Schemas in a short form."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from runtime.actor.metadata import Reaction
from runtime.admin.discovery import Endpoint, Service
from runtime.admin.ownership import Ownership
from runtime.cli.output import style
from runtime.cli.owners import ownership_data, ownership_lines
from runtime.wire.printable import printable

Schema = Mapping[str, Any]

_DEFS = "#/$defs/"

_WIDTH = 90
"""Characters of a type on one line; a longer one has a line per field."""


def as_data(instances: Sequence[Service], ownership: Ownership | None) -> dict[str, Any]:
    """Return the description of the instances of one service, for JSON."""
    service = instances[0]
    return {
        "name": service.name,
        "namespace": service.metadata.namespace,
        "version": service.version,
        "description": service.description,
        "instances": [each.id for each in instances],
        "partitions": ownership_data(ownership),
        "endpoints": [
            {
                "name": each.name,
                "subject": each.subject,
                "op": each.metadata.op,
                "description": each.metadata.description,
                "key": each.metadata.key or None,
                "request": each.metadata.request,
                "response": each.metadata.response,
                "errors": each.metadata.errors,
            }
            for each in service.endpoints
        ],
        "emits": service.metadata.emits,
        "events": service.metadata.events,
        "reacts": service.metadata.reacts,
        "streams": service.metadata.streams,
        "errors": service.metadata.errors,
    }


def as_text(instances: Sequence[Service], ownership: Ownership | None) -> str:
    """Return the description of the instances of one service, as text for `echo`."""
    service = _in_lines(instances[0])
    count = f"{len(instances)} instance{'s' * (len(instances) > 1)}"
    lines = [f"{style(service.name, bold=True)} {service.version} ({count})"]
    if service.description:
        lines.append(service.description)
    if ownership is not None and ownership.layout.partitions > 1:
        lines += ["", style("Partitions", bold=True), *ownership_lines(ownership)]
    types: dict[str, Schema] = {}
    for op, title in (("query", "Queries"), ("command", "Commands"), ("", "Endpoints")):
        found = [each for each in service.endpoints if each.metadata.op == op]
        if found:
            lines += ["", style(title, bold=True)]
            for each in found:
                lines += _operation(each, types)
    emits, reacts = service.metadata.emits, service.metadata.reacts
    if emits:
        lines += ["", style("Emits", bold=True)]
        for name, schema in ((name, _titled(each)) for name, each in emits.items()):
            lines.append(f"  {name} {_fields(_resolved(schema), 2)}")
            types |= _others(schema)
    if reacts:
        lines += ["", style("Reacts to", bold=True), *map(_reaction, reacts)]
    if types:
        lines += ["", style("Types", bold=True)]
        lines += [f"  {name} {_fields(schema, 2)}" for name, schema in sorted(types.items())]
    return "\n".join(lines)


def _in_lines(service: Service) -> Service:
    """Return a service whose texts have no line ends, so that they cannot look like lines of the description."""

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return printable(value)
        if isinstance(value, list):
            return [clean(each) for each in cast("list[Any]", value)]
        if isinstance(value, dict):
            return {printable(str(name)): clean(each) for name, each in cast("dict[Any, Any]", value).items()}
        return value

    return msgspec.convert(clean(msgspec.to_builtins(service)), Service)


def _reaction(reaction: Reaction) -> str:
    return f"  {reaction.reaction}: {reaction}" if reaction.reaction else f"  {reaction}"


def _operation(endpoint: Endpoint, types: dict[str, Schema]) -> list[str]:
    parts: list[str] = []
    # A request is written out here, since it has no other use. A reply is listed among the types.
    if (request := _titled(endpoint.metadata.request)) is not None:
        parts.append(_fields(_resolved(request)))
        types |= _others(request)
    if (response := _titled(endpoint.metadata.response)) is not None:
        parts.append(_type(response))
        types |= response.get("$defs", {})
    lines = [f"  {endpoint.name} {' → '.join(parts)}", style(f"      {endpoint.subject}", dim=True)]
    if description := endpoint.metadata.description:
        lines.append(f"      {description}")
    if errors := endpoint.metadata.errors:
        lines.append(style(f"      errors: {', '.join(f'{each.code} {each.kind}' for each in errors)}", dim=True))
    return lines


def _titled(schema: Any) -> Any:
    """Return a schema whose definitions have their titles as names, if all differ: ``Page[Trip]``, not ``Page_Trip_``."""
    definitions = _object(_object(schema).get("$defs"))
    titles = {f"{_DEFS}{name}": f"{_DEFS}{_object(each).get('title', name)}" for name, each in definitions.items()}
    if len(set(titles.values())) < len(titles):
        return schema

    def rename(value: Any) -> Any:
        if isinstance(value, list):
            return [rename(each) for each in cast("list[Any]", value)]
        if isinstance(value, dict):
            return {name: rename(each) for name, each in cast("dict[str, Any]", value).items()}
        return titles.get(value, value) if isinstance(value, str) else value

    named = {titles[f"{_DEFS}{name}"].removeprefix(_DEFS): rename(each) for name, each in definitions.items()}
    return {**rename(schema), "$defs": named}


def _resolved(schema: Schema) -> Schema:
    """Return the definition behind a reference at the top of a schema."""
    return _object(schema.get("$defs", {}).get(_name(schema))) or schema


def _others(schema: Schema) -> dict[str, Schema]:
    """Return the definitions that a schema refers to, without its own."""
    return {name: each for name, each in schema.get("$defs", {}).items() if name != _name(schema)}


def _name(schema: Schema) -> str:
    return str(schema.get("$ref", "")).rpartition("/")[2]


def _fields(schema: Schema, indent: int | None = None) -> str:
    """Return an object type by its fields. With an `indent`, a long one has a line per field."""
    if "properties" not in schema:
        return _type(schema)
    required = schema.get("required", ())
    fields = [f"{name}{'' if name in required else '?'}: {_type(each)}" for name, each in schema["properties"].items()]
    line = f"{{{', '.join(fields)}}}"
    if indent is None or len(line) <= _WIDTH:
        return line
    pad = " " * (indent + 4)
    return "\n".join(["{", *(f"{pad}{field}" for field in fields), f"{' ' * indent}}}"])


def _type(schema: Schema) -> str:
    if "$ref" in schema:
        return _name(schema)
    if "anyOf" in schema:
        return " | ".join(_type(each) for each in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(msgspec.json.encode(value).decode() for value in schema["enum"])
    match schema.get("type"):
        case "array":
            items = schema.get("items")
            return f"[{_type(_object(items))}]" if items else "array"
        case "object" if "properties" in schema:
            return _fields(schema)
        case "object" if schema.get("additionalProperties"):
            return f"{{string: {_type(_object(schema['additionalProperties']))}}}"
        case str() as kind:
            return kind
        case _:
            return "any"


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
