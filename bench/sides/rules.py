"""Rules and events: matched by the index of the router and by loops over all patterns, in one process without NATS; and put in force."""

import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import msgspec

from bench.rules import CHANGES
from runtime.actor.base import Actor
from runtime.actor.patterns import Predicate, compile_pattern
from runtime.client.bus import Bus
from runtime.host.process import serving
from runtime.nats.connection import Connection, ConnectionOptions
from runtime.router import Router, Rules, Targets
from runtime.router.index import Index
from runtime.router.routing import GetInForce
from runtime.router.rule import PutRule, RuleFields, RuleTarget
from runtime.router.target import LogKind, PutTarget, TargetFields
from runtime.telemetry import Tracing

TYPES = [f"orders.Event{number}" for number in range(20)]
COUNTRIES = [
    "DK",
    "SE",
    "NO",
    "FI",
    "DE",
    "NL",
    "BE",
    "FR",
    "ES",
    "PT",
    "IT",
    "AT",
    "CH",
    "PL",
    "CZ",
    "SK",
    "HU",
    "IE",
    "GB",
    "IS",
]
STATUSES = ["NEW", "PAID", "PACKED", "SHIPPED", "DELIVERED", "RETURNED", "CANCELED", "LOST"]
TIERS = ["basic", "silver", "gold"]
_EVENTS = 400
"""Distinct events, which a round repeats."""
_BETWEEN = 20
"""Events between two looks at the clock."""
_COMPARED = 60
"""Events for which all contenders must find the same rules before anything is measured."""

_Rule = tuple[str, str, dict[str, Any]]
"""Name, event type and pattern."""
Match = Callable[[str, bytes], list[str]]
"""Decodes an event of a type and returns the names of the rules that it matches."""


def event(draw: random.Random) -> tuple[str, bytes]:
    """Return the type and the JSON of an event with 18 leaves: about 345 bytes."""
    country = draw.choice(COUNTRIES)
    body = {
        "orderId": f"{country}-{draw.randrange(1_000_000):06}",
        "status": draw.choice(STATUSES),
        "total": draw.randrange(100_000),
        "paid": draw.random() < 0.5,
        "currency": "EUR",
        "note": None,
        "customer": {"id": f"c-{draw.randrange(1_000)}", "country": country, "tier": draw.choice(TIERS)},
        "address": {
            "street": "Main Street 1",
            "city": f"city-{draw.randrange(40)}",
            "zip": str(draw.randrange(10_000)),
        },
        "products": [
            {"sku": f"s-{draw.randrange(500)}", "quantity": draw.randrange(1, 9), "price": draw.randrange(9_999)}
            for _ in range(2)
        ],
    }
    return draw.choice(TYPES), msgspec.json.encode(body)


def rules(count: int, mix: str) -> list[_Rule]:
    """Return rules: 70 % name one or two values, 10 % a prefix, 10 % a range, and 10 % use `anything-but` or `exists`.

    Args:
        count: The number of rules.
        mix: In mix A, ranges, `anything-but` and `exists` are alone in their patterns. In mix B, a customer is beside them.
    """
    draw = random.Random(count)
    return [(f"rule-{number:05}", draw.choice(TYPES), _pattern(draw, mix)) for number in range(count)]


def _pattern(draw: random.Random, mix: str) -> dict[str, Any]:
    kind = draw.random()
    customer = {"customer": {"id": [f"c-{draw.randrange(1_000)}"]}}
    beside = {} if mix == "A" else customer
    if kind < 0.35:
        return customer if kind < 0.2 else {"products": {"sku": [f"s-{draw.randrange(500)}"]}}
    if kind < 0.4:
        return {"status": [draw.choice(STATUSES)], "customer": {"tier": [draw.choice(TIERS)]}}
    if kind < 0.7:
        city = {"address": {"city": [f"city-{draw.randrange(40)}"]}}
        return (
            {"status": [draw.choice(STATUSES)], **city}
            if kind < 0.55
            else {"customer": {"country": [draw.choice(COUNTRIES)]}, **city}
        )
    if kind < 0.8:
        return {"orderId": [{"prefix": f"{draw.choice(COUNTRIES)}-{draw.randrange(10)}"}]}
    if kind < 0.9:
        low = draw.randrange(99_000)
        return {"total": [{"numeric": [">", low, "<=", low + 1_000]}], **beside}
    if kind < 0.95:
        return {"status": [{"anything-but": [draw.choice(STATUSES)]}], **beside}
    return {"coupon": [{"exists": draw.random() < 0.5}], **beside}


def naive(listed: list[_Rule]) -> Match:
    """Return a loop over all rules, each of which tests the type and then its pattern."""
    compiled = [(name, type_, compile_pattern(pattern)) for name, type_, pattern in listed]
    decode = msgspec.json.decode

    def match(type_: str, payload: bytes) -> list[str]:
        body = decode(payload)
        return [name for name, wanted, matches in compiled if wanted == type_ and matches(body)]

    return match


def of_type(listed: list[_Rule]) -> Match:
    """Return a loop over the rules of the event's type."""
    compiled: dict[str, list[tuple[str, Predicate]]] = {}
    for name, type_, pattern in listed:
        compiled.setdefault(type_, []).append((name, compile_pattern(pattern)))
    decode = msgspec.json.decode

    def match(type_: str, payload: bytes) -> list[str]:
        body = decode(payload)
        return [name for name, matches in compiled.get(type_, ()) if matches(body)]

    return match


def indexed(listed: list[_Rule]) -> Match:
    """Return the index of the router."""
    index = Index()
    for name, type_, pattern in listed:
        index.add(name, [type_], pattern)
    decode, find = msgspec.json.decode, index.match
    return lambda type_, payload: find(type_, decode(payload))


CONTENDERS: dict[str, Callable[[list[_Rule]], Match]] = {"naive": naive, "of_type": of_type, "indexed": indexed}


class Matching:
    """Matches events by one contender or another, and times changes of the index."""

    def __init__(self) -> None:
        draw = random.Random(7)
        self.events = [event(draw) for _ in range(_EVENTS)]
        self.ready: dict[tuple[int, str], dict[str, Match]] = {}

    async def prepare(self, count: int, mix: str) -> dict[str, float]:
        """Prepare all contenders; return the matches an event and the bytes of an event.

        Raises:
            RuntimeError: Two contenders do not find the same rules.
        """
        listed = rules(count, mix)
        made = self.ready[count, mix] = {name: make(listed) for name, make in CONTENDERS.items()}
        found = 0
        for type_, payload in self.events[:_COMPARED]:
            results = [match(type_, payload) for match in made.values()]
            if any(each != results[0] for each in results):
                raise RuntimeError(f"the contenders find different rules for {payload!r}: {results}")
            found += len(results[0])
        return {"matches": found / _COMPARED, "bytes": sum(len(each) for _, each in self.events) / _EVENTS}

    async def match(self, name: str, count: int, mix: str, seconds: float) -> dict[str, Any]:
        """Match events one after another for some seconds of CPU time, so that other processes change no rate."""
        match, done = self.ready[count, mix][name], 0
        begun = time.process_time()
        while (spent := time.process_time() - begun) < seconds or not done:
            for number in range(done, done + _BETWEEN):
                match(*self.events[number % _EVENTS])
            done += _BETWEEN
        return {"count": done, "seconds": spent, "cpu_us": spent * 1e6}

    async def changes(self, count: int, mix: str) -> dict[str, float]:
        """Return the microseconds of CPU time of a compiled pattern, and of a rule that is added to, replaced in and removed from an index."""
        listed = rules(count, mix)
        index = Index()
        spent = [time.process_time()]
        for _, _, pattern in listed:
            compile_pattern(pattern)
        spent.append(time.process_time())
        for name, type_, pattern in listed:
            index.add(name, [type_], pattern)
        spent.append(time.process_time())
        for name, type_, pattern in listed:
            index.replace(name, [type_], pattern)
        spent.append(time.process_time())
        for name, _, _ in listed:
            index.remove(name)
        spent.append(time.process_time())
        each = [(end - begin) * 1e6 / count for begin, end in pairwise(spent)]
        return dict(zip(CHANGES, each, strict=True))


class Keeping:
    """Puts rules, and waits until a router in another process has them in force."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, count: int) -> dict[str, float]:
        """Put rules one by one. Return milliseconds: of the command, and from its reply until the rule is in force."""
        await self._bus.command(PutTarget("log", TargetFields(to=LogKind())))
        puts: list[float] = []
        waits: list[float] = []
        for number in range(count):
            fields = RuleFields(types=["shop.Sold"], where={"customer": [f"c{number}"]}, targets=[RuleTarget("log")])
            begun = time.perf_counter()
            rule = await self._bus.command(PutRule(f"rule-{number}", fields, unchecked=True))
            replied = time.perf_counter()
            while await self._bus.query(GetInForce("", rule.name, rule.version)) < rule.version:
                continue
            puts.append((replied - begun) * 1e3)
            waits.append((time.perf_counter() - replied) * 1e3)
        return {
            f"{name}_{point}": sorted(found)[min(int(count * share), count - 1)]
            for name, found in (("put", puts), ("force", waits))
            for point, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
        }


@asynccontextmanager
async def keeping(url: str) -> AsyncIterator[Keeping]:
    """Serve the actors that keep rules and targets."""
    async with _serving([Rules, Targets], url) as bus:
        yield Keeping(bus)


@asynccontextmanager
async def routing(url: str) -> AsyncIterator[object]:
    """Serve the router."""
    async with _serving([Router], url):
        yield object()


@asynccontextmanager
async def _serving(actors: list[type[Actor[Any]]], url: str) -> AsyncIterator[Bus]:
    connection = await Connection.connect(ConnectionOptions(url=url), name="bench")
    tracing = Tracing.from_env()
    try:
        async with serving(actors, connection, tracing):
            yield Bus(connection, tracing.service("bench"))
    finally:
        await connection.close()


@asynccontextmanager
async def matching() -> AsyncIterator[Matching]:
    """Provide the contenders."""
    yield Matching()
