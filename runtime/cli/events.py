"""Events from the command line: CloudEvents that are stored in the stream of their service."""

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import msgspec

from runtime.admin import discovery
from runtime.cli.client import Target, connected, raw_client
from runtime.cli.failures import NOT_FOUND, TIMEOUT, Failure, usage
from runtime.cli.output import print_json
from runtime.cli.payload import body
from runtime.errors import PublishError
from runtime.host.config import Configuration
from runtime.nats.connection import Connection, NoResponders
from runtime.wire.ids import new_id
from runtime.wire.subjects import snake_case


class _Declared(NamedTuple):
    """An event as its service declares it. The schema is None if the service is not running."""

    name: str
    schema: dict[str, Any] | None
    key: str = ""


async def emit(
    configuration: Configuration, target: Target, arguments: Sequence[str], *, event_id: str | None, key: str | None
) -> None:
    """Publish an event and print its stream and sequence. Raises `Failure` if it is not stored."""
    async with connected(configuration) as connection:
        event_id = new_id(connection.clock.now()) if event_id is None else event_id
        declared = await _declared(connection, configuration, target)
        payload = body(arguments, declared.schema)
        if key is None:
            key = _key(target, declared, payload)
        client = raw_client(configuration, connection)
        try:
            ack = await client.emit(target.service, declared.name, payload, key=key, id=event_id)
        except PublishError as error:
            if not isinstance(error.__cause__, NoResponders):
                raise
            raise Failure(
                f"no stream has the events of {target.service}: the service has never run here", NOT_FOUND
            ) from None
        except TimeoutError:
            unknown = f"it is unknown whether it is stored; repeat it with --id {event_id}"
            raise Failure(f"{target}: no acknowledgement within {client.timeout:g} s: {unknown}", TIMEOUT) from None
    print_json({"id": event_id, "stream": ack.stream, "sequence": ack.sequence, "duplicate": ack.duplicate})


async def _declared(connection: Connection, configuration: Configuration, target: Target) -> _Declared:
    """Return the declaration of an event; if the service is not running, the name as it was given."""
    schemas: dict[str, dict[str, Any]] = {}
    keys: dict[str, str] = {}
    running = False
    for service in await discovery.services(connection, target.service):
        if service.metadata.namespace == configuration.settings.namespace:
            running = True
            schemas |= {kind.rpartition(".")[2]: schema for kind, schema in service.metadata.emits.items()}
            keys |= {kind.rpartition(".")[2]: event.key for kind, event in service.metadata.events.items()}
    for name, schema in schemas.items():
        if target.name in (name, snake_case(name)):
            return _Declared(name, schema, keys.get(name, ""))
    if schemas:
        matches = get_close_matches(target.name, schemas, 1) or sorted(schemas)
        raise Failure(f"{target.service} has no event {target.name}: did you mean {' or '.join(matches)}?", NOT_FOUND)
    if running:
        raise Failure(f"{target.service} has no events", NOT_FOUND)
    return _Declared(target.name, None)


def _key(target: Target, declared: _Declared, payload: bytes) -> str | None:
    """Return the key in the body of an event, or None if its events have no key."""
    if declared.schema is None:
        usage(f"{target.service} is not running, so the key of {target.name} is unknown: give it by --key")
    path = declared.key
    value: Any = msgspec.json.decode(payload) if path else None
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if path and not isinstance(value, str | int):
        usage(f"{target}: {path} is missing; it is the key of the event")
    return str(value) if path else None
