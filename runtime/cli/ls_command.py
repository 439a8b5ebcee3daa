"""`ls`: lists the running services."""

import asyncio

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace")
def command(configuration: Configuration, as_json: bool) -> None:
    """List running services with their instances and operations, of all namespaces unless one is set."""
    asyncio.run(_list(configuration, as_json))


async def _list(configuration: Configuration, as_json: bool) -> None:
    from runtime.admin import discovery
    from runtime.cli.client import connected
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import print_json, print_table

    async with connected(configuration) as connection:
        found = await discovery.services(connection)
    wanted = configuration.settings.namespace
    found = [service for service in found if not wanted or service.metadata.namespace == wanted]
    grouped: dict[tuple[str, str, str], list[discovery.Service]] = {}
    for service in found:
        grouped.setdefault((service.metadata.namespace, service.name, service.version), []).append(service)
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "namespace": namespace,
                    "version": version,
                    "instances": [service.id for service in services],
                    "endpoints": {each.name: each.subject for each in services[0].endpoints},
                }
                for (namespace, name, version), services in grouped.items()
            ]
        )
    elif grouped:
        rows = [
            (name, namespace or "-", version, len(services), " ".join(each.name for each in services[0].endpoints))
            for (namespace, name, version), services in grouped.items()
        ]
        print_table(("service", "namespace", "version", "instances", "operations"), rows)
    else:
        raise Failure("no service is running", NOT_FOUND)
