"""Settings: the precedence of sources, validation, and the rows shown to people."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from actorloom_shop.orders.actor import Orders
from actorloom_shop.products.actor import Products
from runtime import Actor, ConfigurationError, Options, RetryPolicy
from runtime.host.config import Configuration, Setting, load
from runtime.nats.server import EmbeddedServer
from runtime.testing import running


class Item(msgspec.Struct, frozen=True):
    size: int = 0


def loaded(tmp_path: Path, toml: str = "", flags: dict[str, Setting] | None = None, **environ: str) -> Configuration:
    """Load a configuration from a file with the text `toml`, and nothing of the process's own environment."""
    file = tmp_path / "settings.toml"
    file.write_text(toml)
    return load(flags, file=file, environ=environ)


def origin(configuration: Configuration, key: str) -> tuple[Any, str]:
    """Return the value and the origin of one setting."""
    return next((value, source) for name, value, source in configuration.rows() if name == key)


def test_a_flag_overrides_the_environment_overrides_the_file_overrides_the_default(tmp_path: Path) -> None:
    toml = 'namespace = "file"\nreplicas = 3\nlog_level = "ERROR"\n'
    found = loaded(
        tmp_path,
        toml,
        {"namespace": Setting("flag", "--namespace")},
        ACTORLOOM_NAMESPACE="environ",
        ACTORLOOM_REPLICAS="5",
    )
    assert origin(found, "namespace") == ("flag", "--namespace")
    assert origin(found, "replicas") == (5, "ACTORLOOM_REPLICAS")
    assert origin(found, "log_level") == ("ERROR", str(tmp_path / "settings.toml"))
    assert origin(found, "lease_ttl") == (4.0, "default")
    assert found.settings.namespace == "flag"


def test_a_flag_that_is_not_given_overrides_nothing(tmp_path: Path) -> None:
    flags = {"namespace": Setting(None, "--namespace")}
    assert loaded(tmp_path, 'namespace = "file"', flags).settings.namespace == "file"


def test_the_address_of_nats_comes_from_the_same_sources(tmp_path: Path) -> None:
    toml = '[nats]\nurl = "nats://file:1"\nuser = "ada"\n'
    assert loaded(tmp_path, toml).connection.url == "nats://file:1"
    found = loaded(tmp_path, toml, NATS_URL="nats://environ:2", NATS_PASSWORD="secret")
    assert (found.connection.url, found.connection.user, found.connection.password) == (
        "nats://environ:2",
        "ada",
        "secret",
    )
    found = loaded(tmp_path, toml, {"nats.url": Setting("nats://flag:3", "--nats")}, NATS_URL="nats://environ:2")
    assert found.connection.url == "nats://flag:3"
    assert origin(found, "nats.url") == ("nats://flag:3", "--nats")
    assert not found.embedded


def test_without_a_url_nats_is_embedded(tmp_path: Path) -> None:
    found = loaded(tmp_path, "[nats]\nconnect_timeout = 1\n", NATS_USER="ada")
    assert found.embedded
    assert origin(found, "nats.url") == ("embedded", "default")
    assert found.connection.connect_timeout == 1.0


@pytest.mark.parametrize(
    "variable", ["NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_JWT", "NATS_SEED", "NATS_CREDS"]
)
def test_a_file_that_is_found_gets_no_credentials_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "actorloom.toml"
    file.write_text('[nats]\nurl = "nats://theirs:1"\nuser = "ada"\n')
    assert load(environ={}).connection.url == "nats://theirs:1"
    environ = {variable: str(file)}
    with pytest.raises(ConfigurationError, match=f"names the server, and {variable} has credentials"):
        load(environ=environ)
    # Whoever names the file or the server means it.
    assert load(file=file, environ=environ).connection.url == "nats://theirs:1"
    assert load(environ={**environ, "ACTORLOOM_CONFIG": str(file)}).connection.url == "nats://theirs:1"
    assert load(environ={**environ, "NATS_URL": "nats://ours:2"}).connection.url == "nats://ours:2"
    assert load({"nats.url": Setting("nats://ours:3", "--nats")}, environ=environ).connection.url == "nats://ours:3"
    file.write_text("[nats]\nconnect_timeout = 1\n")
    assert load(environ=environ).embedded


def test_a_context_of_natscli_has_the_address_of_nats(tmp_path: Path) -> None:
    context = tmp_path / "nats" / "context" / "prod.json"
    context.parent.mkdir(parents=True)
    context.write_text('{"url": "nats://prod:4222"}')
    found = loaded(tmp_path, NATS_CONTEXT="prod", XDG_CONFIG_HOME=str(tmp_path))
    assert origin(found, "nats.url") == ("nats://prod:4222", str(context))


def test_secrets_are_masked(tmp_path: Path) -> None:
    toml = '[nats]\nurl = "nats://ada:hunter2@host:1, nats://host:2"\ntoken = "hunter2"\npassword = "hunter2"\n'
    rows = loaded(tmp_path, toml).rows()
    assert "hunter2" not in repr(rows)
    assert ("nats.url", "nats://host:1, nats://host:2", str(tmp_path / "settings.toml")) in rows
    with pytest.raises(ConfigurationError, match=r"nats\.password = \*\*\*"):
        loaded(tmp_path, "[nats]\npassword = ['hunter2']\n")


def test_the_file_overrides_the_options_of_an_actor_class(tmp_path: Path) -> None:
    class Careful(Orders):
        name = "orders"
        options = Options(lane=7, retry=RetryPolicy(attempts=3))

    found = loaded(tmp_path, "[actors.orders]\nconcurrency = 2\n[actors.orders.retry]\nfirst = 0.5\n")
    assert found.options(Careful) == Options(concurrency=2, lane=7, retry=RetryPolicy(attempts=3, first=0.5))
    assert found.options(Products) == Products.options
    assert found.actors == {"orders"}


@pytest.mark.parametrize(
    ("toml", "text"),
    [
        ("namespce = 'a'", "unknown key 'namespce': did you mean 'namespace'?"),
        ("[nats]\nurll = 'a'", "unknown key 'nats.urll': did you mean 'url'?"),
        ("[actors.orders]\nlanes = 1", "unknown key 'actors.orders.lanes': did you mean 'lane'?"),
        ("[actors.orders.retry]\nattempt = 1", "actors.orders.retry.attempt: Object contains unknown field `attempt`"),
        ("[actors.orders]\nlane = 'many'", "actors.orders.lane = 'many': Expected `int`, got `str`"),
        ("[actors.orders]\nlane = '7'", "actors.orders.lane = '7': Expected `int`, got `str`"),
        ("[actors.orders.retry]\nattempts = 2.0", "actors.orders.retry.attempts = 2.0: Expected `int`, got `float`"),
        ("workers = '2'", "workers = '2': Expected `int`, got `str`"),
        ("[nats]\nconnect_timeout = '2'", "nats.connect_timeout = '2': Expected `float`, got `str`"),
        ("[actors]\norders = 1", "actors.orders is a table"),
        ("nats = 'nats://host'", "nats is a table"),
        ("replicas = 9", "replicas = 9: Expected `int` <= 5"),
        ("namespace = 'a.b'", "namespace 'a.b'"),
        ("namespace = ", "not valid TOML"),
        ("[nats]\nurl = 'nats://h'\ncreds = '/nowhere/a.creds'", "/nowhere/a.creds, which does not exist"),
    ],
)
def test_an_error_in_the_file_is_refused_and_named(tmp_path: Path, toml: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, toml)
    assert text in str(caught.value)
    assert "settings.toml" in str(caught.value)


def test_an_error_in_the_environment_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"ACTORLOOM_LEASE_TTL: lease_ttl = 'soon'"):
        loaded(tmp_path, ACTORLOOM_LEASE_TTL="soon")


def test_the_file_of_the_directory_is_read_unless_another_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(environ={}).settings.namespace == ""
    (tmp_path / "actorloom.toml").write_text('namespace = "here"')
    assert load(environ={}).settings.namespace == "here"
    (tmp_path / "other.toml").write_text('namespace = "there"')
    assert load(environ={"ACTORLOOM_CONFIG": "other.toml"}).settings.namespace == "there"
    with pytest.raises(ConfigurationError, match=r"cannot read nowhere\.toml"):
        load(file="nowhere.toml", environ={})


@pytest.mark.parametrize("value", [0, 3, 65, 128, -8, True, "8", 2.0, 8.5])
def test_a_wrong_number_of_partitions_is_refused_and_named(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Options\.partitions = {value!r}: "):
        Options(partitions=value)
    with pytest.raises(ConfigurationError, match=r"settings\.toml: actors\.orders\.partitions") as caught:
        loaded(tmp_path, f"[actors.orders]\npartitions = {str(value).lower() if value is True else repr(value)}\n")
    assert f"= {value!r}: " in str(caught.value)


def test_partitions_of_the_file_override_those_of_the_class(tmp_path: Path) -> None:
    class Parted(Actor[Item]):
        name = "parted"
        options = Options(partitions=4, lane=7)

    assert loaded(tmp_path, "[actors.other]\npartitions = 8\n").options(Parted) == Options(partitions=4, lane=7)
    assert loaded(tmp_path, "[actors.parted]\npartitions = 64\n").options(Parted) == Options(partitions=64, lane=7)


async def test_an_actor_without_state_has_no_partitions(nats_server: EmbeddedServer, namespace: str) -> None:
    class Keyless(Actor):
        name = "keyless"
        options = Options(partitions=4)

    with pytest.raises(
        ConfigurationError, match=r"keyless: Options\.partitions = 4: an actor without state has no keys"
    ):
        async with running(Keyless, url=nats_server.url, namespace=namespace):
            pass
