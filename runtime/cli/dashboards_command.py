"""`dashboards`: writes Grafana dashboards and Prometheus alert rules of actors."""

from pathlib import Path

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("dashboards")
@click.argument("targets", nargs=-1, metavar="[TARGET...]")
@click.option(
    "--output",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Directory for grafana/*.json and prometheus/*.yaml. Files of these names are replaced.",
)
@configured("nats.url", "namespace")
def command(configuration: Configuration, targets: tuple[str, ...], output: Path) -> None:
    """Write Grafana dashboards and Prometheus alert rules, one file for each actor, and an overview.

    TARGET is a package of services, a part of it, a file, or a class, as for `run`. The code is read, and nothing is connected.
    Without a TARGET, the files are those of the services that run. The same contracts give the same files.

    \b
    actorloom dashboards actorloom_shop --output deploy
    """
    from runtime.cli.contracted import contracted
    from runtime.cli.output import print_note
    from runtime.contracts.alerts import alerts_of
    from runtime.contracts.dashboards import dashboards_of
    from runtime.contracts.plain import write_json

    services = contracted(configuration, targets, own=True)
    files = {
        **{output / "grafana" / name: write_json(each) for name, each in dashboards_of(services).items()},
        **{output / "prometheus" / name: text.encode() for name, text in alerts_of(services).items()},
    }
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
        print_note(f"wrote {path}")
