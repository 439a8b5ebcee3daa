"""Events as CloudEvents from what a stream stores: both modes, foreign publishers, and errors."""

import json

import pytest

from runtime.errors import CodecError
from runtime.router.cloud_event import read_event
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers

STRUCTURED = b"NATS/1.0\r\nContent-Type: application/cloudevents+json\r\n\r\n"


def test_an_event_of_an_actor_becomes_one_json_object() -> None:
    block = event_headers("orders", "Placed", "e1", "a%20b", 1_795_000_000.25, b"traceparent: 00-1-2-01\r\n")
    event = read_event(block, b'{"total":1.50}', {})
    assert event.structured().endswith(b'"data":{"total":1.50}}'), "numbers stay as they are written"
    assert json.loads(event.structured()) == {
        "specversion": "1.0",
        "id": "e1",
        "source": "/orders",
        "type": "orders.Placed",
        "time": "2026-11-18T11:06:40.250000Z",
        "datacontenttype": "application/json",
        "subject": "a b",
        "data": {"total": 1.5},
    }


def test_the_headers_of_binary_mode_are_those_that_were_stored() -> None:
    block = event_headers("orders", "Placed", 'e "1" 100%', "M%C3%BC", 1_795_000_000.0)
    headers = read_event(block, b"{}", {}).binary_headers()
    stored = {name: value for name, value in header_block.parse(block).items() if name.startswith("ce-")}
    assert headers.pop("Content-Type") == stored.pop("ce-datacontenttype")
    assert headers == stored


def test_an_event_in_structured_mode_keeps_its_extensions() -> None:
    body = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "priority": 3, "test": True, "none": None}
    event = read_event(STRUCTURED, json.dumps({**body, "data": {"a": 1}}).encode(), {"time": "2026-11-28T10:00:00Z"})
    del body["none"]
    assert event.attributes == {**body, "time": "2026-11-28T10:00:00Z"}
    assert json.loads(event.data) == {"a": 1}
    assert event.binary_headers()["ce-test"] == "true"
    assert event.binary_headers()["ce-priority"] == "3"


def test_data_in_base64_becomes_json() -> None:
    body = b'{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"eyJhIjoxfQ=="}'
    assert json.loads(read_event(STRUCTURED, body, {}).structured())["data"] == {"a": 1}


def test_a_publisher_without_cloud_events_gets_the_defaults() -> None:
    event = read_event(None, b"", {"id": "1", "source": "/x", "type": "x.Y"})
    assert json.loads(event.structured()) == {
        "id": "1",
        "source": "/x",
        "type": "x.Y",
        "specversion": "1.0",
        "data": {},
    }


@pytest.mark.parametrize(
    ("block", "body", "text"),
    [
        (None, b"{", "the data of the event is not JSON"),
        (None, b"{} {}", "the data of the event is not JSON"),
        (None, b'"\xff"', "the data of the event is not JSON"),
        (STRUCTURED, b"[]", "the body is not an event in JSON"),
        (
            STRUCTURED,
            b'{"specversion":"1.0","id":"1","source":"s","type":"t","a":[]}',
            "the attribute 'a' of the event",
        ),
    ],
)
def test_a_message_that_is_no_event_is_refused(block: bytes | None, body: bytes, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        read_event(block, body, {})
