"""The settings of a process: merged from flags, the environment, a TOML file and defaults, in this order.

Each setting is kept with its origin, which error messages and `actorloom config show` name.

    configuration = load({"namespace": Setting("shop", "--namespace")})
    configuration.settings.lease_ttl, configuration.connection, configuration.options(Orders)

The file has the fields of `Settings` at its top, the fields of `ConnectionOptions` under ``[nats]``, and the fields of
`Options` under ``[actors.<name>]``. In the environment, `Settings` are read from ``ACTORLOOM_*``; the connection is
read from the variables of natscli (`NATS_URL` …) and its context. The options of actors have no variables.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, cast

import msgspec

from runtime.actor.base import Actor
from runtime.bounds import Bounded, LeaseTtl, Port, Processes, Replicas, Seconds, fault, is_number
from runtime.errors import ConfigurationError
from runtime.nats.options import DATA_DIRECTORY, IDENTITY, SECRETS, ConnectionOptions, environment
from runtime.options import Options, RetryPolicy
from runtime.wire.subjects import NAMESPACE_RULE, valid_namespace

FILE: Final = "actorloom.toml"
"""The settings' file in the working directory, which is read if no other file is named."""

PREFIX: Final = "ACTORLOOM_"
"""The prefix of the environment variables of `Settings`."""


class Settings(Bounded, frozen=True, kw_only=True):
    """The settings of a process, without those of its connection and its actors."""

    namespace: str = ""
    """The prefix of every subject and stream; empty for none."""
    data: str = DATA_DIRECTORY
    """The data directory of the embedded nats-server."""
    nats_server: str | None = None
    """The file of the nats-server to embed; None to look for it."""
    sync_always: bool = False
    """Whether the embedded server writes every message to disk before it acknowledges it."""
    lease_ttl: LeaseTtl = 4.0
    """Seconds after which another process takes over from an owner that died."""
    replicas: Replicas = 1
    """Copies of each stream in a cluster."""
    allow_breaking: bool = False
    """Whether an actor starts although its contract has changed in a way that breaks others. The change is logged."""
    workers: Processes = 1
    """The number of processes by which `actorloom run` runs its actors. With 1, it runs them itself."""
    health_port: Port | None = None
    """The HTTP port of /livez, /readyz and /metrics. 0 takes any free port; None opens no port."""
    health_host: str = "127.0.0.1"
    """The address of the health port. ``0.0.0.0`` accepts requests from other machines, such as an orchestrator's."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "text"] = "auto"
    """``auto`` is text on a terminal and JSON elsewhere."""
    uvloop: bool = False
    """Whether to run on uvloop."""
    timeout: Seconds = 5.0
    """Seconds that a request of the command line may take."""


class Setting(NamedTuple):
    """A value and its origin: the name of a flag, of an environment variable or of a file."""

    value: Any
    origin: str


class Configuration:
    """All settings of a process, merged and checked.

    Args:
        values: Settings by dotted key (``nats.url``, ``actors.orders.lane``), without those that keep their default.

    Raises:
        ConfigurationError: A value is invalid. The message names its origin.
    """

    def __init__(self, values: Mapping[str, Setting]) -> None:
        self.values = dict(values)
        top = {key: _converted(key, setting, _SETTINGS[key]) for key, setting in values.items() if key in _SETTINGS}
        self.settings = Settings(**top)
        if self.settings.namespace and not valid_namespace(self.settings.namespace):
            raise ConfigurationError(
                f"{values['namespace'].origin}: namespace {self.settings.namespace!r}: only {NAMESPACE_RULE}"
            )
        self.embedded = "nats.url" not in values
        """Whether no URL of NATS is configured. `actorloom run` then starts a nats-server of its own."""
        nats = {key.removeprefix("nats."): setting for key, setting in values.items() if key.startswith("nats.")}
        self.connection = ConnectionOptions.from_values(
            {name: (_converted(f"nats.{name}", setting, _NATS[name]), setting.origin) for name, setting in nats.items()}
        )
        self._tables: dict[str, dict[str, Any]] = {}
        for key, setting in values.items():
            if key.startswith("actors."):
                self._set_option(key, setting)

    @property
    def actors(self) -> frozenset[str]:
        """The actors that have a table in the file."""
        return frozenset(self._tables)

    def options(self, actor: type[Actor[Any]]) -> Options:
        """Return the options of `actor`. Those of the configuration override those of the class."""
        table = self._tables.get(actor.name, {})
        return msgspec.convert(_merged(msgspec.to_builtins(actor.options), table), Options, strict=False)

    def rows(self) -> list[tuple[str, Any, str]]:
        """Return the key, the value and the origin of every setting, to be shown to people. Secrets are masked."""
        rows = [(name, getattr(self.settings, name), self._origin(name)) for name in Settings.__struct_fields__]
        for name in ConnectionOptions.__struct_fields__:
            value = getattr(self.connection, name)
            if name == "url":
                value = "embedded" if self.embedded else self.connection.address
            elif name in SECRETS and value is not None:
                value = "***"
            rows.append((f"nats.{name}", value, self._origin(f"nats.{name}")))
        rows.extend(
            (key, setting.value, setting.origin) for key, setting in self.values.items() if key.startswith("actors.")
        )
        return rows

    def _origin(self, key: str) -> str:
        return self.values[key].origin if key in self.values else "default"

    def _set_option(self, key: str, setting: Setting) -> None:
        _, actor, *path = key.split(".")
        table: Any = setting.value
        for name in reversed(path):
            table = {name: table}
        try:
            msgspec.convert(table, Options, strict=False)
        except (msgspec.ValidationError, ConfigurationError) as error:
            raise ConfigurationError(f"{setting.origin}: {key}: {error}") from None
        self._tables[actor] = _merged(self._tables.get(actor, {}), table)


def load(
    flags: Mapping[str, Setting] | None = None,
    *,
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Configuration:
    """Return the configuration of a process. Flags override the environment, which overrides the file.

    Args:
        flags: Settings by dotted key, with the name of each flag as the origin. A value of None counts as not given.
        file: The TOML file. If it is None, ACTORLOOM_CONFIG names the file; if that is not set either,
            ``actorloom.toml`` is read if it exists.
        environ: The environment variables; those of the process if None.

    Raises:
        ConfigurationError: The file cannot be read, or a key is unknown, or a value is invalid. The message names the
            origin and the key.
    """
    environ = os.environ if environ is None else environ
    file = file or environ.get(f"{PREFIX}CONFIG")
    path = Path(file or FILE)
    values = _read_file(path) if file or path.is_file() else {}
    found = "" if file else str(path)
    _check_variables(environ)
    for name in _SETTINGS:
        if text := environ.get(f"{PREFIX}{name.upper()}"):
            values[name] = Setting(text, f"{PREFIX}{name.upper()}")
    surroundings = environment(environ)
    values |= {f"nats.{name}": Setting(*setting) for name, setting in surroundings.items()}
    values |= {key: setting for key, setting in (flags or {}).items() if setting.value is not None}
    if found and (url := values.get("nats.url")) is not None and url.origin == found:
        _keep_credentials(found, surroundings)
    return Configuration(values)


def _keep_credentials(file: str, surroundings: Mapping[str, tuple[Any, str]]) -> None:
    """Refuse to send credentials of the environment to a server that only the file of the working directory names.

    The file may be that of somebody else: of an archive or a clone that the user looks at.

    Raises:
        ConfigurationError: The environment has credentials.
    """
    for name, (_, origin) in surroundings.items():
        if name in IDENTITY:
            raise ConfigurationError(
                f"{file} of the working directory names the server, and {origin} has credentials ({name}), which are not "
                f"sent there: name the server by --nats or NATS_URL, name the file by --config, or unset {origin}"
            )


_SETTINGS: Final = {field.name: field.type for field in msgspec.structs.fields(Settings)}
_OTHER_VARIABLES: Final = ("CONFIG", "DEBUG", "NATS_PUBLIC_API")
"""Variables with the prefix that are not of `Settings`."""
_NATS: Final = {field.name: field.type for field in msgspec.structs.fields(ConnectionOptions)}
_OPTIONS: Final = {field.name: field.type for field in msgspec.structs.fields(Options)}
_RETRY: Final = {field.name: field.type for field in msgspec.structs.fields(RetryPolicy)}


def _read_file(path: Path) -> dict[str, Setting]:
    """Return the settings of a TOML file by dotted key. Raises `ConfigurationError` for an unknown key."""
    try:
        content: dict[str, Any] = msgspec.toml.decode(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}") from error
    origin = str(path)
    nats = _table(origin, "nats", content.pop("nats", {}))
    actors = _table(origin, "actors", content.pop("actors", {}))
    _check_known(origin, "", content, [*_SETTINGS, "nats", "actors"])
    _check_known(origin, "nats.", nats, _NATS)
    values = {key: Setting(value, origin) for key, value in content.items()}
    values |= {f"nats.{key}": Setting(value, origin) for key, value in nats.items()}
    for actor, table in actors.items():
        options = _table(origin, f"actors.{actor}", table)
        _check_known(origin, f"actors.{actor}.", options, Options.__struct_fields__)
        values |= {f"actors.{actor}.{key}": Setting(value, origin) for key, value in _flattened(options).items()}
    for key, (value, _) in values.items():
        # The file has types: a text or a fraction is no count there, as it is none in code.
        kind = _kind_of(key)
        if kind is not None and is_number(kind) and (reason := fault(value, kind)) is not None:
            raise ConfigurationError(f"{origin}: {key} = {value!r}: {reason}")
    return values


def _kind_of(key: str) -> Any:
    """Return the type of the setting with a dotted key; None if there is no such setting."""
    match key.split("."):
        case [name]:
            return _SETTINGS.get(name)
        case ["nats", name]:
            return _NATS.get(name)
        case ["actors", _, name]:
            return _OPTIONS.get(name)
        case ["actors", _, "retry", name]:
            return _RETRY.get(name)
        case ["actors", _, "every", _]:
            return str
        case _:
            return None


def _check_variables(environ: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` for a variable whose name is similar to that of a setting. Applications have others."""
    known = {f"{PREFIX}{name.upper()}" for name in (*_SETTINGS, *_OTHER_VARIABLES)}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            similar = get_close_matches(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in known], 1)
            if similar:
                raise ConfigurationError(f"unknown variable {name}: did you mean {PREFIX}{similar[0]}?")


def _table(origin: str, key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigurationError(f"{origin}: {key} is a table: write [{key}]")
    return cast("dict[str, Any]", value)


def _check_known(origin: str, prefix: str, given: Mapping[str, Any], known: Any) -> None:
    for key in given:
        if key not in known:
            similar = get_close_matches(key, list(known), 1)
            hint = f"did you mean {similar[0]!r}?" if similar else f"known: {', '.join(known)}"
            raise ConfigurationError(f"{origin}: unknown key '{prefix}{key}': {hint}")


def _flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= (
            _flattened(cast("dict[str, Any]", value), f"{prefix}{key}.")
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


def _converted(key: str, setting: Setting, kind: Any) -> Any:
    try:
        return msgspec.convert(setting.value, kind, strict=False)
    except msgspec.ValidationError as error:
        value = "***" if key.rpartition(".")[2] in SECRETS else repr(setting.value)
        raise ConfigurationError(f"{setting.origin}: {key} = {value}: {error}") from None
