"""`rules apply`: makes the kept rules and targets those of files, after it has shown the difference."""

import asyncio
import sys
from collections.abc import Iterator, Sequence

import click

from runtime.cli.failures import FAILED, Failure, exit_code, usage
from runtime.cli.output import echo, print_note, style
from runtime.cli.router_bus import report_in_force, router_bus
from runtime.errors import ActorError, NotDelivered
from runtime.host.config import Configuration
from runtime.router.files import Change, changes, make_change, read_files
from runtime.router.rule import Rule

_COLORS = {"+": "green", "-": "red", "~": "yellow"}


def apply(
    configuration: Configuration, files: Sequence[str], *, yes: bool, prune: bool, dry_run: bool, unchecked: bool
) -> None:
    """Print the difference between files and the kept rules and targets, ask, and make the changes.

    Raises:
        Failure: There is a difference and this is a dry run, or a change is refused.
        ConfigurationError: A file is wrong.
    """
    content = read_files(files)

    async def plan() -> list[Change]:
        async with router_bus(configuration) as bus:
            return await changes(bus, content, prune=prune)

    found = asyncio.run(plan())
    for line in diff_lines(found):
        echo(line)
    if dry_run and found:
        raise click.exceptions.Exit(FAILED)
    if not found:
        print_note("no difference")
        return
    _confirm(found, yes)
    asyncio.run(_make(configuration, found, unchecked))


def diff_lines(found: Sequence[Change]) -> Iterator[str]:
    """Yield the lines of a difference for `echo`: each rule or target, and below it its fields before and after."""
    for change in found:
        kept = f" (version {change.version})" if change.version else ""
        yield style(f"{change.sign} {change.kind} {change.name}{kept}", fg=_COLORS[change.sign], bold=True)
        for each in change.differences() if change.new is not None else ():
            if each.old is not None:
                yield style(f"  - {each.field}: {each.old}", fg="red")
            if each.new is not None:
                yield style(f"  + {each.field}: {each.new}", fg="green")


def _confirm(found: Sequence[Change], yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        usage("nobody can be asked here: look at the difference with --dry-run, and give --yes")
    number = len(found)
    click.confirm(f"Make {'this change' if number == 1 else f'these {number} changes'}?", abort=True, err=True)


async def _make(configuration: Configuration, found: Sequence[Change], unchecked: bool) -> None:
    async with router_bus(configuration) as bus:
        router_runs = True
        for number, change in enumerate(found):
            try:
                rule = await make_change(bus, change, unchecked=unchecked)
                if rule is None or not router_runs:
                    print_note(f"{change.name}: {_done(change, rule)}")
                else:
                    router_runs = await report_in_force(bus, rule, _done(change, rule))
            except NotDelivered:
                raise
            except (ActorError, TimeoutError) as error:
                made = f"{number} of {len(found)} changes are made, and that of {change.kind} {change.name} is not"
                raise Failure(f"{error}; {made}", exit_code(error)) from None


def _done(change: Change, rule: Rule | None) -> str:
    if rule is None:
        return f"the target is {'deleted' if change.new is None else 'put'}"
    return "deleted" if change.new is None else f"version {rule.version}"
