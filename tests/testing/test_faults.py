"""Faults for the actors of an application: which ones happen, and the report of a broken promise."""

import asyncio
import re
from pathlib import Path

import pytest

from runtime import Bus
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.configs import ConsumerConfig
from runtime.nats.server import EmbeddedServer
from runtime.testing import faults
from runtime.testing.faults import FAULTS, survive
from runtime.testing.steps import STEPS
from tests.support.process import ROOT
from tests.support.selling import (
    LEDGER,
    Audience,
    CarelessSeats,
    DoubleSeats,
    GetAudience,
    GetSold,
    Refusing,
    Seats,
    SellSeats,
    SlowAudience,
)

MANY = 100
"""Commands on one key: more than its record lists."""


async def drive(bus: Bus) -> None:
    for number in range(MANY):
        await bus.retry(SellSeats("hamlet", 1), id=f"sale-{number}")


async def verify(bus: Bus) -> None:
    assert await bus.query(GetSold("hamlet")) == MANY
    assert await bus.query(GetAudience("hamlet")) == MANY


SOME = [
    *("kill handler.after", "kill commit.sent", "kill relay.sent", "kill ack.before", "kill dedup.confirmed"),
    *("kill checkpoint.after", "kill recover.before", "pause handler.after", "cut commit.sent"),
]
"""One of each kind. All of them take a minute."""


def test_the_table_of_steps_has_all_faults() -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    rows = re.findall(r"(?m)^\| `(\w+\.\w+)` \| ([a-z, ]+) \|", page)
    assert [step for step, _ in rows] == [*STEPS]
    assert sorted(f"{action} {step}" for step, actions in rows for action in actions.split(", ")) == sorted(FAULTS)


async def test_actors_survive_each_kind_of_fault(nats_server: EmbeddedServer) -> None:
    assert {*SOME} <= {*FAULTS}
    targets = [Seats, "tests.support.selling:Audience"]
    assert await survive(targets, drive, verify, url=nats_server.url, faults=SOME) == SOME


async def test_an_effect_that_comes_twice_is_found_and_named(
    nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = tmp_path / "ledger"

    async def sell(bus: Bus) -> None:
        ledger.write_text("")
        await bus.retry(SellSeats("hamlet", 3), id="sale")

    async def count(bus: Bus) -> None:
        assert await bus.query(GetSold("hamlet")) == 3
        assert ledger.read_text().split() == ["3"], "sold once"

    monkeypatch.setenv(LEDGER, str(ledger))
    with pytest.raises(ExceptionGroup, match=r"1 of 2 faults broke a promise: kill handler\.after") as raised:
        await survive(
            [CarelessSeats], sell, count, url=nats_server.url, faults=["kill handler.after", "kill ack.sent"],
            at_once=1, timeout=5.0,
        )  # fmt: skip
    [error] = raised.value.exceptions
    assert "sold once" in str(error) and error.__notes__ == ["fault: kill handler.after"]


async def test_an_effect_that_comes_late_is_found(nats_server: EmbeddedServer) -> None:
    async def sell(bus: Bus) -> None:
        await bus.retry(SellSeats("hamlet", 3), id="sale")

    async def count(bus: Bus) -> None:
        assert await bus.query(GetAudience("hamlet")) == 3

    with pytest.raises(ExceptionGroup, match=r"1 of 1 faults broke a promise: kill recover\.after") as raised:
        await survive([DoubleSeats, SlowAudience], sell, count, url=nats_server.url, faults=["kill recover.after"])
    assert "assert 6 == 3" in str(raised.value.exceptions[0])


async def test_the_last_look_waits_for_a_message_that_is_not_handled(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faults, "_RESTLESS", 0.1)
    stream = f"{namespace}-seen"
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        await jetstream.create_stream({"name": stream, "subjects": [f"{namespace}.seen"]})
        await jetstream.ensure_consumer(
            stream, ConsumerConfig(durable="reaction", filter_subjects=(f"{namespace}.seen",))
        )
        await jetstream.publish(f"{namespace}.seen", b"{}")
        resting = asyncio.ensure_future(faults._rest(jetstream, namespace))
        assert not (await asyncio.wait({resting}, timeout=0.5))[0]
        await jetstream.delete_consumer(stream, "reaction")
        await resting
        await jetstream.delete_stream(stream)


async def nothing(bus: Bus) -> None: ...


async def test_a_process_that_does_not_start_is_explained_by_its_log(nats_server: EmbeddedServer) -> None:
    with pytest.raises(ExceptionGroup) as raised:
        await survive([Refusing], nothing, nothing, url=nats_server.url, faults=["kill commit.sent"])
    [error] = raised.value.exceptions
    assert "a process of the actors ended with 1" in str(error) and "there is no stage" in str(error)


async def test_a_fault_whose_step_is_not_reached_has_not_happened(nats_server: EmbeddedServer) -> None:
    assert await survive([Audience], nothing, nothing, url=nats_server.url, faults=["kill relay.before"]) == []


async def test_nothing_is_left_on_the_server(nats_server: EmbeddedServer) -> None:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        jetstream = JetStream(connection)
        before = await jetstream.stream_names(">")
        await survive([Seats], nothing, nothing, url=nats_server.url, faults=["kill recover.after"])
        assert await jetstream.stream_names(">") == before


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("tests.support.selling:Nobody", "no actor that another process can import"),
        ("tests.support.selling", "no actor that another process can import"),
        ("tests.nowhere:Seats", "no actor that another process can import"),
        ("tests.support.selling:SellSeats", "is not an actor"),
    ],
)
async def test_a_target_that_no_process_can_import_is_refused(target: str, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        await survive([target], nothing, nothing, url="")


async def test_a_class_of_a_function_is_refused() -> None:
    class Local(Seats):
        pass

    with pytest.raises(ValueError, match="Local: another process cannot import it"):
        await survive([Local], nothing, nothing, url="")


@pytest.mark.parametrize("fault", ["kill", "kill nothing", "burn commit.sent", "", "kill commit.sent now"])
async def test_a_fault_that_does_not_exist_is_refused(fault: str) -> None:
    with pytest.raises(ValueError, match=r"is no fault: use kill, pause, cut, and one of handler\.before, "):
        await survive([Seats], nothing, nothing, url="", faults=[fault])
