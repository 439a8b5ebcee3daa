"""Messages near the limit of NATS become dead letters, are redriven, and block nobody, whatever their size."""

import asyncio
from typing import Any

import msgspec
import pytest

from runtime import Accepted, Actor, Command, Event, Options, Query, RetryPolicy, command, query, react
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.wire import header_block
from runtime.wire.subjects import Names
from tests.support.probe import Probe, running

FAILING: set[str] = set()


class Sum(msgspec.Struct, frozen=True):
    total: int = 0


class Delivered(Event, actor="depot", key="key"):
    key: str
    text: str


class Weigh(Command[int], actor="scale", key="key"):
    key: str
    text: str
    wait: float = 0.0


class WeighNow(Command[None], actor="scale", key="key"):
    key: str
    text: str


class Job(Command[Accepted], actor="scale", key="key"):
    key: str
    text: str


class GetSum(Query[int], actor="scale", key="key"):
    key: str


class Depot(Actor):
    name = "depot"


class Scale(Actor[Sum]):
    name = "scale"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01))

    def add(self, text: str) -> int:
        if "on" in FAILING:
            raise RuntimeError("the scale is broken")
        total = (self.state.total if self.state else 0) + len(text)
        self.state = Sum(total)
        return total

    @react
    async def on_delivered(self, event: Delivered) -> None:
        self.add(event.text)

    @command
    async def weigh(self, message: Weigh) -> int:
        self.remind(message.wait, WeighNow(message.key, message.text))
        return len(message.text)

    @command
    async def weigh_now(self, message: WeighNow) -> None:
        self.add(message.text)

    @command(accept=True)
    async def job(self, message: Job) -> None:
        self.add(message.text)

    @query
    async def get_sum(self, message: GetSum) -> int:
        return self.state.total if self.state else 0


@pytest.fixture(autouse=True)
def _failing() -> None:
    FAILING.clear()
    FAILING.add("on")


async def letters(system: Probe, namespace: str, count: int) -> list[DeadLetter]:
    desk = DeadLetters(JetStream(system.connection), Names("scale", namespace))

    async def found() -> list[DeadLetter] | None:
        each = [letter async for letter in desk.read()]
        return each if len(each) == count else None

    return await system.until(found)


async def stored(system: Probe, namespace: str) -> list[str]:
    return [each.subject async for each in system.jetstream.read(f"{namespace}-scale-dead", ">")]


@pytest.mark.parametrize("headers", ["none", "few", "many"])
async def test_an_event_of_any_size_becomes_a_dead_letter_and_comes_back(
    nats_server: EmbeddedServer, namespace: str, headers: str
) -> None:
    async with running(Scale, Depot, url=nats_server.url, namespace=namespace) as system:
        limit = system.connection.max_payload
        extra = [(f"X-Extra-{number}", "x" * 500) for number in range(100)]
        given = {"none": [], "few": [("ce-id", "e1"), ("traceparent", "00-1-2-01")], "many": extra}[headers]
        block = header_block.encode(given) if given else None
        around = len(msgspec.json.encode(Delivered("k0", "")))
        lengths: list[int] = []
        for number, left in enumerate((0, 1, 50, 199, 400, 700, 5000)):
            lengths.append(limit - len(block or b"") - left - around)
            payload = msgspec.json.encode(Delivered(f"k{number}", "d" * lengths[-1]))
            await system.jetstream.publish(f"{namespace}.depot.event.delivered.k{number}", payload, headers=block)
            await system.jetstream.publish(
                f"{namespace}.depot.event.delivered.k{number}", msgspec.json.encode(Delivered(f"k{number}", "d"))
            )
        found = await letters(system, namespace, 14)
        large = [each for each in found if each.failure.sequence % 2 == 1]
        for letter, length in zip(sorted(large, key=lambda each: each.failure.sequence), lengths, strict=True):
            assert len(msgspec.json.decode(letter.payload)["text"]) == length
            assert letter.failure.attempts == 2 and "broken" in letter.failure.reason
        desk = DeadLetters(system.jetstream, Names("scale", namespace))
        # A letter that fails again is one letter again, with its body.
        assert await desk.redrive(large[0].sequence)
        again = [
            each for each in await letters(system, namespace, 14) if each.sequence not in {x.sequence for x in found}
        ]
        again = again or await _other(system, namespace, found)
        assert [each.payload for each in again] == [large[0].payload]
        FAILING.clear()
        for letter in await letters(system, namespace, 14):
            assert await desk.redrive(letter.sequence)
        for number, length in enumerate(lengths):

            async def weighed(key: str = f"k{number}", total: int = length + 1) -> bool:
                return await system.bus.query(GetSum(key)) == total

            await system.until(weighed)

        async def empty() -> bool:
            return not await stored(system, namespace)

        await system.until(empty)


async def _other(system: Probe, namespace: str, found: list[DeadLetter]) -> list[DeadLetter]:
    known = {each.sequence for each in found}

    async def other() -> list[DeadLetter]:
        return [each for each in await letters(system, namespace, 14) if each.sequence not in known]

    return await system.until(other)


async def test_a_large_timer_and_a_large_job_become_dead_letters_and_come_back(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Scale, Depot, url=nats_server.url, namespace=namespace) as system:
        most = system.journal("scale").drafts.max_body - 200 - len(msgspec.json.encode(WeighNow("k", "")))
        text = "t" * most
        for message in (
            Weigh("now", text[: most - 2]),
            Weigh("later", text[: most - 4], 0.01),
            Job("job", text[: most - 2]),
        ):
            await system.bus.command(message)
        found = await letters(system, namespace, 3)
        assert sorted(each.name for each in found) == ["job", "weigh_now", "weigh_now"]
        FAILING.clear()
        desk = DeadLetters(system.jetstream, Names("scale", namespace))
        assert all(await asyncio.gather(*(desk.redrive(each.sequence) for each in found)))

        async def weighed() -> bool:
            sums = [await system.bus.query(GetSum(key)) for key in ("now", "later", "job")]
            return sums == [most - 2, most - 4, most - 2]

        await system.until(weighed)


async def test_parts_are_dropped_with_their_letter_and_a_missing_part_is_reported(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Scale, Depot, url=nats_server.url, namespace=namespace) as system:
        around = len(msgspec.json.encode(Delivered("k", "")))
        body = msgspec.json.encode(Delivered("k", "d" * (system.connection.max_payload - around)))
        for _ in range(2):
            await system.jetstream.publish(f"{namespace}.depot.event.delivered.k", body)
        first, second = await letters(system, namespace, 2)
        desk = DeadLetters(system.jetstream, Names("scale", namespace))
        parts = [each for each in await stored(system, namespace) if each.endswith(".part")]
        assert len(parts) == 4, "each body has two parts"
        assert await desk.drop(first.sequence) and not await desk.drop(first.sequence)
        assert len(await stored(system, namespace)) == 3
        assert await desk.get(second.sequence - 1) is None, "a part is no letter"
        assert not await desk.redrive(second.sequence - 1)
        await system.jetstream.delete_message(f"{namespace}-scale-dead", second.sequence - 1)
        broken = await desk.get(second.sequence)
        assert broken is not None and broken.payload == b""
        FAILING.clear()
        assert await desk.redrive(second.sequence)
        (again,) = await _until_new(system, namespace, second)
        assert "CodecError" in again.failure.reason


async def _until_new(system: Probe, namespace: str, old: DeadLetter) -> list[Any]:
    async def new() -> list[Any]:
        return [each for each in await letters(system, namespace, 1) if each.sequence != old.sequence]

    return await system.until(new)
