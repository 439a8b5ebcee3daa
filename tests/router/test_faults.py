"""Faults around the router, on one server and on three: owners that know too little, deleted parts, and targets that are down."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import msgspec
import pytest
from aiohttp import web

from runtime import ActorError, testing
from runtime.bounds import Replicas
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.hops import MOST_HOPS
from runtime.router.routing import GetInForce
from runtime.router.rule import PutRule, Rule, RuleChanged, RuleFields
from runtime.router.target import PauseTarget, PutTarget, ResumeTarget, TargetFields, actor_of
from runtime.storage.dead_letters import DeadLetters
from runtime.wire.subjects import Names
from tests.chaos.servers import Servers
from tests.support.endpoint import Received, endpoint, sockets
from tests.support.probe import running
from tests.support.standby import standby
from tests.support.till import LEDGER, GetEntries, Ledger, Sell, Till

FAST: dict[str, Any] = {"first": 0.01, "longest": 0.05, "attempts": 1000}
"""Settings of a target that tries again soon."""


class Place(NamedTuple):
    """The servers of a test."""

    url: str
    replicas: Replicas


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Three servers, for all tests of this module."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        servers = Servers(tmp_path_factory.mktemp("nodes"), 3)
        runner.run(servers.__aenter__())
        yield servers
        runner.run(servers.__aexit__())


@pytest.fixture(params=[1, 3], ids=["one", "three"])
def place(request: pytest.FixtureRequest, nats_server: EmbeddedServer) -> Place:
    """One server, or three."""
    if request.param == 1:
        return Place(nats_server.url, 1)
    return Place(request.getfixturevalue("cluster").url, 3)


def system_of(place: Place, namespace: str) -> AbstractAsyncContextManager[testing.System]:
    """Run a till, a ledger and the router."""
    actors = (Rules, Targets, Router, Till, Ledger)
    return testing.running(*actors, url=place.url, replicas=place.replicas, namespace=namespace)


def names_of(system: testing.System) -> Names:
    """Return the names of the target's actor."""
    return Names(actor_of("there"), system.bus.namespace)


async def letters(system: testing.System) -> list[int]:
    """Return the sequences of the target's dead letters."""
    names = names_of(system)
    stored = JetStream(system.bus.connection).read(names.dead_stream, names.dead("*"))
    return [each.sequence async for each in stored]


async def connect(
    system: testing.System, text: str, to: dict[str, Any] = LEDGER, whole: bool = False, **settings: Any
) -> Rule:
    """Put a target, and a rule that sends it all that is sold, whole or with a text; return when it is in force."""
    await system.bus.command(PutTarget("there", msgspec.convert({"to": to, **settings}, TargetFields)))
    given: dict[str, Any] = {"target": "there"}
    if not whole:
        given["input"] = {"account": "$.till", "amount": "$.total", "text": text}
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


async def test_a_new_owner_goes_by_the_rules_that_were_in_force(place: Place, namespace: str) -> None:
    where: dict[str, Any] = {"url": place.url, "replicas": place.replicas, "namespace": namespace, "lease_ttl": 1.0}
    async with running(Rules, Targets, Router, Till, Ledger, **where, sources=()) as system:
        await connect(system, "old")
        async with standby(Deaf, **where) as other:
            await connect(system, "new")
            system.drain("router")
            await other.until_ready("router")
            await system.bus.command(Sell("north", 1))
            await booked(system, "1 new")


async def test_a_rule_is_in_force_soon_at_an_owner_that_hears_of_no_change(place: Place, namespace: str) -> None:
    actors = (Rules, Targets, Deaf, Till, Ledger)
    async with testing.running(*actors, url=place.url, replicas=place.replicas, namespace=namespace) as system:
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
    place: Place, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    actors = (Rules, Targets, Stumbling, Till, Ledger)
    async with testing.running(*actors, url=place.url, replicas=place.replicas, namespace=namespace) as system:
        for text in ("first", "second", "third"):
            await connect(system, text)
            await system.bus.command(Sell("north", 1))
        await booked(system, "1 first", "1 second", "1 third")
    assert "cannot be followed now: stumbles on purpose" in caplog.text


async def test_an_event_right_after_a_put_matches_although_the_clock_is_ahead(place: Place, namespace: str) -> None:
    async with system_of(place, namespace) as system:
        clock = system.bus.connection.clock
        clock.offset, clock._bound = clock.offset + 2.0, 2.1
        await connect(system, "text")
        await system.bus.command(Sell("north", 1))
        await booked(system, "1 text")


async def test_a_request_that_is_executed_and_not_answered_comes_again_with_its_key(
    place: Place, namespace: str
) -> None:
    async def answer(writer: asyncio.StreamWriter, number: int) -> None:
        if number > 2:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async with system_of(place, namespace) as system, sockets(answer) as (url, heads):
        await connect(system, "text", {"kind": "http", "url": url}, **FAST)
        await system.bus.command(Sell("north", 1))
        await system.until(lambda: len(heads) == 3)
        keys = [line for head in heads for line in head.splitlines() if line.lower().startswith(b"idempotency-key")]
        assert len(keys) == 3 and len({*keys}) == 1
        assert await letters(system) == []


async def test_a_target_that_is_down_for_longer_than_max_age_has_a_dead_letter_of_each_delivery(
    place: Place, namespace: str
) -> None:
    async with system_of(place, namespace) as system, endpoint() as service:

        async def refuse(_: Received) -> web.Response:
            return web.Response(status=503)

        service.answers += [refuse] * 1000
        await connect(system, "text", {"kind": "http", "url": service.url}, **FAST, max_age=0.3)
        for number in range(6):
            await system.bus.command(Sell(("north", "south")[number % 2], number))

        async def all_dead() -> bool:
            return len(await letters(system)) == 6

        async def none_dead() -> bool:
            return not await letters(system)

        await system.until(all_dead)
        tried = {each.headers["idempotency-key"] for each in service.received}
        service.answers.clear()
        service.received.clear()
        dead = DeadLetters(JetStream(system.bus.connection), names_of(system))
        assert all([await dead.redrive(sequence) for sequence in await letters(system)])
        await system.until(lambda: len(service.received) == 6)
        keys = [each.headers["idempotency-key"] for each in service.received]
        assert len({*keys}) == 6 and {*keys} >= tried
        await system.until(none_dead)
        assert len(service.received) == 6


async def test_deliveries_wait_for_a_stream_at_its_limit_and_arrive_in_order(
    place: Place, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    async with system_of(place, namespace) as system:
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
    place: Place, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.1)
    monkeypatch.setattr("runtime.storage.parked_tells._PAUSE", 0.05)
    async with system_of(place, namespace) as system:
        await connect(system, "sold")
        await system.bus.command(Sell("north", 0))
        await booked(system, "0 sold")
        await JetStream(system.bus.connection).delete_stream(names_of(system).tells_stream)
        for number in range(1, 5):
            await system.bus.command(Sell("north", number))
        await booked(system, *(f"{number} sold" for number in range(5)))


async def test_a_target_whose_consumer_is_deleted_while_it_is_paused_goes_on_at_its_place(
    place: Place, namespace: str
) -> None:
    async with system_of(place, namespace) as system:
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
    place: Place, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    subject, received = f"mute-{namespace}", list[bytes]()
    async with system_of(place, namespace) as system:
        await system.bus.connection.subscribe(subject, lambda *message: received.append(message[-1]))
        settings = {**FAST, "attempts": 2, "timeout": 0.1}
        await connect(system, "text", {"kind": "subject", "subject": subject}, **settings)
        await system.bus.command(Sell("north", 1))
        await system.until(lambda: letters(system))
        assert len(received) == 2
    assert "attempt 1 of 2" in caplog.text and "Traceback" not in caplog.text


async def test_a_circle_of_rules_ends_with_a_dead_letter(place: Place, namespace: str) -> None:
    async with system_of(place, namespace) as system:
        await connect(system, "", {"kind": "event", "type": "till.Sold"}, whole=True)
        await system.bus.command(Sell("north", 5))
        await system.until(lambda: letters(system))
        [letter] = [each async for each in DeadLetters(JetStream(system.bus.connection), names_of(system)).read()]
        assert "the rules form a circle" in letter.failure.reason
        assert msgspec.json.decode(letter.payload)["hops"] == MOST_HOPS + 1
