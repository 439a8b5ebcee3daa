"""`doctor`: checks the NATS server and the services on it."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from runtime.cli.flags import configured, http_url
from runtime.cli.output import echo, style
from runtime.host.config import Configuration
from runtime.wire.printable import printable

if TYPE_CHECKING:
    from runtime.admin.discovery import Service
    from runtime.admin.doctor import Finding, RunningService


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--monitor", default="", help="The monitoring port of the server (default: port 8222 of its host).", **http_url
)
@click.option("--no-probe", is_flag=True, help="Do not create a stream for a moment to try the operations of actors.")
@configured("nats.url", "namespace", "timeout", "replicas")
def command(configuration: Configuration, as_json: bool, monitor: str, no_probe: bool) -> None:
    """Check the NATS server and the services on it. Exits with 0, or with 3 if a check fails.

    Each line is ok, warn (a risk, or a fact that cannot be checked from here) or fail, with its remedy.
    """
    asyncio.run(_examine(configuration, as_json, monitor, not no_probe))


async def _examine(configuration: Configuration, as_json: bool, monitor: str, probe: bool) -> None:
    from runtime.admin import discovery
    from runtime.admin.doctor import Finding, examine
    from runtime.cli.client import connected
    from runtime.cli.failures import SERVICE_ERROR, Failure
    from runtime.cli.output import print_json

    settings = configuration.settings
    findings: list[Finding] = []
    async with connected(configuration) as connection:
        found = await discovery.services(connection)
        async for finding in examine(
            connection,
            namespace=settings.namespace,
            replicas=settings.replicas,
            running=_running([each for each in found if each.metadata.namespace == settings.namespace and _ours(each)]),
            monitor=monitor,
            probe=probe,
            timeout=settings.timeout,
        ):
            findings.append(finding)
            if not as_json:
                _print(finding)
    if as_json:
        print_json(findings)
    failed = sum(finding.status == "fail" for finding in findings)
    if failed:
        raise Failure(f"{failed} of {len(findings)} checks failed", SERVICE_ERROR)


def _print(finding: "Finding") -> None:
    color = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.status]
    echo(f"{style(f'{finding.status:<5}', fg=color)} {printable(finding.subject):<12} {printable(finding.text)}")
    if finding.todo:
        echo(f"{'':<19}→ {printable(finding.todo)}")


def _ours(service: "Service") -> bool:
    from runtime.actor.metadata import RUNTIME

    return service.metadata.runtime == RUNTIME


def _running(instances: "Sequence[Service]") -> "list[RunningService]":
    """Return the services to which running instances belong."""
    from runtime.admin.doctor import RunningService

    services = {service.name: service for service in instances}
    return [
        RunningService(
            service.name,
            keyed=service.metadata.keyed,
            commands=any(endpoint.metadata.op == "command" for endpoint in service.endpoints),
            command_types=frozenset(
                name
                for endpoint in service.endpoints
                if endpoint.metadata.op == "command"
                for name in endpoint.metadata.types
            ),
            sources=frozenset(reaction.source for reaction in service.metadata.reacts),
            partitions=frozenset(each.metadata.partitions for each in instances if each.name == service.name),
        )
        for service in services.values()
    ]
