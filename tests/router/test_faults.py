"""Faults around the router: owners that know too little, clocks, deleted parts, and targets that are down for long."""

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import pytest
from aiohttp import web

from runtime import ActorError, testing
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.routing import GetInForce
from runtime.router.rule import PutRule, Rule, RuleChanged, RuleFields
from runtime.router.target import PauseTarget, PutTarget, ResumeTarget, TargetFields, actor_of
from runtime.storage.dead_letters import DeadLetters
from runtime.wire.subjects import Names
from tests.support.endpoint import Received, endpoint, sockets
from tests.support.probe import running
from tests.support.standby import standby
from tests.support.till import LEDGER, GetEntries, Ledger, Sell, Till

FAST: dict[str, Any] = {"first": 0.01, "longest": 0.05, "attempts": 1000}
"""Settings of a target that tries again soon."""


def system_of(server: EmbeddedServer, namespace: str) -> AbstractAsyncContextManager[testing.System]:
    """Run a till, a ledger and the router."""
    return testing.running(Rules, Targets, Router, Till, Ledger, url=server.url, namespace=namespace)


def names_of(system: testing.System) -> Names:
    """Return the names of the target's actor."""
    return Names(actor_of("there"), system.bus.namespace)


async def letters(system: testing.System) -> list[int]:
    """Return the sequences of the target's dead letters."""
    names = names_of(system)
    stored = JetStream(system.bus.connection).read(names.dead_stream, names.dead("*"))
    return [each.sequence async for each in stored]


async def connect(system: testing.System, text: str, to: dict[str, Any] = LEDGER, **settings: Any) -> Rule:
    """Put a target, and a rule that sends it all that is sold, with a text; return when it is in force."""
    await system.bus.command(PutTarget("there", msgspec.convert({"to": to, **settings}, TargetFields)))
    given = {"target": "there", "input": {"account": "$.till", "amount": "$.total", "text": text}}
    fields = msgspec.convert({"types": ["till.Sold"], "targets": [given]}, RuleFields)
    rule = await system.bus.command(PutRule("rule", fields, unchecked=True))
    assert await system.bus.query(GetInForce("", rule.name, rule.version)) >= rule.version
    return rule


async def booked(system: testing.System, *entries: str) -> None:
    """Return when the ledger has exactly these entries for the till ``north``."""

    async def equal() -> bool:
        return await system.bus.query(GetEntries("north")) == entries

    await system.until(equal)


class Deaf(Router):
    """A router that hears of no change after its start, as one whose consumer is on a node that is gone."""

    async def on_start(self) -> None:
        await super().on_start()
        self.rules._following._apply = lambda change: None


async def test_a_new_owner_goes_by_the_rules_that_were_in_force(nats_server: EmbeddedServer, namespace: str) -> None:
    actors, url = (Rules, Targets, Router, Till, Ledger), nats_server.url
    async with running(*actors, url=url, namespace=namespace, lease_ttl=1.0, sources=()) as system:
        await connect(system, "old")
        async with standby(Deaf, url=url, namespace=namespace, lease_ttl=1.0) as other:
            await connect(system, "new")
            system.drain("router")
            await other.until_ready("router")
            await system.bus.command(Sell("north", 1))
            await booked(system, "1 new")


async def test_a_rule_is_in_force_soon_at_an_owner_that_hears_of_no_change(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    actors = (Rules, Targets, Deaf, Till, Ledger)
    async with testing.running(*actors, url=nats_server.url, namespace=namespace) as system:
        await connect(system, "text")
        await system.bus.command(Sell("north", 1))
        await booked(system, "1 text")


class Stumbling(Router):
    """A router whose copy of the rules fails at the second change that it hears of."""

    async def on_start(self) -> None:
        await super().on_start()
        apply, heard = self.rules._following._apply, list[object]()

        def stumble(change: RuleChanged) -> None:
            heard.append(change)
            if len(heard) == 2:
                raise ActorError("stumbles on purpose")
            apply(change)

        self.rules._following._apply = stumble


async def test_a_change_that_could_not_be_followed_is_in_force_soon(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    actors = (Rules, Targets, Stumbling, Till, Ledger)
    async with testing.running(*actors, url=nats_server.url, namespace=namespace) as system:
        for text in ("first", "second", "third"):
            await connect(system, text)
            await system.bus.command(Sell("north", 1))
        await booked(system, "1 first", "1 second", "1 third")
    assert "cannot be followed now: stumbles on purpose" in caplog.text


async def test_an_event_right_after_a_put_matches_although_the_clock_is_ahead(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with system_of(nats_server, namespace) as system:
        clock = system.bus.connection.clock
        clock.offset, clock._bound = clock.offset + 2.0, 2.1
        await connect(system, "text")
        await system.bus.command(Sell("north", 1))
        await booked(system, "1 text")


async def test_a_request_that_is_executed_and_not_answered_comes_again_with_its_key(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        if number > 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async with system_of(nats_server, namespace) as system, sockets(answer) as (url, heads):
        await connect(system, "text", {"kind": "http", "url": url}, **FAST)
        await system.bus.command(Sell("north", 1))
        await system.until(lambda: len(heads) == 3)
        keys = [line for head in heads for line in head.splitlines() if line.lower().startswith(b"idempotency-key")]
        assert len(keys) == 3 and len({*keys}) == 1
        assert await letters(system) == []


async def test_a_target_that_is_down_for_longer_than_max_age_has_a_dead_letter_of_each_delivery(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with system_of(nats_server, namespace) as system, endpoint() as place:

        async def refuse(_: Received) -> web.Response:
            return web.Response(status=503)

        place.answers += [refuse] * 1000
        await connect(system, "text", {"kind": "http", "url": place.url}, **FAST, max_age=0.3)
        for number in range(6):
            await system.bus.command(Sell(("north", "south")[number % 2], number))

        async def all_dead() -> bool:
            return len(await letters(system)) == 6

        async def none_dead() -> bool:
            return not await letters(system)

        await system.until(all_dead)
        tried = {each.headers["idempotency-key"] for each in place.received}
        place.answers.clear()
        place.received.clear()
        dead = DeadLetters(JetStream(system.bus.connection), names_of(system))
        assert all([await dead.redrive(sequence) for sequence in await letters(system)])
        await system.until(lambda: len(place.received) == 6)
        keys = [each.headers["idempotency-key"] for each in place.received]
        assert len({*keys}) == 6 and {*keys} >= tried
        await system.until(none_dead)
        assert len(place.received) == 6


async def test_deliveries_wait_for_a_stream_at_its_limit_and_arrive_in_order(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    async with system_of(nats_server, namespace) as system:
        await connect(system, "sold")
        await system.bus.command(PauseTarget("there"))
        jetstream, stream = JetStream(system.bus.connection), names_of(system).tells_stream
        config = (await jetstream.stream_info(stream)).config
        await jetstream.update_stream({**config, "max_msgs": 2, "discard": "new"})
        for number in range(6):
            await system.bus.command(Sell("north", number))
        await system.until(system.runner.warnings)
        await system.bus.command(ResumeTarget("there"))
        await booked(system, *(f"{number} sold" for number in range(6)))
        await system.until(lambda: not system.runner.warnings())


async def test_a_target_whose_stream_is_deleted_gets_what_is_delivered_then(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.1)
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    async with system_of(nats_server, namespace) as system:
        await connect(system, "sold")
        await system.bus.command(Sell("north", 0))
        await booked(system, "0 sold")
        await JetStream(system.bus.connection).delete_stream(names_of(system).tells_stream)
        for number in range(1, 5):
            await system.bus.command(Sell("north", number))
        await booked(system, *(f"{number} sold" for number in range(5)))


async def test_a_target_whose_consumer_is_deleted_while_it_is_paused_goes_on_at_its_place(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with system_of(nats_server, namespace) as system:
        await connect(system, "sold")
        for number in range(3):
            await system.bus.command(Sell("north", number))
        await booked(system, *(f"{number} sold" for number in range(3)))
        await system.bus.command(PauseTarget("there"))
        jetstream, stream = JetStream(system.bus.connection), names_of(system).tells_stream
        for number in range(3, 5):
            await system.bus.command(Sell("north", number))
        for consumer in await jetstream.consumers(stream):
            await jetstream.delete_consumer(stream, consumer.name)
        await system.bus.command(ResumeTarget("there"))
        await booked(system, *(f"{number} sold" for number in range(5)))
        assert await letters(system) == []


async def test_a_subject_without_an_answer_is_tried_again_and_leaves_no_stack_trace(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject, received = f"mute-{namespace}", list[bytes]()
    async with system_of(nats_server, namespace) as system:
        await system.bus.connection.subscribe(subject, lambda *message: received.append(message[-1]))
        settings = {**FAST, "attempts": 2, "timeout": 0.1}
        await connect(system, "text", {"kind": "subject", "subject": subject}, **settings)
        await system.bus.command(Sell("north", 1))
        await system.until(lambda: letters(system))
        assert len(received) == 2
    assert "attempt 1 of 2" in caplog.text and "Traceback" not in caplog.text
