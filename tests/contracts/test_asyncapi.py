"""AsyncAPI documents: channels and operations of the shop and of unusual actors, by our own checks."""

from typing import Any

from jsonschema import Draft7Validator
from msgspec.structs import replace

from runtime.actor.metadata import OperationMetadata, ServiceMetadata
from runtime.admin.discovery import Endpoint, Service
from runtime.contracts import asyncapi
from runtime.contracts.asyncapi_check import problems
from runtime.contracts.pointers import walk
from runtime.contracts.title import title_of
from runtime.wire.json_pointers import resolve


def document(services: list[Service]) -> dict[str, Any]:
    return asyncapi.document(services, title_of(services))


def valid(document: dict[str, Any], message: str, value: object) -> bool:
    """Return whether a value is valid as the payload of a message."""
    payload = document["components"]["messages"][message]["payload"]
    return Draft7Validator({"components": document["components"], "allOf": [payload]}).is_valid(value)


def test_every_operation_event_and_reaction_of_the_shop_is_in_its_document(shop: list[Service]) -> None:
    found = document(shop)
    assert problems(found) == []
    expected = {f"{service.name}.{each.metadata.op}.{each.name}" for service in shop for each in service.endpoints}
    expected |= {f"{service.name}.react.{each.reaction}" for service in shop for each in service.metadata.reacts}
    emitted = {each.subject.split(".")[-2] for service in shop for each in service.metadata.events.values()}
    operations = found["operations"]
    sends = {ident for ident, each in operations.items() if each["action"] == "send"}
    assert operations.keys() - sends == expected
    assert {each.rpartition(".")[2] for each in sends} == emitted
    assert list(operations) == sorted(operations)


def test_a_query_is_received_in_the_queue_group_and_has_a_reply_without_an_address(shop: list[Service]) -> None:
    found = document(shop)
    operation = found["operations"]["orders.query.get_order"]
    assert operation["action"] == "receive"
    assert operation["bindings"] == {"nats": {"queue": "q", "bindingVersion": "0.1.0"}}
    assert "address" not in operation["reply"]
    assert operation["x-errors"][0]["kind"] == "NotFound"
    assert resolve(found, operation["channel"]["$ref"])["address"] == "orders.query.get_order"
    assert resolve(found, operation["reply"]["channel"]["$ref"])["address"] is None
    bound = [pointer for pointer, each in walk(found) if "bindings" in each]
    assert bound and all(pointer.startswith("/operations/") for pointer in bound)


def test_an_event_has_one_channel_for_its_emitter_and_its_readers(shop: list[Service]) -> None:
    found = document(shop)
    channel = found["channels"]["orders.event.order_modified"]
    assert channel["address"] == "orders.event.order_modified.{key}"
    assert set(channel["parameters"]) == {"key"}
    assert channel["x-jetstream"] == {"stream": "orders-events", "filter": "orders.event.order_modified.*.*"}
    users = {
        ident: each["action"]
        for ident, each in found["operations"].items()
        if each["channel"]["$ref"] == "#/channels/orders.event.order_modified"
    }
    assert users == {
        "orders.emit.order_modified": "send",
        "payment.react.on_order_modified": "receive",
        "warehouse.react.on_order_modified": "receive",
    }
    message = resolve(found, channel["messages"]["event"]["$ref"])
    headers = resolve(found, message["traits"][0]["$ref"])["headers"]
    assert {"ce-id", "ce-type"} <= set(headers["required"])


def test_an_event_of_a_service_outside_of_the_document_has_a_channel_without_a_payload(shop: list[Service]) -> None:
    [orders] = [each for each in shop if each.name == "orders"]
    found = document([orders])
    assert problems(found) == []
    message = found["components"]["messages"]["warehouse.event.package_created"]
    assert message["name"] == "warehouse.PackageCreated" and "payload" not in message


def test_payloads_are_draft_07_and_refuse_what_the_actor_refuses(unusual: list[Service]) -> None:
    found = document(unusual)
    assert problems(found) == []
    assert found["channels"]["stockroom.event.item_put"]["address"] == "eu.stockroom.event.item_put.{key}"
    for name, schema in found["components"]["schemas"].items():
        Draft7Validator.check_schema(schema)
        assert "$defs" not in schema and "prefixItems" not in schema, name
    item = {"sku": "a", "place": [1, "b"], "parts": [{"sku": "c", "place": [2, "d"]}]}
    assert valid(found, "stockroom.event.item_put", {"item": item})
    assert not valid(found, "stockroom.event.item_put", {"item": {**item, "place": [1]}})
    assert not valid(found, "stockroom.event.item_put", {"item": {**item, "place": ["b", 1]}})
    assert not valid(found, "stockroom.event.item_put", {"item": {**item, "parts": [{}]}})
    assert not valid(found, "stockroom.command.put_item", {"item": {**item, "sku": "ü" * 1000}}), "no key is so long"
    assert valid(found, "basket.command.add_to_basket.reply", {"name": "a", "price": 1})
    assert not valid(found, "basket.command.add_to_basket.reply", item)
    assert found["operations"]["basket.react.on_item_put"]["x-where"] == {"item": {"sku": ["</script>", "b"]}}


def test_a_service_of_another_framework_has_an_address_for_each_wildcard() -> None:
    endpoints = [
        Endpoint("find it", "shop.*.find.*", OperationMetadata()),
        Endpoint("rest", "shop.all.>", OperationMetadata(request={"$ref": "#/$defs/A", "$defs": {"A": {}}})),
    ]
    service = Service("other/~one", "x", "1.0.0", "", ServiceMetadata(runtime=""), endpoints)
    found = document([service])
    assert problems(found) == []
    places = [each["address"] for each in found["channels"].values() if each["address"]]
    assert places == ["shop.{part1}.find.{part2}", "shop.all.{rest}"]
    assert not any("bindings" in each for each in found["operations"].values()), "its queue group is not known"


def test_a_reference_to_nothing_in_an_announced_schema_is_reported(unusual: list[Service]) -> None:
    [first, *others] = unusual[0].endpoints
    wrong = replace(first, metadata=replace(first.metadata, request={"$ref": "#/$defs/Absent"}))
    [*texts] = map(str, problems(document([replace(unusual[0], endpoints=[wrong, *others])])))
    assert any(
        "#/$defs/Absent" in text and text.startswith("/components/messages/basket.command.add_to_basket/")
        for text in texts
    )


def test_a_reaction_to_any_event_receives_from_a_channel_of_each_source(audited: list[Service]) -> None:
    found = document(audited)
    assert problems(found) == []
    channels = {
        ident: each["channel"]["$ref"].removeprefix("#/channels/")
        for ident, each in found["operations"].items()
        if ident.startswith("audit.react.")
    }
    assert channels == {
        "audit.react.on_stockroom.basket": "basket.events",
        "audit.react.on_stockroom.stockroom": "stockroom.events",
        "audit.react.on_event": "events",
    }
    assert found["channels"]["events"]["address"] == "eu.{actor}.event.{event}.{key}"
    assert found["channels"]["stockroom.events"]["address"] == "eu.stockroom.event.{event}.{key}"
    assert "payload" not in found["components"]["messages"]["events"]
