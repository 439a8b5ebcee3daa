"""Reactions to events of any type: of streams that exist and that come later, of named sources, and by a function."""

import asyncio
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from runtime import Actor, AnyEvent, Bus, DeclarationError, Event, react, testing
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.options import Options, RetryPolicy
from runtime.wire.subjects import Names
from tests.support.till import Sell, Sold, Till

HEARD: dict[str, list[AnyEvent]] = defaultdict(list)


@pytest.fixture(autouse=True)
def _clean() -> None:
    HEARD.clear()


class Heard(msgspec.Struct, frozen=True):
    count: int = 0


class Chimed(Event, actor="bell", key="bell"):
    bell: str


class Bell(Actor[Heard]):
    """Emits nothing by itself; its stream is enough."""

    name = "bell"

    @react
    async def on_sold(self, event: Sold) -> None:
        self.emit(Chimed(event.till), id=f"chimed-{event.number}")


class Auditor(Actor[Heard]):
    """Hears all events of all actors but its own."""

    name = "auditor"

    @react
    async def on_event(self, event: AnyEvent) -> None:
        HEARD["auditor"].append(event)
        self.state = Heard((self.state or Heard()).count + 1)


class Chooser(Actor[Heard]):
    """Hears the events of one actor that a function wants."""

    name = "chooser"

    async def on_start(self) -> None:
        self.wanted = {2, 3}

    def wants(self, event: AnyEvent) -> bool:
        HEARD["asked"].append(event)
        return event.data["number"] in self.wanted

    @react(sources=["till"], where=wants)
    async def on_event(self, event: AnyEvent) -> None:
        HEARD["chooser"].append(event)


class Failing(Actor[Heard]):
    """Fails at each event."""

    name = "failing"
    options = Options(retry=RetryPolicy(attempts=1))
    broken = True

    @react
    async def on_event(self, event: AnyEvent) -> None:
        HEARD["failing"].append(event)
        if type(self).broken:
            raise ValueError("broken on purpose")


async def test_it_receives_the_events_of_all_actors_and_those_that_come_later(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with testing.running(Auditor, Till, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Sell("north", 5))
        await system.until(lambda: len(HEARD["auditor"]) == 1)
        async with testing.running(Bell, url=nats_server.url, namespace=namespace):
            await system.until(lambda: len(HEARD["auditor"]) == 2)
    sold, chimed = HEARD["auditor"]
    assert (sold.type, sold.source, sold.key, sold.name) == ("till.Sold", "till", "north", "sold")
    assert sold.data == {"till": "north", "number": 1, "total": 5, "country": "DK", "note": None}
    assert sold.read(Sold) == Sold("north", 1, 5, "DK")
    assert (chimed.type, chimed.id, chimed.stream) == ("bell.Chimed", "chimed-1", f"{namespace}-bell-events")


async def test_a_function_decides_before_the_turn(nats_server: EmbeddedServer, namespace: str) -> None:
    async with testing.running(Chooser, Till, url=nats_server.url, namespace=namespace) as system:
        for _ in range(4):
            await system.bus.command(Sell("north", 5))
        await system.until(lambda: len(HEARD["chooser"]) == 2 and len(HEARD["asked"]) == 4)
        names = Names("chooser", namespace)
        record = await JetStream(system.bus.connection).get_last(names.turns_stream, names.turn("north"))
    assert [event.data["number"] for event in HEARD["chooser"]] == [2, 3]
    assert record is not None and record.payload.count(b".on_event") == 2  # the others have no turn


async def test_the_subject_decides_about_an_event_without_cloudevents(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with testing.running(Auditor, Till, url=nats_server.url, namespace=namespace) as system:
        connection = system.bus.connection
        await JetStream(connection).publish(f"{namespace}.till.event.box_opened._", b'{"by": "hand"}')
        lying = b"NATS/1.0\r\nce-type: ledger.Closed\r\nce-id: lie-1\r\n\r\n"
        await JetStream(connection).publish(f"{namespace}.till.event.box_opened.a%2Eb", b"[1]", headers=lying)
        await system.until(lambda: len(HEARD["auditor"]) == 2)
    plain, keyed = sorted(HEARD["auditor"], key=lambda event: event.sequence)
    assert (plain.type, plain.key, plain.data) == ("till.BoxOpened", None, {"by": "hand"})
    assert plain.id == f"{namespace}-till-events:1" and plain.time.endswith("Z")
    assert (keyed.type, keyed.key, keyed.id, keyed.data) == ("till.BoxOpened", "a.b", "lie-1", [1])


async def test_a_structured_event_is_read_in_its_own_words(nats_server: EmbeddedServer, namespace: str) -> None:
    event: dict[str, Any] = {
        "specversion": "1.0", "id": "s-1", "source": "/till", "type": "till.Sold", "time": "2026-01-02T03:04:05Z",
        "data": {"till": "north"},
    }  # fmt: skip
    headers = b"NATS/1.0\r\nContent-Type: application/cloudevents+json\r\n\r\n"
    async with testing.running(Auditor, Till, url=nats_server.url, namespace=namespace) as system:
        body = msgspec.json.encode(event)
        await JetStream(system.bus.connection).publish(f"{namespace}.till.event.sold.north", body, headers=headers)
        await system.until(lambda: HEARD["auditor"])
    [heard] = HEARD["auditor"]
    assert (heard.id, heard.type, heard.time, heard.data) == ("s-1", "till.Sold", event["time"], event["data"])


async def test_a_dead_letter_of_it_has_the_name_of_the_event_and_is_redriven(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    Failing.broken = True
    async with testing.running(Failing, Till, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(Sell("north", 5))
        [letter] = await system.until(lambda: system.dead_letters("failing"))
        assert letter.name == "sold"
        await system.redrive("failing")
        [letter] = await system.until(lambda: system.dead_letters("failing"))
        Failing.broken = False
        await system.redrive("failing")
    first, *others = HEARD["failing"]
    assert len(others) == 2 and all(
        (each.id, each.type, each.data) == (first.id, first.type, first.data) for each in others
    )
    assert {each.stream for each in others} == {f"{namespace}-till-events"}


async def test_a_body_that_is_not_json_is_a_dead_letter(nats_server: EmbeddedServer, namespace: str) -> None:
    async with testing.running(Auditor, Till, url=nats_server.url, namespace=namespace) as system:
        await JetStream(system.bus.connection).publish(f"{namespace}.till.event.sold.north", b"{")
        [letter] = await system.until(lambda: system.dead_letters("auditor"))
    assert letter.name == "sold" and not HEARD["auditor"]


async def test_partitions_share_the_events_and_hand_on_those_without_a_key(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    options = {"auditor": Options(partitions=4)}
    async with testing.running(Auditor, Till, url=nats_server.url, namespace=namespace, options=options) as system:
        for number in range(12):
            await system.bus.command(Sell(f"till-{number}", number))
            await JetStream(system.bus.connection).publish(f"{namespace}.till.event.closed._", b"%d" % number)
        await system.until(lambda: len(HEARD["auditor"]) == 24)
        await asyncio.sleep(0)
    assert [event.data for event in HEARD["auditor"] if event.name == "closed"] == list(range(12))


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"sources": ["till"]}, Sold, "sources= is for reactions to AnyEvent"),
        ({"sources": []}, AnyEvent, r"sources=\[\] must be a list of names"),
        ({"sources": ["Till"]}, AnyEvent, "must be a list of names"),
        ({"sources": "till"}, AnyEvent, "must be a list of names"),
    ],
)
def test_wrong_sources_are_refused(arguments: dict[str, Any], kind: Any, text: str) -> None:
    with pytest.raises(DeclarationError, match=text):

        class Wrong(Actor):
            name = "wrong"

            @react(**arguments)
            async def on_event(self, event: kind) -> None: ...


def test_a_bus_is_for_the_actor_itself() -> None:
    with pytest.raises(RuntimeError, match="works in on_start of an actor that a host serves"):
        Bus.of(Auditor())
