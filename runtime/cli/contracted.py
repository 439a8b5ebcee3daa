"""The contracts for a command: from the code of actors, or from the services that run."""

import asyncio
from collections.abc import Sequence

from runtime.actor.metadata import RUNTIME
from runtime.admin.discovery import Service
from runtime.cli.client import connected
from runtime.cli.failures import NOT_FOUND, Failure
from runtime.cli.targets import find_actors
from runtime.contracts.from_code import services_of
from runtime.contracts.from_running import running_services
from runtime.host.config import Configuration
from runtime.wire.subjects import valid_name


def contracted(configuration: Configuration, actors: Sequence[str]) -> list[Service]:
    """Return one service for each actor of the targets; without targets, for each actor that runs in the namespace.

    Raises:
        Failure: No actor runs.
        ConfigurationError, DeclarationError: A target is invalid.
        ActorError: The server does not answer.
    """
    namespace = configuration.settings.namespace
    if actors:
        return services_of(find_actors(actors), namespace)
    found = asyncio.run(_running(configuration, namespace))
    if not found:
        raise Failure(f"no actor is running{f' in namespace {namespace}' if namespace else ''}", NOT_FOUND)
    return found


async def _running(configuration: Configuration, namespace: str) -> list[Service]:
    async with connected(configuration) as connection:
        found = await running_services(connection, namespace)
    # Any program may announce any name. It becomes the name of a file.
    return [each for each in found if each.metadata.runtime == RUNTIME and valid_name(each.name)]
