"""The bus of the commands that talk to the router: its errors, and names that do not exist."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from difflib import get_close_matches
from typing import Any, Literal

from runtime.cli.client import options_of
from runtime.cli.failures import NOT_FOUND, Failure, usage
from runtime.cli.output import print_note
from runtime.cli.payload import json_value
from runtime.client.bus import Bus, connect
from runtime.errors import NotDelivered, NotFound
from runtime.host.config import Configuration
from runtime.nats.connection import NoResponders
from runtime.router.files import list_rules, list_targets, read_json
from runtime.router.in_force import wait_in_force
from runtime.router.rule import Rule


@asynccontextmanager
async def router_bus(configuration: Configuration) -> AsyncGenerator[Bus]:
    """Connect for the duration of the block. Raises `Failure` if no process serves the rules and targets."""
    settings = configuration.settings
    opened = connect(
        options=options_of(configuration),
        namespace=settings.namespace,
        timeout=settings.timeout,
        service="actorloom command line",
    )
    async with opened as bus:
        try:
            yield bus
        except NotDelivered as error:
            if not isinstance(error.__cause__, NoResponders):
                raise (error.__cause__ or error) from None
            place = f" in namespace {settings.namespace!r}" if settings.namespace else ""
            raise Failure(f"no router runs{place}: start one by `actorloom run runtime.router`", NOT_FOUND) from None


@asynccontextmanager
async def existing(bus: Bus, kind: Literal["rule", "target"], name: str) -> AsyncGenerator[None]:
    """Raise `Failure` with a similar name if a request in the block finds no rule or target of a name."""
    try:
        yield
    except NotFound:
        known = [each.name for each in await (list_rules(bus) if kind == "rule" else list_targets(bus))]
        near = get_close_matches(name, known, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"`actorloom {kind}s ls` lists them"
        raise Failure(f"there is no {kind} {name!r}: {hint}", NOT_FOUND) from None


_LATER = "no router runs, and it takes effect when one does"


async def report_in_force(bus: Bus, rule: Rule, done: str) -> bool:
    """Print a change of a rule as soon as it is in force in all routers. Return whether a router runs.

    Args:
        bus: The bus.
        rule: The rule with the version that counts.
        done: The change: ``version 3``, ``deleted``.
    """
    runs = await wait_in_force(bus, rule)
    print_note(f"{rule.name}: {done}, in force" if runs else f"{rule.name}: {done}; kept: {_LATER}")
    return runs


def json_of(text: str, place: str) -> Any:
    """Return the value of an option with JSON. Another text ends the command; `place` names the option."""
    value = json_value(text, f"{place}: it is not JSON")
    try:
        read_json(text)
    except ValueError as error:
        usage(f"{place}: {error}")
    return value
