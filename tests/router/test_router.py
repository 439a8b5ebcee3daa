"""Rules and targets on a real server: a rule takes effect, once for each event and target, and in order."""

import re
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest

from runtime import NotFound, testing
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.router import Router, Rules, Targets
from runtime.router.routing import GetInForce
from runtime.router.rule import (
    DeleteRule,
    DisableRule,
    EnableRule,
    GetRule,
    ListRules,
    PutRule,
    Rule,
    RuleConflict,
    RuleFields,
    RuleInvalid,
)
from runtime.router.target import (
    DeleteTarget,
    ListTargets,
    PauseTarget,
    PutTarget,
    ResumeTarget,
    TargetConflict,
    TargetFields,
    TargetInvalid,
    actor_of,
)
from runtime.storage.dead_letters import read_failure
from runtime.wire.subjects import Names
from tests.support.till import LEDGER, GetEntries, Ledger, Sell, Till


@pytest.fixture
async def system(nats_server: EmbeddedServer, namespace: str) -> AsyncGenerator[testing.System]:
    """A till, a ledger and the router."""
    async with testing.running(
        Rules, Targets, Router, Till, Ledger, url=nats_server.url, namespace=namespace
    ) as system:
        yield system


async def put_target(system: testing.System, name: str, to: dict[str, Any], **settings: Any) -> None:
    await system.bus.command(PutTarget(name, msgspec.convert({"to": to, **settings}, TargetFields)))


async def put_rule(system: testing.System, name: str, *, unchecked: bool = False, **fields: Any) -> Rule:
    """Put a rule, and return when it is in force."""
    rule = await system.bus.command(PutRule(name, msgspec.convert(fields, RuleFields), unchecked=unchecked))
    await in_force(system, rule)
    return rule


async def in_force(system: testing.System, rule: Rule) -> None:
    assert await system.bus.query(GetInForce("", rule.name, rule.version)) >= rule.version


async def entries(system: testing.System, account: str) -> tuple[str, ...]:
    return await system.bus.query(GetEntries(account))


BOOK = {"target": "ledger", "input": {"account": "$.till", "amount": "$.total", "text": "sale {$.number}"}}


async def test_a_rule_sends_matching_events_to_its_target_in_order(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    await put_rule(system, "book", types=["till.Sold"], where={"country": ["DK"]}, targets=[BOOK])
    for number in range(20):
        await system.bus.command(Sell("north", number, "DK" if number % 2 == 0 else "SE"))
    wanted = tuple(f"{number} sale {number + 1}" for number in range(0, 20, 2))
    await system.until(lambda: _equal(entries(system, "north"), wanted))


async def test_a_rule_has_versions(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    first = await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
    assert (first.version, first.enabled) == (1, True)
    assert await put_rule(system, "book", types=["till.Sold"], targets=[BOOK]) == first
    fields = msgspec.convert({"types": ["till.Sold"], "targets": [BOOK], "description": "all"}, RuleFields)
    with pytest.raises(RuleConflict, match="version 3 is expected, and the rule has version 1"):
        await system.bus.command(PutRule("book", fields, expect=3))
    with pytest.raises(RuleConflict, match="version 0 is expected"):
        await system.bus.command(PutRule("book", fields, expect=0))
    second = await system.bus.command(PutRule("book", fields, expect=1))
    assert (second.version, second.since) == (2, first.since)
    off = await system.bus.command(DisableRule("book"))
    assert (off.version, off.enabled) == (3, False)
    on = await system.bus.command(EnableRule("book"))
    assert on.version == 4 and on.since > first.since
    assert [rule.name for rule in (await system.bus.query(ListRules())).items] == ["book"]
    await system.bus.command(DeleteRule("book", expect=4))
    assert (await system.bus.query(ListRules())).items == []
    with pytest.raises(NotFound, match="there is no rule 'book'"):
        await system.bus.query(GetRule("book"))
    assert (await system.bus.command(PutRule("book", fields, expect=0))).version == 6


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"where": {"total": [{"numerics": [">", 1]}]}}, "where.total"),
        ({"where": {"total": {"numeric": [">", 1]}}}, "where.total: an operator must be in a list"),
        ({"types": ["Sold"]}, r"types\[0\]: 'Sold' is not the type of an event"),
        ({"targets": [{"target": "ledger", "input": {"a": "$.b["}}]}, r"targets\[0\].input.a"),
        ({"targets": [{"target": "ledger"}, {"target": "ledger"}]}, "a target stands in the list twice"),
        ({"targets": [{"target": "nowhere"}]}, r"wrong: targets\[0\]: there is no target 'nowhere'"),
    ],
)
async def test_a_wrong_rule_is_refused_with_its_field(
    system: testing.System, fields: dict[str, Any], text: str
) -> None:
    await put_target(system, "ledger", LEDGER)
    rule = msgspec.convert({"targets": [{"target": "ledger"}], **fields}, RuleFields)
    with pytest.raises(RuleInvalid, match=text):
        await system.bus.command(PutRule("wrong", rule))
    assert (await system.bus.query(ListRules())).items == []


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ({"kind": "command", "actor": "Ledger", "command": "Book"}, "to.actor: 'Ledger'"),
        ({"kind": "command", "actor": "ledger", "command": "do it"}, "to.command: 'do it'"),
        ({"kind": "event", "type": "Seen"}, "to.type: 'Seen'"),
        ({"kind": "event", "type": "audit.Seen", "key": "$.["}, "to.key"),
        ({"kind": "event", "type": "audit.Seen", "namespace": "a.b"}, "to.namespace"),
        ({"kind": "subject", "subject": "a..b"}, "to.subject: 'a..b' is not a subject"),
        ({"kind": "subject", "subject": "a.{id}"}, "to.subject"),
        ({"kind": "subject", "subject": "$JS.API.STREAM.DELETE.x"}, "belongs to the server or to actors"),
        ({"kind": "subject", "subject": "orders.command.create_order"}, "belongs to the server or to actors"),
        ({"kind": "log", "level": "loud"}, "to.level: 'loud'"),
    ],
)
async def test_a_wrong_target_is_refused_with_its_field(system: testing.System, to: dict[str, Any], text: str) -> None:
    with pytest.raises(TargetInvalid, match=re.escape(text)):
        await put_target(system, "wrong", to)


async def test_a_target_that_a_rule_names_is_not_deleted(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
    with pytest.raises(TargetConflict, match="it is a target of book"):
        await system.bus.command(DeleteTarget("ledger"))
    await system.bus.command(DeleteRule("book"))
    await system.bus.command(DeleteTarget("ledger"))
    assert (await system.bus.query(ListTargets())).items == []


async def test_events_before_a_rule_and_while_it_is_disabled_do_not_match_it(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    witness = {"target": "ledger", "input": {"account": "all", "amount": "$.total"}}
    await put_rule(system, "witness", types=["till.Sold"], targets=[witness])
    await system.bus.command(Sell("north", 1))
    await system.until(lambda: _equal(entries(system, "all"), ("1",)))  # it is routed
    await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
    await system.bus.command(Sell("north", 2))
    await in_force(system, await system.bus.command(DisableRule("book")))
    await system.bus.command(Sell("north", 3))
    await system.until(lambda: _equal(entries(system, "all"), ("1", "2", "3")))
    await in_force(system, await system.bus.command(EnableRule("book")))
    await system.bus.command(Sell("north", 4))
    await system.until(lambda: _equal(entries(system, "north"), ("2 sale 2", "4 sale 4")))


async def test_a_refused_delivery_is_a_dead_letter_with_the_whole_event(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
    await system.bus.command(Sell("north", -5, note="wrong"))
    await system.bus.command(Sell("north", 7))
    await system.until(lambda: _equal(entries(system, "north"), ("7 sale 2",)))
    [letter] = await letters(system, "ledger")
    assert "ledger has refused Book: -5 is negative" in letter["reason"]
    assert letter["body"]["event"]["data"] == {
        "till": "north", "number": 1, "total": -5, "country": "DK", "note": "wrong",
    }  # fmt: skip
    assert (letter["body"]["rule"], letter["body"]["event"]["type"]) == ("book", "till.Sold")


async def test_a_path_that_the_event_lacks_is_a_dead_letter_that_names_it(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    target = {"target": "ledger", "input": {"account": "$.till", "amount": "$.cost"}}
    await system.bus.command(
        PutRule("book", msgspec.convert({"types": ["till.Sold"], "targets": [target]}, RuleFields), unchecked=True)
    )
    await in_force(system, await system.bus.query(GetRule("book")))
    await system.bus.command(Sell("north", 5))
    await system.until(lambda: letters(system, "ledger"))
    [letter] = await letters(system, "ledger")
    assert "the event has no $.cost" in letter["reason"]


async def test_a_target_that_is_paused_delays_no_other(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    await put_target(system, "slow", LEDGER)
    await put_rule(
        system, "both", types=["till.Sold"],
        targets=[BOOK, {"target": "slow", "input": {"account": "slow", "amount": "$.total"}}],
    )  # fmt: skip
    await system.bus.command(PauseTarget("slow"))
    for number in range(3):
        await system.bus.command(Sell("north", number))
    await system.until(lambda: _equal(entries(system, "north"), ("0 sale 1", "1 sale 2", "2 sale 3")))
    assert await entries(system, "slow") == ()
    await system.bus.command(ResumeTarget("slow"))
    await system.until(lambda: _equal(entries(system, "slow"), ("0", "1", "2")))


async def test_an_event_its_rule_and_its_target_are_one_trace(system: testing.System) -> None:
    await put_target(system, "ledger", LEDGER)
    await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
    await system.bus.command(Sell("north", 5))
    await system.until(lambda: _equal(entries(system, "north"), ("5 sale 1",)))
    await system.until(lambda: any(span.name == "ledger/book" for span in system.trace_of(root="till/sell")))
    spans = {
        span.name.partition(f"{system.bus.namespace}.")[2] or span.name: span
        for span in system.trace_of(root="till/sell")
    }
    routed = next(span for name, span in spans.items() if name.startswith("till.event.sold"))
    assert any("rules.matched" in key for span in spans.values() for key in span.attributes), list(spans)
    assert routed.trace_id == spans["ledger/book"].trace_id


async def test_events_of_an_actor_that_runs_for_the_first_time_later_are_routed(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    async with testing.running(Rules, Targets, Router, Ledger, url=nats_server.url, namespace=namespace) as system:
        await put_target(system, "ledger", LEDGER)
        await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
        async with testing.running(Till, url=nats_server.url, namespace=namespace):
            await system.bus.command(Sell("north", 5))
            await system.until(lambda: _equal(entries(system, "north"), ("5 sale 1",)))


async def test_a_large_event_goes_to_many_targets(system: testing.System) -> None:
    count = 12
    for number in range(count):
        await put_target(system, f"t{number}", LEDGER)
    targets = [
        {"target": f"t{number}", "input": {"account": f"a{number}", "amount": 1, "text": "{$.note}"}}
        for number in range(count)
    ]
    await put_rule(system, "large", types=["till.Sold"], targets=targets)
    note = "x" * 150_000
    await system.bus.command(Sell("north", 5, note=note))
    for number in range(count):
        await system.until(lambda number=number: _equal(entries(system, f"a{number}"), (f"1 {note}",)))


async def test_several_owners_route_the_events_of_their_keys(nats_server: EmbeddedServer, namespace: str) -> None:
    options = {"router": msgspec.structs.replace(Router.options, partitions=4)}
    async with testing.running(
        Rules, Targets, Router, Till, Ledger, url=nats_server.url, namespace=namespace, options=options
    ) as system:
        await put_target(system, "ledger", LEDGER)
        await put_rule(system, "book", types=["till.Sold"], targets=[BOOK])
        for number in range(40):
            await system.bus.command(Sell(f"till-{number % 8}", number))
        for till in range(8):
            wanted = tuple(f"{till + 8 * each} sale {each + 1}" for each in range(5))
            await system.until(lambda till=till, wanted=wanted: _equal(entries(system, f"till-{till}"), wanted))


async def letters(system: testing.System, target: str) -> list[dict[str, Any]]:
    """Return the dead letters of a target: the reason and the decoded body of each."""
    names = Names(actor_of(target), system.bus.namespace)
    jetstream = JetStream(system.bus.connection)
    return [
        {"reason": read_failure(each.headers).reason, "body": msgspec.json.decode(each.payload)}
        async for each in jetstream.read(names.dead_stream, names.dead("*"))
    ]


async def _equal(found: Any, wanted: object) -> bool:
    return await found == wanted
