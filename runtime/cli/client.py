"""The connection of a command, and the target of its request."""

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import NamedTuple

from msgspec.structs import replace

from runtime.cli.failures import usage
from runtime.cli.output import print_note
from runtime.client.raw import RawClient
from runtime.host.config import Configuration
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.options import DEFAULT_URL
from runtime.nats.server import running_url
from runtime.wire.subjects import Names, snake_case, valid_name

_OPS = ("query", "command", "event")


class Target(NamedTuple):
    """A service and the name of one of its operations or events: ``orders.get_order``, ``orders.OrderCreated``."""

    service: str
    name: str

    @property
    def word(self) -> str:
        """The name as a token of subjects."""
        return snake_case(self.name)

    def __str__(self) -> str:
        return f"{self.service}.{self.name}"


def target(text: str, op: str) -> Target:
    """Parse a target such as ``orders.get_order``, or its form in subjects, ``orders.query.get_order``.

    Ends the command if `text` has another form, or names an operation of another kind than `op`.
    """
    service, *path = text.split(".")
    if len(path) == 2 and path[0] in _OPS:
        if path[0] != op:
            usage(
                f"{text} is not {'an' if op == 'event' else 'a'} {op}: use `actorloom {'emit' if path[0] == 'event' else path[0]}`"
            )
        path = path[1:]
    if len(path) != 1 or not path[0] or not valid_name(service):
        usage(f"{text!r}: write service.name, for example orders.{'OrderCreated' if op == 'event' else 'get_order'}")
    return Target(service, path[0])


def names(configuration: Configuration, service: str) -> Names:
    """Return the subjects of a service in the configured namespace."""
    return Names(service, configuration.settings.namespace)


def raw_client(configuration: Configuration, connection: Connection) -> RawClient:
    """Return a client for the services in the configured namespace, with the configured timeout."""
    settings = configuration.settings
    return RawClient(connection, namespace=settings.namespace, timeout=settings.timeout)


@asynccontextmanager
async def connected(configuration: Configuration) -> AsyncGenerator[Connection]:
    """Connect for the duration of the block. Raises `NotConnected`."""
    connection = await Connection.connect(options_of(configuration), name="actorloom command line")
    try:
        yield connection
    finally:
        await connection.close()


def options_of(configuration: Configuration) -> ConnectionOptions:
    """Return the options of the connection of a command. From now on log lines are dropped."""
    logging.getLogger().addHandler(logging.NullHandler())  # errors are raised and printed once
    options = configuration.connection
    if configuration.embedded and (url := running_url(configuration.settings.data)) is not None:
        options = replace(options, url=url)
        if url != DEFAULT_URL:
            print_note(f"using the nats-server of {configuration.settings.data} at {url}")
    # Wait for a server that is starting, but no longer than for a reply.
    return replace(options, connect_timeout=min(options.connect_timeout, configuration.settings.timeout))
