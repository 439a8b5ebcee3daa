"""Events as CloudEvents over HTTP: the structured and the binary mode."""

import json

from runtime.router.cloud_event import CloudEvent
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers, extensions

ATTRIBUTES: dict[str, str | int | bool] = {
    "specversion": "1.0", "id": 'e "1" 100%', "source": "/orders", "type": "orders.Placed", "subject": "Mü", "test": True,
    "datacontenttype": "application/json",
}  # fmt: skip
STRUCTURED = b"NATS/1.0\r\nContent-Type: application/cloudevents+json\r\n\r\n"


def test_the_structured_mode_is_one_json_object() -> None:
    event = CloudEvent(ATTRIBUTES, b'{"total":1.50}')
    assert event.structured().endswith(b'"data":{"total":1.50}}')
    assert json.loads(event.structured()) == {**ATTRIBUTES, "data": {"total": 1.5}}


def test_the_headers_of_binary_mode_are_those_that_actors_write() -> None:
    block = event_headers("orders", "Placed", 'e "1" 100%', "M%C3%BC", 1_795_000_000.0)
    stored = {name: value for name, value in header_block.parse(block).items() if name.startswith("ce-")}
    headers = CloudEvent(ATTRIBUTES, b"{}").binary_headers()
    assert headers.pop("Content-Type") == stored.pop("ce-datacontenttype")
    assert headers.pop("ce-test") == "true"
    del stored["ce-time"]
    assert headers == stored


def test_extensions_are_those_attributes_that_are_no_standard_ones() -> None:
    binary = b"NATS/1.0\r\nce-id: 1\r\nCe-Hops: 2\r\nce-note: a%20b\r\nce-dataschema: urn:x\r\nx-other: 1\r\n\r\n"
    assert extensions(binary, b"{}") == {"hops": "2", "note": "a b", "dataschema": "urn:x"}
    body = (
        b'{"specversion":"1.0","id":"1","source":"s","type":"t","hops":2,"test":true,"list":[1],"none":null,"data":{}}'
    )
    assert extensions(STRUCTURED, body) == {"hops": "2", "test": "true"}
