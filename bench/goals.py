"""The goals: what is compared to what, and how much is asked for. All are ratios within one run."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from bench.results import Ratio, Report

Verdict = Literal["met", "missed", "met within noise", "missed within noise", "not measured"]


class Goal(msgspec.Struct, frozen=True):
    """`ours` against `against` at one setting of a question. `above`: at least `wanted`, else at most."""

    work: str
    question: str
    setting: str
    ours: str
    against: str
    wanted: float
    metric: str = "rate"
    above: bool = True


RAW = "raw nats-py"

GOALS = [
    Goal("query, untraced, 256 in flight", "query", "256 in flight", "actorloom", RAW, 2.8),
    Goal("query, each one traced and exported, 256", "query", "256 in flight", "actorloom 100% traced", RAW, 2.0),
    Goal("query, 1% sampled, 256", "query", "256 in flight", "actorloom 1% sampled", RAW, 2.4),
    Goal("query, untraced, 1 in flight", "query", "1 in flight", "actorloom", RAW, 1.25),
    Goal("query, each one traced and exported, 1", "query", "1 in flight", "actorloom 100% traced", RAW, 1.15),
    Goal("query, untraced, uvloop, 1 in flight", "query", "1 in flight", "actorloom uvloop", RAW, 2.1),
    Goal("query, untraced, 256 in flight", "query", "256 in flight", "actorloom", "nats.go", 1.0),
    Goal("actor CPU per query, untraced", "actor", "64 in flight", "actorloom", RAW, 0.5, "actor", False),
    Goal("actor CPU per query, traced", "actor", "64 in flight", "actorloom 100% traced", RAW, 0.8, "actor", False),
    Goal(
        "traced query, 64 in flight", "peers", "64 in flight", "actorloom 100% traced", "faststream 100% traced", 15.0
    ),
    Goal("actor instructions, untraced", "instructions", "queries", "actorloom", RAW, 0.5, "thousands", False),
    Goal(
        "actor instructions, traced", "instructions", "queries", "actorloom 100% traced", RAW, 0.8, "thousands", False
    ),
    Goal("traced query, 64 in flight", "peers", "64 in flight", "actorloom 100% traced", "cliffracer 100% traced", 8.0),
    Goal("durable turn with an event, 32 keys", "turn", "32 keys", "actorloom", "raw nats-py by hand", 2.0),
    Goal("reactions to stored events", "reaction", "stored events", "actorloom", "raw nats-py fetch(64)", 4.0),
    Goal("reactions to stored events", "peers", "stored events", "actorloom", "faststream pull", 15.0),
    Goal("emit, 64 in flight", "emit", "64 in flight", "actorloom emit", "js.publish, same headers", 3.0),
    Goal("emit, 64 in flight", "emit", "64 in flight", "actorloom emit", "js.publish", 3.0),
    Goal("in-process tell", "in process", "tell", "actorloom, mailbox", "asyncio.Queue actor", 1.5),
    Goal("in-process ask", "in process", "ask, 32 in flight", "actorloom, loopback", "pykka", 5.0),
    Goal("100,000 keys in memory, KiB a key", "keys", "100000 keys", "actorloom", "one KiB", 0.7, "kib", False),
    Goal(
        "CPU of a turn, 100,000 live keys", "keys", "turns", "100000 live keys", "100 live keys", 1.15, "actor", False
    ),
    Goal(
        "CPU of a read, 100,000 live keys", "keys", "reads", "100000 live keys", "100 live keys", 1.15, "actor", False
    ),
    Goal(
        "CPU of a query, 10,000 endpoints",
        "growth",
        "endpoints",
        "10000 endpoints",
        "10 endpoints",
        1.15,
        "actor",
        False,
    ),
    Goal(
        "CPU of a turn, most stored keys",
        "growth",
        "stored keys",
        "most stored keys",
        "1000 stored keys",
        1.15,
        "actor",
        False,
    ),
    Goal("one hot key", "hot key", "one after another", "actorloom", "raw nats-py CAS publish", 1.0),
]


def judged(report: Report) -> Iterator[tuple[Goal, Ratio | None, Verdict]]:
    """Each goal with what the report says about it."""
    for goal in GOALS:
        ratio = report.ratio(goal.question, goal.setting, goal.ours, goal.against, goal.metric)
        if ratio is None:
            yield goal, None, "not measured"
            continue
        met = ratio.middle >= goal.wanted if goal.above else ratio.middle <= goal.wanted
        noise = ratio.low < goal.wanted < ratio.high
        if met:
            yield goal, ratio, "met within noise" if noise else "met"
        else:
            yield goal, ratio, "missed within noise" if noise else "missed"
