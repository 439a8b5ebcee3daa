"""Requests to HTTP targets before they are sent: bodies, headers, URLs, and settings that are refused."""

import json
from typing import Any

import msgspec
import pytest

from runtime.router.cloud_event import CloudEvent
from runtime.router.http_request import HttpRequest, RequestForm
from runtime.router.http_settings import HttpSettings
from runtime.router.inputs import InputError, Occurrence, compile_input

URL = "https://crm.example/in"
ATTRIBUTES = {
    "specversion": "1.0", "id": "e 1", "source": "/orders", "type": "orders.Placed", "subject": 'Müller "A"',
    "datacontenttype": "application/json", "hops": "2",
}  # fmt: skip


def made(data: dict[str, Any] | None = None, value: object = None, **fields: Any) -> HttpRequest:
    data = {"id": "1/2", "note": "a b&c=ü"} if data is None else data
    settings = HttpSettings(**{"url": URL, **fields})
    occurrence = Occurrence(ATTRIBUTES, data, "k", "big", "crm")
    body = data if value is None else compile_input(value, where="input").make(occurrence)
    event = CloudEvent({**ATTRIBUTES}, msgspec.json.encode(body))
    form = RequestForm(settings, where="target crm: http")
    return form.make(event, occurrence, delivery_id="d1", trace=b"")


def test_the_structured_mode_has_the_whole_event_in_the_body() -> None:
    request = made()
    assert request.headers == {
        "Content-Type": "application/cloudevents+json; charset=utf-8",
        "Idempotency-Key": "d1",
    }
    assert json.loads(request.body or b"") == {
        "specversion": "1.0",
        "id": "e 1",
        "source": "/orders",
        "type": "orders.Placed",
        "subject": 'Müller "A"',
        "datacontenttype": "application/json",
        "hops": "2",
        "data": {"id": "1/2", "note": "a b&c=ü"},
    }


def test_the_binary_mode_has_the_attributes_in_headers() -> None:
    request = made({}, body="binary", headers={"X-Rule": "$$ {$rule}"})
    assert request.body == b"{}"
    assert request.headers == {
        "ce-specversion": "1.0",
        "ce-id": "e%201",
        "ce-source": "/orders",
        "ce-type": "orders.Placed",
        "ce-subject": "M%C3%BCller%20%22A%22",
        "ce-hops": "2",
        "Content-Type": "application/json",
        "X-Rule": "$ big",
        "Idempotency-Key": "d1",
    }


def test_an_input_is_json_with_a_content_type_that_may_be_another_one() -> None:
    request = made(value={"order": "$.id"}, body="input", headers={"content-type": "application/vnd.crm+json"})
    assert request.body == b'{"order":"1/2"}'
    assert request.headers == {"content-type": "application/vnd.crm+json", "Idempotency-Key": "d1"}
    assert made({"a": 1}, body="input").body == b'{"a":1}'


def test_a_get_has_no_body() -> None:
    request = made(method="GET")
    assert (request.body, request.headers) == (None, {"Idempotency-Key": "d1"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/orders/{$.id}?note={$.note}", "/orders/1%2F2?note=a%20b%26c%3D%C3%BC"),
        ("/a%20b/ü?x=$$", "/a%20b/%C3%BC?x=$"),
        ("/orders/{$.none?}", "/orders/"),
    ],
)
def test_a_value_stays_one_part_of_the_url(url: str, expected: str) -> None:
    assert made(url=f"https://crm.example{url}").url == f"https://crm.example{expected}"


@pytest.mark.parametrize(
    ("body", "fields", "text"),
    [
        ({"id": ".."}, {"url": f"{URL}/{{$.id}}/x"}, "target crm: http.url: a segment of the path is . or .."),
        ({"id": ""}, {"url": f"{URL}/{{$.id}}"}, "target crm: http.url: a value in the URL is empty"),
        ({}, {"url": f"{URL}/{{$.id}}"}, "target crm: http.url: the event has no $.id"),
        (
            {"id": "a\r\nX-Admin: 1"},
            {"headers": {"X-Id": "{$.id}"}},
            "target crm: http.headers.X-Id: the value has a line",
        ),
        ({"id": "a\u2028b"}, {"headers": {"X-Id": "{$.id}"}}, "target crm: http.headers.X-Id: the value has a line"),
    ],
)
def test_a_value_that_would_change_the_request_is_refused(body: Any, fields: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        made(body, **fields)
    assert str(caught.value).startswith(text)
    assert "X-Admin" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"url": "ftp://a"}, "url: write a URL that begins with http:// or https://"),
        ({"url": "https://"}, "url: write a URL"),
        ({"url": "https://a:b/"}, "url: it is not a URL"),
        ({"url": "https://[::1"}, "url: it is not a URL"),
        ({"url": "https://ann:s3cret@a/"}, "url: write the user and the password into auth"),
        ({"url": "https://a/ b"}, "url: a URL has no spaces"),
        ({"url": "https://a/\nb"}, "url: a URL has no spaces"),
        ({"url": "https://a/#b"}, "url: a URL of a request has no fragment"),
        ({"url": "https://{$.host}/"}, "url: a path can stand in the path and the query"),
        ({"url": "https://a..b/"}, "url: its host is not letters"),
        ({"url": f"https://{'a' * 64}.example/"}, "url: its host is not letters"),
        ({"url": "https://bücher.example/"}, "url: its host is not letters"),
        ({"url": "https://a\\b/"}, "url: its host is not letters"),
        ({"headers": {"a b": ""}}, "headers.a b: 'a b' is not the name of a header"),
        ({"headers": {"Host": "b"}}, "headers.Host: Host is not a header to set here"),
        (
            {"headers": {"authorization": "Bearer x"}},
            "headers.authorization: authorization is not a header to set here",
        ),
        ({"headers": {"X": "a\nb"}}, "headers.X: the value is not one line"),
        ({"headers": {"X": "1", "x": "2"}}, "headers.x: the header is there already"),
        ({"headers": {"ce-id": "1"}}, "headers.ce-id: the header is there already"),
        ({"headers": {"idempotency-key": "1"}}, "headers.idempotency-key: the header is there already"),
        ({"idempotency_header": "a:b"}, "idempotency_header: 'a:b' is not the name"),
        ({"auth": {"kind": "bearer", "secret": "../x"}}, "auth.secret: '../x' is not the name of a file in ACTORLOOM_"),
        ({"auth": {"kind": "bearer", "secret": ".x"}}, "auth.secret"),
        ({"auth": {"kind": "basic", "user": "a:b", "secret": "x"}}, "auth.user"),
        ({"auth": {"kind": "header", "name": "Host", "secret": "x"}}, "auth.name"),
        ({"auth": {"kind": "header", "name": "X", "secret": "x"}, "headers": {"x": ""}}, "auth.name"),
        (
            {"auth": {"kind": "oauth2", "token_url": "a", "client_id": "a", "secret": "x"}},
            "auth.token_url: write a URL",
        ),
        ({"tls": {"ca": "/etc/ca"}}, "tls.ca: '/etc/ca' is not the name of a file"),
        ({"tls": {"key": "key"}}, "tls.certificate: a key needs a certificate"),
        ({"method": "CONNECT"}, "Invalid enum value 'CONNECT'"),
        ({"verify": False}, "Object contains unknown field `verify`"),
    ],
)
def test_settings_that_are_wrong_are_refused_by_their_name(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"url": URL, **fields}, HttpSettings)
    assert str(caught.value).startswith(text)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("host", ["a", "a.", "A_1-b.example:8080", "127.0.0.1", "[::1]:80", "xn--bcher-kva.example"])
def test_a_host_is_a_name_or_an_address(host: str) -> None:
    assert HttpSettings(url=f"http://{host}/").url == f"http://{host}/"


def test_a_path_in_the_settings_is_checked_with_the_form() -> None:
    with pytest.raises(InputError, match=r"target crm: http.headers.X: '\$.id' begins with a single dollar sign"):
        RequestForm(HttpSettings(url=URL, headers={"X": "$.id"}), where="target crm: http")
