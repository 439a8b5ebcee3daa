"""`graph`: draws the events between services, as Mermaid or DOT."""

import asyncio
import re

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("graph")
@click.option("--format", "form", type=click.Choice(("mermaid", "dot")), default="mermaid")
@configured("nats.url", "namespace")
def command(configuration: Configuration, form: str) -> None:
    """Draw the running services and the events that they react to."""
    from runtime.admin import discovery
    from runtime.cli.client import connected
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import echo

    async def found() -> list[discovery.Service]:
        async with connected(configuration) as connection:
            return await discovery.services(connection)

    services = [each for each in asyncio.run(found()) if each.metadata.namespace == configuration.settings.namespace]
    if not services:
        raise Failure("no service is running", NOT_FOUND)
    edges: dict[tuple[str, str], set[str]] = {}
    for service in services:
        for reaction in service.metadata.reacts:
            ends = (_label(reaction.source), _label(service.name))
            edges.setdefault(ends, set()).add(_label(reaction.name))
    names = {_label(service.name) for service in services} | {source for source, _ in edges}
    echo(_mermaid(names, edges) if form == "mermaid" else _dot(names, edges))


def _mermaid(names: set[str], edges: dict[tuple[str, str], set[str]]) -> str:
    lines = [f"  {_id(name)}[{name}]" for name in sorted(names)]
    lines += [f"  {_id(a)} -- {'<br>'.join(sorted(events))} --> {_id(b)}" for (a, b), events in sorted(edges.items())]
    return "\n".join(["flowchart LR", *lines])


def _dot(names: set[str], edges: dict[tuple[str, str], set[str]]) -> str:
    lines = [f'  "{name}";' for name in sorted(names)]
    lines += [f'  "{a}" -> "{b}" [label="{", ".join(sorted(events))}"];' for (a, b), events in sorted(edges.items())]
    return "\n".join(["digraph services {", "  rankdir=LR;", *lines, "}"])


def _id(name: str) -> str:
    return re.sub(r"\W", "_", name)


def _label(name: str) -> str:
    """Return a name without the characters that have a meaning in Mermaid or DOT. Valid names have none of them."""
    return re.sub(r"[^\w.-]", "_", name)
