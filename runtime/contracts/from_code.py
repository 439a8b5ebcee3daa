"""The description of actors from their classes: the services that discovery would find if the actors ran.

Nothing is connected. A service from code has an empty `Service.id`, because no instance of it runs.
"""

from collections.abc import Iterable
from typing import Any

from runtime.actor.base import Actor
from runtime.actor.metadata import describe_operation, describe_service, first_line
from runtime.admin.discovery import Endpoint, Service
from runtime.options import Options
from runtime.wire.subjects import Names


def services_of(classes: Iterable[type[Actor[Any]]], namespace: str = "") -> list[Service]:
    """Return the descriptions of actors, sorted by name, each with the options of its class.

    Args:
        classes: The classes, as `runtime.cli.targets.find_actors` returns them for the command line.
        namespace: The namespace in which they would run; empty for none.

    Raises:
        ConfigurationError: The namespace is not valid.
    """
    found = (service_of(actor, namespace, actor.options) for actor in classes)
    return sorted(found, key=lambda service: service.name)


def service_of(actor: type[Actor[Any]], namespace: str, options: Options) -> Service:
    """Return the description of one actor in a namespace, with the options with which it runs.

    The endpoints are those of its queries and commands, queries first. Internal commands have none.
    """
    names = Names(actor.name, namespace)
    handlers = (*actor.handlers.queries.values(), *actor.handlers.commands.values())
    endpoints = [
        Endpoint(each.contract.name, names.request(each.contract.op, each.contract.name), describe_operation(each))
        for each in handlers
        if not each.internal
    ]
    metadata = describe_service(actor, namespace, options)
    return Service(actor.name, "", actor.version, first_line(actor.__doc__), metadata, endpoints)
