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
    options = ConnectionOptions.from_env({"NATS_JWT": "ey.J", "NATS_SEED": "SU"})
    assert (options.user_jwt, options.user_seed) == ("ey.J", "SU")
    with pytest.raises(ConfigurationError, match="NATS_SOCKS_PROXY"):
        ConnectionOptions.from_env({"NATS_SOCKS_PROXY": "socks5://h"})


EVERY_FIELD = {
    "url", "socks_proxy", "token", "user", "password", "creds", "nkey", "cert", "key", "ca", "nsc", "jetstream_domain",
    "jetstream_api_prefix", "jetstream_event_prefix", "inbox_prefix", "user_jwt", "user_seed", "tls_first",
    "windows_cert_store", "windows_cert_match_by", "windows_cert_match", "windows_ca_certs_match",
}  # fmt: skip
"""The fields of a context that say anything about the connection."""


@pytest.mark.parametrize("field", sorted(EVERY_FIELD | {"a_field_of_tomorrow"}))
def test_each_field_of_a_context_is_used_or_refused_by_name(tmp_path: Path, field: str) -> None:
    path = tmp_path / "file"
    path.touch()
    value: object = True if field == "tls_first" else str(path) if hasattr(ConnectionOptions, field) else "x"
    if field == "url":
        value = "nats://h:1"
    environ = context(tmp_path, "dev", description="ours", color_scheme="dark", **{field: value})
    if field in ConnectionOptions.__struct_fields__:
        assert getattr(ConnectionOptions.from_env(environ), field) == value
    else:
        with pytest.raises(ConfigurationError, match=f"dev.json: the field '{field}' is not supported"):
            ConnectionOptions.from_env(environ)


def test_empty_fields_of_a_context_say_nothing(tmp_path: Path) -> None:
    """natscli writes every field."""
    empty: dict[str, object] = dict.fromkeys(EVERY_FIELD, "") | {"tls_first": False, "windows_ca_certs_match": None}
    assert ConnectionOptions.from_env(context(tmp_path, "dev", **empty)) == ConnectionOptions()


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"user": 5}, "user must be text"),
        ({"tls_first": "yes"}, "tls_first must be true or false"),
        ({"password": "op://vault/secret"}, "password is a reference op:"),
        ({"creds": "nsc://o/a/u"}, "creds is a reference nsc:"),
        ({"token": "env://ABSENT"}, "the variable ABSENT"),
    ],
)
def test_what_a_context_cannot_say_is_refused(tmp_path: Path, fields: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigurationError, match=text) as caught:
        ConnectionOptions.from_env(context(tmp_path, "dev", **fields))
    assert "secret" not in str(caught.value)


def test_references_and_paths_of_a_context_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "a.creds").touch()
    environ = context(tmp_path, "dev", creds="$PLACE/a.creds", ca=f"file://{tmp_path}/a.creds", password="env://SECRET")
    options = ConnectionOptions.from_env({**environ, "PLACE": str(tmp_path), "SECRET": "s"})
    assert (options.creds, options.ca, options.password) == (f"{tmp_path}/a.creds", f"{tmp_path}/a.creds", "s")


def test_overrides_precede_variables_and_variables_precede_the_context(tmp_path: Path) -> None:
    environ = context(tmp_path, "dev", url="nats://context:1", user="context", password="context", token=None)
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
