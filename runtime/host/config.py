"""Settings of a process: flag, else environment, else TOML file, else default; each known with where it came from.

    configuration = load({"namespace": "shop"})     # flags; ACTORLOOM_* and NATS_*; actorloom.toml in the directory
    configuration.settings.lease_ttl, configuration.connection, configuration.options(Orders)

The file has the fields of `Settings` at its top, those of `ConnectionOptions` under ``[nats]``, and those of `Options`
under ``[actors.<name>]``. Only natscli's variables (`NATS_URL` …) and its context stand for ``[nats]`` in the environment.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, cast

import msgspec

from runtime.actor.base import Actor
from runtime.errors import ConfigurationError
from runtime.nats.options import SECRETS, ConnectionOptions, environment, without_userinfo
from runtime.options import Options
from runtime.wire.subjects import valid_namespace

FILE: Final = "actorloom.toml"
"""Read from the working directory where no other file is named."""

PREFIX: Final = "ACTORLOOM_"

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What is set for a process, beside its connection and its actors."""

    namespace: str = ""
    """Stands in front of every subject and stream."""
    data: str = ".actorloom"
    """The directory of the embedded nats-server's data."""
    nats_server: str | None = None
    """The nats-server to embed, where it is not to be looked for."""
    sync_always: bool = False
    """Whether the embedded server has every write on disk before it acknowledges."""
    lease_ttl: Annotated[float, msgspec.Meta(ge=0.5)] = 4.0
    """Seconds after which another process takes over from one that died."""
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    """Copies of each stream in a cluster."""
    health_port: Annotated[int, msgspec.Meta(ge=0, le=65535)] | None = None
    """The HTTP port of /livez, /readyz and /metrics (0: any free one); None for none."""
    health_host: str = "127.0.0.1"
    """The address of the health port; ``0.0.0.0`` lets other machines ask, as an orchestrator's probes do."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"
    """`auto`: text on a terminal, JSON elsewhere."""
    uvloop: bool = False
    """Whether to run on uvloop."""
    timeout: Positive = 5.0
    """Seconds that a request from the command line may take."""


class Sourced(NamedTuple):
    """A value and who said it: a flag, a variable, a file, or ``default``."""

    value: Any
    origin: str


class Configuration:
    """All settings, merged and checked."""

    def __init__(self, values: Mapping[str, Sourced]) -> None:
        self.values = dict(values)
        """By dotted key (``nats.url``, ``actors.orders.lane``); without those that are left at their default."""
        top = {key: _converted(key, said, _SETTINGS[key]) for key, said in values.items() if key in _SETTINGS}
        self.settings = Settings(**top)
        if self.settings.namespace and not valid_namespace(self.settings.namespace):
            raise ConfigurationError(
                f"{values['namespace'].origin}: namespace {self.settings.namespace!r}: letters, digits, '-' and '_' only"
            )
        self.embedded = "nats.url" not in values
        """Whether nobody said where NATS is: `run` then starts its own."""
        nats = {key.removeprefix("nats."): said for key, said in values.items() if key.startswith("nats.")}
        self.connection = ConnectionOptions.of(
            {name: (_converted(f"nats.{name}", said, _NATS[name]), said.origin) for name, said in nats.items()}
        )
        self._tables: dict[str, dict[str, Any]] = {}
        for key, said in values.items():
            if key.startswith("actors."):
                self._set_option(key, said)

    @property
    def actors(self) -> frozenset[str]:
        """The actors that the file has a table for."""
        return frozenset(self._tables)

    def options(self, actor: type[Actor[Any]]) -> Options:
        """Return the options of `actor`: those of the configuration over those of the class."""
        table = self._tables.get(actor.name, {})
        return msgspec.convert(_merged(msgspec.to_builtins(actor.options), table), Options, strict=False)

    def shown(self) -> list[tuple[str, Any, str]]:
        """Return key, value and origin of every setting, secrets masked, for people."""
        rows = [(name, getattr(self.settings, name), self._origin(name)) for name in Settings.__struct_fields__]
        for name in ConnectionOptions.__struct_fields__:
            value = getattr(self.connection, name)
            if name == "url":
                value = "embedded" if self.embedded else ", ".join(map(without_userinfo, self.connection.servers))
            elif name in SECRETS and value is not None:
                value = "***"
            rows.append((f"nats.{name}", value, self._origin(f"nats.{name}")))
        rows.extend((key, said.value, said.origin) for key, said in self.values.items() if key.startswith("actors."))
        return rows

    def _origin(self, key: str) -> str:
        return self.values[key].origin if key in self.values else "default"

    def _set_option(self, key: str, said: Sourced) -> None:
        _, actor, *path = key.split(".")
        table: Any = said.value
        for name in reversed(path):
            table = {name: table}
        try:
            msgspec.convert(table, Options, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"{said.origin}: {key}: {error}") from None
        self._tables[actor] = _merged(self._tables.get(actor, {}), table)


def load(
    flags: Mapping[str, Any] | None = None,
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """Return the configuration: `flags` by dotted key (None: not given) over `environ` over the TOML `file`.

    Without `file`, ACTORLOOM_CONFIG names it, else ``actorloom.toml`` is read where it exists. Raises
    `ConfigurationError`, which names the source and the key, for what is unknown or does not fit.
    """
    environ = os.environ if environ is None else environ
    file = file or environ.get(f"{PREFIX}CONFIG")
    path = Path(file or FILE)
    values = _read_file(path) if file or path.is_file() else {}
    for name in _SETTINGS:
        if text := environ.get(f"{PREFIX}{name.upper()}"):
            values[name] = Sourced(text, f"{PREFIX}{name.upper()}")
    values |= {f"nats.{name}": Sourced(*said) for name, said in environment(environ).items()}
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = Sourced(value, f"--{key.removesuffix('.url').rpartition('.')[2].replace('_', '-')}")
    return Configuration(values)


_SETTINGS: Final = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_NATS: Final = {field.name: field.type for field in msgspec.structs.fields(ConnectionOptions)}


def _read_file(path: Path) -> dict[str, Sourced]:
    """Return the values of a TOML file by dotted key, unknown keys refused."""
    try:
        content: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    origin = str(path)
    nats = _table(origin, "nats", content.pop("nats", {}))
    actors = _table(origin, "actors", content.pop("actors", {}))
    _refuse_unknown(origin, "", content, [*_SETTINGS, "nats", "actors"])
    _refuse_unknown(origin, "nats.", nats, _NATS)
    values = {key: Sourced(value, origin) for key, value in content.items()}
    values |= {f"nats.{key}": Sourced(value, origin) for key, value in nats.items()}
    for actor, table in actors.items():
        options = _table(origin, f"actors.{actor}", table)
        _refuse_unknown(origin, f"actors.{actor}.", options, Options.__struct_fields__)
        values |= {f"actors.{actor}.{key}": Sourced(value, origin) for key, value in _flat(options).items()}
    return values


def _table(origin: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{origin}: {key} is a table: write [{key}]")
    return cast("dict[str, Any]", value)


def _refuse_unknown(origin: str, prefix: str, given: Mapping[str, Any], known: Any) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(key, list(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ConfigurationError(f"{origin}: unknown key '{prefix}{key}': {hint}")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= (
            _flat(cast("dict[str, Any]", value), f"{prefix}{key}.")
            if isinstance(value, dict)
            else {prefix + key: value}
        )
    return flat


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _converted(key: str, said: Sourced, kind: Any) -> Any:
    try:
        return msgspec.convert(said.value, kind, strict=False)
    except msgspec.ValidationError as error:
        value = "***" if key.rpartition(".")[2] in SECRETS else repr(said.value)
        raise ConfigurationError(f"{said.origin}: {key} = {value}: {error}") from None
