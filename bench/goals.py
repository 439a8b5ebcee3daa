"""The goals of the project: ratios between two contenders of one run, or figures, with a target for each."""

from collections.abc import Iterator
from typing import Literal

import msgspec

from bench import before, hot_key, moves, rules, scale
from bench.results import Report, Spread

Verdict = Literal["met", "missed", "met within noise", "missed within noise", "not measured"]


class Goal(msgspec.Struct, frozen=True):
    """A figure of `ours` at one setting of a question: at least `target`, or at most if `at_least` is False.

    It is the ratio of `ours` to `against`, unless that is empty. Then it is the figure itself, and `unit` is its unit.
    """

    work: str
    question: str
    setting: str
    ours: str
    against: str
    target: float
    metric: str = "rate"
    at_least: bool = True
    unit: str = "×"
    why: str = ""
    """The reason of a goal that is missed on two cores, and the next step."""

    def text(self, value: float) -> str:
        """Return a value of this goal with its unit."""
        return f"{value:.2f}×" if self.against else f"{value:,.0f}{self.unit and f' {self.unit}'}"


RAW = "raw nats-py"
HAND = "raw nats-py by hand"
CAS = "raw nats-py CAS publish"
FETCH = "raw nats-py fetch(64)"
QUEUE = "asyncio.Queue actor"
OURS = "actorloom"
TRACED = "actorloom 100% traced"
"""Names of contenders."""

_FOUR = "Both ends, the server and the receiver of spans share two cores. Next: measure on four"
_BOTH = "Both ends together use two fifths of the CPU of raw nats-py; nats-server takes the rest. Next: measure on four cores"
_READS = "With 64 in flight a read brings few frames, and the share of the kernel counts for both"
_TRACE = "A trace context is parsed, a span made, ended and encoded: see the profile of a traced query"
_TURN = "See the profile of a turn"
_SERVER = "nats-server and the disk take the same time for both: see the cores in use"
_SPANS = "Two fifths of the instructions of a traced query belong to the trace"
_EMIT = "nats-server takes as long for a publish of ours as for any other; the headers, the id and a metric come on top"
_WIRE = "A request is encoded all the way (ADR 010), to keep every promise of the wire; pykka hands over the object"
_MISSES = "Cache misses"

# fmt: off
GOALS = [
    Goal("query, 256 in flight, untraced", "query", "256 in flight", OURS, RAW, 2.3, why=_BOTH),
    Goal("query, 256 in flight, each one traced and exported", "query", "256 in flight", TRACED, RAW, 1.6, why=_FOUR),
    Goal("query, 256 in flight, 1% sampled", "query", "256 in flight", "actorloom 1% sampled", RAW, 2.4, why=_FOUR),
    Goal("query, 1 in flight, untraced", "query", "1 in flight", OURS, RAW, 1.25),
    Goal("query, 1 in flight, each one traced and exported", "query", "1 in flight", TRACED, RAW, 1.15),
    Goal("query, 1 in flight, untraced, uvloop", "query", "1 in flight", "actorloom uvloop", RAW, 2.1, why="uvloop saves raw nats-py as much; the kernel takes the rest"),
    Goal("query, 256 in flight, untraced", "query", "256 in flight", OURS, "nats.go", 1.0, why="Both ends take as much CPU for a query as those of nats.go; on a busy machine, more"),
    Goal("actor CPU of a query, untraced", "actor", "64 in flight", OURS, RAW, 0.5, "actor", False, why=_READS),
    Goal("actor CPU of a query, traced", "actor", "64 in flight", TRACED, RAW, 0.8, "actor", False, why=_TRACE),
    Goal("actor instructions of a query, untraced", "instructions", "queries", OURS, RAW, 0.5, "thousands", False, why="The checks of November 27: the fingerprint of the id, and values that are read back"),
    Goal("actor instructions of a query, traced", "instructions", "queries", TRACED, RAW, 0.7, "thousands", False, why=_TRACE),
    Goal("instructions of a query, P = 1", "instructions", "queries", OURS, before.NAME, 1.02, "thousands", False),
    Goal("instructions of a turn, P = 1", "instructions", "turns", OURS, before.NAME, 1.02, "thousands", False),
    Goal("instructions of a start, P = 1", "instructions", "starts", OURS, before.NAME, 1.02, "thousands", False, why="An actor with commands has a stream and a consumer of commands by tell, and its contracts are compared with the registered ones"),
    Goal("instructions of a turn with one event", "instructions", "turns", OURS, HAND, 0.38, "thousands", False, why=_TURN),
    Goal("instructions of a turn with one event, traced", "instructions", "turns", TRACED, HAND, 0.50, "thousands", False, why=_TURN),
    Goal("traced query, 64 in flight", "peers", "64 in flight", TRACED, "faststream 100% traced", 15.0, why=_SPANS),
    Goal("traced query, 64 in flight", "peers", "64 in flight", TRACED, "cliffracer 100% traced", 8.0, why=_SPANS),
    Goal("durable turn with one event, 32 keys", "turn", "32 keys", OURS, HAND, 2.0, why=_SERVER),
    Goal("cores in use, durable turn with one event, 32 keys", "turn", "32 keys", OURS, HAND, 0.95, "cores"),
    Goal("reactions to stored events, no state", "reaction", "stored events", OURS, FETCH, 4.0, why="An event takes 99 thousand instructions instead of 76 since the checks of November 27, and fetch(64) 342"),
    Goal("reactions to stored events, no state", "peers", "stored events", OURS, "faststream pull", 15.0, why="nats-server needs longer to deliver an event and to take its acknowledgement than the actor to handle it"),
    Goal("emit, 64 in flight", "emit", "64 in flight", "actorloom emit", "js.publish", 2.3, why=_EMIT),
    Goal("emit, 64 in flight", "emit", "64 in flight", "actorloom emit", "js.publish, same headers", 3.5, why=_EMIT),
    Goal("events through 10,000 rules, mix B", "rules", rules.setting(10_000, "B"), rules.INDEXED, rules.NAIVE, 20.0),
    Goal("events through 10,000 rules, mix B", "rules", rules.setting(10_000, "B"), rules.INDEXED, rules.OF_TYPE, 20.0),
    Goal("in-process tell", "in process", "tell", "actorloom, mailbox", QUEUE, 1.5),
    Goal("in-process ask, 1 in flight", "in process", "ask, 1 in flight", "actorloom, loopback", "pykka", 5.0, why=_WIRE),
    Goal("in-process ask, 32 in flight", "in process", "ask, 32 in flight", "actorloom, loopback", "pykka", 5.0, why=_WIRE),
    Goal("one hot key, 32 callers", "hot key", "32 callers", OURS, CAS, 1.0),
    Goal("one hot key, 1 caller, p50", "hot key", "1 caller", OURS, hot_key.TWO, 1.15, "p50", False, why="A caller waits for the two round trips, and for the steps of the turn between them"),
    Goal("memory of a key beyond its state, 100,000 keys", "keys", "100000 keys", OURS, "one KiB", 0.7, "kib", False, why="The message that was handled last takes 0.43 KiB with its id, reply, fingerprint and time, and the key 0.33"),
    Goal("CPU of a turn, 100,000 live keys", "keys", "turns", "100000 live keys", "100 live keys", 1.15, "actor", False, why=_MISSES),
    Goal("CPU of a read, 100,000 live keys", "keys", "reads", "100000 live keys", "100 live keys", 1.15, "actor", False, why=_MISSES),
    Goal("CPU of a query, 10,000 endpoints, 10 in use", "growth", "endpoints", "10 of 10000 endpoints", "10 endpoints", 1.15, "actor", False, why=_MISSES),
    Goal("instructions of a query, 10,000 endpoints", "instructions", "endpoints", "10000 endpoints", "10 endpoints", 1.15, "thousands", False),
    Goal("CPU of a query, 10,000 endpoints", "growth", "endpoints", "10000 endpoints", "10 endpoints", 1.15, "actor", False, why="Each query misses the last-level cache 42 times instead of 6, half of them in the type and decoder of its message"),
    Goal("CPU of a turn, 100,000 stored keys", "growth", "stored keys", "100000 stored keys", "1000 stored keys", 1.15, "actor", False, why=_MISSES),
    Goal("CPU of a turn, 1,000,000 stored keys", "growth", "stored keys", "1000000 stored keys", "1000 stored keys", 1.15, "actor", False, why=_MISSES),
    Goal("turns of 1 ms CPU, two processes", "scale", f"turns, {scale.LONG}", scale.TWO_OF_8, scale.ONE_OF_8, 1.7),
    Goal("small turns, two processes", "scale", f"turns, {scale.CHEAP}", scale.TWO_OF_8, scale.ONE_OF_8, 0.95),
    Goal("CPU of actor and server of a small turn, two processes", "scale", f"turns, {scale.CHEAP}", scale.TWO_OF_8, scale.ONE_OF_8, 1.05, "both", False, why="Two processes read and write less at once than one: more system calls a turn on both sides"),
    Goal("a process joins: its partitions have moved", "scale", moves.JOIN, moves.MOVED, "", 1000, "moved_ms", False, "ms"),
    Goal("a process joins: longest wait of a caller", "scale", moves.JOIN, moves.MOVED, "", 500, "longest_ms", False, "ms"),
    Goal("a process leaves: its partitions have moved", "scale", moves.LEAVE, moves.MOVED, "", 1000, "moved_ms", False, "ms"),
    Goal("a process leaves: longest wait of a caller", "scale", moves.LEAVE, moves.MOVED, "", 500, "longest_ms", False, "ms"),
    Goal("a process is replaced: all 8 partitions have moved", "scale", moves.REPLACE, moves.MOVED, "", 1000, "moved_ms", False, "ms"),
    Goal("a process is replaced: longest wait of a caller", "scale", moves.REPLACE, moves.MOVED, "", 500, "longest_ms", False, "ms"),
    Goal("commands that fail if processes join and leave", "scale", "moves", moves.OUTCOMES, "", 0, "failed", False, ""),
    Goal(f"kill -9, lease of {moves.LEASE:g} s: its partitions have moved", "scale", moves.KILL, moves.MOVED, "", moves.STALL, "moved_ms", False, "ms"),
    Goal("kill -9: longest wait, partitions of the killed process", "scale", moves.KILL, moves.MOVED, "", moves.STALL + 1000 * moves.ATTEMPT, "longest_ms", False, "ms"),
    Goal("kill -9: longest wait, other partitions", "scale", moves.KILL, moves.MOVED, "", 500, "others_ms", False, "ms"),
    Goal("commands without their effect, in all of these", "scale", "moves", moves.OUTCOMES, "", 0, "lost", False, ""),
    Goal("commands with more than one effect, in all of these", "scale", "moves", moves.OUTCOMES, "", 0, "twice", False, ""),
]
# fmt: on


def verdicts(report: Report) -> Iterator[tuple[Goal, Spread | None, Verdict]]:
    """Yield each goal with its figure in the report, if it was measured, and the verdict."""
    for goal in GOALS:
        if goal.against:
            found = report.ratio(goal.question, goal.setting, goal.ours, goal.against, goal.metric)
        else:
            found = report.figure(goal.question, goal.setting, goal.ours, goal.metric)
        if found is None:
            yield goal, None, "not measured"
            continue
        met = found.median >= goal.target if goal.at_least else found.median <= goal.target
        within_noise = found.low < goal.target < found.high
        if met:
            yield goal, found, "met within noise" if within_noise else "met"
        else:
            yield goal, found, "missed within noise" if within_noise else "missed"
