"""`config`: shows the settings and their origins."""

import click

from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.group("config")
def command() -> None:
    """Show the settings and their origins."""


@command.command("show")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@configured("nats.url", "namespace", "timeout")
def show(configuration: Configuration, as_json: bool) -> None:
    """Print every setting with its value and origin. Secrets are masked."""
    from runtime.cli.output import print_json, print_table

    rows = configuration.rows()
    if as_json:
        print_json({key: {"value": value, "from": origin} for key, value, origin in rows})
    else:
        print_table(("setting", "value", "from"), [(key, _text(value), origin) for key, value, origin in rows])


def _text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return str(value).lower()
        case _:
            return str(value)
