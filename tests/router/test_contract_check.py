"""Rules are compared with the contracts of running actors: what can never match, or never be delivered, is refused."""

from typing import Any

import msgspec
import pytest

from runtime import Actor, Command, Event, command
from runtime.actor.metadata import describe_operation, describe_service
from runtime.admin.discovery import Endpoint, Service
from runtime.router.contract_check import Announced, problems_by
from runtime.router.rule import RuleFields
from runtime.router.target import Target
from tests.support.till import Ledger, Till


class Refund(Command[None], actor="counter", key="till"):
    till: str


class Refunded(Event, actor="counter", key="till"):
    till: str
    reason: str


class Counted(Event, actor="counter", key="till"):
    till: str
    country: str


class Counter(Actor):
    name = "counter"

    @command
    async def refund(self, message: Refund) -> None: ...


class Silent(Actor):
    name = "silent"


def service(actor: type[Actor[Any]], namespace: str = "") -> Service:
    """Return an actor as it announces itself."""
    endpoints = [
        Endpoint(each.name, f"{actor.name}.command.{each.name}", describe_operation(each))
        for each in actor.handlers.commands.values()
    ]
    return Service(actor.name, "1", "1.0.0", "", describe_service(actor, namespace), endpoints)


TARGETS: dict[str, dict[str, Any]] = {
    "ledger": {"kind": "command", "actor": "ledger", "command": "Book"},
    "misspelled": {"kind": "command", "actor": "ledger", "command": "Bookk"},
    "stopped": {"kind": "command", "actor": "elsewhere", "command": "Book"},
    "sold": {"kind": "event", "type": "till.Sold"},
    "soldd": {"kind": "event", "type": "till.Soldd"},
    "away": {"kind": "event", "type": "till.Sold", "namespace": "other"},
    "counted": {"kind": "event", "type": "counter.Counted"},
    "log": {"kind": "log"},
    "web": {"kind": "http", "url": "https://example.com/"},
}


def problems(names: str, *running: Service, **rule: Any) -> list[str]:
    """Return the problems of a rule with the given targets; `input` is that of each target."""
    given = rule.pop("input", None)
    targets = [{"target": name, "input": given} for name in names.split()]
    fields = msgspec.convert({"targets": targets, **rule}, RuleFields)
    kept = [msgspec.convert({"name": name, "version": 1, "to": TARGETS[name]}, Target) for name in names.split()]
    return problems_by(Announced(running or [*map(service, (Till, Ledger, Counter, Silent))]), "", fields, kept)


BOOK = {"account": "$.till", "amount": "$.total"}


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        ("log", {}),
        ("log", {"where": {"anything": ["x"]}}),
        ("log", {"types": ["elsewhere.Whatever"], "where": {"anything": ["x"]}}),
        ("log", {"types": ["till.Sold"], "sources": ["till"], "where": {"country": ["DK"], "note": [None, "x"]}}),
        ("log", {"types": ["till.Sold", "elsewhere.Whatever"], "where": {"anything": ["x"]}}),
        ("log", {"types": ["till.Sold", "counter.Refunded"], "where": {"reason": ["x"]}, "input": {"why": "$.reason"}}),
        ("log", {"sources": ["till", "elsewhere"], "where": {"anything": ["x"]}}),
        ("log", {"sources": ["till", "ledger"]}),
        ("log", {"sources": ["elsewhere", "ledger"]}),
        ("ledger", {"types": ["till.Sold"], "input": BOOK}),
        ("ledger", {"types": ["elsewhere.Whatever"], "input": {"account": "$.a", "amount": "$.b"}}),
        ("ledger", {"types": ["till.Sold"], "input": {**BOOK, "text": "{$.number} of {$.note?}"}}),
        ("stopped", {"types": ["till.Sold"], "input": {"whatever": 1}}),
        ("web log", {"types": ["till.Sold"], "input": {"whatever": "$.number"}}),
        ("away", {"types": ["till.Sold"]}),
        ("sold", {"types": ["counter.Counted"], "input": {"till": "$.till", "number": 1, "total": 2, "country": "$.country"}}),
        ("counted", {"where": {"reason": [{"exists": True}]}, "input": {"till": "$.till", "country": "DK"}}),
        ("counted", {"where": {"country": ["SE"]}, "input": {"till": "$.till", "country": "DK"}}),
        ("counted", {"sources": ["till"], "input": {"till": "$.till", "country": "DK"}}),
    ],
)  # fmt: skip
def test_a_rule_that_can_match_and_be_delivered_has_no_problem(names: str, rule: dict[str, Any]) -> None:
    assert problems(names, **rule) == []


@pytest.mark.parametrize(
    ("names", "rule", "wanted"),
    [
        ("log", {"types": ["till.Soldd"]}, "types[0]: till emits no till.Soldd: did you mean till.Sold?"),
        ("log", {"types": ["till.Sold", "counter.X"]}, "types[1]: counter emits no counter.X"),
        ("log", {"sources": ["silent"]}, "sources[0]: silent emits no events"),
        (
            "log",
            {"types": ["till.Sold"], "sources": ["ledger"]},
            "types[0]: till.Sold is an event of till, which is not one of sources",
        ),
        (
            "log",
            {"types": ["till.Sold"], "where": {"countri": ["DK"]}},
            "where.countri: no event has the field 'countri'; did you mean 'country'?",
        ),
        (
            "log",
            {"sources": ["till"], "where": {"total": ["3"]}},
            'where.total: "3" never matches: the field is an integer',
        ),
        (
            "log",
            {"types": ["till.Sold", "counter.Refunded"], "where": {"why": ["x"]}},
            "where.why: no event has the field 'why' (in till.Sold)|"
            "where.why: no event has the field 'why' (in counter.Refunded)",
        ),
        (
            "misspelled",
            {"types": ["till.Sold"]},
            "targets[0]: target misspelled: ledger handles no command Bookk: did you mean Book?",
        ),
        (
            "log ledger",
            {"types": ["till.Sold"], "input": {"account": "$.till"}},
            "targets[1].input: the required field amount of ledger.Book is not given",
        ),
        (
            "ledger",
            {"types": ["till.Sold"]},
            "targets[0]: $ of the event till.Sold has no field account, which ledger.Book requires",
        ),
        (
            "log",
            {"types": ["till.Sold"], "input": {"n": "$.numbar"}},
            "targets[0].input.n: $.numbar: the event till.Sold has no field $.numbar (is number meant?)",
        ),
        (
            "ledger",
            {"types": ["till.Sold"], "input": {**BOOK, "amount": "{$.total}"}},
            "targets[0].input.amount: the text is string, and the field amount of ledger.Book is integer",
        ),
        (
            "soldd",
            {"types": ["counter.Refunded"]},
            "targets[0]: target soldd: till has no event till.Soldd: did you mean till.Sold?",
        ),
        (
            "sold",
            {"types": ["till.Sold"]},
            "targets[0]: target sold emits till.Sold, which the rule matches again: a circle",
        ),
        (
            "counted",
            {"where": {"country": ["DK"]}, "input": {"till": "$.till", "country": "DK"}},
            "targets[0]: target counted emits counter.Counted, which the rule matches again: a circle",
        ),
        (
            "counted",
            {
                "where": {"$or": [{"reason": [1]}, {"x": [{"exists": False}]}]},
                "input": {"till": "$.till", "country": "DK"},
            },
            "targets[0]: target counted emits counter.Counted, which the rule matches again: a circle",
        ),
    ],
)
def test_a_certain_problem_is_named_with_its_field(names: str, rule: dict[str, Any], wanted: str) -> None:
    assert problems(names, **rule) == wanted.split("|")


def test_actors_of_other_namespaces_and_other_frameworks_are_not_judged() -> None:
    foreign = msgspec.structs.replace(service(Till), metadata=type(service(Till).metadata)(runtime=""))
    for running in (service(Till, "other"), foreign):
        assert problems("log", running, types=["till.Soldd"], where={"countri": ["DK"]}) == []


def test_a_contract_that_differs_between_processes_is_not_judged() -> None:
    newer = service(Till)
    emits = {**newer.metadata.emits, "till.Sold": {"type": "object", "properties": {"countri": {"type": "string"}}}}
    newer = msgspec.structs.replace(newer, metadata=msgspec.structs.replace(newer.metadata, emits=emits))
    rule: dict[str, Any] = {"types": ["till.Sold"], "where": {"countri": ["DK"]}}
    assert problems("log", service(Till), newer, **rule) == []
    assert problems("log", newer, **rule) == []
    assert len(problems("log", service(Till), **rule)) == 1
