"""Completion of names in the shell, from what the server and the services tell: those of services, actors, rules and others.

The mechanism is that of click: a function of the shell runs ``actorloom`` with the words so far in the environment. Without a
server or a service that answers in time there are no completions, and there is no other output.
"""

import asyncio
import contextlib
import io
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec
from click.shell_completion import BashComplete, add_completion_class

from runtime.cli.failures import KNOWN
from runtime.cli.flags import configuration_of
from runtime.host.config import Configuration
from runtime.wire.codec import UNDECODABLE

if TYPE_CHECKING:
    from runtime.nats.connection import Connection

_PATIENCE: Final = 1.0
"""Seconds that the search for completions may take."""

Complete = Callable[[click.Context, click.Parameter, str], list[str]]
"""The form of a `shell_complete` of click."""

Find = Callable[[Configuration, "Connection", click.Context, str], Awaitable[Iterable[str]]]
"""Finds completions of a text."""


_plain = re.compile(r"[\w.:=/@%+,-]+").fullmatch
"""Matches what a shell takes as it is. Anybody on NATS may answer with other texts, which would control the terminal or the line."""


class _Bash(BashComplete):
    """Bash, without a space after a completion that another text has to follow: ``orderId=``, ``orders/``."""

    source_template = BashComplete.source_template.replace(
        "COMPREPLY+=($value)\n", "COMPREPLY+=($value)\n            [[ $value == *[=./] ]] && compopt -o nospace\n"
    )


add_completion_class(_Bash)


def _completing(find: Find) -> Complete:
    """Return the function that gives click the completions which `find` finds in time."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        async def search() -> list[str]:
            async with asyncio.timeout(_PATIENCE):
                configuration = configuration_of(context.params)
                async with _connected(configuration) as connection:
                    found = await find(configuration, connection, context, incomplete)
                    return sorted(filter(_plain, found))

        # A text in the middle of the line that the user types would be of no use.
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(*KNOWN, click.ClickException):
            return asyncio.run(search())
        return []

    return complete


@asynccontextmanager
async def _connected(configuration: Configuration) -> "AsyncGenerator[Connection]":
    from runtime.cli.client import options_of
    from runtime.nats.connection import Connection

    connection = await Connection.connect(options_of(configuration), name="actorloom completion")
    try:
        yield connection
    finally:
        await connection.close()


async def _services(
    configuration: Configuration, connection: "Connection", _: click.Context, text: str
) -> Iterable[str]:
    from runtime.admin import discovery

    found = {service.name for service in _own(configuration, await discovery.services(connection))}
    return [name for name in found if name.startswith(text)]


async def _actors(configuration: Configuration, connection: "Connection", _: click.Context, text: str) -> Iterable[str]:
    from runtime.nats.jetstream.client import JetStream
    from runtime.storage.dead_letters import known_services

    found = await known_services(JetStream(connection), configuration.settings.namespace)
    return [name for name in found if name.startswith(text)]


async def _actors_with_key(
    configuration: Configuration, connection: "Connection", context: click.Context, text: str
) -> Iterable[str]:
    return [f"{name}/" for name in await _actors(configuration, connection, context, text)]


async def _reactions(
    configuration: Configuration, connection: "Connection", _: click.Context, text: str
) -> Iterable[str]:
    from runtime.admin import discovery

    names: dict[str, set[str]] = {}
    for service in _own(configuration, await discovery.services(connection)):
        found = {name for each in service.metadata.reacts for name in (each.reaction, each.method) if name}
        names.setdefault(service.name, set()).update(found)
    return _dotted(names, text)


async def _replays(
    configuration: Configuration, connection: "Connection", _: click.Context, text: str
) -> Iterable[str]:
    from runtime.nats.jetstream.client import JetStream
    from runtime.storage.replays import Entry, Replays

    found = Replays(JetStream(connection), configuration.settings.namespace)
    names = [each.replay.name async for each in found.read() if isinstance(each, Entry)]
    return [name for name in names if name.startswith(text)]


async def _archives(
    configuration: Configuration, connection: "Connection", _: click.Context, text: str
) -> Iterable[str]:
    from runtime.admin.archives import list_archives
    from runtime.nats.jetstream.client import JetStream

    found = await list_archives(JetStream(connection), configuration.settings.namespace)
    return [each.archive.name for each in found if each.archive.name.startswith(text)]


async def _schemas(
    configuration: Configuration, connection: "Connection", _: click.Context, text: str
) -> Iterable[str]:
    from runtime.contracts.registry import Registered, Registry
    from runtime.nats.jetstream.client import JetStream

    found = Registry(JetStream(connection), configuration.settings.namespace)
    types = {
        each.actor: {history.name for history in each.record.histories}
        async for each in found.read()
        if isinstance(each, Registered)
    }
    return _dotted(types, text)


def _kept(kind: str) -> Find:
    """Return the search for the names of rules or targets."""

    async def find(
        configuration: Configuration, connection: "Connection", _: click.Context, text: str
    ) -> Iterable[str]:
        from runtime.cli.client import raw_client

        reply = await raw_client(configuration, connection).query(f"{kind}s", f"list_{kind}s")
        try:
            found = msgspec.json.decode(reply.payload, type=_Listed).items
        except UNDECODABLE:
            return []  # an error, or the reply of another framework
        return [each.name for each in found if each.name.startswith(text)]

    return find


class _Named(msgspec.Struct):
    name: str


class _Listed(msgspec.Struct):
    """The names in a page of rules or targets."""

    items: list[_Named] = []


services: Final = _completing(_services)
"""Complete the name of a running service."""

actors: Final = _completing(_actors)
"""Complete the name of an actor that has run."""

actors_with_key: Final = _completing(_actors_with_key)
"""Complete the actor of ``actor/key``."""

reactions: Final = _completing(_reactions)
"""Complete ``actor.reaction``, as `target` does."""

replays: Final = _completing(_replays)
"""Complete the name of a replay."""

archives: Final = _completing(_archives)
"""Complete the name of an archive."""
schemas: Final = _completing(_schemas)
"""Complete the name of a registered schema, as `target` does."""

rules: Final = _completing(_kept("rule"))
"""Complete the name of a rule."""

routed_targets: Final = _completing(_kept("target"))
"""Complete the name of a target of rules."""


def target(op: str) -> Complete:
    """Return the completion of ``service.name``: the services first, and the names of one service if no other begins so.

    Args:
        op: The kind of the messages: ``query``, ``command`` or ``event``.
    """

    async def find(
        configuration: Configuration, connection: "Connection", _: click.Context, text: str
    ) -> Iterable[str]:
        from runtime.admin import discovery

        names: dict[str, set[str]] = {}
        for service in _own(configuration, await discovery.services(connection)):
            if op == "event":
                found = {kind.rpartition(".")[2] for kind in service.metadata.emits}
            else:
                found = {each.name for each in service.endpoints if each.metadata.op == op}
            names.setdefault(service.name, set()).update(found)
        return _dotted(names, text)

    return _completing(find)


def _dotted(names: Mapping[str, Iterable[str]], text: str) -> list[str]:
    """Return the completions of ``service.name``: the services, or the names of the only one that begins so."""
    full = [f"{service}.{name}" for service, each in names.items() for name in each]
    full = [each for each in full if each.startswith(text)]
    begun = {each.partition(".")[0] for each in full}
    return full if len(begun) == 1 else [f"{service}." for service in begun]


def fields(op: str) -> Complete:
    """Return the completion of ``key=value``: the fields of the message that are not given, and the values of enums.

    Args:
        op: The kind of the messages, as for `target`.
    """

    async def find(
        configuration: Configuration, connection: "Connection", context: click.Context, text: str
    ) -> Iterable[str]:
        from runtime.cli import client
        from runtime.cli.payload import completions

        chosen = client.target(context.params["target"], op)
        schema = await _schema(configuration, connection, op, chosen.service, chosen.name)
        return completions(schema, list(context.params.get("arguments") or ()), text) if schema else []

    return _completing(find)


async def _schema(
    configuration: Configuration, connection: "Connection", op: str, service: str, name: str
) -> dict[str, Any] | None:
    from runtime.admin import discovery
    from runtime.cli.client import names
    from runtime.wire.subjects import snake_case

    if op != "event":
        subject = names(configuration, service).request(op, snake_case(name))
        found = await discovery.endpoint(connection, service, subject)
        return found.metadata.request if found is not None else None
    for each in _own(configuration, await discovery.services(connection, service)):
        for kind, schema in each.metadata.emits.items():
            if name in (event := kind.rpartition(".")[2], snake_case(event)):
                return schema
    return None


def _own(configuration: Configuration, found: Sequence[Any]) -> list[Any]:
    """Return the services in the configured namespace."""
    return [each for each in found if each.metadata.namespace == configuration.settings.namespace]
