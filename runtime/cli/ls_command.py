"""`ls`: lists the running services."""

import asyncio

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("ls")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace")
def command(configuration: Configuration, as_json: bool) -> None:
    """List running services with their instances, partitions and operations, of all namespaces unless one is set.

    Partitions: 8 (4+4) for eight that two processes own, with four each; - for a service without state.
    """
    asyncio.run(_list(configuration, as_json))


async def _list(configuration: Configuration, as_json: bool) -> None:
    from runtime.admin import discovery
    from runtime.cli.client import connected
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import print_json, print_table
    from runtime.cli.owners import ownership_data, ownership_of, ownership_text

    wanted = configuration.settings.namespace
    async with connected(configuration) as connection:
        grouped: dict[tuple[str, str, str], list[discovery.Service]] = {}
        for service in await discovery.services(connection):
            if not wanted or service.metadata.namespace == wanted:
                key = service.metadata.namespace, service.name, service.version
                grouped.setdefault(key, []).append(service)
        owners = {key: await ownership_of(connection, services[0]) for key, services in grouped.items()}
    if as_json:
        print_json(
            [
                {
                    "name": name,
                    "namespace": namespace,
                    "version": version,
                    "instances": [service.id for service in services],
                    "partitions": ownership_data(owners[namespace, name, version]),
                    "endpoints": {each.name: each.subject for each in services[0].endpoints},
                }
                for (namespace, name, version), services in grouped.items()
            ]
        )
    elif grouped:
        rows = [
            (
                name,
                namespace or "-",
                version,
                len(services),
                ownership_text(services[0], owners[namespace, name, version]),
                " ".join(each.name for each in services[0].endpoints),
            )
            for (namespace, name, version), services in grouped.items()
        ]
        print_table(("service", "namespace", "version", "instances", "partitions", "operations"), rows)
    else:
        raise Failure("no service is running", NOT_FOUND)
