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


def contracted(configuration: Configuration, targets: Sequence[str], *, own: bool = False) -> list[Service]:
    """Return one service for each actor of the targets; without targets, one for each name that runs in the namespace.

    Args:
        configuration: The configuration of the command.
        targets: Targets as those of `run`. Nothing is connected if there are any.
        own: Leave out the services of other frameworks. Any program may announce any name, and those that are left have a
            valid one.

    Returns:
        The services, at least one, sorted by name.

    Raises:
        Failure: No service runs.
        ConfigurationError, DeclarationError: A target is invalid.
        ActorError: The server does not answer.
    """
    namespace = configuration.settings.namespace
    if targets:
        return services_of(find_actors(targets), namespace)
    found = asyncio.run(_running(configuration, namespace))
    if own:
        found = [each for each in found if each.metadata.runtime == RUNTIME and valid_name(each.name)]
    if not found:
        place = f" in namespace {namespace}" if namespace else ""
        raise Failure(f"no service is running{place}: name a TARGET to read its code", NOT_FOUND)
    return found


async def _running(configuration: Configuration, namespace: str) -> list[Service]:
    async with connected(configuration) as connection:
        return await running_services(connection, namespace)
