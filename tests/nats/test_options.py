"""Connection options: natscli's variables and contexts, errors that name the origin, and hidden secrets."""

from pathlib import Path

import msgspec
import pytest

from runtime.errors import ConfigurationError
from runtime.nats.options import ConnectionOptions


def context(home: Path, name: str, **fields: object) -> dict[str, str]:
    path = home / ".config" / "nats" / "context" / f"{name}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(fields))
    return {"HOME": str(home), "NATS_CONTEXT": name}


def test_no_variables_mean_the_local_server() -> None:
    assert ConnectionOptions.from_env({}) == ConnectionOptions(url="nats://127.0.0.1:4222")


def test_every_variable_of_natscli_is_read(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("creds", "nkey", "cert", "key", "ca")}
    for path in files.values():
        path.touch()
    values = {"url": "nats://h:1", "user": "u", "password": "p", "token": "t"} | {n: str(p) for n, p in files.items()}
    options = ConnectionOptions.from_env({f"NATS_{name.upper()}": value for name, value in values.items()})
    assert {name: getattr(options, name) for name in values} == values


def test_overrides_precede_variables_and_variables_precede_the_context(tmp_path: Path) -> None:
    environ = context(tmp_path, "dev", url="nats://context:1", user="context", password="context", token=None, extra=1)
    environ |= {"NATS_USER": "variable", "NATS_PASSWORD": "variable"}
    options = ConnectionOptions.from_env(environ, password="override", token=None, connect_timeout=1.5)
    assert options == ConnectionOptions(
        url="nats://context:1", user="variable", password="override", connect_timeout=1.5
    )


def test_the_context_is_read_from_the_config_directory(tmp_path: Path) -> None:
    environ = context(tmp_path, "dev", url="nats://context:1", inbox_prefix="_MINE")
    environ |= {"HOME": "/nowhere", "XDG_CONFIG_HOME": str(tmp_path / ".config")}
    assert ConnectionOptions.from_env(environ).inbox_prefix == "_MINE"


@pytest.mark.parametrize("variable", ["NATS_CREDS", "NATS_NKEY", "NATS_CERT", "NATS_KEY", "NATS_CA"])
def test_a_missing_file_is_named_with_its_origin(variable: str) -> None:
    with pytest.raises(ConfigurationError, match=f"{variable} names the file /nowhere/x, which does not exist"):
        ConnectionOptions.from_env({variable: "/nowhere/x"})


def test_a_missing_or_broken_context_is_named_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"none\.json, which cannot be read"):
        ConnectionOptions.from_env({"HOME": str(tmp_path), "NATS_CONTEXT": "none"})
    environ = context(tmp_path, "dev")
    (tmp_path / ".config/nats/context/dev.json").write_text("[1]")
    with pytest.raises(ConfigurationError, match="is not a JSON object"):
        ConnectionOptions.from_env(environ)
    environ = context(tmp_path / "2", "dev", creds="/nowhere/x")
    with pytest.raises(ConfigurationError, match=r"dev\.json names the file /nowhere/x"):
        ConnectionOptions.from_env(environ)


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ConfigurationError, match="both cert"):
        ConnectionOptions(cert="x.pem").tls_context()
    assert ConnectionOptions().tls_context() is None


def test_secrets_are_not_shown() -> None:
    options = ConnectionOptions(
        url="nats://u:geheim@a:1, nats://geheim@b:2,geheim@c:3,d", password="geheim", token="geheim"
    )
    assert "geheim" not in repr(options)
    assert options.address == "nats://a:1, nats://b:2, c:3, d"
    assert repr(options).startswith("ConnectionOptions(url='nats://a:1, nats://b:2, c:3, d', password='***'")


def test_the_public_api_is_chosen_by_option_or_environment() -> None:
    environ = {"ACTORLOOM_NATS_PUBLIC_API": "1"}
    assert ConnectionOptions().wants_public_api(environ)
    assert not ConnectionOptions(public_api=False).wants_public_api(environ)
    assert ConnectionOptions(public_api=True).wants_public_api({})
    assert not ConnectionOptions().wants_public_api({})
