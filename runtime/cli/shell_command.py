"""`shell`: opens a Python prompt with a connected bus."""

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("shell")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@configured("nats.url", "namespace", "timeout")
def command(configuration: Configuration, targets: tuple[str, ...]) -> None:
    """Open a Python prompt in which `bus` is connected and `await` works.

    \b
    actorloom shell my_package
    >>> await bus.query(GetOrder("1"))

    TARGET is a package, module or file, as for `run`. The prompt knows its messages, and the types in their modules.
    Lines that are piped in run without a prompt; the exit code is then that of the first error.
    """
    from runtime.cli.shell import run_shell

    run_shell(configuration, targets)
