"""`health`: checks services for containers and scripts, by an exit code."""

import asyncio

import click

from runtime.cli import completion
from runtime.cli.flags import configured
from runtime.host.config import Configuration


@click.command("health")
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=completion.services)
@configured("nats.url", "namespace", "timeout", "health_port")
def command(configuration: Configuration, names: tuple[str, ...]) -> None:
    """Exit with 0 if every named service answers in time.

    With --namespace, only services of this namespace count. Without a name, check the process on the health port of this machine, if one is set (--health-port,
    ACTORLOOM_HEALTH_PORT); otherwise check that any service answers.
    """
    settings = configuration.settings
    if not names and settings.health_port:
        _probe(f"http://127.0.0.1:{settings.health_port}/readyz", settings.timeout)
    else:
        asyncio.run(_ping(configuration, names))


async def _ping(configuration: Configuration, names: tuple[str, ...]) -> None:
    from runtime.admin import discovery
    from runtime.cli.client import connected
    from runtime.cli.failures import NOT_FOUND, Failure
    from runtime.cli.output import print_json

    settings = configuration.settings
    # Without the setting, a service counts in whatever namespace it is.
    namespace = settings.namespace if "namespace" in configuration.values else None
    async with connected(configuration) as connection:
        counted = await discovery.instances(connection, names, namespace=namespace, timeout=settings.timeout)
    missing = [name for name, count in counted.items() if not count]
    if missing or not counted:
        place = f" in namespace {settings.namespace!r}" if settings.namespace else ""
        raise Failure(f"no answer from {', '.join(missing) or 'any service'}{place}", NOT_FOUND)
    print_json(counted)


def _probe(address: str, timeout: float) -> None:
    from urllib.error import HTTPError
    from urllib.request import urlopen

    from runtime.cli.failures import FAILED, NOT_FOUND, Failure
    from runtime.cli.output import print_json

    try:
        with urlopen(address, timeout=timeout) as answer:
            print_json(answer.read())
    except HTTPError as error:
        with error:
            raise Failure(f"{address}: {error.read().decode(errors='replace')}", FAILED) from None
    except OSError as error:
        raise Failure(f"{address}: {error}", NOT_FOUND) from None
