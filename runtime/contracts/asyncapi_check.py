"""Checks of AsyncAPI 3 documents for faults that the official parser accepts, and for the structure of channels and operations.

The parser sees unknown fields of the specification. It does not see a missing ``parameters`` object, wildcards in addresses, or fields in
NATS bindings that have to be empty.
"""

import re
from collections.abc import Iterator
from typing import Any, Final, cast

from runtime.contracts.pointers import Problem, dangling, walk
from runtime.wire.json_pointers import escaped, resolve

_PARAMETER = re.compile(r"\{([^{}]*)\}")
_OPERATION_BINDING: Final = frozenset({"queue", "bindingVersion"})
_MAX_QUEUE: Final = 255
"""Characters of a queue group, by the NATS binding."""


def problems(document: dict[str, Any]) -> list[Problem]:
    """Return the faults of an AsyncAPI 3 document, in the order of the document."""
    found = [*_root(document)]
    for ident, channel in _objects(document, "channels"):
        found += _channel(f"/channels/{ident}", channel)
    for ident, operation in _objects(document, "operations"):
        found += _operation(document, f"/operations/{ident}", operation)
    for ident, server in _objects(document, "servers"):
        found += _empty_binding(f"/servers/{ident}", server)
    for ident, message in _objects(_object(document.get("components")), "messages"):
        found += _empty_binding(f"/components/messages/{ident}", message)
    for pointer, each in walk(document):
        found += _schema(pointer, each)
    return [*found, *dangling(document)]


def _root(document: dict[str, Any]) -> Iterator[Problem]:
    if not str(document.get("asyncapi", "")).startswith("3."):
        yield Problem("/asyncapi", "is not a version 3 of AsyncAPI")
    for name in ("title", "version"):
        if not _object(document.get("info")).get(name):
            yield Problem(f"/info/{name}", "is missing")


def _channel(pointer: str, channel: dict[str, Any]) -> Iterator[Problem]:
    yield from _empty_binding(pointer, channel)
    address = channel.get("address")
    parameters = set(_object(channel.get("parameters")))
    if not isinstance(address, str):
        if parameters:
            yield Problem(f"{pointer}/parameters", "the channel has no address")
        return
    names = _PARAMETER.findall(address)
    if wrong := sorted({each for each in _PARAMETER.sub("", address) if each in ">*?{}" or each.isspace()}):
        yield Problem(f"{pointer}/address", f"{address!r} has {' '.join(map(repr, wrong))}")
    for name in sorted(set(names) - parameters):
        yield Problem(f"{pointer}/parameters", f"{{{name}}} of the address is missing")
    for name in sorted(parameters - set(names)):
        yield Problem(f"{pointer}/parameters/{name}", "the address has no such parameter")


def _operation(document: dict[str, Any], pointer: str, operation: dict[str, Any]) -> Iterator[Problem]:
    if operation.get("action") not in ("receive", "send"):
        yield Problem(f"{pointer}/action", "is neither receive nor send")
    yield from _messages(pointer, operation)
    reply = _object(operation.get("reply"))
    if reply:
        yield from _messages(f"{pointer}/reply", reply)
        if "address" in reply and _address_of(document, reply) is not None:
            yield Problem(f"{pointer}/reply/address", "the channel of the reply has an address, too")
    binding = _object(_object(operation.get("bindings")).get("nats"))
    for name in sorted(set(binding) - _OPERATION_BINDING):
        yield Problem(f"{pointer}/bindings/nats/{name}", "the NATS binding has no such field")
    if len(str(binding.get("queue", ""))) > _MAX_QUEUE:
        yield Problem(f"{pointer}/bindings/nats/queue", f"has more than {_MAX_QUEUE} characters")


def _messages(pointer: str, owner: dict[str, Any]) -> Iterator[Problem]:
    """Yield the faults of the references of an operation or reply: to a channel, and to messages below this channel."""
    channel = _object(owner.get("channel")).get("$ref", "")
    if not channel.startswith("#/channels/"):
        yield Problem(f"{pointer}/channel", "is not a reference below #/channels/")
    for index, each in enumerate(cast("list[Any]", owner.get("messages", []))):
        if not str(_object(each).get("$ref", "")).startswith(f"{channel}/messages/"):
            yield Problem(f"{pointer}/messages/{index}", "is not a reference to a message of the channel")


def _address_of(document: dict[str, Any], reply: dict[str, Any]) -> Any:
    try:
        return _object(resolve(document, str(_object(reply.get("channel")).get("$ref", "")))).get("address")
    except LookupError:
        return None


def _empty_binding(pointer: str, owner: dict[str, Any]) -> Iterator[Problem]:
    for name in _object(_object(owner.get("bindings")).get("nats")):
        yield Problem(f"{pointer}/bindings/nats/{name}", "the NATS binding has fields in operations only")


def _schema(pointer: str, schema: dict[str, Any]) -> Iterator[Problem]:
    """Yield the words of 2020-12 in an object that a parser of draft 07 ignores, and references into a single schema."""
    if str(schema.get("$ref", "")).startswith("#/$defs/"):
        yield Problem(f"{pointer}/$ref", f"{schema['$ref']} is a reference into the document, and not into the schema")
    if "schemaFormat" in schema or pointer.endswith("/properties"):
        return
    for word in ("$defs", "prefixItems"):
        if word in schema:
            yield Problem(f"{pointer}/{word}", "is no keyword of draft 07, the default format of schemas")


def _objects(owner: dict[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
    return [(escaped(ident), _object(each)) for ident, each in _object(owner.get(name)).items()]


def _object(value: Any) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
