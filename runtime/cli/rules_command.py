"""`rules`: lists, puts, deletes and tests the rules that send events to targets."""

import asyncio
import time

import click

from runtime.cli import completion
from runtime.cli.failures import usage
from runtime.cli.flags import configured, moment_or_first
from runtime.cli.named import as_json, expect, kept_name
from runtime.cli.output import time_text
from runtime.host.config import Configuration


@click.group("rules")
def command() -> None:
    """Rules: which events go to which targets. They change while everything runs.

    A change of a rule is in force in all routers when its command ends. `actorloom run runtime.router` runs a router.
    """


_rule = click.argument("name", callback=kept_name, shell_complete=completion.rules)
_since = click.option(
    "--since", callback=moment_or_first, metavar="WHEN",
    help="Also send the events from this time on: 2h (ago), 2026-03-01T12:00Z, or first for all that are stored.",
)  # fmt: skip
_forgotten = click.option(
    "--forgotten", is_flag=True,
    help="With --since: also events that are older than a target remembers deliveries. It may get them a second time.",
)  # fmt: skip
_expect = expect("rule")
_unchecked = click.option(
    "--unchecked", is_flag=True, help="Do not compare with the contracts of the events and of the targets."
)


@command.command("ls")
@as_json
@configured("nats.url", "namespace", "timeout")
def list_(configuration: Configuration, as_json: bool) -> None:
    """List the rules by name: version, state, types and sources of events, and targets."""
    from runtime.cli.rules import list_all

    asyncio.run(list_all(configuration, as_json))


@command.command("show")
@_rule
@configured("nats.url", "namespace", "timeout")
def show(configuration: Configuration, name: str) -> None:
    """Print a rule as JSON."""
    from runtime.cli.rules import show

    asyncio.run(show(configuration, name))


@command.command("put")
@click.argument("name", callback=kept_name, shell_complete=completion.rules)
@click.option(
    "--type", "types", multiple=True, metavar="TYPE", shell_complete=completion.target("event"),
    help="Type of events, such as orders.OrderCreated; repeatable. All types without it.",
)  # fmt: skip
@click.option(
    "--source", "sources", multiple=True, metavar="ACTOR", shell_complete=completion.actors,
    help="Actor that emits the events; repeatable. All actors without it.",
)  # fmt: skip
@click.option("--where", metavar="JSON", help="Pattern of the content.")
@click.option(
    "--target", "targets", multiple=True, metavar="NAME[=INPUT]", shell_complete=completion.routed_targets,
    help="Target, and the input that it gets, as JSON with paths; repeatable. The fields of the event without INPUT.",
)  # fmt: skip
@click.option("--description", default="", metavar="TEXT", help="A text for people.")
@click.option("--disabled", is_flag=True, help="Do not match any event until the rule is enabled.")
@click.option(
    "--file", metavar="FILE", help="YAML or JSON file with the fields of the rule, instead of options; - for stdin."
)
@_expect
@_unchecked
@_since
@_forgotten
@as_json
@configured("nats.url", "namespace", "timeout")
def put(
    configuration: Configuration,
    name: str,
    types: tuple[str, ...],
    sources: tuple[str, ...],
    where: str | None,
    targets: tuple[str, ...],
    description: str,
    disabled: bool,
    file: str | None,
    expect: int | None,
    unchecked: bool,
    since: float | None,
    forgotten: bool,
    as_json: bool,
) -> None:
    """Create or replace a rule, as a whole.

    \b
    actorloom rules put big --type orders.OrderCreated --where '{"total": [{"numeric": [">", 100]}]}' \\
        --target crm='{"id": "$.orderId", "note": "Order of {$.customer.name}"}'

    A rule that can never match, or whose targets can never take its input, is refused. The actors that run now are the measure.

    A rule matches the events that are stored from now on. --since sends those before as well, as `replay start --rule` does: each event once
    to each target.
    """
    from runtime.cli.rules import fields_from_file, fields_from_options, put_rule
    from runtime.router.rule import PutRule

    if file is not None:
        if types or sources or where is not None or targets or description or disabled:
            usage("give either --file or the options of a rule, not both")
        fields = fields_from_file(file)
    else:
        if not targets:
            usage("--target: a rule has at least one target")
        fields = fields_from_options(types, sources, where, targets, description, disabled)
    _check_since(since, forgotten)
    if since is not None and not fields.enabled:
        usage("--since: the rule is disabled, and no event is sent: use --since with `rules enable`")
    asyncio.run(put_rule(configuration, PutRule(name, fields, expect, unchecked), since, forgotten, as_json))


def _check_since(since: float | None, forgotten: bool) -> None:
    """End the command if --forgotten stands alone, or --since is later than now."""
    if since is None:
        if forgotten:
            usage("--forgotten: give --since with it")
    elif since > time.time() + 60:  # the clock of this machine may be late
        usage(f"--since: {time_text(since)} is later than now")


@command.command("delete")
@_rule
@_expect
@configured("nats.url", "namespace", "timeout")
def delete(configuration: Configuration, name: str, expect: int | None) -> None:
    """Delete a rule. What it has sent to its targets is delivered all the same."""
    from runtime.cli.rules import delete

    asyncio.run(delete(configuration, name, expect))


@command.command("enable")
@_rule
@_expect
@_since
@_forgotten
@configured("nats.url", "namespace", "timeout")
def enable(configuration: Configuration, name: str, expect: int | None, since: float | None, forgotten: bool) -> None:
    """Enable a rule. It matches events that are emitted from then on, and with --since those before."""
    from runtime.cli.rules import switch

    _check_since(since, forgotten)
    asyncio.run(switch(configuration, name, True, expect, since, forgotten))


@command.command("disable")
@_rule
@_expect
@configured("nats.url", "namespace", "timeout")
def disable(configuration: Configuration, name: str, expect: int | None) -> None:
    """Disable a rule. Events that are emitted meanwhile do not match it later."""
    from runtime.cli.rules import switch

    asyncio.run(switch(configuration, name, False, expect))


@command.command("apply")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--prune", is_flag=True, help="Delete the rules and targets that the files do not have.")
@click.option("--dry-run", is_flag=True, help="Only print the difference. The exit code is 1 if there is one.")
@_unchecked
@configured("nats.url", "namespace", "timeout")
def apply(
    configuration: Configuration, files: tuple[str, ...], yes: bool, prune: bool, dry_run: bool, unchecked: bool
) -> None:
    """Make the rules and targets those of YAML or JSON files, after the difference is shown.

    A file has the maps targets and rules, by name; - is stdin. Targets are put first, then rules; deletions come last. If another change
    comes in between, the command ends with an error, and can be repeated.
    """
    from runtime.cli.rule_files import apply

    apply(configuration, files, yes=yes, prune=prune, dry_run=dry_run, unchecked=unchecked)


_event = click.option(
    "--event", metavar="EVENT", help="JSON of the event, a file with it, STREAM:SEQUENCE, or - for stdin."
)
_key = click.option(
    "--key", metavar="KEY", help="Key of the event. By default it is read from the field that the actor announces."
)


@command.command("test")
@click.argument("name", required=False, callback=kept_name, shell_complete=completion.rules)
@click.option("--where", metavar="JSON", help="Pattern to test, without a rule or in place of that of the rule.")
@_event
@click.option(
    "--type", metavar="TYPE", shell_complete=completion.target("event"),
    help="Type of the event, if its JSON has none. By default the only type of the rule.",
)  # fmt: skip
@_key
@as_json
@configured("nats.url", "namespace", "timeout")
def test(
    configuration: Configuration,
    name: str | None,
    where: str | None,
    event: str | None,
    type: str | None,
    key: str | None,
    as_json: bool,
) -> None:
    """Say whether a rule matches an event: if not, which field does not, and why; if so, what each target gets.

    \b
    actorloom rules test big --event orders-events:17
    actorloom rules test --where '{"country": ["DK"]}' --event '{"country": "SE"}'

    Nothing is sent. The exit code is 1 if the rule does not match, or if an input cannot be made.
    """
    from runtime.cli.rule_tests import test

    if event is None:
        usage("--event: give the event")
    asyncio.run(test(configuration, name, where, event, type, key, as_json))


@command.command("who")
@click.argument("type", required=False, shell_complete=completion.target("event"))
@_event
@_key
@as_json
@configured("nats.url", "namespace", "timeout")
def who(configuration: Configuration, type: str | None, event: str | None, key: str | None, as_json: bool) -> None:
    """Show which rules match events of TYPE, or one event, and for each other rule the first reason why not."""
    from runtime.cli.rule_tests import who

    asyncio.run(who(configuration, type, event, key, as_json))
