"""`graph`: draws services with their events, calls and reactions, from discovery or from their code."""

import asyncio
from typing import TYPE_CHECKING

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration

if TYPE_CHECKING:
    from runtime.contracts.graph import Rates, RuleEdge
    from runtime.contracts.wiring import Request


@click.command("graph")
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option("--format", "form", type=click.Choice(("svg", "dot", "mermaid", "json")), default="mermaid")
@click.option("--rates", is_flag=True, help="Add the requests, errors and events of each service in one second.")
@configured("nats.url", "namespace")
def command(configuration: Configuration, targets: tuple[str, ...], form: str, rates: bool) -> None:
    """Draw the running services, the events that they react to, and the rules of the router.

    With TARGETs, as for `run`, draw these actors from their code, with the commands and queries that they send. Discovery does not
    know these. The actors are imported and do not run.
    """
    from runtime.cli.contracted import contracted
    from runtime.cli.output import echo, print_json, print_note
    from runtime.contracts.graph import graph_of
    from runtime.contracts.graph_svg import as_svg
    from runtime.contracts.graph_text import as_dot, as_mermaid

    services = contracted(configuration, targets)
    requests = _requests(targets) if targets else []
    found = asyncio.run(_rates(configuration)) if rates else {}
    rules: list[RuleEdge] = []
    if not targets and any(each.name == "rules" for each in services):
        rules = asyncio.run(_rules(configuration))
    if not targets:
        print_note(
            "The graph has no commands and queries: discovery does not know who sends them. Name the actors' package."
        )
    graph = graph_of(services, requests, rules, found)
    if form == "json":
        print_json(graph)
    else:
        echo({"svg": as_svg, "dot": as_dot, "mermaid": as_mermaid}[form](graph))


def _requests(targets: tuple[str, ...]) -> "list[Request]":
    from runtime.cli.targets import find_actors
    from runtime.contracts.source import Sources, package_of
    from runtime.contracts.wiring import calls, wiring

    actors = find_actors(targets)
    sources = Sources(package_of(actor.__module__) for actor in actors)
    return calls(wiring(actors, sources))


async def _rates(configuration: Configuration) -> "dict[str, Rates]":
    from runtime.cli.client import connected
    from runtime.contracts.live_rates import live_rates

    async with connected(configuration) as connection:
        return await live_rates(connection, configuration.settings.namespace)


async def _rules(configuration: Configuration) -> "list[RuleEdge]":
    from runtime.cli.router_bus import router_bus
    from runtime.router.edges import rule_edges
    from runtime.router.files import list_rules, list_targets

    async with router_bus(configuration) as bus:
        return list(rule_edges(await list_rules(bus), await list_targets(bus)))
