"""A failing or slow key blocks itself alone, however many events wait behind it, and keeps their order."""

import asyncio
import logging
import time
from collections import defaultdict

import msgspec
import pytest

from runtime import Actor, Event, Options, Query, RetryPolicy, query, react
from runtime.nats.server import EmbeddedServer
from runtime.wire.cloudevents import event_headers
from tests.support.consumers import is_idle
from tests.support.probe import Probe, running

BLOCKED: set[str] = set()
"""Keys whose handlers fail while they are in this set."""
GATES: dict[str, asyncio.Event] = {}
"""Events that release the handlers of a key, other than that of its first event."""
TRIED: dict[str, int] = defaultdict(int)
PATIENT = RetryPolicy(attempts=100_000, first=0.01, longest=0.02)


class Posted(Event, actor="office", key="box"):
    """Published by the tests."""

    box: str
    number: int
    copy: str = ""
    """A second key that reacts to the event too."""


class Pile(msgspec.Struct, frozen=True):
    numbers: tuple[int, ...] = ()
    copies: tuple[int, ...] = ()


class GetPile(Query[Pile], actor="boxes", key="box"):
    box: str


class Boxes(Actor[Pile]):
    """Keeps the posted numbers in order of arrival."""

    name = "boxes"

    @react
    async def on_posted(self, event: Posted) -> None:
        TRIED[event.box] += 1
        if event.box in BLOCKED:
            raise RuntimeError(f"{event.box} is blocked")
        if event.box in GATES and event.number:
            await GATES[event.box].wait()
        pile = self.state or Pile()
        self.state = msgspec.structs.replace(pile, numbers=(*pile.numbers, event.number))

    @react(key="copy", where={"copy": [{"anything-but": [""]}]})
    async def on_posted_copy(self, event: Posted) -> None:
        pile = self.state or Pile()
        self.state = msgspec.structs.replace(pile, copies=(*pile.copies, event.number))

    @query
    async def get_pile(self, message: GetPile) -> Pile:
        return self.state or Pile()


@pytest.fixture(autouse=True)
def _nothing_blocked() -> None:
    BLOCKED.clear()
    GATES.clear()
    TRIED.clear()


async def post(system: Probe, namespace: str, box: str, numbers: range, copy: str = "") -> None:
    """Publish many events of one key; return when all are stored."""
    jetstream = system.jetstream
    subject = f"{namespace}.office.event.posted.{box}"
    for number in numbers:
        block = event_headers("office", "Posted", f"{box}-{number}", box, time.time()) + b"\r\n"
        body = msgspec.json.encode(Posted(box, number, copy))
        if number != numbers[-1]:
            jetstream.connection.publish(subject, body, headers=block)
        else:
            await jetstream.publish(subject, body, headers=block)


async def pile(system: Probe, box: str) -> Pile:
    return await system.bus.query(GetPile(box))


async def until_handled(system: Probe, box: str, count: int) -> tuple[int, ...]:
    async def handled() -> bool:
        return len((await pile(system, box)).numbers) >= count

    await system.until(handled)
    return (await pile(system, box)).numbers


async def until_idle(system: Probe, namespace: str) -> None:
    jetstream = system.jetstream
    await system.until(lambda: is_idle(jetstream, f"{namespace}-office-events", "boxes"))


def in_hand(system: Probe) -> int:
    return system.in_hand("boxes")


async def test_a_failing_key_with_more_events_than_the_limit_in_hand_blocks_itself_alone(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        await post(system, namespace, "jammed", range(1500))
        await post(system, namespace, "free", range(700))
        assert await until_handled(system, "free", 700) == tuple(range(700))
        assert in_hand(system) == 1500 and (await pile(system, "jammed")).numbers == ()
        assert any("of its key wait behind it" in message for message in caplog.messages)
        # The backlog runs down. Events that arrive meanwhile, of this key or another, are handled in their turn.
        BLOCKED.clear()
        await post(system, namespace, "jammed", range(1500, 2500))
        await post(system, namespace, "late", range(100))
        assert await until_handled(system, "late", 100) == tuple(range(100))
        assert await until_handled(system, "jammed", 2500) == tuple(range(2500))
        await until_idle(system, namespace)
        assert system.room("boxes") == (512, 0, 0)


async def test_more_failing_keys_than_the_limit_in_hand_block_no_other(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    boxes = [f"jammed-{n}" for n in range(30)]
    BLOCKED.update(boxes)
    options = {"boxes": Options(retry=PATIENT, in_hand=8)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        for box in boxes:
            await post(system, namespace, box, range(3))
        await post(system, namespace, "free", range(50))
        assert await until_handled(system, "free", 50) == tuple(range(50))
        BLOCKED.clear()
        for box in boxes:
            assert await until_handled(system, box, 3) == (0, 1, 2)


@pytest.mark.parametrize("how", ["drain", "crash"])
async def test_parked_events_keep_their_order_in_the_next_process(
    nats_server: EmbeddedServer, namespace: str, how: str
) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT, in_hand=16)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        await post(system, namespace, "jammed", range(300))
        await post(system, namespace, "free", range(50))
        assert await until_handled(system, "free", 50) == tuple(range(50))
        if how == "crash":
            first = system.ownership("boxes")
            system.crash("boxes")
            await system.until(lambda: system.ownership("boxes") not in (None, first))
            BLOCKED.clear()
            await post(system, namespace, "jammed", range(300, 320))
            assert await until_handled(system, "jammed", 320) == tuple(range(320))
            return
    BLOCKED.clear()
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        await post(system, namespace, "jammed", range(300, 320))
        assert await until_handled(system, "jammed", 320) == tuple(range(320))
        await until_idle(system, namespace)
        assert (await pile(system, "free")).numbers == tuple(range(50))


async def test_a_reconnect_keeps_the_order_and_the_room(
    namespace: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT, in_hand=16)}
    async with EmbeddedServer(port=0, store_dir=tmp_path_factory.mktemp("nats")) as server:
        async with running(Boxes, url=server.url, namespace=namespace, options=options) as system:
            await post(system, namespace, "jammed", range(200))
            await until_in_hand(system, 200)
            await server.stop()
            await server.start()
            await system.connection.wait_connected(10)
            await system.until_ready("boxes")
            await post(system, namespace, "free", range(100))
            assert await until_handled(system, "free", 100) == tuple(range(100))
            BLOCKED.clear()
            assert await until_handled(system, "jammed", 200) == tuple(range(200))
            await until_idle(system, namespace)


async def until_in_hand(system: Probe, count: int) -> None:
    await system.until(lambda: in_hand(system) >= count)


async def test_a_blocked_reaction_does_not_stop_another_reaction_to_the_same_event(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT, in_hand=8)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        await post(system, namespace, "jammed", range(100), copy="copies")

        async def copied() -> bool:
            return (await pile(system, "copies")).copies == tuple(range(100))

        await system.until(copied)
        BLOCKED.clear()
        assert await until_handled(system, "jammed", 100) == tuple(range(100))
        await until_idle(system, namespace)


async def test_parked_events_are_bounded_and_the_limit_is_logged_once(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT, in_hand=8, parked=40)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        await post(system, namespace, "jammed", range(100))
        await post(system, namespace, "free", range(5))
        await system.until(lambda: TRIED["jammed"] > 20 and in_hand(system) == 48)
        counter = system.served("boxes").tracer.counter(
            "actorloom.reactions.stalled", {"actorloom.stream.name": f"{namespace}-office-events"}
        )
        assert counter.value == 1 and (await pile(system, "free")).numbers == ()
        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert ["parked = 40" in record.getMessage() for record in errors] == [True]
        BLOCKED.clear()
        assert await until_handled(system, "jammed", 100) == tuple(range(100))
        assert await until_handled(system, "free", 5) == tuple(range(5))


async def test_a_slow_key_blocks_itself_alone(nats_server: EmbeddedServer, namespace: str) -> None:
    gate = GATES["slow"] = asyncio.Event()
    options = {"boxes": Options(in_hand=8)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options, lease_ttl=3.0) as system:
        await post(system, namespace, "slow", range(100))
        await post(system, namespace, "free", range(50))
        assert await until_handled(system, "free", 50) == tuple(range(50))
        assert TRIED["slow"] == 2
        gate.set()
        assert await until_handled(system, "slow", 100) == tuple(range(100))


async def test_a_key_that_works_off_its_backlog_blocks_itself_alone(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT, in_hand=16)}
    # With a lease this long, finding a key slow takes half a minute; so the retried key must be parked by another rule.
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options, lease_ttl=60.0) as system:
        await post(system, namespace, "jammed", range(100))
        await until_in_hand(system, 100)
        gate = GATES["jammed"] = asyncio.Event()
        BLOCKED.clear()
        assert await until_handled(system, "jammed", 1) == (0,)
        await post(system, namespace, "jammed", range(100, 200))
        await post(system, namespace, "free", range(50))
        assert await until_handled(system, "free", 50) == tuple(range(50))
        gate.set()
        assert await until_handled(system, "jammed", 200) == tuple(range(200))


async def test_a_drain_does_not_wait_for_a_backlog(nats_server: EmbeddedServer, namespace: str) -> None:
    BLOCKED.add("jammed")
    options = {"boxes": Options(retry=PATIENT, in_hand=16)}
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        await post(system, namespace, "jammed", range(300))
        await until_in_hand(system, 300)
        gate = GATES["jammed"] = asyncio.Event()
        BLOCKED.clear()
        assert await until_handled(system, "jammed", 1) == (0,)
        system.runner.stop()
        await system.until(lambda: system.is_draining("boxes"))
        TRIED.clear()
        gate.set()
    assert TRIED["jammed"] < 10
    async with running(Boxes, url=nats_server.url, namespace=namespace, options=options) as system:
        assert await until_handled(system, "jammed", 300) == tuple(range(300))
