"""The goals of the project: ratios between two contenders of one run, with a target for each."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from bench.results import Ratio, Report

Verdict = Literal["met", "missed", "met within noise", "missed within noise", "not measured"]


class Goal(msgspec.Struct, frozen=True):
    """The ratio of `ours` to `against` at one setting of a question: at least `target`, or at most if `at_least` is False."""

    work: str
    question: str
    setting: str
    ours: str
    against: str
    target: float
    metric: str = "rate"
    at_least: bool = True


_ONE, _TWO = "1 process, 1 partition", "2 processes, 8 partitions"
RAW = "raw nats-py"
HAND = "raw nats-py by hand"
CAS = "raw nats-py CAS publish"
FETCH = "raw nats-py fetch(64)"
QUEUE = "asyncio.Queue actor"
TRACED = "actorloom 100% traced"
"""Names of contenders."""

# fmt: off
GOALS = [
    Goal("query, 256 in flight, untraced", "query", "256 in flight", "actorloom", RAW, 2.8),
    Goal("query, 256 in flight, each one traced and exported", "query", "256 in flight", TRACED, RAW, 2.0),
    Goal("query, 256 in flight, 1% sampled", "query", "256 in flight", "actorloom 1% sampled", RAW, 2.4),
    Goal("query, 1 in flight, untraced", "query", "1 in flight", "actorloom", RAW, 1.25),
    Goal("query, 1 in flight, each one traced and exported", "query", "1 in flight", TRACED, RAW, 1.15),
    Goal("query, 1 in flight, untraced, uvloop", "query", "1 in flight", "actorloom uvloop", RAW, 2.1),
    Goal("query, 256 in flight, untraced", "query", "256 in flight", "actorloom", "nats.go", 1.0),
    Goal("actor CPU of a query, untraced", "actor", "64 in flight", "actorloom", RAW, 0.5, "actor", False),
    Goal("actor CPU of a query, traced", "actor", "64 in flight", TRACED, RAW, 0.8, "actor", False),
    Goal("actor instructions of a query, untraced", "instructions", "queries", "actorloom", RAW, 0.5, "thousands", False),
    Goal("actor instructions of a query, traced", "instructions", "queries", TRACED, RAW, 0.8, "thousands", False),
    Goal("traced query, 64 in flight", "peers", "64 in flight", TRACED, "faststream 100% traced", 15.0),
    Goal("traced query, 64 in flight", "peers", "64 in flight", TRACED, "cliffracer 100% traced", 8.0),
    Goal("durable turn with one event, 32 keys", "turn", "32 keys", "actorloom", HAND, 2.0),
    Goal("reactions to stored events, no state", "reaction", "stored events", "actorloom", FETCH, 4.0),
    Goal("reactions to stored events, no state", "peers", "stored events", "actorloom", "faststream pull", 15.0),
    Goal("emit, 64 in flight", "emit", "64 in flight", "actorloom emit", "js.publish", 3.0),
    Goal("emit, 64 in flight", "emit", "64 in flight", "actorloom emit", "js.publish, same headers", 3.0),
    Goal("in-process tell", "in process", "tell", "actorloom, mailbox", QUEUE, 1.5),
    Goal("in-process ask, 1 in flight", "in process", "ask, 1 in flight", "actorloom, loopback", "pykka", 5.0),
    Goal("in-process ask, 32 in flight", "in process", "ask, 32 in flight", "actorloom, loopback", "pykka", 5.0),
    Goal("one hot key, 32 callers", "hot key", "32 callers", "actorloom", CAS, 1.0),
    Goal("one hot key, 1 caller", "hot key", "1 caller", "actorloom", CAS, 1.0),
    Goal("memory of a key beyond its state, 100,000 keys", "keys", "100000 keys", "actorloom", "one KiB", 0.7, "kib", False),
    Goal("CPU of a turn, 100,000 live keys", "keys", "turns", "100000 live keys", "100 live keys", 1.15, "actor", False),
    Goal("CPU of a read, 100,000 live keys", "keys", "reads", "100000 live keys", "100 live keys", 1.15, "actor", False),
    Goal("CPU of a query, 10,000 endpoints, 10 in use", "growth", "endpoints", "10 of 10000 endpoints", "10 endpoints", 1.15, "actor", False),
    Goal("instructions of a query, 10,000 endpoints", "instructions", "endpoints", "10000 endpoints", "10 endpoints", 1.15, "thousands", False),
    Goal("CPU of a query, 10,000 endpoints", "growth", "endpoints", "10000 endpoints", "10 endpoints", 1.15, "actor", False),
    Goal("CPU of a turn, 100,000 stored keys", "growth", "stored keys", "100000 stored keys", "1000 stored keys", 1.15, "actor", False),
    Goal("turns of 1 ms CPU, two processes", "scale", "turns, handlers of 1 ms", _TWO, "1 process, 8 partitions", 1.7),
    Goal("small turns, two processes", "scale", "turns, cheap handlers", _TWO, _ONE, 0.95),
    Goal("CPU of actor and server of a small turn, two processes", "scale", "turns, cheap handlers", _TWO, _ONE, 1.05, "both", False),
    Goal("all partitions moved, a process joins", "scale", "a process joins", "8 partitions", "the bound", 1.0, "moved_ms", False),
    Goal("longest wait, a process joins", "scale", "a process joins", "8 partitions", "the bound", 1.0, "longest_ms", False),
    Goal("all partitions moved, a process leaves", "scale", "a process leaves", "8 partitions", "the bound", 1.0, "moved_ms", False),
    Goal("longest wait, a process leaves", "scale", "a process leaves", "8 partitions", "the bound", 1.0, "longest_ms", False),
    Goal("longest wait, kill -9 of one of two, lease of 2 s", "scale", "kill -9 of one of two", "8 partitions", "the bound", 1.0, "longest_ms", False),
    Goal("CPU of a turn, 1,000,000 stored keys", "growth", "stored keys", "1000000 stored keys", "1000 stored keys", 1.15, "actor", False),
]
# fmt: on


def verdicts(report: Report) -> Iterator[tuple[Goal, Ratio | None, Verdict]]:
    """Yield each goal with its ratio in the report, if it was measured, and the verdict."""
    for goal in GOALS:
        ratio = report.ratio(goal.question, goal.setting, goal.ours, goal.against, goal.metric)
        if ratio is None:
            yield goal, None, "not measured"
            continue
        met = ratio.median >= goal.target if goal.at_least else ratio.median <= goal.target
        within_noise = ratio.low < goal.target < ratio.high
        if met:
            yield goal, ratio, "met within noise" if within_noise else "met"
        else:
            yield goal, ratio, "missed within noise" if within_noise else "missed"
