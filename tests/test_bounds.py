"""Bounds: every number of every option has them, in code, in the file, in the environment and in a flag."""

import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner

from runtime import (
    Actor,
    Bus,
    Command,
    ConfigurationError,
    DeclarationError,
    Event,
    Options,
    Overloaded,
    Rejected,
    Retry,
    command,
    react,
)
from runtime.bounds import Bounded
from runtime.cli import actorloom
from runtime.client.breaker import BreakerPolicy
from runtime.errors import from_wire
from runtime.host.config import Configuration, Setting, Settings, load
from runtime.host.host import Deployment
from runtime.nats.options import ConnectionOptions
from runtime.nats.server import EmbeddedServer
from runtime.options import RetryPolicy
from tests.support.probe import running

OPTIONS: tuple[type[Bounded], ...] = (Options, RetryPolicy, BreakerPolicy, ConnectionOptions, Settings, Deployment)
BAD: tuple[Any, ...] = (math.nan, math.inf, -math.inf, -1, -0.5, True, False, 10**30, 1e300, "5", [1])
ZERO = {"limit", "slow", "unserved", "parked", "idle", "first", "longest", "min_duration", "health_port"}
"""Numbers that may be 0."""


class Bump(Command[None], actor="bumps", key="name"):
    name: str


class Bumped(Event, actor="bumps", key="name"):
    name: str


def numbers(options: type[Bounded]) -> list[tuple[str, Any]]:
    """Return the names and the smallest and largest values of all numbers of an options struct."""
    found: list[tuple[str, Any]] = []
    for field in msgspec.structs.fields(options):
        info = msgspec.inspect.type_info(field.type)
        kinds = info.types if isinstance(info, msgspec.inspect.UnionType) else (info,)
        found += [
            (field.name, kind)
            for kind in kinds
            if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType)
        ]
    return found


CASES = [(options, name, kind) for options in OPTIONS for name, kind in numbers(options)]


def name_of(case: Any) -> str | None:
    return case if isinstance(case, str) else case.__name__ if isinstance(case, type) else ""


def test_every_options_struct_is_known_here() -> None:
    def below(options: type) -> set[type]:
        return {options}.union(*(below(each) for each in options.__subclasses__()))

    ours = {each for each in below(Bounded) - {Bounded} if each.__module__.startswith("runtime.")}
    assert ours == set(OPTIONS)
    assert len(CASES) >= 24


@pytest.mark.parametrize(("options", "name", "kind"), CASES, ids=name_of)
def test_a_number_outside_of_its_bounds_is_refused_by_name(options: type[Bounded], name: str, kind: Any) -> None:
    low, high = (kind.ge if kind.ge is not None else kind.gt), (kind.le if kind.le is not None else kind.lt)
    if name == "limit":
        high = 1e300  # it may be infinite
    assert low is not None and high is not None, "both bounds"
    bad = [*BAD, *([] if name in ZERO else [0, 0.0]), high + 1, low - 1]
    if isinstance(kind, msgspec.inspect.IntType):
        bad += [2.0, 2.5]
    for value in bad:
        if name == "limit" and value in (math.inf, 1e300, 10**30):
            continue
        with pytest.raises(ConfigurationError, match=rf"^{options.__name__}\.{name} = "):
            options(**{name: value})
    for value in (high, low if kind.gt is None else high / 2):
        assert getattr(options(**{name: value}), name) == value


def settings() -> list[tuple[str, str]]:
    """Return the table and the name of each number in the file."""
    rows = [("", name) for name, _ in numbers(Settings)] + [("nats", name) for name, _ in numbers(ConnectionOptions)]
    rows += [("actors.orders", name) for name, _ in numbers(Options)]
    return rows + [("actors.orders.retry", name) for name, _ in numbers(RetryPolicy)]


@pytest.mark.parametrize(("table", "name"), settings(), ids=name_of)
def test_a_bad_number_in_the_file_the_environment_or_a_flag_is_refused_by_name(
    tmp_path: Path, table: str, name: str
) -> None:
    file = tmp_path / "a.toml"
    words = ["nan", "-inf", "-1", "true", '"many"', "[1]"]
    words += [] if name in ZERO else ["0"]
    words += [] if name == "limit" else ["inf", "1e300", "10000000000000"]
    for word in words:
        file.write_text(f"[{table}]\n{name} = {word}\n" if table else f"{name} = {word}\n")
        with pytest.raises(ConfigurationError, match=rf"a\.toml: .*{name}"):
            load(file=file, environ={})
        key = f"{table}.{name}" if table else name
        text = word.strip('"')
        with pytest.raises(ConfigurationError, match=f"--flag: .*{name}"):
            Configuration({key: Setting(text, "--flag")})
        if not table:
            with pytest.raises(ConfigurationError, match=f"ACTORLOOM_{name.upper()}: {name}"):
                load(environ={f"ACTORLOOM_{name.upper()}": text, "ACTORLOOM_CONFIG": ""})


@pytest.mark.parametrize(
    ("arguments", "environ", "text"),
    [
        (["run", "--lease-ttl", "nan", "nothing"], {}, "--lease-ttl: lease_ttl = nan"),
        (["doctor", "--replicas", "0"], {}, "--replicas: replicas = 0"),
        (["config", "show"], {"ACTORLOOM_TIMEOUT": "inf"}, "ACTORLOOM_TIMEOUT: timeout = 'inf'"),
        (["health", "--timeout", "-1"], {}, "--timeout: timeout = -1.0"),
    ],
)
def test_a_command_with_a_bad_number_exits_with_2(
    arguments: list[str], environ: dict[str, str], text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    result = CliRunner().invoke(actorloom, arguments, env=environ)
    assert result.exit_code == 2 and text in result.output


@pytest.mark.parametrize("value", [0, -3, True, 2.0, math.nan, math.inf, 10**12, "3"])
def test_a_bad_number_in_a_class_is_refused_at_import(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Options\.mailbox = "):

        class Limited(Actor):
            name = "limited"
            options = Options(mailbox=value)

    with pytest.raises(DeclarationError, match=r"attempts = "):

        class Reacting(Actor):
            name = "reacting"

            @react(attempts=value)
            async def on_bumped(self, event: Bumped) -> None: ...

    with pytest.raises(DeclarationError, match=r"state_version = "):

        class Versioned(Actor):
            name = "versioned"
            state_version = value

            @command
            async def bump(self, message: Bump) -> None: ...


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, 1e300])
def test_a_bad_delay_in_an_error_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"Retry: after = "):
        Retry("later", after=value)
    with pytest.raises(ValueError, match=r"Overloaded: retry_after = "):
        Overloaded("full", retry_after=value)
    with pytest.raises(ValueError, match=r"Rejected: retry_after = "):
        Rejected("not now", retry_after=value)
    rejected = from_wire(409, "Rejected", "not now", False, value)
    assert isinstance(rejected, Rejected) and rejected.retry_after is None
    error = from_wire(429, "Overloaded", "full", False, value)  # anybody may answer so
    assert isinstance(error, Overloaded) and error.retry_after == 0.1


async def test_a_timeout_that_is_no_duration_is_refused(nats_server: EmbeddedServer, namespace: str) -> None:
    class Bumps(Actor):
        name = "bumps"

        @command
        async def bump(self, message: Bump) -> None: ...

    async with running(Bumps, url=nats_server.url, namespace=namespace) as system:
        for value in (math.nan, math.inf, 1e300):
            with pytest.raises(DeclarationError, match="timeout = "):
                await system.bus.command(Bump("a"), timeout=value)
            with pytest.raises(ConfigurationError, match="timeout = "):
                Bus(system.connection, system.tracing.service("test"), timeout=value)
        await system.bus.command(Bump("a"), timeout=1)
