"""Property: an error says that a command was not executed only if nothing has moved anywhere because of it.

Random handlers run on a real server, with faults before any of their steps. ``EXECUTED_ROUNDS`` sets the number of
rounds, and ``EXECUTED_SEED`` the first seed; the text of a failure names the seed of its round.
"""

import asyncio
import os
import random
from collections import Counter as Tally
from contextlib import suppress
from typing import Any

import msgspec
import pytest

from runtime import PublishError, RequestError, RetryPolicy
from runtime.host import drain
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from tests.support import programs
from tests.support.commits import replace_publish
from tests.support.probe import Probe, running
from tests.support.programs import KEYS, Do, Doer, Doers, DoFreely, Ledger, random_steps

SEED = int(os.environ.get("EXECUTED_SEED", "11"))
ROUNDS = int(os.environ.get("EXECUTED_ROUNDS", "2"))
WAVES = 3
"""Of each round. The next one begins when all actors serve again."""
PROGRAMS = 20
"""Of each wave."""

POLICIES = [RetryPolicy(attempts=attempts, first=0.05) for attempts in (1, 1, 2)]
"""Of the callers."""

ENDS = ["crash", "crash ledger", "expire", "cut drain"]
"""Faults that end an ownership. A host allows five a minute."""
OTHERS = ["conflict", "cancel", "lose the answer", "lose the request", "delay the request", "refuse"]


class Faults:
    """Brings about faults in one system."""

    def __init__(self, system: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
        self.system = system
        self._lost: list[str] = []
        """The ways in which the next records are lost."""
        self._late: list[Any] = []
        self.happened: Tally[str] = Tally()
        for name in (*ENDS, *OTHERS):
            programs.FAULTS[name] = self._counted(name)
        self._publish = JetStream.publish
        replace_publish(monkeypatch, JetStream, lambda _, *args, **kwargs: self._lose(*args, **kwargs))

    def _counted(self, name: str) -> programs.Fault:
        async def bring_about(key: str) -> None:
            self.happened[name] += 1
            await self._bring_about(name, key)

        return bring_about

    async def _bring_about(self, name: str, key: str) -> None:
        match name:
            case "crash":
                self.system.crash("doer")
            case "crash ledger":
                self.system.crash("ledger")
            case "expire":
                self.system.expire("doer")
            case "cut drain":
                self.system.drain("doers")
            case "conflict" if (stored := await self.system.stored_turn("doer", key)) is not None:
                await self.system.jetstream.publish(stored.subject, stored.payload)  # another writer
            case "cancel":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            case _:
                self._lost.append(name)

    async def deliver_late(self) -> None:
        """Let the delayed requests arrive."""
        for subject, payload, kwargs in self._late:
            with suppress(PublishError):
                await self._publish(self.system.jetstream, subject, payload, **kwargs)
        self._late.clear()

    async def _lose(self, subject: Any, payload: bytes, **kwargs: Any) -> Any:
        """Publish, and lose the answer or the request of a record, as a failing network does."""
        is_record = ".doer.turn." in str(subject) or ".ledger.turn." in str(subject)
        how = self._lost.pop() if is_record and self._lost else ""
        if how == "delay the request":
            self._late.append((subject, payload, kwargs))
        if how in ("lose the request", "delay the request"):
            raise TimeoutError
        if how == "refuse":
            kwargs["headers"] = kwargs["headers"].replace(b"Sequence: ", b"Sequence: 9")
        ack = await self._publish(self.system.jetstream, subject, payload, **kwargs)
        if how == "lose the answer":
            raise TimeoutError
        return ack


async def moved(system: Probe, label: str, events: set[str]) -> list[str]:
    """Return the effects of a program."""
    found = [f"the state of {key}" for key in KEYS if label in await labels(system, key)]
    if await system.stored_turn("ledger", label) is not None:
        found.append("the ledger")
    if await system.stored_turn("doers", label) is not None:
        found.append("the record of its id")
    return [*found, *(["an event"] if label in events else [])]


async def labels(system: Probe, key: str) -> list[str]:
    record = await system.record("doer", key)
    return [] if record is None or record.state == b"null" else msgspec.json.decode(record.state)["labels"]


def random_program(rng: random.Random, label: str, faults: list[str]) -> Do | DoFreely:
    steps = random_steps(rng, faults)
    return DoFreely(label, steps) if rng.random() < 0.2 else Do(rng.choice(KEYS), label, steps)


async def tell(system: Probe, message: Do | DoFreely, timeout: float, policy: RetryPolicy) -> bool | None:
    """Send a program. Return the outcome that its caller learns."""
    try:
        await system.bus.retry(message, id=message.label, timeout=timeout, policy=policy)
    except RequestError as error:
        return error.executed
    return True


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_not_executed_means_that_nothing_has_moved(
    nats_server: EmbeddedServer, namespace: str, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    rng = random.Random(SEED + number)
    monkeypatch.setattr(drain, "_DRAIN_TIMEOUT", 0.05)
    actors = (Doer, Doers, Ledger)
    loopback = bool(number % 2)
    async with running(*actors, url=nats_server.url, namespace=namespace, lease_ttl=1.0, loopback=loopback) as system:
        stream = f"{namespace}-doer-turns"
        info = await system.jetstream.stream_info(stream)
        config = msgspec.json.encode({**info.config, "max_msg_size": 15_000})
        await system.connection.request(f"$JS.API.STREAM.UPDATE.{stream}", config, timeout=5)
        faults = Faults(system, monkeypatch)
        due = rng.sample(ENDS, 2) + rng.choices(OTHERS, k=20)
        rng.shuffle(due)
        sent: dict[str, Do | DoFreely] = {}
        told: dict[str, bool | None] = {}
        for wave in range(WAVES):
            messages = [random_program(rng, f"p{wave}-{each}-{namespace}", due) for each in range(PROGRAMS)]
            sent |= {message.label: message for message in messages}
            outcomes = await asyncio.gather(
                *(tell(system, each, rng.choice((0.3, 0.6)), rng.choice(POLICIES)) for each in messages)
            )
            told |= zip((message.label for message in messages), outcomes, strict=True)
            await system.until_ready("doer")
            await system.until_ready("ledger")
            await faults.deliver_late()
        events = {msgspec.json.decode(stored.payload)["label"] for stored in await system.stored_events("doer")}
        wrong = {
            label: (sent[label], found)
            for label, executed in told.items()
            if executed is False and (found := await moved(system, label, events))
        }
        tally = Tally(told.values())
        print(f"seed {SEED + number}: {dict(tally)}, faults {dict(faults.happened)}")
        assert not wrong, f"seed {SEED + number}"
        assert tally[False] and tally[None] and tally[True], "the round says nothing"
