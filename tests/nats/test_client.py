"""TLS and credentials: nothing is sent in clear if TLS is wanted, and each server gets the login of its URL."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest

from runtime.nats import client
from runtime.nats.connection import Connection, ConnectionOptions, NotConnected
from runtime.nats.server import EmbeddedServer
from tests.support.certificates import Certificates, make_certificates
from tests.support.listener import Listener, listening
from tests.support.ports import free_ports
from tests.support.raw_server import raw_server
from tests.support.waiting import until


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    async with listening() as listener:
        yield listener


async def refused(options: ConnectionOptions) -> str:
    """Return the reason of a failed connect, which must come long before its timeout."""
    async with asyncio.timeout(20):
        with pytest.raises(NotConnected) as caught:
            await Connection.connect(options)
    return str(caught.value)


@pytest.mark.parametrize("public_api", [False, True])
@pytest.mark.parametrize("asked", ["tls", "TLS", "list", "ca", "cert", "discovered"])
async def test_tls_that_is_not_offered_ends_before_connect(
    listener: Listener, certificates: Certificates, asked: str, public_api: bool
) -> None:
    url = f"nats://ann:secret@{listener.address}"
    fields = {
        "tls": {"url": f"tls://ann:secret@{listener.address}"},
        "TLS": {"url": f"TLS://ann:secret@{listener.address}"},
        "list": {"url": f"{url}, tls://ann:secret@localhost:{listener.port}"},
        "ca": {"url": url, "ca": certificates.ca},
        "cert": {"url": url, "cert": certificates.cert, "key": certificates.key},
        "discovered": {"url": listener.address, "user": "ann", "password": "secret", "ca": certificates.ca},
    }[asked]
    reason = await refused(ConnectionOptions(**fields, public_api=public_api, connect_timeout=60))
    assert "offers no TLS" in reason
    assert "secret" not in reason
    assert listener.connections > 0
    assert listener.received == b""


async def test_a_handshake_first_sends_a_handshake_and_no_connect(listener: Listener) -> None:
    options = ConnectionOptions(url=f"nats://ann:secret@{listener.address}", tls_first=True, connect_timeout=0.2)
    await refused(options)
    assert listener.received.startswith(b"\x16\x03")  # the handshake of TLS
    assert b"CONNECT" not in listener.received
    assert b"secret" not in listener.received


async def test_without_a_wish_for_tls_the_credentials_are_sent(listener: Listener) -> None:
    connecting = asyncio.ensure_future(
        Connection.connect(ConnectionOptions(url=f"nats://ann:secret@{listener.address}"))
    )
    await until(lambda: b"PING\r\n" in listener.received)
    connecting.cancel()
    await asyncio.wait({connecting})
    sent = json.loads(listener.received.partition(b"CONNECT ")[2].splitlines()[0])
    assert (sent["user"], sent["pass"]) == ("ann", "secret")


async def test_neither_a_reconnect_nor_an_announced_server_gets_a_connect_without_tls(
    listener: Listener, certificates: Certificates, tmp_path: Path
) -> None:
    """The server announces the listener as a member of its cluster, and then ends."""
    port, routes = free_ports(2)
    config = (
        f'listen: "127.0.0.1:{port}"\ntls {{ {certificates.server_config} }}\n'
        f"authorization {{ user: ann, password: secret }}\ncluster {{ name: c, listen: 127.0.0.1:{routes} }}\n"
    )
    other = (
        f'listen: "127.0.0.1:-1"\nclient_advertise: "{listener.address}"\n'
        f'cluster {{ name: c, listen: "127.0.0.1:-1", routes: ["nats://127.0.0.1:{routes}"] }}\n'
    )
    options = ConnectionOptions(url=f"tls://ann:secret@127.0.0.1:{port}", ca=certificates.ca, reconnect_wait=0.02)
    with raw_server(tmp_path / "a", config) as server, raw_server(tmp_path / "b", other):
        async with await Connection.connect(options) as connection:
            await until(lambda: connection._client.discovered_servers)
            server.kill()
            server.wait()
            await until(lambda: listener.connections >= 2)
            async with listening(port=port) as imposter:
                await until(lambda: imposter.connections >= 2)
                assert imposter.received == b""
            with raw_server(tmp_path / "a", config):
                await connection.wait_connected(20)
                await connection.flush()
    assert listener.received == b""


async def test_tls_is_used_where_the_server_only_offers_it(certificates: Certificates, tmp_path: Path) -> None:
    [port] = free_ports(1)
    config = f'listen: "127.0.0.1:{port}"\nallow_non_tls: true\ntls {{ {certificates.server_config} }}\n'
    with raw_server(tmp_path, config):
        for url in (f"tls://127.0.0.1:{port}", f"127.0.0.1:{port}"):
            async with await Connection.connect(ConnectionOptions(url=url, ca=certificates.ca)) as connection:
                assert client._is_encrypted(connection._client._transport)
                await connection.flush()


async def test_a_server_that_begins_with_the_handshake(certificates: Certificates, tmp_path: Path) -> None:
    [port] = free_ports(1)
    config = (
        f'listen: "127.0.0.1:{port}"\ntls {{ {certificates.server_config}, ca_file: "{certificates.ca}", verify: true, '
        "handshake_first: true, timeout: 0.2 }\n"
    )
    options = ConnectionOptions(
        url=f"tls://127.0.0.1:{port}", ca=certificates.ca, cert=certificates.cert, key=certificates.key, tls_first=True
    )
    with raw_server(tmp_path, config):
        async with await Connection.connect(options) as connection:
            await connection.flush()
        reason = await refused(msgspec.structs.replace(options, tls_first=False, connect_timeout=1))
        assert "tls_first" in reason


PASSWORDS = ("p/w", "p#w", "p@w", "p:w", "p%40w", "p w", "p?w", "ü/€@", "%", "a/b#c@d:e?f[g]", "%2C,")


async def test_a_login_in_a_url_reaches_the_server(tmp_path: Path) -> None:
    """Raw and percent-encoded, as natscli reads it. A comma separates servers and has to be encoded."""
    users = ", ".join(
        f"{{ user: {json.dumps(f'u{n}')}, password: {json.dumps(p, ensure_ascii=False)} }}"
        for n, p in enumerate(PASSWORDS)
    )
    async with EmbeddedServer(port=0, store_dir=tmp_path, config=f"authorization {{ users: [{users}] }}") as server:
        for number, password in enumerate(PASSWORDS):
            raw = {password} if "%" not in password and "," not in password else set()
            for form in {quote(password, safe=""), *raw}:
                url = f"nats://u{number}:{form}@127.0.0.1:{server.port}"
                await (await Connection.connect(ConnectionOptions(url=url))).close()
        reason = await refused(ConnectionOptions(url=f"nats://u0:wrong/@127.0.0.1:{server.port}"))
        assert "wrong" not in reason


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "nats://to%40ken@{address}"},
        {"url": "to@ken@{address}"},
        {"url": "{address}", "token": "to@ken"},
        {"url": "{address}", "user": "to@ken"},
    ],
)
async def test_a_user_without_a_password_is_a_token(listener: Listener, fields: dict[str, str]) -> None:
    url = fields["url"].format(address=listener.address)
    connecting = asyncio.ensure_future(Connection.connect(ConnectionOptions(**{**fields, "url": url})))
    await until(lambda: b"PING\r\n" in listener.received)
    connecting.cancel()
    await asyncio.wait({connecting})
    sent = json.loads(listener.received.partition(b"CONNECT ")[2].splitlines()[0])
    assert sent["auth_token"] == "to@ken"
    assert "user" not in sent


async def test_each_server_gets_its_own_login_only(listener: Listener) -> None:
    async with listening() as other, listening() as third:
        url = f"nats://a:1@{listener.address},nats://b:2@{other.address},{third.address}"
        options = ConnectionOptions(url=url, user="own", password="own", reconnect_wait=0.01, connect_timeout=2.4)
        reason = await refused(options)
        assert "no answer from" in reason
        for server, user in ((listener, "a"), (other, "b"), (third, "own")):
            sent = json.loads(server.received.partition(b"CONNECT ")[2].splitlines()[0])
            assert sent["user"] == user


@pytest.mark.parametrize("silent", [b"", b'INFO {"server_id":"x","max_payload":1048576}\r\n'])
async def test_a_silent_server_takes_its_share_only(nats_server: EmbeddedServer, silent: bytes) -> None:
    async with listening(silent) as one, listening(silent) as two:
        url = f"{one.address},{two.address},{nats_server.url}"
        # nats-py shuffles the servers, so some of the attempts begin with a silent one.
        for _ in range(4):
            options = ConnectionOptions(url=url, connect_timeout=6.0, reconnect_wait=0.01)
            async with await Connection.connect(options) as connection:
                assert connection.server_address[1] == nats_server.port
        assert one.connections + two.connections <= 8
