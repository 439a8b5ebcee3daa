"""Poison messages in real processes: their attempts are exhausted, and other events are handled once and in order."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from runtime import Actor, Bus
from runtime.intake.poison import first_attempt
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.nats.jetstream.client import JetStream
from runtime.nats.jetstream.errors import ApiError
from runtime.nats.server import EmbeddedServer
from runtime.storage.dead_letters import DeadLetter, DeadLetters
from runtime.storage.positions import Positions
from runtime.storage.streams import events_config
from runtime.telemetry import Tracing
from runtime.testing import running
from runtime.wire.cloudevents import event_headers
from runtime.wire.subjects import Names
from tests.support.consumers import is_idle
from tests.support.counting import Counter, GetCount
from tests.support.exiting import ATTEMPTS, EXIT, Courier, Finds, Found, GetFinds, Sapper
from tests.support.process import ROOT, Process, start_command


class Scene:
    """A namespace in which processes of one actor run, one after another, until their events are handled."""

    def __init__(self, connection: Connection, url: str, namespace: str, actor: type[Actor]) -> None:
        self.url = url
        self.namespace = namespace
        self.actor = actor
        self.jetstream = JetStream(connection)
        self.bus = Bus(connection, Tracing().service("test"), namespace=namespace)
        self.names = Names(actor.name, namespace)
        self.letters = DeadLetters(self.jetstream, self.names)
        self.events = Names("scouts", namespace)
        self.running: list[Process] = []

    async def find(self, place: str, number: int, kind: str = "") -> None:
        """Publish an event of the key `place`."""
        await self.jetstream.ensure_stream(events_config(self.events))
        block = event_headers("scouts", "Found", f"{place}-{number}", place, time.time()) + b"\r\n"
        body = msgspec.json.encode(Found(place, number, kind))
        await self.jetstream.publish(self.events.event("found", place), body, headers=block)

    async def launch(self, **env: str) -> Process:
        """Start a process that runs the actor."""
        process = await start_command(
            *("run", f"tests.support.exiting:{self.actor.__name__}", "--nats", self.url),
            *("--namespace", self.namespace, "--lease-ttl", "1"),
            cwd=ROOT,
            env={"ACK_WAIT": "1", **env},
        )
        self.running.append(process)
        return process

    async def crashes_until(self, condition: Callable[[], Awaitable[bool]]) -> int:
        """Start a process after each crash until the condition is true, and return the number of crashes."""
        for crashes in range(12):
            process = await self.launch()
            ended = asyncio.ensure_future(process.wait(120))
            while not ended.done():
                if await condition():
                    return crashes
                await asyncio.wait({ended}, timeout=0.05)
            assert ended.result() == EXIT, process.text
        raise AssertionError("the event crashes its process without end")

    async def idle(self) -> bool:
        """Whether the actor has handled every event."""
        try:
            return await is_idle(self.jetstream, self.events.events_stream, self.actor.name)
        except ApiError:
            return False

    async def dead_letters(self) -> list[DeadLetter]:
        """Return the dead letters of the actor."""
        return [letter async for letter in self.letters.read()]

    async def finds(self, place: str) -> tuple[int, ...]:
        """Return the numbers of the handled events of a place, in order."""
        found: Finds = await self.bus.query(GetFinds(place))
        return found.numbers


async def until(condition: Callable[[], Awaitable[bool]], timeout: float = 30.0) -> None:
    async with asyncio.timeout(timeout):
        while not await condition():
            await asyncio.sleep(0.02)


@asynccontextmanager
async def scene(nats_server: EmbeddedServer, namespace: str, actor: type[Actor]) -> AsyncIterator[Scene]:
    async with await Connection.connect(ConnectionOptions(url=nats_server.url)) as connection:
        created = Scene(connection, nats_server.url, namespace, actor)
        try:
            yield created
        finally:
            for process in created.running:
                await process.end()


@pytest.mark.parametrize(("attempts", "first"), [(1, [1, 1, 1, 1]), (2, [1, 1, 1, 1]), (3, [1, 2, 2, 2])])
def test_with_few_attempts_most_of_them_run_alone(attempts: int, first: list[int]) -> None:
    assert [first_attempt(crashes, attempts) for crashes in (0, 1, 3, 9)] == first


@pytest.mark.parametrize(("attempts", "first"), [(5, [1, 2, 4, 4]), (8, [1, 2, 4, 7])])
def test_earlier_crashes_count_as_attempts_but_two_attempts_run_alone(attempts: int, first: list[int]) -> None:
    assert [first_attempt(crashes, attempts) for crashes in (0, 1, 3, 9)] == first


async def test_the_attempts_of_an_event_that_ends_the_process_of_a_keyed_actor_are_exhausted(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with scene(nats_server, namespace, Sapper) as here:
        for number in range(1, 4):
            await here.find("bridge", number)
        await here.find("road", 1, "slow")  # In hand at each crash, and not its cause.
        await here.find("bridge", 4, "exit")
        for number in range(5, 8):
            await here.find("bridge", number)
            await here.find("road", number, "slow")

        async def idle() -> bool:
            # Two more are published after the first crash. They are no candidates, and must not pass those that are.
            if len(here.running) == 2 and not later:
                later.append("bridge")
                await here.find("bridge", 8)
                await here.find("river", 1)
            return bool(later) and await here.idle()

        later: list[str] = []
        crashes = await here.crashes_until(idle)
        (letter,) = await here.dead_letters()
        assert crashes == ATTEMPTS
        assert letter.failure.reason == f"ProcessEnded: its process ended {ATTEMPTS} times before it was done"
        assert (letter.failure.attempts, letter.failure.reaction, letter.failure.id) == (
            ATTEMPTS,
            "on_found",
            "bridge-4.on_found",
        )
        assert msgspec.json.decode(letter.payload, type=Found) == Found("bridge", 4, "exit")
        assert await here.finds("bridge") == (1, 2, 3, 5, 6, 7, 8)
        assert await here.finds("road") == (1, 5, 6, 7) and await here.finds("river") == (1,)
        assert re.search(r"\d events of \S+ ran when a process ended", here.running[-1].text)

        # There are no candidates any more, and the corrected actor handles the dead letter.
        assert await here.running[-1].stop() == 0
        process = await here.launch(HARMLESS="1")
        await process.until("ready:")
        assert "when a process ended" not in process.text
        assert await here.letters.redrive(letter.sequence)

        async def handled() -> bool:
            return await here.finds("bridge") == (1, 2, 3, 5, 6, 7, 8, 4)

        await until(handled)


async def test_the_attempts_of_an_event_that_ends_the_process_of_an_actor_without_state_are_exhausted(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with (
        scene(nats_server, namespace, Courier) as here,
        running(Counter, url=nats_server.url, namespace=namespace) as system,
    ):
        for number in range(1, 4):
            await here.find("bridge", number)
        await here.find("road", 100, "slow")  # Delivered as often as the poison message.
        await here.find("bridge", 1000, "exit")
        for number in range(5, 8):
            await here.find("bridge", number)
        crashes = await here.crashes_until(here.idle)
        (letter,) = await here.dead_letters()
        assert crashes in (ATTEMPTS + 1, ATTEMPTS + 2)  # The server may count a delivery to the crashed process.
        assert letter.failure.reason == f"ProcessEnded: its process ended {ATTEMPTS} times before it was done"
        assert (await system.bus.query(GetCount("bridge"))).value == 1 + 2 + 3 + 5 + 6 + 7
        assert (await system.bus.query(GetCount("road"))).value == 100

        assert await here.running[-1].stop() == 0
        await (await here.launch(HARMLESS="1")).until("ready:")
        assert await here.letters.redrive(letter.sequence)

        async def handled() -> bool:
            return (await system.bus.query(GetCount("bridge"))).value == 1024

        await until(handled)


async def test_events_in_hand_of_killed_processes_are_handled_once_and_in_order(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with scene(nats_server, namespace, Sapper) as here:
        for number in range(1, 6):
            for place in ("bridge", "road", "river"):
                await here.find(place, number, "fails" if (place, number) == ("road", 2) else "")
        for _ in range(3):
            process = await here.launch(STUCK="1")
            # One for each place. Before that, the 15 events may still be in hand of the former process.
            await process.until("stuck", count=3)

            async def stuck() -> bool:
                info = await here.jetstream.consumer_info(here.events.events_stream, "sapper")
                return info.num_ack_pending == 15

            await until(stuck)
            process.signal(signal.SIGKILL)
            await process.wait()
        assert await here.crashes_until(here.idle) == 0
        assert re.search(
            r"events of \S+ in hand: those up to 15 are watched|3 events of \S+ ran when a process ended",
            here.running[-1].text,
        )
        assert await here.finds("bridge") == await here.finds("river") == (1, 2, 3, 4, 5)
        assert await here.finds("road") == (1, 3, 4, 5)
        (letter,) = await here.dead_letters()
        assert letter.failure.reason == "RuntimeError: fails on purpose"


async def test_pauses_of_owners_do_not_hold_up_other_keys_behind_failing_ones(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    failing, serves = 6, "sapper: serves"
    async with scene(nats_server, namespace, Sapper) as here:
        for number in range(failing):
            await here.find(f"failing-{number}", 1, "waits")
        await here.find("quiet", 1)
        owner = await here.launch()
        await owner.until(serves)
        standby = await here.launch()
        await owner.until("waits", failing)
        for pauses in range(1, 4):
            owner.signal(signal.SIGSTOP)
            await standby.until(serves, pauses // 2 + 1)
            owner.signal(signal.SIGCONT)
            owner, standby = standby, owner
        await standby.until("back to standby", 2)
        before = owner.text.count("waits")
        await here.find("quiet", 2)

        async def over() -> bool:
            return await here.finds("quiet") == (1, 2) or owner.text.count("waits") > before + 20 * failing

        await until(over)
        assert await here.finds("quiet") == (1, 2)
        assert not await here.dead_letters()
        # The processes have said that they live, but for the last one, which has had no time.
        position = await Positions(here.jetstream, here.names, 60.0, lambda sequence: None).load(
            here.events.events_stream, "sapper"
        )
        assert position is not None and len(position.deaths) == 1
