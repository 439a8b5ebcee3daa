"""Discovery: the three responses of ADR-32, checked by the rules of the official schemas."""

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import msgspec
import pytest

from runtime.errors import DeclarationError
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.micro import Endpoint, MicroService
from runtime.nats.server import EmbeddedServer

NAME = re.compile(r"^[a-zA-Z0-9_-]+$")
SEMVER = re.compile(r"^\d+\.\d+\.\d+([-+].+)?$")


@pytest.fixture
async def connection(nats_server: EmbeddedServer) -> AsyncIterator[Connection]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        yield connection


@pytest.fixture
async def service(connection: Connection, namespace: str) -> AsyncIterator[MicroService]:
    endpoints = [
        Endpoint("get_order", "orders.query.get_order", metadata={"op": "query", "request": "{}", "response": "{}"}),
        Endpoint("create_order", "orders.command.create_order", queue_group="own"),
    ]
    service = MicroService(connection, namespace, "1.2.3-rc.1+build", "Orders", {"team": "shop"}, endpoints)
    await service.start()
    yield service
    service.stop()


async def ask(connection: Connection, subject: str) -> dict[str, Any]:
    return msgspec.json.decode((await connection.request(subject, b"", timeout=5)).payload)


def check_identity(answer: dict[str, Any], kind: str, service: MicroService) -> None:
    assert answer["type"] == f"io.nats.micro.v1.{kind}_response"
    assert NAME.match(answer["name"]) and answer["name"] == service.name
    assert answer["id"] == service.id and answer["id"]
    assert SEMVER.match(answer["version"])
    assert answer["metadata"] == {"team": "shop"}


async def test_ping(connection: Connection, service: MicroService) -> None:
    answer = await ask(connection, f"$SRV.PING.{service.name}")
    check_identity(answer, "ping", service)
    assert set(answer) == {"type", "name", "id", "version", "metadata"}


async def test_info(connection: Connection, service: MicroService) -> None:
    answer = await ask(connection, f"$SRV.INFO.{service.name}.{service.id}")
    check_identity(answer, "info", service)
    assert answer["description"] == "Orders"
    query, command = answer["endpoints"]
    assert query == {
        "name": "get_order",
        "subject": "orders.query.get_order",
        "queue_group": "q",
        "metadata": {"op": "query", "request": "{}", "response": "{}"},
    }
    assert (command["queue_group"], command["metadata"]) == ("own", {})


async def test_stats_are_the_counters_of_the_endpoints(connection: Connection, service: MicroService) -> None:
    stats = service.endpoints[0].stats
    stats.requests += 3
    stats.errors += 1
    stats.last_error = "500:broken"
    stats.processing_ns += 1_000_001
    answer = await ask(connection, f"$SRV.STATS.{service.name}")
    check_identity(answer, "stats", service)
    assert answer["started"].endswith("Z") and datetime.fromisoformat(answer["started"]).tzinfo is not None
    first, second = answer["endpoints"]
    assert first == {
        "name": "get_order",
        "subject": "orders.query.get_order",
        "queue_group": "q",
        "num_requests": 3,
        "num_errors": 1,
        "last_error": "500:broken",
        "processing_time": 1_000_001,
        "average_processing_time": 333_333,
    }
    assert (second["num_requests"], second["last_error"], second["average_processing_time"]) == (0, "", 0)


async def test_every_instance_responds_until_its_stop(
    connection: Connection, service: MicroService, nats_server: EmbeddedServer
) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as other:
        twin = MicroService(other, service.name, "1.2.3", metadata={"team": "shop"})
        await twin.start()
        await other.flush()
        heard: list[str] = []
        news = asyncio.Event()

        def hear(subject: bytes, reply: bytes, headers: bytes | None, payload: bytes) -> None:
            heard.append(msgspec.json.decode(payload)["id"])
            news.set()

        async def ping(count: int) -> set[str]:
            heard.clear()
            inbox = f"_INBOX.{service.name}.{count}"
            subscription = await connection.subscribe(inbox, hear)
            connection.publish("$SRV.PING", b"", reply=inbox.encode())
            async with asyncio.timeout(30):
                while len({service.id, twin.id} & set(heard)) < count:
                    news.clear()
                    await news.wait()
            await connection.flush()
            subscription.unsubscribe()
            return {service.id, twin.id} & set(heard)

        assert await ping(2) == {service.id, twin.id}
        twin.stop()
        twin.stop()
        await other.flush()
        assert await ping(1) == {service.id}


async def test_a_reply_subject_that_is_not_an_inbox_gets_no_response(
    connection: Connection, service: MicroService
) -> None:
    heard: list[bytes] = []
    target = f"$JS.API.STREAM.DELETE.{service.name}"
    await connection.subscribe(target, lambda subject, reply, headers, payload: heard.append(payload))
    for reply in (target, f"{service.name}.command.drop"):
        await connection.subscribe(reply, lambda subject, reply, headers, payload: heard.append(payload))
        connection.publish(f"$SRV.PING.{service.name}", b"", reply=reply.encode())
    # The service responds in order, so the other responses would have arrived before this one.
    await ask(connection, f"$SRV.PING.{service.name}")
    await connection.flush()
    assert heard == []


async def test_info_omits_schemas_that_exceed_the_limit(connection: Connection, namespace: str) -> None:
    schema = "x" * (connection.max_payload // 3)
    endpoints = [
        Endpoint("one", "one", metadata={"op": "query", "request": schema, "response": schema}),
        Endpoint("two", "two", metadata={"op": "command", "request": schema}),
        Endpoint("three", "three", metadata={"op": "query"}),
    ]
    service = MicroService(connection, namespace, "1.0.0", endpoints=endpoints)
    await service.start()
    answer = await ask(connection, f"$SRV.INFO.{namespace}")
    assert [endpoint["metadata"] for endpoint in answer["endpoints"]] == [
        {"op": "query", "schemas": "omitted"},
        {"op": "command", "schemas": "omitted"},
        {"op": "query"},
    ]
    assert endpoints[0].metadata["request"] == schema
    service.stop()


@pytest.mark.parametrize("name", ["", "a.b", "a b", "a*", "ä", "a\n", ">"])
async def test_invalid_names_are_refused(connection: Connection, name: str) -> None:
    with pytest.raises(DeclarationError, match=r"only letters, digits"):
        MicroService(connection, name, "1.0.0")
    with pytest.raises(DeclarationError, match=r"only letters, digits"):
        Endpoint(name, "subject")


@pytest.mark.parametrize("version", ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "1.0.0-", "1.0.0\n", "١.0.0"])
async def test_versions_that_are_not_semver_are_refused(connection: Connection, version: str) -> None:
    with pytest.raises(DeclarationError, match="not SemVer"):
        MicroService(connection, "orders", version)


async def test_invalid_metadata_and_endpoints_are_refused(connection: Connection) -> None:
    with pytest.raises(DeclarationError, match="_nats"):
        MicroService(connection, "orders", "1.0.0", metadata={"_nats.x": "y"})
    with pytest.raises(DeclarationError, match="not text"):
        Endpoint("a", "a", metadata={"count": 1})  # pyright: ignore[reportArgumentType]
    with pytest.raises(DeclarationError, match="same name"):
        MicroService(connection, "orders", "1.0.0", endpoints=[Endpoint("a", "a"), Endpoint("a", "b")])
