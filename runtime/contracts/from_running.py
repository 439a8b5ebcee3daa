"""The contracts of the services that run: one for each service, without the facts of its instances."""

import re
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from runtime.admin import discovery
from runtime.admin.discovery import Service
from runtime.nats.connection import Connection


async def running_services(connection: Connection, namespace: str = "") -> list[Service]:
    """Return one service for each name that runs in a namespace, sorted by name. See `one_each`.

    Args:
        connection: The connection to ask on.
        namespace: The namespace, empty for none.
    """
    found = await discovery.services(connection)
    return one_each(each for each in found if each.metadata.namespace == namespace)


def one_each(instances: Iterable[Service]) -> list[Service]:
    """Return one service of each name, sorted by name, with an empty `Service.id`.

    Instances differ while a new version replaces another: the one with the highest version counts.
    """
    newest: dict[str, Service] = {}
    for each in sorted(instances, key=_age):
        newest[each.name] = replace(each, id="")
    return [newest[name] for name in sorted(newest)]


def without_schemas(services: Iterable[Service]) -> list[str]:
    """Return the names of the operations that announce no schema of their message: ``orders.get_order``.

    A service leaves the schemas out if its announcement would exceed the largest message of the server, and a service of another
    framework may have none.
    """
    return [
        f"{service.name}.{each.name}" for service in services for each in service.endpoints if not each.metadata.request
    ]


def _age(service: Service) -> tuple[Any, ...]:
    """Return the place of a service among its instances: by version, and by content if the versions are equal."""
    core, _, pre_release = service.version.partition("+")[0].partition("-")
    numbers = [int(each) for each in re.findall(r"[0-9]{1,9}", core)]
    return numbers, not pre_release, pre_release, msgspec.json.encode(replace(service, id=""))
