"""Attempts at HTTP targets: outcomes of each answer, retries with the same key, secrets, tokens and TLS."""

import asyncio
import json
import re
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import msgspec
import pytest
from aiohttp import web

from runtime.router.cloud_event import CloudEvent
from runtime.router.http_request import HttpRequest, RequestForm
from runtime.router.http_sender import HttpSender
from runtime.router.http_settings import Auth, Basic, Bearer, ClientCredentials, HeaderKey, HttpSettings, Tls
from runtime.router.inputs import Occurrence
from runtime.router.outcomes import Again, Delivered, Permanent
from runtime.router.secrets import Secrets
from tests.support.certificates import Certificates, make_certificates
from tests.support.endpoint import Endpoint, Received, endpoint, sockets
from tests.support.ports import free_ports

NOW = 1_795_000_000.0
"""The time of the tests: Wed, 18 Nov 2026 11:06:40 GMT."""

SECRET = 'p4ss "word"\\ü'
TRACE = (
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\ntracestate: a=1\r\nbaggage: user=1\r\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The directory of the secrets, with two of them."""
    (tmp_path / "token").write_text("t0ken-of-the-target\n")
    (tmp_path / "password").write_text(f"{SECRET}\n")
    return tmp_path


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def sender(folder: Path, clock: Clock) -> AsyncIterator[HttpSender]:
    async with HttpSender(Secrets(folder), now=lambda: NOW, clock=clock) as sender:
        yield sender


@pytest.fixture
async def target() -> AsyncIterator[Endpoint]:
    async with endpoint() as served:
        yield served


def request(settings: HttpSettings) -> HttpRequest:
    attributes: dict[str, str | int | bool] = {
        "specversion": "1.0", "id": "e1", "source": "/orders", "type": "orders.Placed",
    }  # fmt: skip
    occurrence = Occurrence(attributes, {"orderId": "1"}, None, "big", "crm")
    event = CloudEvent(attributes, b'{"orderId":"1"}')
    form = RequestForm(settings, where="target crm: http")
    return form.make(event, occurrence, delivery_id="d1", trace=TRACE)


async def test_a_delivery_arrives_with_its_key_and_its_trace(sender: HttpSender, target: Endpoint) -> None:
    settings = HttpSettings(url=f"{target.url}/in?a=1", headers={"X-Order": "no {$.orderId}"})
    assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
    received = target.received[0]
    assert (received.method, received.path) == ("POST", "/in?a=1")
    assert json.loads(received.body)["data"] == {"orderId": "1"}
    assert received.headers["content-type"].startswith("application/cloudevents+json")
    assert received.headers["idempotency-key"] == "d1"
    assert received.headers["x-order"] == "no 1"
    assert received.headers["traceparent"].startswith("00-0af7651916cd43dd8448eb211c80319c")
    assert received.headers["tracestate"] == "a=1"
    assert "baggage" not in received.headers
    assert "authorization" not in received.headers


@pytest.mark.parametrize(
    ("status", "kind"),
    [(200, Delivered), (201, Delivered), (202, Delivered), (204, Delivered), (299, Delivered)]
    + [(status, Again) for status in (408, 425, 429, 500, 502, 503, 504, 507, 599)]
    + [(status, Permanent) for status in (300, 301, 302, 304, 307, 308)]
    + [(status, Permanent) for status in (400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 451, 499)],
)
async def test_each_status_has_its_outcome(sender: HttpSender, target: Endpoint, status: int, kind: type) -> None:
    target.answers.append(web.Response(status=status, headers={"Location": f"{target.url}/other"}))
    settings = HttpSettings(url=target.url)
    outcome = await sender.send(settings, request(settings), 30.0)
    assert type(outcome) is kind
    assert isinstance(outcome, Delivered) or f" {status}" in outcome.reason
    assert len(target.received) == 1, "no redirect is followed, and nothing is repeated"


@pytest.mark.parametrize(
    ("header", "after"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("Wed, 18 Nov 2026 11:08:40 GMT", 120.0),
        ("Wed, 18 Nov 2026 11:00:00 GMT", 0.0),
        ("999999999999", 31_536_000.0),
        ("-1", None),
        ("soon", None),
        ("Wed, 99 Nov 2026 11:00:00 GMT", None),
        ("Wed, 18 Nov 99999999999999999999 11:00:00 GMT", None),
        ("Wed, 18 Nov 2026 11:00:00 +99999999999999", None),
    ],
)
async def test_the_wish_of_a_target_is_part_of_the_outcome(
    sender: HttpSender, target: Endpoint, header: str, after: float | None
) -> None:
    settings = HttpSettings(url=target.url)
    for status in (429, 503):
        target.answers.append(web.Response(status=status, headers={"Retry-After": header}))
        outcome = await sender.send(settings, request(settings), 30.0)
        assert isinstance(outcome, Again)
        assert outcome.after == after


async def test_a_reason_has_the_beginning_of_the_answer_as_printable_text(sender: HttpSender, target: Endpoint) -> None:
    settings = HttpSettings(url=target.url)
    target.answers.append(web.Response(status=409, text="no such\r\n\x1b[31mcustomer"))
    assert await sender.send(settings, request(settings), 30.0) == Permanent(
        r"the target answered 409 Conflict: no such \x1b[31mcustomer"
    )
    target.answers.append(web.Response(status=500, body=b"\xff" + "ü".encode() * 1_000_000))
    outcome = await sender.send(settings, request(settings), 30.0)
    assert isinstance(outcome, Again)
    assert 400 < len(outcome.reason.encode()) < 600


async def test_an_answer_without_end_ends(sender: HttpSender) -> None:
    async def endless(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 %d x\r\nTransfer-Encoding: chunked\r\n\r\n" % (200 if number == 1 else 500))
        while True:
            writer.write(b"4\r\nabcd\r\n" * 1000)
            await writer.drain()

    async with sockets(endless) as (url, _):
        settings = HttpSettings(url=url)
        assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
        outcome = await sender.send(settings, request(settings), 30.0)
        assert isinstance(outcome, Again)
        assert "abcd" in outcome.reason


async def test_a_status_counts_although_its_text_never_comes(sender: HttpSender) -> None:
    async def cut(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await writer.drain()

    async with sockets(cut) as (url, _):
        settings = HttpSettings(url=url)
        assert await sender.send(settings, request(settings), 30.0) == Delivered(200)


async def test_a_target_that_hangs_is_left_after_the_timeout(sender: HttpSender) -> None:
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()  # until the client closes the connection
        writer.close()
        gone.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    settings = HttpSettings(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert await sender.send(settings, request(settings), 0.05) == Again("no answer within 0.05 s")
    await asyncio.wait_for(gone.wait(), 30)
    server.close()


async def test_a_request_without_an_answer_comes_again_under_the_same_key(sender: HttpSender) -> None:
    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        if number == 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async with sockets(answer) as (url, heads):
        settings = HttpSettings(url=url, idempotency_header="X-Once")
        sent = request(settings)
        assert await sender.send(settings, sent, 30.0) == Again("the target closed the connection without an answer")
        assert await sender.send(settings, sent, 30.0) == Delivered(200)
    assert [b"\r\nX-Once: d1\r\n" in head for head in heads] == [True, True]


async def test_a_target_that_is_not_there_or_no_http_is_tried_again(sender: HttpSender) -> None:
    async def junk(writer: asyncio.StreamWriter, number: int) -> None:
        writer.write(b"220 ready for mail\r\n\r\n")
        await writer.drain()

    port = free_ports(1)[0]
    settings = HttpSettings(url=f"http://127.0.0.1:{port}")
    outcome = await sender.send(settings, request(settings), 30.0)
    assert outcome == Again(f"no connection to 127.0.0.1:{port}: Connection refused")
    async with sockets(junk) as (url, _):
        settings = HttpSettings(url=url)
        assert await sender.send(settings, request(settings), 30.0) == Again("the answer of the target is not HTTP")


async def test_a_target_without_tls_is_named_in_words(sender: HttpSender, target: Endpoint) -> None:
    settings = HttpSettings(url=target.url.replace("http:", "https:"))
    failed = await sender.send(settings, request(settings), 30.0)
    assert isinstance(failed, Again)
    assert re.fullmatch(r"no connection to 127\.0\.0\.1:\d+: [a-z ]+", failed.reason)


async def test_a_proxy_of_the_environment_is_not_used(
    folder: Path, target: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_ports(1)[0]}")
    settings = HttpSettings(url=target.url)
    async with HttpSender(Secrets(folder)) as sender:
        assert await sender.send(settings, request(settings), 30.0) == Delivered(200)


@pytest.mark.parametrize(
    ("auth", "header", "value"),
    [
        (Bearer(secret="token"), "authorization", "Bearer t0ken-of-the-target"),
        (HeaderKey(name="X-Api-Key", secret="token"), "x-api-key", "t0ken-of-the-target"),
        (Basic(user="ann", secret="password"), "authorization", "Basic YW5uOnA0c3MgIndvcmQiXMO8"),
    ],
)
async def test_a_secret_is_sent_and_never_shown(
    sender: HttpSender, target: Endpoint, folder: Path, auth: Auth, header: str, value: str
) -> None:
    settings = HttpSettings(url=target.url, auth=auth)
    shown: list[str] = []

    async def echo(received: Received) -> web.Response:
        shown.append(received.headers[header])
        return web.Response(status=403, text=f"{json.dumps(SECRET)} {'x' * 4000}{received.headers[header]} {SECRET}")

    async def short(received: Received) -> web.Response:
        return web.Response(status=403, text=f"{received.headers[header]} {json.dumps(SECRET)} {SECRET}")

    target.answers += [echo, short]
    for _ in range(2):
        outcome = await sender.send(settings, request(settings), 30.0)
        assert isinstance(outcome, Permanent)
        for secret in (
            "t0ken",
            value.removeprefix("Basic ").removeprefix("Bearer "),
            *([SECRET, "p4ss"] if auth.secret == "password" else ()),
        ):
            assert secret not in outcome.reason
    assert shown == [value]
    assert "***" in outcome.reason


async def test_a_missing_secret_is_tried_again_and_a_new_one_is_read(
    sender: HttpSender, target: Endpoint, folder: Path
) -> None:
    settings = HttpSettings(url=target.url, auth=Bearer(secret="later"))
    outcome = await sender.send(settings, request(settings), 30.0)
    assert outcome == Again("secret 'later': No such file or directory (in ACTORLOOM_SECRETS)")
    for text in ("one", "two"):
        (folder / "later").write_text(text)
        assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
    assert [each.headers["authorization"] for each in target.received] == ["Bearer one", "Bearer two"]


class TokenServer:
    """A token endpoint, and the target that takes its newest token."""

    def __init__(self) -> None:
        self.asked: list[Received] = []
        self.accepted = ""
        self.lifetime: object = 600

    async def token(self, received: Received) -> web.Response:
        self.asked.append(received)
        self.accepted = f"access-{len(self.asked)}"
        return web.json_response({"access_token": self.accepted, "token_type": "Bearer", "expires_in": self.lifetime})

    async def answer(self, received: Received) -> web.Response:
        if received.path == "/token":
            return await self.token(received)
        fits = received.headers["authorization"] == f"Bearer {self.accepted}"
        return web.Response(status=200 if fits else 401, text=received.headers["authorization"])


@pytest.fixture
def tokens(target: Endpoint) -> TokenServer:
    served = TokenServer()
    target.answers += [served.answer] * 20
    return served


def oauth(target: Endpoint, **fields: object) -> HttpSettings:
    auth = ClientCredentials(token_url=f"{target.url}/token", client_id="me:1", secret="password")
    return HttpSettings(url=target.url, auth=msgspec.structs.replace(auth, **fields))


async def test_a_token_is_asked_for_once(sender: HttpSender, target: Endpoint, tokens: TokenServer) -> None:
    settings = oauth(target, parameters={"scope": "a b"})
    sent = request(settings)
    assert await asyncio.gather(*(sender.send(settings, sent, 30.0) for _ in range(5))) == [Delivered(200)] * 5
    (asked,) = tokens.asked
    assert parse_qs(asked.body.decode()) == {"scope": ["a b"], "grant_type": ["client_credentials"]}
    assert asked.headers["authorization"].startswith("Basic ")


async def test_a_client_may_send_its_secret_in_the_body(
    sender: HttpSender, target: Endpoint, tokens: TokenServer
) -> None:
    settings = oauth(target, secret_in_body=True)
    assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
    assert parse_qs(tokens.asked[0].body.decode())["client_secret"] == [SECRET]
    assert "authorization" not in tokens.asked[0].headers


async def test_a_refused_token_is_renewed_once(sender: HttpSender, target: Endpoint, tokens: TokenServer) -> None:
    settings = oauth(target)
    assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
    tokens.accepted = "another"
    assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
    assert len(tokens.asked) == 2
    refused = [each for each in target.received if each.path == "/"]
    assert [each.headers["idempotency-key"] for each in refused] == ["d1"] * 3

    async def refuse(received: Received) -> web.Response:
        return web.Response(status=401, text=f"not {received.headers['authorization']}")

    target.answers[:] = [refuse, tokens.token, refuse]
    outcome = await sender.send(settings, request(settings), 30.0)
    assert outcome == Permanent("the target answered 401 Unauthorized: not Bearer ***")


async def test_a_token_is_renewed_before_it_expires_and_with_a_new_secret(
    sender: HttpSender, target: Endpoint, tokens: TokenServer, clock: Clock, folder: Path
) -> None:
    settings = oauth(target)
    for at, asked in ((0.0, 1), (539.0, 1), (541.0, 2), (542.0, 2)):
        clock.time = at
        assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
        assert len(tokens.asked) == asked
    (folder / "password").write_text("new")
    assert await sender.send(settings, request(settings), 30.0) == Delivered(200)
    assert len(tokens.asked) == 3


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web.Response(status=401, text=SECRET), "the token endpoint answered 401"),
        (web.Response(status=302, headers={"Location": "/other"}), "the token endpoint answered 302"),
        (web.Response(text="<html>"), "the token endpoint answered 200 without a token in JSON"),
        (
            web.Response(text='{"access_token":"a b"}'),
            "the token endpoint answered with a token that no header can have",
        ),
        (web.Response(text='{"access_token":"a","expires_in":"x"}'), "the token endpoint answered 200 without a token"),
        (web.Response(body=b" " * 100_000), "the token endpoint answered with more than 65536 bytes"),
    ],
)
async def test_a_token_endpoint_that_gives_none_is_asked_again(
    sender: HttpSender, target: Endpoint, answer: web.Response, reason: str
) -> None:
    settings = oauth(target)
    target.answers.append(answer)
    outcome = await sender.send(settings, request(settings), 30.0)
    assert isinstance(outcome, Again)
    assert outcome.reason.startswith(reason)
    assert SECRET not in outcome.reason


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


async def test_tls_with_a_certificate_of_the_client(folder: Path, certificates: Certificates) -> None:
    for name, path in (("ca", certificates.ca), ("cert", certificates.cert), ("key", certificates.key)):
        (folder / name).write_bytes(Path(path).read_bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    context.load_verify_locations(certificates.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    async with endpoint(context) as target, HttpSender(Secrets(folder)) as sender:

        async def outcome(tls: Tls) -> object:
            settings = HttpSettings(url=target.url, tls=tls)
            return await sender.send(settings, request(settings), 30.0)

        assert await outcome(Tls(ca="ca", certificate="cert", key="key")) == Delivered(200)
        unknown = await outcome(Tls())
        assert isinstance(unknown, Again)
        assert "certificate" in unknown.reason
        assert isinstance(await outcome(Tls(ca="ca")), Again), "the server refuses a client without a certificate"
        assert len(target.received) == 1
        wrong = await outcome(Tls(ca="token"))
        assert wrong == Again("the TLS files token cannot be used: no certificate or crl found")
        other = await outcome(Tls(certificate="token"))
        assert other == Again("the TLS files token cannot be used: there is no certificate or no key in PEM")
        (folder / "ca").write_text("no certificate")
        renewed = await outcome(Tls(ca="ca", certificate="cert", key="key"))
        assert isinstance(renewed, Again), "a file that has changed is read again"
        missing = await outcome(Tls(ca="none"))
        assert missing == Again("secret 'none': No such file or directory (in ACTORLOOM_SECRETS)")


def test_without_aiohttp_an_error_names_the_extra() -> None:
    code = "import sys; sys.modules['aiohttp'] = None; import runtime.router.http_sender"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "ConfigurationError: HTTP targets need aiohttp: run `pip install actorloom[router]`" in done.stderr
