"""`rules test` and `rules who`: which rule matches an event, and if none does, which field of the rule or of the event is the reason."""

from typing import Any

import click
import msgspec

from runtime.actor.any_event import AnyEvent
from runtime.actor.patterns import compile_pattern
from runtime.cli.event_argument import read_event
from runtime.cli.failures import FAILED, usage
from runtime.cli.output import echo, print_json, print_note, print_table, style
from runtime.cli.router_bus import existing, json_of, router_bus
from runtime.client.bus import Bus
from runtime.host.config import Configuration
from runtime.router.files import list_rules
from runtime.router.rule import GetRule, Rule, RuleFields
from runtime.router.verdict import Made, Reason, inputs_of, reason_against, reason_against_type

_UNSTORED = "the pattern"
"""The name of a pattern that no rule has."""


async def test(
    configuration: Configuration,
    name: str | None,
    where: str | None,
    event: str,
    type: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Print whether a rule or a pattern matches an event, and the input of each target.

    Raises:
        Exit: It does not match, or an input cannot be made.
    """
    async with router_bus(configuration) as bus:
        rule = await _rule(bus, name, where)
        found = await read_event(bus, event, type or _default_type(rule, name), key)
    label = name or _UNSTORED
    reason = reason_against(rule, found)
    made = inputs_of(rule, label, found) if reason is None else []
    if as_json:
        print_json(
            {
                "rule": name,
                "matches": reason is None,
                **_reason_data(reason),
                "targets": [msgspec.structs.asdict(each) for each in made],
            }
        )
    else:
        _print(label, found if name is not None else None, reason, made)
    if reason is not None or any(each.fault for each in made):
        raise click.exceptions.Exit(FAILED)


async def who(
    configuration: Configuration, type: str | None, event: str | None, key: str | None, as_json: bool
) -> None:
    """Print for each rule whether it matches an event, or may match one of a type, and the first reason why not."""
    if type is None and event is None:
        usage("give the TYPE of the events, or --event")
    async with router_bus(configuration) as bus:
        found = None if event is None else await read_event(bus, event, type, key)
        rules = await list_rules(bus)
    verdicts = [(rule, *_verdict(rule, type or "", found)) for rule in rules]
    if as_json:
        print_json(
            [
                {
                    "rule": rule.name,
                    "matches": matches,
                    **_reason_data(reason),
                    "targets": [each.target for each in rule.targets],
                }
                for rule, matches, reason in verdicts
            ]
        )
    elif verdicts:
        verdicts.sort(key=lambda each: ("yes", "if", "no").index(each[1]))
        rows = [(rule.name, matches, _why(rule, matches, reason)) for rule, matches, reason in verdicts]
        print_table(("rule", "matches", "targets, or the reason"), rows)
    else:
        print_note("no rules")


async def _rule(bus: Bus, name: str | None, where: str | None) -> RuleFields:
    """Return the rule to test: one that is kept, a pattern, or a rule with another pattern."""
    pattern: dict[str, Any] | None = None if where is None else json_of(where, "--where")
    if pattern is not None:
        compile_pattern(pattern, "--where")
    if name is None:
        if pattern is None:
            usage("give the NAME of a rule, or a pattern by --where")
        return RuleFields(targets=[], where=pattern)
    async with existing(bus, "rule", name):
        rule = await bus.query(GetRule(name))
    return rule if pattern is None else msgspec.structs.replace(rule, where=pattern)


def _default_type(rule: RuleFields, name: str | None) -> str | None:
    """Return the type of an event without one: the only type of the rule; empty for a pattern, which is about the fields alone."""
    if name is None:
        return ""
    return rule.types[0] if len(rule.types) == 1 else None


def _verdict(rule: Rule, type: str, event: AnyEvent | None) -> tuple[str, Reason | None]:
    """Return ``yes``, ``no`` or ``if`` (if the content matches), and the reason for ``no``."""
    if event is not None:
        reason = reason_against(rule, event)
    elif (reason := reason_against_type(rule, type, type.rpartition(".")[0])) is None and rule.where is not None:
        return "if", None
    return ("yes" if reason is None else "no"), reason


def _why(rule: Rule, matches: str, reason: Reason | None) -> str:
    targets = " ".join(each.target for each in rule.targets)
    if matches == "if":
        return f"{targets}, if where {msgspec.json.encode(rule.where).decode()}"
    return targets if reason is None else str(reason)


def _print(label: str, event: AnyEvent | None, reason: Reason | None, made: list[Made]) -> None:
    shown = "the event" if event is None else event.type
    if reason is not None:
        echo(f"{style('no match', fg='red', bold=True)}: {label} does not match {shown}")
        echo(f"  {reason}")
        return
    echo(f"{style('match', fg='green', bold=True)}: {label} matches {shown}")
    for each in made:
        if each.fault:
            echo(f"  {each.target} gets a dead letter: {each.fault}")
        else:
            echo(f"  {each.target} gets {msgspec.json.encode(each.input).decode()}")


def _reason_data(reason: Reason | None) -> dict[str, Any]:
    return {"field": None, "reason": None} if reason is None else {"field": reason.field, "reason": reason.text}
