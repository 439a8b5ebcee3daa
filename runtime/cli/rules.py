"""Rules on the command line: listed, shown, put, enabled, disabled and deleted."""

from collections.abc import Sequence
from typing import Any

import msgspec

from runtime.cli.named import checked_name
from runtime.cli.output import print_json, print_note, print_table
from runtime.cli.router_bus import existing, json_of, report_in_force, router_bus
from runtime.client.bus import Bus
from runtime.host.config import Configuration
from runtime.router.files import deleted, list_rules, read_data, read_rule
from runtime.router.rule import DeleteRule, DisableRule, EnableRule, GetRule, PutRule, Rule, RuleFields
from runtime.wire.cloudevents import rfc3339


async def list_all(configuration: Configuration, as_json: bool) -> None:
    """Print all rules, as a table or a JSON array."""
    async with router_bus(configuration) as bus:
        rules = await list_rules(bus)
    if as_json:
        print_json([rule_data(rule) for rule in rules])
    elif rules:
        head = ("rule", "version", "state", "types", "sources", "targets")
        print_table(head, [_row(rule) for rule in rules])
    else:
        print_note("no rules")


async def show(configuration: Configuration, name: str) -> None:
    """Print a rule as JSON."""
    async with router_bus(configuration) as bus, existing(bus, "rule", name):
        print_json(rule_data(await bus.query(GetRule(name))))


async def put_rule(
    configuration: Configuration, message: PutRule, since: float | None, forgotten: bool, as_json: bool
) -> None:
    """Put a rule, and return when it is in force, and has got the events from `since` on (Unix seconds; None for none)."""
    async with router_bus(configuration) as bus:
        rule = await bus.command(message)
        if as_json:
            print_json(rule_data(rule))
        await report_in_force(bus, rule, f"version {rule.version}")
        await _close_gap(bus, rule, since, forgotten)


async def switch(
    configuration: Configuration,
    name: str,
    enabled: bool,
    expect: int | None,
    since: float | None = None,
    forgotten: bool = False,
) -> None:
    """Enable or disable a rule, and return when that is in force, and an enabled one has got the events from `since` on."""
    async with router_bus(configuration) as bus:
        async with existing(bus, "rule", name):
            rule = await bus.command(EnableRule(name, expect) if enabled else DisableRule(name, expect))
        await report_in_force(bus, rule, f"version {rule.version}, {'enabled' if enabled else 'disabled'}")
        await _close_gap(bus, rule, since, forgotten)


async def _close_gap(bus: Bus, rule: Rule, since: float | None, forgotten: bool) -> None:
    """Send the events from `since` on to the targets of a rule that is in force."""
    if since is None:
        return
    from runtime.router.replay import replay_since

    ended = await replay_since(bus, rule, since, forgotten=forgotten)
    print_note(
        "no event is stored from that time on" if ended is None else f"{ended.sent} events from that time on are sent"
    )


async def delete(configuration: Configuration, name: str, expect: int | None) -> None:
    """Delete a rule, and return when that is in force."""
    async with router_bus(configuration) as bus:
        async with existing(bus, "rule", name):
            rule = await bus.command(DeleteRule(name, expect))
        await report_in_force(bus, deleted(rule), f"version {rule.version} is deleted")


def fields_from_file(path: str) -> RuleFields:
    """Return the rule of a file, which has the fields of one rule. Raises `ConfigurationError`."""
    return read_rule(read_data(path), path)


def fields_from_options(
    types: Sequence[str],
    sources: Sequence[str],
    where: str | None,
    targets: Sequence[str],
    description: str,
    disabled: bool,
) -> RuleFields:
    """Return a rule, given the options of the command line. Raises `ConfigurationError`."""
    data = {
        "types": list(types),
        "sources": list(sources),
        "where": None if where is None else json_of(where, "--where"),
        "targets": [_target(text) for text in targets],
        "description": description,
        "enabled": not disabled,
    }
    return read_rule(data, "")


def rule_data(rule: Rule) -> dict[str, Any]:
    """Return a rule for JSON, with all of its fields."""
    data = msgspec.structs.asdict(rule)
    del data["deleted"]
    first = {"name": data.pop("name"), "version": data.pop("version")}
    return {**first, **data, "since": rfc3339(rule.since), "changed": rfc3339(rule.changed)}


def _target(text: str) -> dict[str, Any]:
    """Return the target of ``NAME`` or ``NAME=INPUT-JSON``."""
    name, sign, given = text.partition("=")
    return {"target": checked_name(name), "input": json_of(given, f"--target {name}") if sign else None}


def _row(rule: Rule) -> tuple[object, ...]:
    return (
        rule.name,
        rule.version,
        "on" if rule.enabled else "off",
        " ".join(rule.types) or "-",
        " ".join(rule.sources) or "-",
        " ".join(each.target for each in rule.targets),
    )
