"""Replays to rules: stored events are sent to the named targets and to no other, in order, once or again."""

import asyncio
import random
import signal
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from runtime import testing
from runtime.admin import archives
from runtime.admin.archive_config import Archive
from runtime.admin.replay import NotFound, Refused, Runner, begin, cancel
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.replay import Plan, Request, ToTargets, prepare, refuse_forgotten, replay_since
from runtime.router.routing import GetInForce
from runtime.router.rule import DisableRule, PutRule, Rule, RuleFields
from runtime.router.target import PauseTarget, PutTarget, ResumeTarget, TargetFields
from runtime.storage.replays import Replay, Replays
from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers
from runtime.wire.ids import new_id
from runtime.wire.subjects import Names
from tests.support.process import ROOT, running_command
from tests.support.till import LEDGER, GetEntries, Ledger, Sell, Till

FAST = 1_000_000.0
"""Events a second: no bound."""
BOOK = {"target": "ledger", "input": {"account": "$.till", "amount": "$.total"}}
COPY = {"target": "copy", "input": {"account": "copy-{$.till}", "amount": "$.total"}}


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncGenerator[testing.System]:
    """A till, a ledger, the router, and two targets that book."""
    actors = Rules, Targets, Router, Till, Ledger
    async with testing.running(*actors, url=nats_server.url, namespace=namespace) as system:
        for name in ("ledger", "copy"):
            await put_target(system, name, LEDGER)
        yield system


async def put_target(system: testing.System, name: str, to: dict[str, Any]) -> None:
    await system.bus.command(PutTarget(name, msgspec.convert({"to": to}, TargetFields)))


async def put_rule(system: testing.System, name: str = "book", unchecked: bool = False, **fields: Any) -> Rule:
    """Put a rule for sales, and return when it is in force."""
    fields = {"types": ["till.Sold"], "targets": [BOOK], **fields}
    rule = await system.bus.command(PutRule(name, msgspec.convert(fields, RuleFields), unchecked=unchecked))
    await in_force(system, rule)
    return rule


async def in_force(system: testing.System, rule: Rule) -> None:
    assert await system.bus.query(GetInForce("", rule.name, rule.version)) >= rule.version


async def sell(system: testing.System, totals: range, till: str = "north") -> None:
    for total in totals:
        await system.bus.command(Sell(till, total))


async def plan(system: testing.System, *rules: str, name: str = "first", **others: Any) -> Plan:
    wanted: dict[str, Any] = {"rate": FAST, **others}
    return await prepare(system.bus, rules, Request(name=name, **wanted))


async def replay(system: testing.System, *rules: str, **others: Any) -> Replay:
    """Run a replay to its end."""
    planned = (await plan(system, *rules, **others)).replay
    jetstream, namespace = JetStream(system.bus.connection), system.bus.namespace
    entry = await begin(jetstream, Names(planned.actors[0], namespace), planned)
    return await Runner(jetstream, ToTargets(jetstream, namespace, planned), entry).run()


async def booked(system: testing.System, account: str) -> list[int]:
    return [int(each) for each in await system.bus.query(GetEntries(account))]


async def until_booked(system: testing.System, account: str, wanted: list[int]) -> None:
    async def found() -> bool:
        return await booked(system, account) == wanted

    await system.until(found)


async def until_delivered(system: testing.System, *targets: str) -> None:
    """Wait until the targets have made all of their deliveries."""
    jetstream = JetStream(system.bus.connection)
    streams = [Names(f"target-{each}", system.bus.namespace).tells_stream for each in targets]

    async def delivered() -> bool:
        return not any([(await jetstream.stream_info(each)).state.messages for each in streams])

    await system.until(delivered)


async def until_routed(system: testing.System) -> None:
    """Wait until the router has routed all sales. A rule that is put later matches those of the last seconds before it otherwise."""
    jetstream, stream = JetStream(system.bus.connection), Names("till", system.bus.namespace).events_stream

    async def routed() -> bool:
        found = [each for each in await jetstream.consumers(stream) if each.name.startswith("router")]
        return bool(found) and not any(each.num_pending + each.num_ack_pending for each in found)

    await system.until(routed)


async def between(system: testing.System, number: int) -> float:
    """Return a time between two sales that follow each other; `number` counts those before it."""
    sales = Names("till", system.bus.namespace)
    read = JetStream(system.bus.connection).read(sales.events_stream, sales.stored_event("sold"))
    times = [each.time async for each in read]
    return (times[number - 1] + times[number]) / 2


async def test_missing_adds_what_is_missing_and_again_adds_all_beside_live_events(system: testing.System) -> None:
    await sell(system, range(20))
    await until_routed(system)
    await put_rule(system)
    await sell(system, range(20, 40))
    live = asyncio.ensure_future(sell(system, range(40, 80)))
    assert (await replay(system, "book")).status == "done"
    await live
    await system.until(lambda: _has(system, 80))
    found = await booked(system, "north")
    assert [each for each in found if each < 20] == [*range(20)], "in the order of the key"
    assert [each for each in found if each >= 20] == [*range(20, 80)], "none is doubled"
    again = await replay(system, "book", name="second", mode="again")
    assert (again.sent, again.total) == (80, 80)
    await system.until(lambda: _has(system, 160))
    assert (await booked(system, "north"))[80:] == [*range(80)]


async def _has(system: testing.System, count: int) -> bool:
    return len(await booked(system, "north")) == count


async def test_only_the_named_rules_and_targets_get_the_events_that_match(system: testing.System) -> None:
    await put_rule(system, targets=[BOOK, COPY], where={"total": [{"numeric": [">=", 2]}]})
    await put_rule(system, "other", targets=[COPY], sources=["till"], types=[])
    await in_force(system, await system.bus.command(DisableRule("book")))
    await sell(system, range(5))
    await sell(system, range(5, 8), "south")
    await until_booked(system, "copy-north", [*range(5)])
    counted = await plan(system, "book")
    assert [(each.rule, each.target, each.event, each.events, each.forgotten) for each in counted.counts] == [
        ("book", "copy", "till.Sold", 6, 0),
        ("book", "ledger", "till.Sold", 6, 0),
    ]
    assert (counted.replay.total, counted.deliveries, counted.forgotten) == (6, 12, 0)
    assert counted.counts[0].first < counted.counts[0].last
    assert await Replays(JetStream(system.bus.connection), system.bus.namespace).find("first") is None
    ended = await replay(system, "book", targets=("ledger",), key="north")
    assert (ended.sent, ended.total, ended.targets) == (3, 3, ["ledger"])
    await until_booked(system, "north", [2, 3, 4])
    await until_delivered(system, "ledger", "copy")
    assert await booked(system, "south") == []
    assert await booked(system, "copy-north") == [*range(5)]
    both = await replay(system, "book", "other", name="both", targets=("copy",), until=await between(system, 7))
    assert both.sent == 7, "the last event is left out"
    await until_booked(system, "copy-north", [*range(5), 2, 3, 4])


async def test_what_cannot_be_replayed_is_refused(system: testing.System) -> None:
    await put_rule(system)
    await put_rule(system, "south", where={"till": ["south"]})
    await sell(system, range(1))
    refusals: list[tuple[str, dict[str, Any], type[Exception], str]] = [
        ("bock", {}, NotFound, "there is no rule 'bock': did you mean book"),
        ("BOOK", {}, NotFound, "there is no rule 'BOOK'"),
        ("book", {"targets": ("copy",)}, Refused, "'copy' is no target of book: the targets are ledger"),
        ("book", {"archive": "none"}, NotFound, "there is no archive none"),
        ("south", {}, NotFound, "south > ledger: no event that these rules match is stored"),
        ("book", {"key": "east"}, NotFound, "no event of key 'east' that"),
    ]
    for rule, wanted, error, text in refusals:
        with pytest.raises(error, match=text):
            await plan(system, rule, **wanted)
    await put_rule(system, "copies", targets=[COPY])
    with pytest.raises(Refused, match="the rule copies has none of the targets ledger"):
        await plan(system, "book", "copies", targets=("ledger",))


async def test_a_gap_before_a_rule_is_closed_on_purpose(system: testing.System) -> None:
    await sell(system, range(5))
    await sell(system, range(5, 10))
    await until_routed(system)
    rule = await put_rule(system)
    await sell(system, range(10, 15))
    ended = await replay_since(system.bus, rule, await between(system, 5), rate=FAST)
    assert ended is not None and (ended.status, ended.sent, ended.name[:11]) == ("done", 10, "since-book-")
    await until_delivered(system, "ledger")
    assert sorted(await booked(system, "north")) == [*range(5, 15)]
    ended = await replay_since(system.bus, rule, 0.0, rate=FAST)
    assert ended is not None and ended.sent == 15
    await until_delivered(system, "ledger")
    assert sorted(await booked(system, "north")) == [*range(15)]
    assert await replay_since(system.bus, rule, system.bus.connection.clock.now() + 60) is None


async def test_an_archive_that_a_rule_fills_is_replayed(system: testing.System) -> None:
    jetstream, namespace = JetStream(system.bus.connection), system.bus.namespace
    await archives.put(jetstream, namespace, Archive(name="large"))
    await put_target(
        system, "keep", {"kind": "subject", "subject": f"{namespace}.archive.large.{{source}}.{{name}}.{{key}}"}
    )
    where = {"total": [{"numeric": [">=", 3]}]}
    await put_rule(system, "archive-large", where=where, targets=[{"target": "keep"}])
    await sell(system, range(6))
    await until_delivered(system, "keep")
    sales = Names("till", namespace)
    await jetstream.purge(sales.events_stream, sales.stored_event("*"), 1000)
    await put_rule(system)
    assert (await replay(system, "book", archive="large")).sent == 3
    await until_booked(system, "north", [3, 4, 5])
    # An event of two days ago may have been delivered, and the target has forgotten that.
    old = event_headers("till", "Sold", new_id(), "north", system.bus.connection.clock.now() - 2 * 86_400)
    body = msgspec.json.encode({"till": "north", "number": 0, "total": 9, "country": "DK"})
    await jetstream.publish(f"{namespace}.archive.large.any", body, headers=old)
    await jetstream.publish(f"{namespace}.archive.large.any", b"{}")  # no event
    counted = await plan(system, "book", archive="large", name="third")
    assert (counted.replay.total, counted.forgotten, counted.counts[0].forgotten) == (4, 1, 1)
    with pytest.raises(Refused, match=r"1 of the 4 events are older than the 86400 s for which a target"):
        refuse_forgotten(counted)
    refuse_forgotten(await plan(system, "book", archive="large", name="third", mode="again"))
    assert (await replay(system, "book", archive="large", name="third")).sent == 4
    await until_booked(system, "north", [3, 4, 5, 9])


async def test_what_is_replayed_is_marked_and_belongs_to_the_trace_of_its_event(
    system: testing.System, namespace: str
) -> None:
    await put_target(system, "event", {"kind": "event", "type": "till.SaleSeen"})
    await put_target(system, "subject", {"kind": "subject", "subject": f"{namespace}.seen.{{key}}", "stored": False})
    targets = [{"target": "event"}, {"target": "subject"}, {"target": "ledger", "input": BOOK["input"]}]
    await sell(system, range(1))
    await until_routed(system)
    await put_rule(system, unchecked=True, targets=targets)  # the till has no event SaleSeen
    found: list[bytes | None] = []
    subscription = await system.bus.connection.subscribe(
        f"{namespace}.seen.*", lambda *message: found.append(message[2])
    )
    await replay(system, "book", name="x")
    await until_booked(system, "north", [0])
    await system.until(lambda: bool(found))
    await until_delivered(system, "event", "subject", "ledger")
    subscription.unsubscribe()
    sales = Names("till", namespace)
    seen = await JetStream(system.bus.connection).get_last(sales.events_stream, sales.stored_event("sale_seen"))
    assert seen is not None
    assert [header_block.get(each, b"ce-replayname") for each in (seen.headers, found[0])] == ["x", "x"]
    spans = [span for span in system.tracing.finished() if span.attributes.get("actorloom.replay") == "x"]
    assert len(spans) == 3
    (sale,) = {span.trace_id for span in system.trace_of(root="till/sell")}
    assert {span.trace_id for span in spans} == {sale}


async def test_a_cancel_takes_back_the_deliveries_that_wait(system: testing.System) -> None:
    await sell(system, range(10))
    await until_routed(system)
    await system.bus.command(PauseTarget("ledger"))
    await put_rule(system, targets=[BOOK, COPY])
    await sell(system, range(10, 12))
    assert (await replay(system, "book", mode="again")).sent == 12
    await until_delivered(system, "copy")
    jetstream = JetStream(system.bus.connection)
    ended = await cancel(jetstream, system.bus.namespace, "first")
    assert (ended.status, ended.sent, ended.taken_back) == ("cancelled", 12, 12)
    await system.bus.command(ResumeTarget("ledger"))
    await until_booked(system, "north", [10, 11])


async def test_a_replay_that_is_killed_goes_on_where_it_was(
    system: testing.System, nats_server: EmbeddedServer
) -> None:
    await put_rule(system)
    await put_rule(system, "copies", targets=[COPY], enabled=False)  # only the replay sends to the copy
    tills = [f"till-{number}" for number in range(6)]
    for number in range(40):
        await asyncio.gather(*(system.bus.command(Sell(till, number)) for till in tills))
    for till in tills:
        await until_booked(system, till, [*range(40)])
    jetstream, namespace = JetStream(system.bus.connection), system.bus.namespace
    tells = Names("target-copy", namespace).tells_stream

    async def sent() -> int:
        return (await jetstream.stream_info(tells)).state.last_seq

    where = ("--nats", nats_server.url, "--namespace", namespace)
    rules = ("--rule", "book", "--rule", "copies")
    start = ("start", *rules, "--mode", "again", "--name", "x", "--rate", "80", "--yes")
    live: asyncio.Future[None] | None = None
    ahead = 0
    for arguments in (start, ("resume", "x"), ("resume", "x")):
        async with running_command("replay", *arguments, *where, cwd=ROOT, ready="sends events") as tool:
            live = live or asyncio.ensure_future(_sell_on(system, tills))  # later than the events of the replay
            wanted = await sent() + random.randint(30, 60)

            async def reached(least: int = wanted) -> bool:
                return await sent() >= least

            await system.until(reached)
            tool.signal(signal.SIGKILL)
            await tool.wait()
        entry = await Replays(jetstream, namespace).find("x")
        assert entry is not None and entry.replay.status == "running"
        ahead = max(ahead, await sent() - entry.replay.sent)
    async with running_command("replay", "resume", "x", *where, cwd=ROOT, ready="sends events") as tool:
        assert await tool.wait() == 0, tool.text
        assert "x: done. 240 of 240 events were sent" in tool.text
    assert live is not None
    live.cancel()
    await asyncio.gather(live, return_exceptions=True)
    await until_delivered(system, "ledger", "copy")
    for till in tills:
        found = await booked(system, till)
        assert [each for each in found if each < 1000] == [*range(40), *range(40)], till
        live_ones = [each for each in found if each >= 1000]
        assert live_ones and live_ones == [*range(1000, 1000 + len(live_ones))], till
        assert await booked(system, f"copy-{till}") == [*range(40)]
    assert ahead > 0, "no delivery was sent twice, so this test shows nothing"


async def _sell_on(system: testing.System, tills: list[str]) -> None:
    """Sell at all tills until the task is cancelled, from the total 1000 on."""
    number = 1000
    while True:
        await asyncio.gather(*(system.bus.command(Sell(till, number)) for till in tills))
        number += 1
        await asyncio.sleep(0.1)
