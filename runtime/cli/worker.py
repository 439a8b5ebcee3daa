"""A worker of `run --workers`: a process that serves the actors, and reports to the process that has started it."""

from collections.abc import Sequence
from typing import NoReturn

import click

from runtime.cli.failures import KNOWN, explained
from runtime.cli.link import Link
from runtime.cli.serving import serve
from runtime.cli.targets import find_actors
from runtime.host.config import Configuration


def serve_as_worker(configuration: Configuration, targets: Sequence[str], link: Link) -> None:
    """Serve actors until a signal, or until the parent ends. The parent prints why it fails."""
    try:
        serve(configuration, find_actors(targets), link)
    except KNOWN as error:
        _fail(link, error)


def _fail(link: Link, error: BaseException) -> NoReturn:
    failure = explained(error)
    link.fail(failure.message)
    if click.get_current_context().find_root().params["debug"]:
        raise error
    raise SystemExit(failure.exit_code)
