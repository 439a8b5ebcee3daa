"""The gauges and the counter that alerts need, as `/metrics` shows them."""

import asyncio
import re
from collections.abc import Iterator

import msgspec
import pytest

from runtime import Actor, AnyEvent, Command, Event, Options, Retry, command, react
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.telemetry.metrics import prometheus
from runtime.testing import System, running
from runtime.wire.subjects import Names
from tests.support import probe


class Paid(Event, actor="tills", key="name"):
    name: str


class Book(Command[None], actor="books", key="name"):
    name: str


class Entry(msgspec.Struct, frozen=True):
    count: int = 0


class Books(Actor[Entry]):
    name = "books"

    @command
    async def book(self, message: Book) -> None:
        await gates[0].wait()

    @react
    async def on_paid(self, event: Paid) -> None:
        raise Retry("not now", after=60)


class Shouts(Actor[None]):
    name = "shouts"

    @react
    async def on_paid(self, event: Paid) -> None:
        await gates[0].wait()


class Spies(Actor[None]):
    name = "spies"

    @react
    async def on_event(self, event: AnyEvent) -> None:
        await gates[0].wait()


class Gate:
    """Holds the handlers until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.reached = asyncio.Event()

    async def wait(self) -> None:
        self.reached.set()
        await self.open.wait()


gates: list[Gate] = []


@pytest.fixture
def gate() -> Iterator[Gate]:
    """The gate of a test."""
    gates[:] = [Gate()]
    yield gates[0]
    gates[0].open.set()


def values(system: System, actor: str) -> dict[str, float]:
    """Return the series of an actor by name; those with a stream as ``<name> <stream>``."""
    text = prometheus.render(system.tracing.metrics.collect())
    found: dict[str, float] = {}
    for name, labels, value in re.findall(r"(?m)^(actorloom_\w+)\{([^}]*)\} (\S+)$", text):
        stream = re.search(r'actorloom_stream_name="([^"]*)"', labels)
        if f'service_name="{actor}"' in labels:
            found[name + (f" {stream[1]}" if stream else "")] = float(value)
    return found


async def test_the_gauges_of_a_partitioned_actor(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.05)
    options = Options(partitions=4)
    source, told = f"{namespace}-tills-events", f"{namespace}-books-tells"
    async with running(
        Books, url=nats_server.url, namespace=namespace, options={"books": options}, sources=["tills"]
    ) as system:
        found = values(system, "books")
        assert (found["actorloom_partitions"], found["actorloom_partitions_owned"]) == (4, 4)
        assert (found["actorloom_keys_blocked"], found["actorloom_messages_waiting"]) == (0, 0)
        assert found["actorloom_dead_letters_stored_total"] == 0, "a rate needs the 0 before the first dead letter"
        assert (found[f"actorloom_consumer_lag {source}"], found[f"actorloom_consumer_lag {told}"]) == (0, 0)
        assert found["actorloom_permissions_refused"] == 0
        await system.bus.emit(Paid("later"))
        await JetStream(system.bus.connection).publish(f"{namespace}.tills.event.paid.a", b"{}")
        for _ in range(3):
            await system.bus.tell(Book("1"))
        await system.until(lambda: values(system, "books")["actorloom_dead_letters_stored_total"] == 1)
        await system.until(lambda: values(system, "books")["actorloom_keys_blocked"] == 1)
        await gate.reached.wait()
        await system.until(lambda: values(system, "books")["actorloom_messages_waiting"] == 2)
        await system.until(lambda: values(system, "books")[f"actorloom_consumer_lag {told}"] == 3)
        await system.until(lambda: values(system, "books")[f"actorloom_consumer_lag {source}"] == 1)
        gate.open.set()
        await system.until(lambda: values(system, "books")[f"actorloom_consumer_lag {told}"] == 0)
        await system.crash()
        found = values(system, "books")
        assert (found["actorloom_partitions"], found["actorloom_partitions_owned"]) == (4, 0)
        assert not [name for name in found if "lag" in name]


async def test_the_lag_of_an_actor_without_state(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, gate: Gate
) -> None:
    monkeypatch.setattr("runtime.host.checks._TICK", 0.05)
    async with running(Shouts, Spies, url=nats_server.url, namespace=namespace, sources=["tills"]) as system:
        found = values(system, "shouts")
        assert (found["actorloom_partitions"], found["actorloom_partitions_owned"]) == (1, 1)
        for number in range(3):
            await system.bus.emit(Paid(str(number)))
        lag = f"actorloom_consumer_lag {namespace}-tills-events"
        await system.until(lambda: values(system, "shouts")[lag] == 3)
        await system.until(lambda: values(system, "spies").get(lag) == 3)
        for consumer in await JetStream(system.bus.connection).consumers(Names("tills", namespace).events_stream):
            assert consumer.num_pending + consumer.num_ack_pending == 3
        gate.open.set()
        await system.until(lambda: values(system, "shouts")[lag] == 0)


async def test_refused_permissions_are_counted(nats_server: EmbeddedServer, namespace: str) -> None:
    async with probe.running(Shouts, url=nats_server.url, namespace=namespace) as system:
        assert values(system, "shouts")["actorloom_permissions_refused"] == 0
        system.pretend_refused("shouts", ["NATS refuses to publish to shouts.dead.paid"])
        assert values(system, "shouts")["actorloom_permissions_refused"] == 1
