"""An actor in eight partitions that reacts to events of other keys, and keeps those that it has seen."""

import asyncio
import os
from pathlib import Path

import msgspec

from runtime import Actor, Event, Options, Query, Rejected, RetryPolicy, query, react
from tests.support.handlers import RUN_COUNTS, gate

ATTEMPTS = 3


class Posted(Event, actor="posts", key="source"):
    """A post from one key to another."""

    source: str
    target: str
    number: int
    does: str = ""
    """What its handler does: ``fail``, ``reject``, ``wait`` (for a gate), ``exit``, ``end``, ``slow``; empty for nothing.

    ``exit`` writes a character to the file that `body` names, if it names one.
    """
    body: str = ""


class Seen(msgspec.Struct, frozen=True):
    posts: tuple[tuple[str, int], ...] = ()


class GetSeen(Query[Seen], actor="ledgers", key="target"):
    target: str


class Ledgers(Actor[Seen]):
    name = "ledgers"
    options = Options(partitions=8, in_hand=16, retry=RetryPolicy(attempts=ATTEMPTS, first=0.01), slow=0)

    @react(key="target")
    async def on_posted(self, event: Posted) -> None:
        RUN_COUNTS[f"post {event.source} {event.number}"] += 1
        print(f"runs {event.source} {event.number}", flush=True)
        match event.does:
            case "fail":
                raise RuntimeError("fails on purpose")
            case "reject":
                raise Rejected("refused on purpose")
            case "refuse once" if "HARMLESS" not in os.environ:
                raise Rejected("refused until somebody redrives it")
            case "wait":
                await gate(event.body).wait()
            case "slow":
                await asyncio.sleep(float(event.body))
            case "exit" if "HARMLESS" not in os.environ:
                end(event.body)
            case "end" if "HARMLESS" not in os.environ:
                raise SystemExit(3)
            case _:
                pass
        state = self.state or Seen()
        self.state = Seen((*state.posts, (event.source, event.number)))

    @query
    async def get_seen(self, message: GetSeen) -> Seen:
        return self.state or Seen()


def end(path: str) -> None:
    """End the process, and write a character to the file at `path`, if it is not empty."""
    if path:
        with Path(path).open("a") as ends:
            ends.write("1")
    os._exit(9)
