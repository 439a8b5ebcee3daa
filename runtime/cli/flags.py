"""The flags of settings: a command names its settings and gets the whole configuration."""

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from runtime.errors import CodecError
from runtime.host.config import Configuration, Setting, load
from runtime.wire import header_block
from runtime.wire.ids import check_id

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
"""Seconds by unit of a duration."""

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")

_FLAGS: dict[str, tuple[str, dict[str, Any]]] = {
    "nats.url": (
        "--nats",
        {"metavar": "URL", "help": "URL of the NATS server; several for a cluster, separated by commas."},
    ),
    "namespace": ("--namespace", {"metavar": "NAME", "help": "First token of every subject and stream."}),
    "timeout": ("--timeout", {"type": float, "metavar": "SECONDS", "help": "Time to wait for a reply."}),
    "data": ("--data", {"metavar": "DIRECTORY", "help": "Data of the embedded nats-server (default .actorloom)."}),
    "nats_server": ("--nats-server", {"metavar": "FILE", "help": "The nats-server to embed."}),
    "sync_always": (
        "--sync-always/--no-sync-always",
        {"default": None, "help": "Whether the embedded nats-server syncs each write to disk before it acknowledges."},
    ),
    "lease_ttl": (
        "--lease-ttl",
        {"type": float, "metavar": "SECONDS", "help": "Time after which another process takes over from a lost one."},
    ),
    "replicas": ("--replicas", {"type": int, "metavar": "N", "help": "Copies of each stream in a cluster."}),
    "allow_breaking": (
        "--allow-breaking/--no-allow-breaking",
        {"default": None, "help": "Whether actors start although a change of their contract breaks others."},
    ),
    "workers": (
        "--workers",
        {"type": int, "metavar": "N", "help": "Processes that run the actors (default 1: the command itself)."},
    ),
    "health_port": (
        "--health-port",
        {"type": int, "metavar": "PORT", "help": "Serve /livez, /readyz and /metrics (0: any free port)."},
    ),
    "health_host": ("--health-host", {"metavar": "ADDRESS", "help": "Address of the health port (default 127.0.0.1)."}),
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


def message_id(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    """Return the value of ``--id``. Ends the command if the text cannot be an id."""
    try:
        return None if given is None else check_id(given)
    except CodecError as error:
        raise click.BadParameter(str(error)) from None


def configured(*keys: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the flags of the settings `keys` to a command, and pass the merged `Configuration` as its first argument."""

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
            help="File of settings (default actorloom.toml).",
        )(decorated)
        for key in reversed(keys):
            flag, attributes = _FLAGS[key]
            decorated = click.option(flag, _parameter(key), **attributes)(decorated)
        return decorated

    return decorate


def configuration_of(parameters: Mapping[str, Any]) -> Configuration:
    """Return the configuration of a command that is typed only in part, given the parameters that click has read so far.

    Raises:
        ConfigurationError: A setting is invalid.
    """
    flags = {
        key: Setting(value, _name(key)) for key in _FLAGS if (value := parameters.get(_parameter(key))) is not None
    }
    return load(flags, file=parameters.get("config_file"))


def _name(key: str) -> str:
    """Return the name of a flag, as error messages show it: ``--nats``."""
    flag, _ = _FLAGS[key]
    return flag.partition("/")[0]  # without its negation


def _parameter(key: str) -> str:
    return f"set_{key.replace('.', '_')}"


def _http_url(_: click.Context, __: click.Parameter, given: str | None) -> str | None:
    if given and not re.fullmatch(r"https?://[^/\s]+(/\S*)?", given):
        raise click.BadParameter(f"{given!r} is not a URL: write http://HOST:PORT")
    return given


http_url: dict[str, Any] = {"metavar": "URL", "callback": _http_url}
"""The attributes of an option with a URL of HTTP. Another text ends the command."""


def tracing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--trace`` and ``--jaeger`` to a command."""
    function = click.option(
        "--jaeger",
        **http_url,
        help="Print the trace of the request as a tree, from Jaeger at URL (http://localhost:16686).",
    )(function)
    return click.option("--trace", is_flag=True, help="Print the id of the trace of the request to stderr.")(function)


def header(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--header`` to a command, passed as `headers`."""
    return click.option(
        "--header",
        "headers",
        multiple=True,
        callback=_pairs,
        metavar="NAME:VALUE",
        help="An additional header; repeatable.",
    )(function)


def _pairs(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip():
            raise click.BadParameter(f"{text!r}: write NAME:VALUE")
        pairs.append((name.strip(), value.strip()))
    try:
        header_block.encode_lines(pairs)
    except CodecError as error:
        raise click.BadParameter(str(error)) from None
    return pairs


def seconds_of(text: str) -> float | None:
    """Return the seconds of a duration such as ``30m``, ``2h`` or ``7d``; None if the text is none."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    return None if found is None else float(found[1]) * _UNITS[found[2]]


def moment_or_first(context: click.Context, parameter: click.Parameter, text: str | None) -> float | None:
    """Return what `moment` returns; 0.0 for ``first``, the first event that is stored."""
    return 0.0 if text == "first" else moment(context, parameter, text)


def moment(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """Return the value of an option with a time as Unix seconds: a time, or a duration before now. Another text ends the command."""
    if text is None:
        return None
    try:
        if (ago := seconds_of(text)) is not None:
            seconds = time.time() - ago
        else:
            moment = datetime.fromisoformat(text)
            seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        datetime.fromtimestamp(seconds, UTC)  # raises outside of the years 1 to 9999, which no output could show
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(f"{text[:40]!r}: write 30m, 2h, 7d, or a time such as 2026-03-01T12:00Z") from None
    return seconds
