"""`check`: finds mistakes in the wiring of actors, in their code."""

import warnings

import click


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option(
    "--with", "beside", multiple=True, metavar="TARGET", help="Other actors of the system, not checked themselves."
)
@click.option(
    "--rules", "rules", multiple=True, metavar="FILE", type=click.Path(exists=True, dir_okay=False),
    help="Rules and targets of the router, as `rules apply` takes them: they read events, and are checked as well.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(targets: tuple[str, ...], beside: tuple[str, ...], rules: tuple[str, ...], as_json: bool) -> None:
    """Find mistakes between actors, such as a reaction to an event that nobody emits. Exit with 1 if there are any.

    TARGET is a package of services, a part of it, a file, or a class, as for `run`. The actors are imported and do not run.
    A comment switches a finding off: # actorloom: ignore[unread-event]
    """
    from runtime.actor.message import NamingWarning
    from runtime.cli.failures import FAILED
    from runtime.cli.output import echo, print_json, print_note
    from runtime.cli.targets import find_actors
    from runtime.contracts.linter import Finding, lint
    from runtime.contracts.source import package_of

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NamingWarning)  # it is a finding
        actors, others = find_actors(targets), find_actors(beside)
    packages = {package_of(actor.__module__) for actor in (*actors, *others)}
    readers: set[str] = set()
    of_rules: list[Finding] = []
    if rules:
        from runtime.cli.check_rules import check_rules

        readers, of_rules = check_rules(rules, (*actors, *others))
    findings = sorted([*lint(actors, others, packages=packages, extra_readers=readers), *of_rules])
    if as_json:
        print_json(findings)
    else:
        for each in findings:
            echo(f"{each.file}:{each.line}: {each.code} {each.text}")
        count = f"{len(actors)} actor{'s' * (len(actors) != 1)}"
        print_note(f"{len(findings) or 'no'} finding{'s' * (len(findings) != 1)} in {count}")
    if findings:
        raise click.exceptions.Exit(FAILED)
