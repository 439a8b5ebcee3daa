"""The checks of AsyncAPI documents: each finds its fault, at its place, in a document that is right without it."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from runtime.admin.discovery import Service
from runtime.contracts import asyncapi
from runtime.contracts.asyncapi_check import problems
from runtime.contracts.title import title_of

Document = dict[str, Any]

QUERY = "orders.query.get_order"
EVENT = "orders.event.order_created"


@pytest.fixture(scope="module")
def right(shop: list[Service]) -> Document:
    return asyncapi.document(shop, title_of(shop))


def no_parameters(document: Document) -> None:
    del document["channels"][EVENT]["parameters"]


def other_parameter(document: Document) -> None:
    document["channels"][EVENT]["parameters"]["id"] = {}


def parameter_without_address(document: Document) -> None:
    document["channels"][f"{QUERY}.reply"]["parameters"] = {"key": {}}


def wildcard(document: Document) -> None:
    document["channels"][QUERY]["address"] = "orders.*.>"


def question_mark(document: Document) -> None:
    document["channels"][QUERY]["address"] = "orders?x"


def channel_binding(document: Document) -> None:
    document["channels"][QUERY]["bindings"] = {"nats": {"queue": "q"}}


def server_binding(document: Document) -> None:
    document["servers"]["nats"]["bindings"] = {"nats": {"tls": True}}


def message_binding(document: Document) -> None:
    document["components"]["messages"][QUERY]["bindings"] = {"nats": {"bindingVersion": "0.1.0"}}


def operation_binding(document: Document) -> None:
    document["operations"][QUERY]["bindings"]["nats"]["stream"] = "orders"


def long_queue(document: Document) -> None:
    document["operations"][QUERY]["bindings"]["nats"]["queue"] = "q" * 256


def two_reply_addresses(document: Document) -> None:
    document["operations"][QUERY]["reply"]["address"] = {"location": "$message.header#/Reply"}
    document["channels"][f"{QUERY}.reply"]["address"] = "orders.reply"


def lost_reference(document: Document) -> None:
    document["components"]["messages"][QUERY]["payload"] = {"$ref": "#/components/schemas/Absent"}


def local_reference(document: Document) -> None:
    document["components"]["messages"][QUERY]["payload"] = {"$defs": {"A": {}}, "$ref": "#/$defs/A"}


def new_keyword(document: Document) -> None:
    document["components"]["schemas"]["Order"]["properties"]["total"] = {"prefixItems": [{}]}


def wrong_action(document: Document) -> None:
    document["operations"][QUERY]["action"] = "publish"


def component_message(document: Document) -> None:
    document["operations"][QUERY]["messages"] = [{"$ref": f"#/components/messages/{QUERY}"}]


def inline_channel(document: Document) -> None:
    document["operations"][QUERY] |= {"channel": {"address": "x"}, "messages": []}


def no_version(document: Document) -> None:
    del document["info"]["version"]


def version_two(document: Document) -> None:
    document["asyncapi"] = "2.6.0"


FAULTS: list[tuple[Callable[[Document], None], list[str]]] = [
    (no_parameters, [f"/channels/{EVENT}/parameters: {{key}} of the address is missing"]),
    (other_parameter, [f"/channels/{EVENT}/parameters/id: the address has no such parameter"]),
    (parameter_without_address, [f"/channels/{QUERY}.reply/parameters: the channel has no address"]),
    (wildcard, [f"/channels/{QUERY}/address: 'orders.*.>' has '*' '>'"]),
    (question_mark, [f"/channels/{QUERY}/address: 'orders?x' has '?'"]),
    (channel_binding, [f"/channels/{QUERY}/bindings/nats/queue: the NATS binding has fields in operations only"]),
    (server_binding, ["/servers/nats/bindings/nats/tls: the NATS binding has fields in operations only"]),
    (
        message_binding,
        [f"/components/messages/{QUERY}/bindings/nats/bindingVersion: the NATS binding has fields in operations only"],
    ),
    (operation_binding, [f"/operations/{QUERY}/bindings/nats/stream: the NATS binding has no such field"]),
    (long_queue, [f"/operations/{QUERY}/bindings/nats/queue: has more than 255 characters"]),
    (two_reply_addresses, [f"/operations/{QUERY}/reply/address: the channel of the reply has an address, too"]),
    (lost_reference, [f"/components/messages/{QUERY}/payload/$ref: #/components/schemas/Absent does not exist"]),
    (
        local_reference,
        [
            f"/components/messages/{QUERY}/payload/$ref: "
            "#/$defs/A is a reference into the document, and not into the schema",
            f"/components/messages/{QUERY}/payload/$defs: is no keyword of draft 07, the default format of schemas",
            f"/components/messages/{QUERY}/payload/$ref: #/$defs/A does not exist",
        ],
    ),
    (
        new_keyword,
        [
            "/components/schemas/Order/properties/total/prefixItems: "
            "is no keyword of draft 07, the default format of schemas"
        ],
    ),
    (wrong_action, [f"/operations/{QUERY}/action: is neither receive nor send"]),
    (
        component_message,
        [f"/operations/{QUERY}/messages/0: is not a reference to a message of the channel"],
    ),
    (inline_channel, [f"/operations/{QUERY}/channel: is not a reference below #/channels/"]),
    (no_version, ["/info/version: is missing"]),
    (version_two, ["/asyncapi: is not a version 3 of AsyncAPI"]),
]


@pytest.mark.parametrize(("make", "expected"), FAULTS, ids=[make.__name__ for make, _ in FAULTS])
def test_a_fault_is_found_at_its_place(right: Document, make: Callable[[Document], None], expected: list[str]) -> None:
    wrong = deepcopy(right)
    make(wrong)
    assert list(map(str, problems(wrong))) == expected
    assert problems(right) == []
