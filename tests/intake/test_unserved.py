"""A service that is down: reactions, timers and jobs wait for it, bounded by time and not by their attempts."""

import logging
from collections import Counter as Tally
from typing import Any

import msgspec
import pytest

from runtime import Accepted, Actor, Command, Event, Options, RetryPolicy, command, react
from runtime.client import sender
from runtime.nats.server import EmbeddedServer
from runtime.wire import header_block
from tests.support.probe import Probe, running

RUNS: Tally[str] = Tally()
"""Runs of the handlers, by actor and name."""
ATTEMPTS: dict[str, set[int]] = {}
"""The numbers of the attempts that the handlers saw."""
FAULTS: Tally[str] = Tally()
"""Failures of another kind that are still to come, by name."""


@pytest.fixture(autouse=True)
def _short_period(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a request find out soon that no process serves it."""
    monkeypatch.setattr(sender, "RESEND_PERIOD", 0.3)


QUICK = RetryPolicy(attempts=2, first=0.005, longest=0.02)


class Shelf(msgspec.Struct, frozen=True):
    taken: int = 0


class Take(Command[int], actor="shelf", key="name"):
    name: str


class Ordered(Event, actor="shop", key="name"):
    name: str


class Shelves(Actor[Shelf]):
    """The service that is down at first."""

    name = "shelf"

    @command
    async def take(self, message: Take) -> int:
        self.state = Shelf((self.state.taken if self.state else 0) + 1)
        return self.state.taken


class Buy(Command[Accepted], actor="buyer", key="name"):
    name: str


class RemindBuyer(Command[None], actor="buyer", key="name"):
    name: str


class BuyNow(Command[None], actor="buyer", key="name"):
    name: str


class Send(Command[Accepted], actor="courier"):
    name: str


async def take(actor: Actor[Any], name: str) -> None:
    """Take one from the shelf, and then fail if the test wants that."""
    RUNS[name] += 1
    ATTEMPTS.setdefault(name, set()).add(actor.attempt)
    await actor.command(Take(name), timeout=20)
    if FAULTS[name]:
        FAULTS[name] -= 1
        raise RuntimeError("fails on purpose")


class Buyer(Actor[Shelf]):
    """An actor with state that takes from the shelf in a reaction, a job and a timer."""

    name = "buyer"
    options = Options(retry=QUICK)

    @react
    async def on_ordered(self, event: Ordered) -> None:
        await take(self, f"reaction {event.name}")

    @command(accept=True)
    async def buy(self, message: Buy) -> None:
        await take(self, f"job {message.name}")

    @command
    async def remind_buyer(self, message: RemindBuyer) -> None:
        self.remind(0, BuyNow(message.name))

    @command
    async def buy_now(self, message: BuyNow) -> None:
        await take(self, f"timer {message.name}")


class Courier(Actor):
    """An actor without state that takes from the shelf in a reaction and a job."""

    name = "courier"
    options = Options(retry=QUICK)

    @react
    async def on_ordered(self, event: Ordered) -> None:
        await take(self, f"stateless {event.name}")

    @command(accept=True)
    async def send(self, message: Send) -> None:
        await take(self, f"stateless job {message.name}")


class Shop(Actor[Shelf]):
    """The actor whose events the others react to; its stream must exist."""

    name = "shop"


KINDS = ("reaction", "job", "timer", "stateless", "stateless job")


async def reasons(system: Probe) -> dict[str, str]:
    """Return the reasons of all dead letters, by the name of the handler."""
    letters = [*await system.stored_dead_letters("buyer"), *await system.stored_dead_letters("courier")]
    return {
        header_block.get(letter.headers, b"Dead-Reaction") or "": header_block.get(letter.headers, b"Dead-Reason") or ""
        for letter in letters
    }


async def begin(system: Probe, name: str) -> None:
    """Send one message of each kind."""
    await system.bus.emit(Ordered(name))
    await system.bus.command(Buy(f"{name}-j"))
    await system.bus.command(RemindBuyer(f"{name}-t"))
    await system.bus.command(Send(name))


def names(name: str) -> list[str]:
    return [f"{kind} {name}{ {'job': '-j', 'timer': '-t'}.get(kind, '') }" for kind in KINDS]


async def test_what_found_no_receiver_uses_up_no_attempt(
    nats_server: EmbeddedServer, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    waiting = names("w")
    shop = {"url": nats_server.url, "namespace": namespace}
    with caplog.at_level(logging.WARNING, "actorloom.intake"):
        async with running(Shop, Buyer, Courier, **shop) as system:
            await begin(system, "w")
            await system.until(lambda: all(RUNS[name] > 2 for name in waiting))
            assert await reasons(system) == {}
            assert {name: ATTEMPTS[name] for name in waiting} == {name: {1} for name in waiting}
            lines = [record.getMessage() for record in caplog.records if "waits for a service" in record.getMessage()]
            assert len(lines) == len(waiting), "one line for each message, not for each attempt"
            assert all("shelf.command.take: no process serves it" in line for line in lines)
            # After a service is found, the attempts count: one of two may fail in another way.
            FAULTS.update(dict.fromkeys(waiting, 1))
            async with running(Shelves, **shop) as shelves:
                await system.until(lambda: all(FAULTS[name] == 0 for name in waiting))
                await system.until(lambda: all(ATTEMPTS[name] == {1, 2} for name in waiting))

                async def taken() -> bool:
                    return [await shelves.state("shelf", name) for name in waiting] == [Shelf(1)] * len(waiting)

                await system.until(taken)
            assert await reasons(system) == {}


async def test_a_message_that_waits_survives_the_end_of_its_process(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    waiting = names("e")
    async with running(Shop, Buyer, Courier, url=nats_server.url, namespace=namespace) as system:
        await begin(system, "e")
        await system.until(lambda: all(RUNS[name] > 1 for name in waiting))
    async with running(Shop, Buyer, Courier, Shelves, url=nats_server.url, namespace=namespace) as system:

        async def taken() -> bool:
            return [await system.state("shelf", name) for name in waiting] == [Shelf(1)] * len(waiting)

        await system.until(taken)
        assert await reasons(system) == {}


async def test_the_time_is_bounded_and_the_dead_letter_has_the_reason_of_the_request(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    # The circuit opens after a second, so that the last attempts are not even sent.
    retry = msgspec.structs.replace(QUICK, unserved=1.3)
    options = {"buyer": Options(retry=retry), "courier": Options(retry=retry)}
    async with running(Shop, Buyer, Courier, url=nats_server.url, namespace=namespace, options=options) as system:
        await begin(system, "b")

        async def all_dead() -> dict[str, str] | None:
            found = await reasons(system)
            return found if len(found) == 4 else None  # the reactions of both actors have one name

        found = await system.until(all_dead)
        reason = f"NotDelivered: {namespace}.shelf.command.take: no process serves it"
        assert found == dict.fromkeys(("on_ordered", "buy", "buy_now", "send"), reason)
