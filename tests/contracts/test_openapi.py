"""OpenAPI documents and bundles of JSON Schemas, by checks of their structure."""

from typing import Any

import pytest
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from runtime.admin.discovery import Service
from runtime.contracts import json_schema, openapi, plain
from runtime.contracts.pointers import dangling
from runtime.contracts.title import title_of
from runtime.errors import ConfigurationError
from runtime.wire.json_pointers import resolve
from tests.contracts.structure import openapi_faults


def document(services: list[Service]) -> dict[str, Any]:
    return openapi.document(services, title_of(services))


def test_each_operation_of_the_shop_is_a_path_with_its_subject_and_errors(shop: list[Service]) -> None:
    found = document(shop)
    assert openapi_faults(found) == []
    assert set(found["paths"]) == {f"/{service.name}/{each.name}" for service in shop for each in service.endpoints}
    operation = found["paths"]["/orders/delete_order"]["post"]
    assert operation["x-nats-subject"] == "orders.command.delete_order"
    assert operation["operationId"] == "orders.command.delete_order"
    assert "content" not in operation["responses"]["200"], "the reply of a Command[None] is empty"
    conflict = resolve(found, operation["responses"]["409"]["$ref"])
    error = conflict["content"]["application/json"]["schema"]["properties"]["error"]["properties"]
    assert error["kind"] == {"enum": ["IdReused", "Rejected"]} and error["code"] == {"enum": [409]}
    assert {"400", "404", "408", "429", "500", "503", "508"} <= operation["responses"].keys()


def test_an_error_of_a_domain_is_a_response(unusual: list[Service]) -> None:
    found = document(unusual)
    assert openapi_faults(found) == []
    conflict = resolve(found, found["paths"]["/stockroom/put_item"]["post"]["responses"]["409"]["$ref"])
    assert "ShelfFull: Nothing is left (409)" in conflict["description"]


def test_a_query_and_a_command_of_one_name_have_paths_of_their_own(unusual: list[Service]) -> None:
    stockroom = unusual[1]
    [command] = [each for each in stockroom.endpoints if each.name == "put_item"]
    query = replace(command, subject="eu.stockroom.query.put_item", metadata=replace(command.metadata, op="query"))
    found = document([replace(stockroom, endpoints=[query, command])])
    assert set(found["paths"]) == {"/stockroom/put_item", "/stockroom/query/put_item"}
    assert openapi_faults(found) == []


def test_a_bundle_has_every_message_and_each_type_once(shop: list[Service]) -> None:
    found = json_schema.document(shop, title_of(shop))
    Draft202012Validator.check_schema(found)
    assert list(dangling(found)) == []
    for service in shop:
        for each in service.endpoints:
            ident = f"{service.name}.{each.metadata.op}.{each.name}"
            assert {ident, f"{ident}.reply"} <= found["$defs"].keys()
    message = Draft202012Validator({"$defs": found["$defs"], "$ref": "#/$defs/orders.query.get_order"})
    assert message.is_valid({"orderId": "a"}) and not message.is_valid({"orderId": ""}) and not message.is_valid({})
    assert "orders.event.order_created" in found["$defs"] and "Address" in found["$defs"]


def test_plain_contracts_are_read_back(unusual: list[Service]) -> None:
    text = plain.write_json(plain.document(unusual))
    read = plain.read(text, "old.json")
    assert plain.document(read) == plain.document(unusual)
    assert [each.name for each in read] == ["basket", "stockroom"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"{", "not contracts in JSON"),
        (b"[]", "Expected `object`"),
        (b'{"actorloom": 2, "services": []}', "actorloom = 2: this version reads form 1"),
        (b'{"actorloom": 1, "services": [{"name": 1}]}', "Expected `str`, got `int` - at `$[0].name`"),
    ],
)
def test_another_document_is_refused_with_its_file_and_field(text: bytes, reason: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        plain.read(text, "old.json")
    assert str(error.value).startswith("old.json: ") and reason in str(error.value)
