"""Actors whose reactions are replayed. They keep what they have handled, in its order, with the replay that sent it."""

import asyncio
import os

import msgspec

from runtime import Actor, Event, Options, Query, RetryPolicy, query, react
from tests.support.handlers import RUN_COUNTS, gate


class Paid(Event, actor="shop", key="order"):
    """An order is paid. It belongs to a customer."""

    order: str
    number: int
    customer: str = ""
    does: str = ""
    """What its handlers do: ``wait`` (for the gate of the order), ``slow``, ``reject``; empty for nothing."""
    note: str = ""


class Shipped(Event, actor="depot", key="order"):
    """An order is shipped. It is the event of another actor."""

    order: str
    number: int


class Returned(Event, actor="shop", key="order"):
    """An order is sent back."""

    order: str
    number: int


class Seen(msgspec.Struct, frozen=True):
    entries: tuple[str, ...] = ()


class GetSeen(Query[Seen], actor="books", key="key"):
    key: str


class GetPurchases(Query[Seen], actor="customers", key="key"):
    key: str


def entry(event: Paid | Shipped | Returned, replay: str = "") -> str:
    """Return how an event is noted."""
    return f"{type(event).__name__} {event.number}" + (f" {replay}" if replay else "")


class Books(Actor[Seen]):
    """Has a reaction to three events of two actors, and one beside it that must not notice a replay."""

    name = "books"
    options = Options(retry=RetryPolicy(attempts=2, first=0.01), slow=0)

    @react
    async def on_change(self, event: Paid | Returned | Shipped) -> None:
        if isinstance(event, Paid):
            await self._do(event)
        self._note(entry(event, self.headers.get("Actorloom-Replay", "")))

    @react
    async def on_any_paid(self, event: Paid) -> None:
        RUN_COUNTS[f"beside {event.order}"] += 1

    @react(where={"number": [{"numeric": [">=", 5]}]})
    async def on_large(self, event: Paid) -> None:
        self._note(f"large {event.number}")

    @react(since="new")
    async def on_late(self, event: Paid) -> None:
        self._note(f"late {event.number}")

    @query
    async def get_seen(self, message: GetSeen) -> Seen:
        return self.state or Seen()

    def _note(self, text: str) -> None:
        self.state = Seen((*(self.state or Seen()).entries, text))

    async def _do(self, event: Paid) -> None:
        match event.does:
            case "wait":
                await gate(event.order).wait()
            case "slow":
                await asyncio.sleep(0.01)
            case "reject" if "Actorloom-Replay" in self.headers:
                raise ValueError("refused if it is replayed")
            case _:
                pass


class Customers(Actor[Seen]):
    """In eight partitions, with a reaction that acts on another key than that of the event."""

    name = "customers"
    options = Options(partitions=8, slow=0)

    @react(key="customer")
    async def on_paid(self, event: Paid) -> None:
        replay = self.headers.get("Actorloom-Replay", "")
        text = f"{event.order} {entry(event, replay)}"
        if "NOISY" in os.environ:
            print(f"handles {text}", flush=True)
        self.state = Seen((*(self.state or Seen()).entries, text))

    @query
    async def get_purchases(self, message: GetPurchases) -> Seen:
        return self.state or Seen()


class Mailer(Actor):
    """Has no state, and so remembers nothing."""

    name = "mailer"

    @react
    async def on_paid(self, event: Paid) -> None:
        if event.does == "wait":
            await gate(event.order).wait()
        RUN_COUNTS[f"mail {event.order}"] += 1
