"""Reactions: each event has effect once, in order per key, and none is lost."""

import asyncio
import json
import random
import time
from collections import defaultdict
from typing import Any

import msgspec
import pytest

from runtime import Actor, Event, Options, Query, Rejected, Retry, RetryPolicy, query, react
from runtime.nats.server import EmbeddedServer
from runtime.storage.settlement import Conflict, NotStored, Unsettled
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from tests.support.commits import replace_commit
from tests.support.consumers import is_idle
from tests.support.counting import Add, Added, Counter, GetCount
from tests.support.probe import Probe, running

SEEN: dict[str, list[Any]] = defaultdict(list)
"""The events that reactions received, by their `name`."""
FAILURES: dict[str, int] = {}
"""The number of attempts that are still to fail, by the name and number of an event."""
OPTIONS = Options(retry=RetryPolicy(attempts=4, first=0.05, longest=0.2, permanent=("OSError",)), handled=3)


class Noted(Event, actor="notes", key="name"):
    """An event that tests publish."""

    name: str
    number: int = 0
    kind: str = "plain"


class Sum(msgspec.Struct, frozen=True):
    total: int = 0
    numbers: list[int] = []
    second: int = 0


class GetSum(Query[Sum], actor="summer", key="name"):
    name: str


class Summed(Event, actor="summer", key="name"):
    name: str
    total: int


def attempt(name: str) -> None:
    """Raise as long as attempts of this name are to fail."""
    if FAILURES.get(name, 0) > 0:
        FAILURES[name] -= 1
        raise RuntimeError(f"{name} fails on purpose")


class Summer(Actor[Sum]):
    """Adds up numbers, in the order of the events."""

    name = "summer"
    options = OPTIONS

    @react
    async def on_noted(self, event: Noted) -> None:
        SEEN[event.name].append((event.number, self.attempt))
        match event.kind:
            case "rejected":
                raise Rejected("never")
            case "unwritable":
                raise FileNotFoundError("no such file")
            case "slow":
                await asyncio.sleep(0.001)
            case "later" if self.attempt < 3:
                raise Retry("not yet", after=0.01)
            case _:
                attempt(f"{event.name} {event.number}")
        before = self.state or Sum()
        self.state = msgspec.structs.replace(
            before, total=before.total + event.number, numbers=[*before.numbers, event.number]
        )
        self.emit(Summed(event.name, self.state.total))

    @react(where={"kind": ["second", {"prefix": "2"}], "number": [{"numeric": [">", 5]}]}, attempts=2)
    async def on_second(self, event: Noted) -> None:
        attempt(f"second {event.name} {event.number}")
        before = self.state or Sum()
        self.state = msgspec.structs.replace(before, second=before.second + event.number)

    @query
    async def get_sum(self, message: GetSum) -> Sum:
        return self.state or Sum()


class Listener(Actor):
    """Has no state, and sends a command for each event."""

    name = "listener"
    options = OPTIONS

    @react
    async def on_noted(self, event: Noted) -> None:
        SEEN[f"listener {event.name}"].append((event.number, self.attempt, time.monotonic()))
        attempt(f"listener {event.name} {event.number}")
        await self.command(Add(event.name, event.number))


async def publish(
    system: Probe, namespace: str, event: Noted | bytes, *, id: str = "", key: str = "", name: str = "noted"
) -> int:
    """Publish an event as its actor does, or bytes that are not a valid event."""
    body = event if isinstance(event, bytes) else msgspec.json.encode(event)
    key = key or (event.name if isinstance(event, Noted) else "x")
    own = b"X-Own: kept\r\n"
    block = event_headers("notes", "Noted", id, key, time.time(), own) if id else b"NATS/1.0\r\n" + own + b"\r\n"
    return (await system.jetstream.publish(f"{namespace}.notes.event.{name}.{key}", body, headers=block)).sequence


async def get(system: Probe, name: str) -> Sum:
    return await system.bus.query(GetSum(name))


async def until_idle(system: Probe, namespace: str, durable: str = "summer") -> None:
    """Return when the consumer has delivered every event, and every event is acknowledged."""
    await system.until(lambda: is_idle(system.jetstream, f"{namespace}-notes-events", durable))


async def dead_letters(system: Probe, actor: str = "summer") -> list[tuple[dict[str, str], bytes]]:
    return [(header_block.parse(each.headers), each.payload) for each in await system.stored_dead_letters(actor)]


async def test_events_are_handled_once_and_in_order(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        for number in range(1, 31):
            await publish(system, namespace, Noted(f"k{number % 3}", number), id=f"e{number}")
        await until_idle(system, namespace)
        for key in range(3):
            expected = [number for number in range(1, 31) if number % 3 == key]
            assert (await get(system, f"k{key}")).numbers == expected


@pytest.mark.parametrize("event_id", ["e1", "0190b8a0-0000-7000-8000-000000000001"])
async def test_an_event_that_is_stored_twice_has_effect_once(
    nats_server: EmbeddedServer, namespace: str, event_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the event were stored again some seconds later.
    monkeypatch.setattr("runtime.storage.key_dedup.CLOCK_MARGIN", 0.0)
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        jetstream = system.jetstream

        async def store(number: int, id: str) -> None:
            # As if after the duplicate window of the server: without Nats-Msg-Id.
            block = event_headers("notes", "Noted", id, "k", time.time()).replace(b"Nats-Msg-Id", b"Was-Id")
            body = msgspec.json.encode(Noted("k", number, "second"))
            await jetstream.publish(f"{namespace}.notes.event.noted.k", body, headers=block)

        await store(100, event_id)
        for number in range(1, 32):  # More than the record lists.
            await store(number, f"other{number}")
        await until_idle(system, namespace)
        await system.until_dedup_stored("summer", "k")
        for restart in (False, True):
            if restart:
                await system.evict("summer", "k")
            else:
                system.forget_recent("summer", "k")
            await store(100, event_id)
            await until_idle(system, namespace)
            found = await get(system, "k")
            assert found.total == 100 + sum(range(1, 32)) and found.second == 100 + sum(range(6, 32))


async def test_an_id_that_is_too_long_is_replaced(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        for number in range(1, 12):
            await publish(system, namespace, Noted("long", number), id=f"{number}" * 5000)
        await until_idle(system, namespace)
        assert (await get(system, "long")).total == sum(range(1, 12)) and system.is_ready("summer")


async def test_patterns_select_events(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        for number, kind in ((1, "second"), (6, "second"), (7, "2nd"), (8, "plain"), (9, "x2")):
            await publish(system, namespace, Noted("k", number, kind), id=f"e{number}")
        await until_idle(system, namespace)
        assert await get(system, "k") == Sum(31, [1, 6, 7, 8, 9], 13)


async def test_a_failing_event_blocks_its_own_key_only(nats_server: EmbeddedServer, namespace: str) -> None:
    FAILURES["slow 1"] = 2
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        for number in range(1, 5):
            await publish(system, namespace, Noted("slow", number), id=f"s{number}")
            await publish(system, namespace, Noted("free", number), id=f"f{number}")

        async def free() -> bool:
            return (await get(system, "free")).numbers == [1, 2, 3, 4]

        await system.until(free)
        await until_idle(system, namespace)
        assert (await get(system, "slow")).numbers == [1, 2, 3, 4]
        assert SEEN["slow"] == [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (4, 1)]
        assert await dead_letters(system) == []


@pytest.mark.parametrize("seed", range(4))
async def test_failing_commits_keep_the_order_of_a_key(
    nats_server: EmbeddedServer, namespace: str, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(seed)
    options = {"summer": Options(retry=RetryPolicy(attempts=99, first=0.001, longest=0.005))}
    async with running(Summer, url=nats_server.url, namespace=namespace, options=options) as system:
        journal = system.journal("summer")
        commit = journal.commit

        async def failing(*args: Any, **kwargs: Any) -> int:
            await asyncio.sleep(rng.choice([0, 0, 0.002]))
            if rng.random() < 0.3:
                raise rng.choice([NotStored("not now"), Unsettled("who knows"), Conflict("another")])
            return await commit(*args, **kwargs)

        replace_commit(monkeypatch, journal, failing)
        for number in range(1, 61):
            event = Noted(f"rough{number % 2}", number, rng.choice(["plain", "slow"]))
            await publish(system, namespace, event, id=f"e{number}")
            if rng.random() < 0.2:
                await asyncio.sleep(0.005)
        await until_idle(system, namespace)
        for key in range(2):
            assert (await get(system, f"rough{key}")).numbers == [n for n in range(1, 61) if n % 2 == key]


async def test_an_event_without_a_ce_id_takes_effect_once_under_its_nats_msg_id(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        stream = f"{namespace}-notes-events"
        info = await system.jetstream.stream_info(stream)
        config = {**msgspec.to_builtins(info.config), "duplicate_window": 100_000_000}
        await system.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", json.dumps(config).encode(), timeout=5)

        async def add(number: int, *headers: tuple[str, str]) -> bool:
            """Publish an event, and return whether the stream stored it."""
            body = msgspec.json.encode(Noted("msg-id", number))
            subject = f"{namespace}.notes.event.noted.msg-id"
            block = header_block.encode(headers)
            return not (await system.jetstream.publish(subject, body, headers=block)).duplicate

        assert await add(1, ("Nats-Msg-Id", "m1"))
        # Until the window has passed, the stream drops the repetition. Then the actor recognizes it.
        await system.until(lambda: add(1, ("Nats-Msg-Id", "m1")))
        await system.until(lambda: add(1, ("Nats-Msg-Id", "m1")))
        assert await add(2, ("Nats-Msg-Id", "m2"), ("ce-id", "c2"))
        assert await add(2, ("Nats-Msg-Id", "m3"), ("ce-id", "c2"))
        for _ in range(2):
            assert await add(3)
        await until_idle(system, namespace)
        assert (await get(system, "msg-id")).numbers == [1, 2, 3, 3], "an event without an id is another one each time"


async def test_a_reaction_can_ask_for_another_attempt(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("asks", 1, "later"), id="a1")
        await until_idle(system, namespace)
        assert SEEN["asks"] == [(1, 1), (1, 2), (1, 3)] and (await get(system, "asks")).total == 1


async def test_after_the_last_attempt_an_event_is_a_dead_letter_and_the_next_one_runs(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    FAILURES["dies 1"] = 99
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        sequence = await publish(system, namespace, Noted("dies", 1), id="d1")
        await publish(system, namespace, Noted("dies", 2), id="d2")
        await until_idle(system, namespace)
        [(headers, body)] = await dead_letters(system)
        assert json.loads(body) == {"name": "dies", "number": 1, "kind": "plain"}
        assert {
            name: headers.get(name) for name in ("Dead-Reason", "Dead-Attempts", "Dead-Subject", "Dead-Stream")
        } == {
            "Dead-Reason": "RuntimeError: dies 1 fails on purpose",
            "Dead-Attempts": "4",
            "Dead-Subject": f"{namespace}.notes.event.noted.dies",
            "Dead-Stream": f"{namespace}-notes-events",
        }
        assert headers["Dead-Sequence"] == str(sequence) and headers["Dead-Reaction"] == "on_noted"
        assert headers["ce-id"] == "d1" and headers["X-Own"] == "kept" and headers["ce-type"] == "notes.Noted"
        assert (await get(system, "dies")).numbers == [2] and SEEN["dies"] == [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1)]
        assert "is a dead letter after 4 attempts" in caplog.text


async def test_a_rejected_event_is_a_dead_letter_at_once(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("refused", 1, "rejected"), id="r1")
        await until_idle(system, namespace)
        [(headers, _)] = await dead_letters(system)
        assert headers["Dead-Reason"] == "Rejected: never" and headers["Dead-Attempts"] == "1"


async def test_a_permanent_error_of_the_policy_makes_a_dead_letter_at_once(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("refused", 1, "unwritable"), id="r1")
        await until_idle(system, namespace)
        [(headers, _)] = await dead_letters(system)
        assert headers["Dead-Reason"] == "FileNotFoundError: no such file" and headers["Dead-Attempts"] == "1"


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"name":5}', b"\xff", b"[" * 100_000, b'{"name":"' + b"k" * 3000 + b'"}', b"null"]
)
async def test_an_undecodable_event_is_a_dead_letter_at_once(
    nats_server: EmbeddedServer, namespace: str, body: bytes
) -> None:
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, body, key="good")
        await publish(system, namespace, Noted("good", 1), id="g1")
        await until_idle(system, namespace)
        letters = await dead_letters(system)
        assert letters and all(headers["Dead-Attempts"] == "1" and letter == body for headers, letter in letters)
        assert "Dead-Id" in letters[0][0] and (await get(system, "good")).numbers == [1]


async def test_one_of_two_reactions_fails_and_the_other_succeeds(nats_server: EmbeddedServer, namespace: str) -> None:
    FAILURES["second both 9"] = 99
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("both", 9, "second"), id="b1")
        await until_idle(system, namespace)
        assert await get(system, "both") == Sum(9, [9], 0)
        [(headers, _)] = await dead_letters(system)
        assert headers["Dead-Reaction"] == "on_second" and headers["Dead-Attempts"] == "2"


async def test_a_dead_letter_that_is_not_acknowledged_keeps_its_original(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    FAILURES["kept 1"] = 99
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        jetstream = system.jetstream
        stream = f"{namespace}-summer-dead"
        info = await jetstream.stream_info(stream)
        blocked = {**info.config, "max_msg_size": 1}
        await jetstream.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", msgspec.json.encode(blocked), timeout=5)
        await publish(system, namespace, Noted("kept", 1), id="k1")
        await system.until(lambda: len(SEEN["kept"]) >= 6)
        consumer = await jetstream.consumer_info(f"{namespace}-notes-events", "summer")
        assert consumer.num_ack_pending == 1, "the original is neither acknowledged nor terminated"
        await jetstream.connection.request(
            f"$JS.API.STREAM.UPDATE.{stream}", msgspec.json.encode(info.config), timeout=5
        )
        await until_idle(system, namespace)
        assert len(await dead_letters(system)) == 1


async def test_an_actor_without_state_gives_a_failing_event_back(nats_server: EmbeddedServer, namespace: str) -> None:
    FAILURES["listener far 1"] = 2
    async with running(Counter, Listener, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("far", 1), id="l1")
        await publish(system, namespace, Noted("far", 2), id="l2")
        await until_idle(system, namespace, "listener")
        seen = SEEN["listener far"]
        assert sorted(each[:2] for each in seen) == [(1, 1), (1, 2), (1, 3), (2, 1)]
        ones = [each[2] for each in seen if each[0] == 1]
        assert ones[1] - ones[0] >= 0.025 and ones[2] - ones[1] >= 0.05, "the delay grows"
        assert (await system.bus.query(GetCount("far"))).value == 3
        FAILURES["listener far 3"] = 99
        await publish(system, namespace, Noted("far", 3), id="l3")
        await until_idle(system, namespace, "listener")
        [(headers, _)] = await dead_letters(system, "listener")
        assert headers["Dead-Attempts"] == "4"


async def test_a_failed_attempt_leaves_nothing(nats_server: EmbeddedServer, namespace: str) -> None:
    FAILURES["clean 5"] = 2
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("clean", 5), id="c1")
        await until_idle(system, namespace)
        assert len(await system.stored_events("summer")) == 1 and (await get(system, "clean")).total == 5


async def test_an_event_without_a_reaction_is_acknowledged(nats_server: EmbeddedServer, namespace: str) -> None:
    async with running(Counter, Summer, url=nats_server.url, namespace=namespace) as system:
        await publish(system, namespace, Noted("k", 1), name="noted")
        await system.bus.emit(Added("k", 1))
        await until_idle(system, namespace)
        assert (await get(system, "k")).total == 1


async def test_no_more_events_are_fetched_than_can_be_in_hand(nats_server: EmbeddedServer, namespace: str) -> None:
    options = {"summer": msgspec.structs.replace(OPTIONS, in_hand=5)}
    FAILURES["bound 1"] = 2
    async with running(Summer, url=nats_server.url, namespace=namespace, options=options) as system:
        for number in range(1, 41):
            await publish(system, namespace, Noted("bound", number), id=f"n{number}")
        await until_idle(system, namespace)
        assert (await get(system, "bound")).numbers == list(range(1, 41))


async def test_events_in_hand_at_a_drain_are_delivered_again_in_order(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    FAILURES["drained 1"] = 1
    options = {"summer": Options(retry=RetryPolicy(first=30.0))}
    async with running(Summer, url=nats_server.url, namespace=namespace, options=options) as system:
        for number in range(1, 6):
            await publish(system, namespace, Noted("drained", number), id=f"n{number}")
        await system.until(lambda: SEEN["drained"])
    async with running(Summer, url=nats_server.url, namespace=namespace) as system:
        await asyncio.wait_for(until_idle(system, namespace), 30)
        assert (await get(system, "drained")).numbers == [1, 2, 3, 4, 5]
