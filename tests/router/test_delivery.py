"""Deliveries of each kind of target: arrivals, further attempts, and dead letters."""

import asyncio
import json
import logging
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from aiohttp import web

from runtime import Actor, Command, Rejected, command, testing
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import StreamConfig
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.routing import GetInForce, delivery_id
from runtime.router.rule import PutRule, RuleFields
from runtime.router.target import Condition, PutTarget, TargetFields, actor_of, condition_query
from runtime.storage.dead_letters import read_failure
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.support.endpoint import Endpoint, Received, endpoint
from tests.support.till import LEDGER, GetEntries, Ledger, Sell, Till

FAST: dict[str, Any] = {"first": 0.01, "longest": 0.05}
"""Settings of a target that tries again soon."""


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncGenerator[testing.System]:
    async with testing.running(
        Rules, Targets, Router, Till, Ledger, url=nats_server.url, namespace=namespace
    ) as system:
        yield system


@pytest.fixture
async def place() -> AsyncGenerator[Endpoint]:
    async with endpoint() as served:
        yield served


async def connect(system: testing.System, target: dict[str, Any], input: Any = None, name: str = "there") -> None:
    """Put a target, and a rule that sends it all that is sold."""
    await system.bus.command(PutTarget(name, msgspec.convert(target, TargetFields)))
    fields = {"types": ["till.Sold"], "targets": [{"target": name, "input": input}]}
    rule = await system.bus.command(PutRule(f"to-{name}", msgspec.convert(fields, RuleFields), unchecked=True))
    assert await system.bus.query(GetInForce("", rule.name, rule.version)) == rule.version


async def reasons(system: testing.System, target: str = "there") -> list[str]:
    names = Names(actor_of(target), system.bus.namespace)
    jetstream = JetStream(system.bus.connection)
    return [read_failure(each.headers).reason async for each in jetstream.read(names.dead_stream, names.dead("*"))]


async def test_an_http_target_gets_the_event_with_its_trace(system: testing.System, place: Endpoint) -> None:
    await connect(system, {"to": {"kind": "http", "url": f"{place.url}/sold/{{$key}}"}})
    await system.bus.command(Sell("no rth", 5))
    await system.until(lambda: place.received)
    [request] = place.received
    event = json.loads(request.body)
    assert request.path == "/sold/no%20rth"
    assert request.headers["content-type"] == "application/cloudevents+json; charset=utf-8"
    assert request.headers["idempotency-key"] == delivery_id(event["id"], "to-there", "there")
    assert (event["type"], event["source"], event["subject"], event["data"]["total"]) == (
        "till.Sold",
        "/till",
        "no rth",
        5,
    )
    trace = request.headers["traceparent"].split("-")[1]
    await system.until(lambda: any(span.name == "till/sell" for span in system.trace_of(trace)))


async def test_an_input_is_the_body(system: testing.System, place: Endpoint) -> None:
    to = {"kind": "http", "url": place.url, "body": "input"}
    await connect(
        system, {"to": to}, {"text": 'sold "{$.total}" at {$.till}', "n": "$.total", "note": "$.note?", "r": "$rule"}
    )
    await system.bus.command(Sell("north", 5))
    await system.until(lambda: place.received)
    assert json.loads(place.received[0].body) == {"text": 'sold "5" at north', "n": 5, "note": None, "r": "to-there"}


async def test_a_failing_target_gets_a_delivery_again_under_the_same_key_and_in_order(
    system: testing.System, place: Endpoint
) -> None:
    place.answers += [web.Response(status=503), web.Response(status=429, headers={"Retry-After": "0"})]
    await connect(system, {"to": {"kind": "http", "url": place.url}, **FAST})
    for total in range(3):
        await system.bus.command(Sell("north", total))
    await system.until(lambda: len(place.received) == 5)
    assert [json.loads(each.body)["data"]["total"] for each in place.received] == [0, 0, 0, 1, 2]
    assert len({each.headers["idempotency-key"] for each in place.received[:3]}) == 1
    assert await reasons(system) == []


async def test_a_refused_request_is_a_dead_letter_that_is_redriven(system: testing.System, place: Endpoint) -> None:
    place.answers.append(web.Response(status=422, text="no such thing"))
    await connect(system, {"to": {"kind": "http", "url": place.url}, **FAST})
    await system.bus.command(Sell("north", 5))
    await system.until(lambda: reasons(system))
    [reason] = await reasons(system)
    assert "422" in reason and "no such thing" in reason


async def test_after_its_attempts_or_its_age_a_delivery_is_a_dead_letter(
    system: testing.System, place: Endpoint
) -> None:
    place.answers += [web.Response(status=500) for _ in range(3)]
    await connect(system, {"to": {"kind": "http", "url": place.url}, **FAST, "attempts": 3})
    await system.bus.command(Sell("north", 5))
    await system.until(lambda: reasons(system))
    assert len(place.received) == 3
    await connect(system, {"to": {"kind": "http", "url": place.url}, **FAST, "max_age": 0.000001}, name="old")
    await system.bus.command(Sell("north", 6))
    [reason] = await system.until(lambda: reasons(system, "old"))
    assert "older than max_age = 1e-06 s" in reason


async def test_a_target_that_hangs_delays_no_other(system: testing.System, place: Endpoint) -> None:
    ended = asyncio.Event()

    async def hang(_: Received) -> web.Response:
        await ended.wait()
        return web.Response()

    place.answers += [hang] * 3
    await connect(system, {"to": {"kind": "http", "url": place.url}}, name="hanging")
    await connect(system, {"to": LEDGER}, {"account": "$.till", "amount": "$.total"})
    for total in range(3):
        await system.bus.command(Sell("north", total))

    async def booked() -> bool:
        return await system.bus.query(GetEntries("north")) == ("0", "1", "2")

    await system.until(booked)
    ended.set()


async def test_a_command_waits_for_an_actor_that_does_not_run(nats_server: EmbeddedServer, namespace: str) -> None:
    async with testing.running(Rules, Targets, Router, Till, url=nats_server.url, namespace=namespace) as system:
        await connect(system, {"to": LEDGER, **FAST, "attempts": 1}, {"account": "$.till", "amount": "$.total"})
        await system.bus.command(Sell("north", 5))
        async with testing.running(Ledger, url=nats_server.url, namespace=namespace):

            async def booked() -> bool:
                return await system.bus.query(GetEntries("north")) == ("5",)

            await system.until(booked)


class Fail(Command[None], actor="failing", key="till"):
    till: str


class Failing(Actor):
    """Fails, or asks to wait."""

    name = "failing"

    @command
    async def fail(self, message: Fail) -> None:
        if message.till == "north":
            raise ZeroDivisionError
        raise Rejected("the drawer is open", retry_after=0.01)


@pytest.mark.parametrize(("till", "reason"), [("north", "the handler failed"), ("south", "the drawer is open")])
async def test_a_command_that_fails_is_the_last_failure_of_its_target_and_opens_no_circuit(
    system: testing.System, nats_server: EmbeddedServer, till: str, reason: str
) -> None:
    async with testing.running(Failing, url=nats_server.url, namespace=system.bus.namespace):
        to = {"kind": "command", "actor": "failing", "command": "Fail"}
        await connect(system, {"to": to, **FAST}, {"till": "$.till"})
        await system.bus.command(Sell(till, 5))

        async def condition() -> Condition | None:
            found: Condition = await system.bus.query(condition_query("there")())
            return found if found.failure else None

        found = await system.until(condition)
        assert reason in found.failure
        assert found.state == "on"


async def test_an_event_of_another_type_is_emitted_once(system: testing.System) -> None:
    await connect(system, {"to": {"kind": "event", "type": "ledger.SaleSeen", "key": "$.number"}}, {"sum": "$.total"})
    await system.bus.command(Sell("north", 5))
    names = Names("ledger", system.bus.namespace)
    jetstream = JetStream(system.bus.connection)
    stored = await system.until(lambda: jetstream.get_last(names.events_stream, names.stored_event("sale_seen")))
    headers = header_block.parse(stored.headers)
    assert stored.payload == b'{"sum":5}' and stored.subject.endswith(".1")
    assert (headers["ce-type"], headers["ce-source"], headers["ce-subject"]) == ("ledger.SaleSeen", "/ledger", "1")
    [sold] = [each async for each in jetstream.read(Names("till", system.bus.namespace).events_stream, ">")]
    event_id = header_block.get(sold.headers, header_block.EVENT_ID) or ""
    assert headers["ce-id"] == headers["Nats-Msg-Id"] == delivery_id(event_id, "to-there", "there")


async def test_a_subject_gets_the_attributes_of_the_event(system: testing.System) -> None:
    prefix = f"out-{system.bus.namespace}"
    jetstream = JetStream(system.bus.connection)
    await jetstream.ensure_stream(StreamConfig(name=prefix, subjects=(f"{prefix}.>",)))
    await connect(system, {"to": {"kind": "subject", "subject": f"{prefix}.{{source}}.{{name}}.{{key}}"}})
    await system.bus.command(Sell("no rth", 5))
    stored = await system.until(lambda: jetstream.get_last(prefix, f"{prefix}.>"))
    headers = header_block.parse(stored.headers)
    assert stored.subject == f"{prefix}.till.sold.no%20rth"
    assert (headers["ce-type"], headers["Rule"], headers["Target"]) == ("till.Sold", "to-there", "there")
    assert headers["Nats-Msg-Id"] == delivery_id(headers["ce-id"], "to-there", "there")
    assert json.loads(stored.payload)["total"] == 5


async def test_a_subject_without_a_stream_may_be_enough(system: testing.System) -> None:
    prefix, received = f"out-{system.bus.namespace}", list[bytes]()
    await system.bus.connection.subscribe(f"{prefix}.>", lambda *message: received.append(message[-1]))
    await connect(system, {"to": {"kind": "subject", "subject": f"{prefix}.all", "stored": False}}, {"t": "$.total"})
    await system.bus.command(Sell("north", 5))
    await system.until(lambda: received)
    assert received == [b'{"t":5}']


async def test_a_log_line(system: testing.System, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "actorloom.router"):
        await connect(system, {"to": {"kind": "log", "level": "warning"}}, {"t": "$.total"})
        await system.bus.command(Sell("north", 5))
        await system.until(lambda: [each for each in caplog.records if "till.Sold" in each.getMessage()])
    [record] = [each for each in caplog.records if "till.Sold" in each.getMessage()]
    assert record.levelname == "WARNING" and record.getMessage().startswith("there: till.Sold ")
    assert record.getMessage().endswith('of key north: {"t":5}')
    await asyncio.sleep(0)
