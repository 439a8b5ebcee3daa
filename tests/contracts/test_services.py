"""Contracts from code and from discovery: they are the same."""

from msgspec.structs import replace

from runtime import testing
from runtime.admin.discovery import Service
from runtime.cli.targets import find_actors
from runtime.contracts import asyncapi, json_schema, openapi, plain
from runtime.contracts.from_code import services_of
from runtime.contracts.from_running import one_each, running_services, without_schemas
from runtime.contracts.page import page
from runtime.contracts.title import title_of
from runtime.nats.server import EmbeddedServer


def documents(services: list[Service]) -> list[bytes]:
    title = title_of(services)
    made = (
        asyncapi.document(services, title),
        openapi.document(services, title),
        json_schema.document(services, title),
        plain.document(services),
    )
    return [*map(plain.write_json, made), page(services, title)]


async def test_the_documents_of_running_services_are_those_of_their_code(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    actors = find_actors(["actorloom_shop"])
    expected = services_of(actors, namespace)
    async with testing.running(*actors, url=nats_server.url, namespace=namespace) as system:
        found = await running_services(system.connection, namespace)
    assert [each.name for each in found] == [each.name for each in expected]
    assert documents(found) == documents(expected)
    assert without_schemas(found) == []


def test_a_document_does_not_depend_on_the_order_of_services_and_ends_with_a_newline(unusual: list[Service]) -> None:
    made = documents(unusual)
    assert documents(unusual[::-1]) == made
    assert all(each.endswith(b"\n") and not each.endswith(b"\n\n") for each in made)


def test_facts_of_an_instance_are_in_no_document(unusual: list[Service]) -> None:
    facts = {"partitions": 8, "remember": 7.0}
    other = [replace(each, id="i7", metadata=replace(each.metadata, **facts)) for each in unusual]
    assert documents(other) == documents(unusual)


def test_services_from_code_have_no_internal_commands_and_no_id(unusual: list[Service]) -> None:
    [basket, stockroom] = unusual
    assert [each.subject for each in stockroom.endpoints] == [
        "eu.stockroom.query.find_items",
        "eu.stockroom.command.count_stock",
        "eu.stockroom.command.put_item",
    ]
    assert (basket.id, basket.version, basket.description) == ("", "1.2.0", "Baskets of customers.")


def test_the_newest_instance_of_a_service_counts(unusual: list[Service]) -> None:
    basket = unusual[0]
    versions = ("1.9.0", "1.10.0-rc.1", "1.10.0", "1.2.0")
    instances = [replace(basket, id=version, version=version) for version in versions]
    [found] = one_each(instances)
    assert (found.version, found.id) == ("1.10.0", "")


def test_operations_without_a_schema_are_named(unusual: list[Service]) -> None:
    stockroom = unusual[1]
    bare = [replace(each, metadata=replace(each.metadata, request=None)) for each in stockroom.endpoints]
    assert "stockroom.put_item" in without_schemas([replace(stockroom, endpoints=bare)])
    assert without_schemas(unusual) == []


def test_the_title_names_the_services_and_their_common_version(unusual: list[Service], shop: list[Service]) -> None:
    assert title_of(unusual) == ("Actors of eu", "0.0.0", "Services: basket 1.2.0, stockroom 0.1.0.")
    assert title_of(unusual[:1])[:2] == ("basket", "1.2.0")
    assert title_of(shop, "Shop")[:2] == ("Shop", "0.1.0")
