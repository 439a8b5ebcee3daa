"""`check`: finds mistakes in the wiring of actors, in their code."""

import warnings

import click


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--with", "beside", multiple=True, metavar="TARGET", help="Other actors of the system, not checked themselves."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(targets: tuple[str, ...], beside: tuple[str, ...], as_json: bool) -> None:
    """Find mistakes between actors, such as a reaction to an event that nobody emits. Exit with 1 if there are any.

    TARGET is a package of services, a part of it, a file, or a class, as for `run`. The actors are imported and do not run.
    A comment switches a finding off: # actorloom: ignore[unread-event]
    """
    from runtime.actor.message import NamingWarning
    from runtime.cli.failures import FAILED
    from runtime.cli.output import echo, print_json, print_note
    from runtime.cli.targets import find_actors
    from runtime.contracts.linter import lint
    from runtime.contracts.source import package_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NamingWarning)  # it is a finding
        actors, others = find_actors(targets), find_actors(beside)
    packages = {package_of(actor.__module__) for actor in (*actors, *others)}
    findings = lint(actors, others, packages=packages)
    if as_json:
        print_json(findings)
    else:
        for each in findings:
            echo(f"{each.file}:{each.line}: {each.code} {each.text}")
        count = f"{len(actors)} actor{'s' * (len(actors) != 1)}"
        print_note(f"{len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {count}")
    if findings:
        raise click.exceptions.Exit(FAILED)
