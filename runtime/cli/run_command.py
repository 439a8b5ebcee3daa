"""`run`: runs actors in one process, from start to drain."""

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration

_FLAGS = (
    "nats.url", "namespace", "data", "nats_server", "sync_always", "lease_ttl", "replicas", "allow_breaking",
    "workers",
    "health_port", "health_host", "log_level", "log_format", "nats.loopback", "uvloop",
)  # fmt: skip


@click.command("run")
@click.argument("targets", nargs=-1, required=True, metavar="TARGET...")
@click.option("--reload", is_flag=True, help="Restart when a Python file below the working directory changes.")
@click.option("--worker", type=(int, int), hidden=True, help="Number and socket of a worker, for its parent.")
@configured(*_FLAGS)
def command(
    configuration: Configuration, targets: tuple[str, ...], reload: bool, worker: tuple[int, int] | None
) -> None:
    """Run actors until Ctrl-C or SIGTERM. The first signal drains them, a second one ends the process at once.

    TARGET is a package of services (my_package), a part of it (my_package.orders), a file (orders.py), or a class
    (my_package.module:MyActor).
    Without a URL (--nats, NATS_URL, nats.url in the file) the command starts a nats-server.
    With --workers, N processes run the actors. The command passes signals on, and restarts a worker that ends.
    """
    if worker is not None:
        from runtime.cli.link import Link
        from runtime.cli.worker import serve_as_worker

        serve_as_worker(configuration, targets, Link(*worker))
    elif reload:
        from runtime.cli.reload import serve_and_reload

        serve_and_reload(configuration)
    elif configuration.settings.workers > 1:
        from runtime.cli.workers import serve_by_workers

        serve_by_workers(configuration)
    else:
        from runtime.cli.serving import serve
        from runtime.cli.targets import find_actors

        serve(configuration, find_actors(targets))
