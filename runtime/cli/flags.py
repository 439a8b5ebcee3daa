"""The flags that stand for settings: a command names those it takes, and is given the whole configuration."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from runtime.host.config import Setting, load

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "nats.url": ("--nats", {"metavar": "URL", "help": "Where NATS is; several, separated by commas, in a cluster."}),
    "namespace": ("--namespace", {"metavar": "NAME", "help": "Stands in front of every subject and stream."}),
    "timeout": ("--timeout", {"type": float, "metavar": "SECONDS", "help": "How long to wait for an answer."}),
    "data": ("--data", {"metavar": "DIRECTORY", "help": "Data of the embedded nats-server (default .actorloom)."}),
    "nats_server": ("--nats-server", {"metavar": "FILE", "help": "The nats-server to embed."}),
    "sync_always": (
        "--sync-always/--no-sync-always",
        {"default": None, "help": "Whether the embedded nats-server has each write on disk before it acknowledges."},
    ),
    "lease_ttl": (
        "--lease-ttl",
        {"type": float, "metavar": "SECONDS", "help": "After how long another process takes over from a dead one."},
    ),
    "replicas": ("--replicas", {"type": int, "metavar": "N", "help": "Copies of each stream in a cluster."}),
    "health_port": (
        "--health-port",
        {"type": int, "metavar": "PORT", "help": "Serve /livez, /readyz and /metrics (0: any free port)."},
    ),
    "health_host": ("--health-host", {"metavar": "ADDRESS", "help": "Where the health port listens (127.0.0.1)."}),
    "log_level": ("--log-level", {"type": click.Choice(_LEVELS, case_sensitive=False)}),
    "log_format": (
        "--log-format",
        {"type": click.Choice(("auto", "json", "text")), "help": "auto: text on a terminal, JSON elsewhere."},
    ),
    "nats.loopback": (
        "--loopback/--no-loopback",
        {"default": None, "help": "Whether requests between the actors of this process skip NATS."},
    ),
    "uvloop": ("--uvloop/--no-uvloop", {"default": None, "help": "Whether to run on uvloop."}),
}


def configured(*keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command the flags of the settings `keys`, and the merged `Configuration` as its first argument."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def command(config_file: Path | None, **arguments: Any) -> Any:
            flags = {key: Setting(arguments.pop(_parameter(key)), _name(key)) for key in keys}
            return function(load(flags, file=config_file), **arguments)

        decorated: Callable[..., Any] = command
        decorated = click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            help="The settings' file (default actorloom.toml).",
        )(decorated)
        for key in reversed(keys):
            flag, attributes = _FLAGS[key]
            decorated = click.option(flag, _parameter(key), **attributes)(decorated)
        return decorated

    return decorate


def _name(key: str) -> str:
    """Return the name of a flag, as error messages show it: ``--nats``."""
    flag, _ = _FLAGS[key]
    return flag.partition("/")[0]  # without its negation


def _parameter(key: str) -> str:
    return f"set_{key.replace('.', '_')}"


def tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--trace`` and ``--jaeger``."""
    function = click.option(
        "--jaeger",
        metavar="URL",
        help="Jaeger's address, as http://localhost:16686: prints the request's trace as a tree.",
    )(function)
    return click.option("--trace", is_flag=True, help="Print the id of the request's trace on stderr.")(function)


def header(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command ``--header``, as `headers`."""
    return click.option(
        "--header",
        "headers",
        multiple=True,
        callback=_pairs,
        metavar="NAME:VALUE",
        help="A further header; repeatable.",
    )(function)


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{text!r}: write NAME:VALUE")
        pairs.append((name.strip(), value.strip()))
    return pairs
