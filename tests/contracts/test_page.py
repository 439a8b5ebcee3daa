"""The page of contracts: complete, without the network, and safe against the texts that services announce."""

import pytest
from msgspec.structs import replace

from runtime.actor.error_kinds import ErrorKind
from runtime.actor.metadata import EventMetadata, OperationMetadata, Reaction, ServiceMetadata
from runtime.admin.discovery import Endpoint, Service
from runtime.contracts.page import page
from runtime.contracts.page_types import constraints_html, text_html, type_html
from runtime.contracts.title import title_of
from runtime.wire.schemas import Schema
from tests.contracts.structure import Reader, page_faults

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>"


def read(services: list[Service]) -> Reader:
    """Return the page of some services, which has no faults."""
    html = page(services, title_of(services))
    assert page_faults(html) == []
    return Reader(html)


def test_the_page_of_the_shop_has_everything(shop: list[Service]) -> None:
    found = read(shop)
    for service in shop:
        names = [each.subject for each in service.endpoints] + [each.name for each in service.endpoints]
        names += [each.stream for each in service.metadata.events.values()]
        names += [each.reaction for each in service.metadata.reacts] + list(service.metadata.streams.values())
        assert [each for each in names if each not in found.text] == []
    assert "payment: on_order_created, warehouse: on_order_created" in found.text, "the readers of OrderCreated"
    assert "1 to 200 characters" in found.text and "409 IdReused" in found.text


def test_a_reaction_to_any_event_is_a_reader_of_each(audited: list[Service]) -> None:
    found = read(audited)
    assert "audit: on_event, audit: on_stockroom, basket: on_item_put" in found.text
    assert "audit: on_event, audit: on_stockroom, basket: on_stock_counted" in found.text


def test_the_page_needs_no_network_and_permits_its_own_style_and_script_only(shop: list[Service]) -> None:
    found = read(shop)
    assert b"http:" not in page(shop, title_of(shop)) and b"https:" not in page(shop, title_of(shop))
    assert found.policy.startswith("default-src 'none'; ")


def test_texts_of_services_are_not_html(unusual: list[Service]) -> None:
    found = read(unusual)
    for text in (
        "Put an <b>item</b> on a shelf.",
        "<img src=x>",
        'A line of a basket & its "price".',
        '["</script>","b"]',
    ):
        assert text in found.text
    assert "b" not in found.tags
    assert text_html("A `<b>` & `c`, `d") == "A <code>&lt;b&gt;</code> &amp; <code>c</code>, `d"


def test_a_hostile_service_cannot_leave_its_place() -> None:
    schema: Schema = {
        "properties": {HOSTILE: {"type": HOSTILE, "pattern": HOSTILE, "default": HOSTILE, "description": HOSTILE}},
        "description": HOSTILE,
        "format": HOSTILE,
        "minLength": HOSTILE,
    }
    with_types: Schema = {
        "$ref": f"#/$defs/{HOSTILE}",
        "$defs": {HOSTILE: schema, "B": {"enum": [HOSTILE], "items": {"$ref": HOSTILE}}},
    }
    error = ErrorKind(HOSTILE, 400, HOSTILE)
    operation = OperationMetadata(HOSTILE, with_types, with_types, HOSTILE, [HOSTILE], HOSTILE, [error])
    metadata = ServiceMetadata(
        HOSTILE,
        namespace=HOSTILE,
        emits={HOSTILE: with_types},
        events={HOSTILE: EventMetadata(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)},
        reacts=[Reaction(HOSTILE, {HOSTILE: [HOSTILE]}, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE)],
        streams={HOSTILE: HOSTILE},
        errors=[error],
    )
    service = Service(HOSTILE, "", HOSTILE, HOSTILE, metadata, [Endpoint(HOSTILE, HOSTILE, operation)])
    found = read([service, replace(service, name="a")])
    assert HOSTILE in found.text


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"type": "string", "minLength": 1}, "at least 1 character"),
        ({"type": "string", "maxLength": 3}, "at most 3 characters"),
        ({"type": "array", "minItems": 2, "maxItems": 2}, "2 items"),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "≥ 0, ≤ 9"),
        ({"type": "string", "pattern": "^<a$(?!\\n)"}, "matches <code>^&lt;a$</code>"),
        ({"type": "array", "items": {"type": "string", "maxLength": 1}}, "each at most 1 character"),
    ],
)
def test_constraints_are_sentences(schema: Schema, text: str) -> None:
    assert constraints_html(schema) == text


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({}, "any"),
        (False, "nothing"),
        ({"$ref": "#type-Order"}, '<a href="#type-Order">Order</a>'),
        ({"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]}, "string (at most 2 characters) | null"),
        ({"enum": ["A", 1]}, "<code>&quot;A&quot;</code> | <code>1</code>"),
        ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}]}, "[integer, string]"),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "map of integer"),
        ({"type": "object", "properties": {"a": {}}}, "{a?: any}"),
        ({"type": ["string", "null"]}, "string | null"),
    ],
)
def test_a_type_is_one_line(schema: Schema, text: str) -> None:
    assert type_html(schema) == text
