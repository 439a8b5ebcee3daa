"""`rules` and `targets` in this process, beside one system with a router, a till and a ledger."""

import json
import re
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from anyio.from_thread import BlockingPortal, start_blocking_portal
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result
from msgspec.structs import replace

from runtime import testing
from runtime.cli import actorloom
from runtime.client.bus import Bus
from runtime.nats.jetstream.client import JetStream
from runtime.nats.server import EmbeddedServer
from runtime.options import Options
from runtime.router import Router, Rules, Targets
from runtime.router.in_force import wait_in_force
from runtime.router.routing import GetInForce
from runtime.router.rule import GetRule, PutRule, RuleFields, RuleTarget
from runtime.router.target import LogKind, PutTarget, TargetFields
from tests.support.endpoint import Endpoint, Received, endpoint
from tests.support.till import GetEntries, Ledger, Sell, Till

BOOK = '{"account": "$.till", "amount": "$.total", "text": "sale {$.number}"}'
DEEP = '{"a":' * 3000 + "1" + "}" * 3000


class Shop:
    """A system whose event loop runs in another thread, and the command line in this one."""

    def __init__(self, portal: BlockingPortal, system: testing.System, flags: Sequence[str]) -> None:
        self._portal = portal
        self.system = system
        self.bus: Bus = system.bus
        self.flags = flags

    def wait(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """Return the result of an asynchronous function in the loop of the system."""
        return self._portal.call(work, *arguments)

    def endpoint(self) -> AbstractContextManager[Endpoint]:
        """Run an HTTP endpoint in the loop of the system."""
        return self._portal.wrap_async_context_manager(endpoint())

    def cli(self, *arguments: str, stdin: str = "", code: int = 0) -> Result:
        result = CliRunner().invoke(actorloom, [*arguments, *self.flags], input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert result.exit_code == code, result.output
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.cli(*arguments, "--json", code=code).stdout)

    def put_target(self, name: str, *to: str) -> None:
        self.cli("targets", "put", name, "--kind", *to)

    def put_book(self, name: str, *more: str) -> Result:
        return self.cli("rules", "put", name, "--type", "till.Sold", "--target", f"ledger={BOOK}", *more)

    async def until_entries(self, account: str, *wanted: str) -> None:
        async def booked() -> bool:
            return await self.bus.query(GetEntries(account)) == wanted

        await self.system.until(booked)


@pytest.fixture(scope="module")
def running(nats_server: EmbeddedServer) -> Iterator[Shop]:
    namespace = f"t{uuid.uuid4().hex[:12]}"
    started = testing.running(Rules, Targets, Router, Till, Ledger, url=nats_server.url, namespace=namespace)
    flags = ("--nats", nats_server.url, "--namespace", namespace)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(started) as system:
        yield Shop(portal, system, flags)


@pytest.fixture
def shop(running: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """The system, without rules and targets but for the target ``ledger``."""
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty.yaml"
    empty.write_text("targets: {ledger: {to: {kind: command, actor: ledger, command: Book}}}")
    running.cli("rules", "apply", str(empty), "--prune", "--yes")
    return running


def test_a_rule_is_in_force_when_its_command_ends(shop: Shop) -> None:
    assert shop.put_book("book", "--where", '{"country": ["DK"]}').stderr.endswith(", in force\n")
    account = f"a{uuid.uuid4().hex}"
    for number, country in enumerate(("DK", "SE")):
        shop.wait(shop.bus.command, Sell(account, number + 1, country))
    shop.cli("rules", "disable", "book")
    shop.wait(shop.bus.command, Sell(account, 3))
    assert "enabled, in force" in shop.cli("rules", "enable", "book").stderr
    shop.wait(shop.bus.command, Sell(account, 4))
    shop.wait(shop.until_entries, account, "1 sale 1", "4 sale 4")
    assert shop.cli("rules", "delete", "book").stderr.endswith("is deleted, in force\n")
    shop.wait(shop.bus.command, Sell(account, 5))
    shop.put_book("last")
    shop.wait(shop.bus.command, Sell(account, 6))
    shop.wait(shop.until_entries, account, "1 sale 1", "4 sale 4", "6 sale 6")


def test_rules_are_listed_and_shown(shop: Shop) -> None:
    assert shop.json("rules", "ls") == []
    shop.put_book("book", "--source", "till", "--description", "books", "--disabled")
    [rule] = shop.json("rules", "ls")
    assert rule == json.loads(shop.cli("rules", "show", "book").stdout)
    assert rule["name"] == "book" and rule["enabled"] is False and rule["where"] is None
    assert rule["targets"] == [{"target": "ledger", "input": json.loads(BOOK)}]
    head, row = shop.cli("rules", "ls").stdout.splitlines()
    assert head.split() == ["rule", "version", "state", "types", "sources", "targets"]
    assert row.split()[2:] == ["off", "till.Sold", "till", "ledger"]


def test_the_graph_of_the_running_services_has_the_rules(shop: Shop) -> None:
    shop.put_target("page", "http", "url=http://127.0.0.1:1/")
    shop.put_book("book")
    shop.cli("rules", "put", "all", "--source", "till", "--target", "page")
    shop.cli("rules", "put", "off", "--target", "page", "--disabled")
    graph = json.loads(shop.cli("graph", "--format", "json").stdout)
    edges = {(each["source"], each["target"]): each["messages"] for each in graph["edges"] if each["kind"] == "rule"}
    assert edges == {
        ("till", "rule book"): ["Sold"],
        ("rule book", "ledger"): ["Book"],
        ("till", "rule all"): ["*"],
        ("rule all", "target page"): ["*"],
    }
    assert "" not in [each["name"] for each in graph["nodes"]]


def test_a_rule_is_put_with_an_expected_version(shop: Shop) -> None:
    shop.put_book("fresh", "--expect", "0")
    again = shop.cli("rules", "put", "fresh", "--target", "ledger", "--expect", "0", "--unchecked", code=3)
    assert "fresh: version 0 is expected, and the rule has version" in again.stderr
    shop.cli("rules", "delete", "fresh", "--expect", "99", code=3)


def test_a_value_that_python_takes_for_the_same_is_another_one(shop: Shop) -> None:
    for value in ("1", "true", "true"):
        shop.cli("rules", "put", "ones", "--target", "ledger", "--where", f'{{"a": [{value}]}}', "--unchecked")
    [rule] = shop.json("rules", "ls")
    assert (rule["version"], rule["where"]) == (2, {"a": [True]})


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--type", "till.Soldd", "--target", f"ledger={BOOK}"], "types[0]: till emits no till.Soldd: did you mean"),
        (["--type", "till.Sold", "--target", "ledger"], "targets[0]: $ of the event till.Sold has no field account"),
        (["--source", "router", "--target", f"ledger={BOOK}"], "bad: sources[0]: router emits no events"),
        (["--target", f"ladger={BOOK}"], "bad: targets[0]: there is no target 'ladger': put it first"),
    ],
)
def test_a_rule_that_never_works_is_refused_with_the_field(shop: Shop, arguments: list[str], wanted: str) -> None:
    assert wanted in shop.cli("rules", "put", "bad", *arguments, code=3).stderr
    assert shop.json("rules", "ls") == []


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["put", "Bad", "--target", "ledger"], "'Bad': a name is a lower-case letter"),
        (["put", "bad"], "--target: a rule has at least one target"),
        (["put", "bad", "--target", "ledger={"], "--target ledger: it is not JSON"),
        (["put", "bad", "--target", "ledger", "--where", "{"], "--where: it is not JSON"),
        (["put", "bad", "--target", "ledger", "--where", DEEP], "--where: it is not JSON: it has too many levels"),
        (["put", "bad", "--target", "ledger", "--where", '{"a": [1], "a": [2]}'], "--where: the field a stands twice"),
        (["put", "bad", "--target", 'ledger={"a": {"b": 1, "b": 2}}'], "--target ledger: the field b stands twice"),
        (["put", "bad", "--target", 'ledger={"a": "\udcff"}'], "--target ledger: it is not JSON: it is not UTF-8"),
        (["put", "bad", "--target", "ledger", "--description", "\udcff"], "description: the text has half of a char"),
        (["put", "bad", "--target", "ledger", "--source", "Till"], "sources[0]: a name is a lower-case letter"),
        (["put", "bad", "--target", "ledger", "--where", '{"a": [{"x": 1}]}'], "where.a"),
        (["put", "bad", "--file", "x.yaml", "--type", "a.B"], "either --file or the options"),
        (["put", "bad", "--file", "x.yaml"], "x.yaml: the file cannot be read"),
        (["test", "--where", "{}", "--event", "{}"], "--where: expected a non-empty object"),
        (["test", "bad"], "--event: give the event"),
        (["test", "--event", "{}"], "give the NAME of a rule"),
        (["test", "--where", '{"a": [1]}', "--event", "no.json"], "--event: no.json: No such file"),
        (["test", "--where", '{"a": [1]}', "--event", "{"], "--event: it is not JSON"),
        (["test", "--where", '{"a": [1]}', "--event", DEEP], "--event: it is not JSON: it has too many levels"),
        (["test", "--where", '{"a": [1]}', "--event", '{"a":"\udcff"}'], "--event: it is not JSON: it is not UTF-8"),
        (["who"], "give the TYPE of the events"),
        (["apply", "x.yaml"], "x.yaml: the file cannot be read"),
    ],
)
def test_a_wrong_argument_is_named(shop: Shop, arguments: list[str], wanted: str) -> None:
    assert wanted in shop.cli("rules", *arguments, code=2).stderr


def test_an_unknown_name_gets_a_similar_one(shop: Shop) -> None:
    shop.put_book("book")
    for command in ("show", "enable", "disable", "delete"):
        assert "there is no rule 'bok': did you mean book?" in shop.cli("rules", command, "bok", code=4).stderr
    assert "there is no rule 'xyz': `actorloom rules ls`" in shop.cli("rules", "show", "xyz", code=4).stderr
    for command in ("show", "pause", "resume", "delete"):
        assert "did you mean ledger?" in shop.cli("targets", command, "ledgr", code=4).stderr


# Files.


FILES = """
targets:
  log: {to: {kind: log}}
rules:
  book:
    types: [till.Sold]
    where: {country: [DK]}
    targets: [{target: ledger, input: {account: $.till, amount: $.total}}]
  note: {types: [till.Sold], targets: [{target: log}]}
"""


def test_files_are_applied_after_their_difference_is_shown(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(FILES)
    shown = shop.cli("rules", "apply", str(path), "--dry-run", code=1).stdout
    assert shown.startswith('+ target log\n  + to.kind: "log"\n+ rule book\n') and '  + where.country: ["DK"]' in shown
    assert shop.json("rules", "ls") == []
    assert "give --yes" in shop.cli("rules", "apply", str(path), code=2).stderr
    done = shop.cli("rules", "apply", str(path), "--yes")
    assert done.stdout == shown and "log: the target is put\n" in done.stderr
    assert done.stderr.count(", in force\n") == 2
    assert shop.cli("rules", "apply", str(path), "--yes").stderr == "no difference\n"
    assert shop.cli("rules", "apply", "-", "--dry-run", stdin=FILES).stdout == ""

    version = shop.json("rules", "ls")[0]["version"]
    path.write_text(FILES.replace("[DK]", "[DK, NO]"))
    changed = shop.cli("rules", "apply", str(path), "--dry-run", code=1).stdout
    assert changed == f'~ rule book (version {version})\n  - where.country: ["DK"]\n  + where.country: ["DK","NO"]\n'


def test_prune_deletes_what_the_files_do_not_have(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(FILES)
    shop.cli("rules", "apply", str(path), "--yes")
    path.write_text("targets: {ledger: {to: {kind: command, actor: ledger, command: Book}}}")
    shown = shop.cli("rules", "apply", str(path), "--yes", "--prune").stdout
    signs = [line.partition(" (")[0] for line in shown.splitlines()]
    assert signs == ["- rule book", "- rule note", "- target log"]
    assert [each["name"] for each in shop.json("targets", "ls")] == ["ledger"]


def test_a_refused_change_ends_the_command(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(FILES.replace("[till.Sold], targets", "[till.Soldd], targets"))
    refused = shop.cli("rules", "apply", str(path), "--yes", code=3).stderr
    assert "note: types[0]: till emits no till.Soldd" in refused
    assert "2 of 3 changes are made, and that of rule note is not" in refused
    shop.cli("rules", "apply", str(path), "--yes", "--unchecked")
    assert [each["name"] for each in shop.json("rules", "ls")] == ["book", "note"]


# Tests of rules.


def test_a_test_names_the_field_that_does_not_match(shop: Shop) -> None:
    shop.put_book("book", "--where", '{"country": ["DK"]}')
    event = '{"till": "n", "number": 7, "total": 5, "country": "%s"}'
    no = shop.cli("rules", "test", "book", "--event", event % "SE", code=1).stdout
    assert no == 'no match: book does not match till.Sold\n  where: country is "SE", but the pattern wants ["DK"]\n'
    yes = shop.cli("rules", "test", "book", "--event", event % "DK").stdout
    assert yes == 'match: book matches till.Sold\n  ledger gets {"account":"n","amount":5,"text":"sale 7"}\n'
    cases = {
        "types": ("--event", event % "DK", "--type", "till.Other"),
        "where": ("--event", "{}", "--type", "till.Sold"),
        "enabled": ("--event", event % "DK"),
    }
    for field, arguments in cases.items():
        if field == "enabled":
            shop.cli("rules", "disable", "book")
        found = shop.json("rules", "test", "book", *arguments, code=1)
        assert (found["matches"], found["field"]) == (False, field) and found["reason"]


def test_an_input_that_cannot_be_made_is_a_dead_letter(shop: Shop) -> None:
    shop.put_book("book")
    found = shop.cli("rules", "test", "book", "--event", '{"till": "n", "number": 1}', code=1).stdout
    assert "ledger gets a dead letter: rule book, target ledger: input.amount: the event has no $.total" in found


def test_a_stored_event_is_tested(shop: Shop) -> None:
    account = f"a{uuid.uuid4().hex}"
    shop.put_book("book")
    shop.wait(shop.bus.command, Sell(account, 2))
    shop.wait(shop.until_entries, account, "2 sale 1")

    async def last() -> int:
        return (await JetStream(shop.bus.connection).stream_info(f"{shop.bus.namespace}-till-events")).state.last_seq

    found = shop.json("rules", "test", "book", "--event", f"till-events:{shop.wait(last)}")
    assert found["targets"][0]["input"] == {"account": account, "amount": 2, "text": "sale 1"}
    assert "has no message 999999" in shop.cli("rules", "test", "book", "--event", "till-events:999999", code=4).stderr
    assert "no stream" in shop.cli("rules", "test", "book", "--event", "tilt-events:1", code=4).stderr
    assert "is not an event" in shop.cli("rules", "test", "book", "--event", "till-turns:1", code=4).stderr


def test_a_rule_gets_the_events_of_before_by_since(shop: Shop) -> None:
    account = f"a{uuid.uuid4().hex}"
    shop.wait(shop.bus.command, Sell(account, 3))
    book = 'ledger={"account": "$.till", "amount": "$.total", "text": "late"}'
    filtered = ("--where", json.dumps({"till": [account]}))
    put = shop.cli("rules", "put", "late", "--type", "till.Sold", *filtered, "--target", book, "--since", "1h")
    assert "1 events from that time on are sent" in put.stderr
    shop.wait(shop.until_entries, account, "3 late")
    again = shop.cli("rules", "put", "late", "--type", "till.Sold", *filtered, "--target", book, "--since", "first")
    assert "1 events from that time on are sent" in again.stderr  # under the same id, so it takes no effect
    shop.cli("rules", "put", "never", "--type", "till.Never", "--target", "ledger", "--unchecked", "--since", "first")
    shop.wait(shop.until_entries, account, "3 late")
    assert "write 30m" in shop.cli("rules", "enable", "late", "--since", "soon", code=2).stderr
    assert (
        "2999-01-01T00:00:00Z is later" in shop.cli("rules", "enable", "late", "--since", "2999-01-01", code=2).stderr
    )
    assert "--forgotten: give --since" in shop.cli("rules", "enable", "late", "--forgotten", code=2).stderr
    off = ("rules", "put", "late", "--type", "till.Sold", "--target", book, "--disabled", "--since", "first")
    assert "the rule is disabled" in shop.cli(*off, code=2).stderr


def test_a_cloud_event_and_a_key_are_read(shop: Shop, tmp_path: Path) -> None:
    shop.put_target("log", "log")
    keyed = 'log={"key": "$key", "id": "$id", "type": "$type"}'
    shop.cli("rules", "put", "all", "--target", keyed)
    cloud = {"specversion": "1.0", "type": "a.B", "source": "/a", "id": "1", "subject": "k", "data": {"x": 1}}
    path = tmp_path / "event.json"
    path.write_text(json.dumps(cloud))
    for arguments in (["--event", str(path)], ["--event", json.dumps(cloud)]):
        [made] = shop.json("rules", "test", "all", *arguments)["targets"]
        assert made["input"] == {"key": "k", "id": "1", "type": "a.B"}
    plain = ("rules", "test", "all", "--event", '{"till": "north"}')
    assert "--type: give the type" in shop.cli(*plain, code=2).stderr
    assert shop.json(*plain, "--type", "till.Sold")["targets"][0]["input"]["key"] == "north"
    assert shop.json(*plain, "--type", "a.B", "--key", "k")["targets"][0]["input"]["key"] == "k"
    stdin = shop.cli("rules", "test", "all", "--event", "-", stdin=json.dumps(cloud))
    assert '"key":"k"' in stdin.stdout


def test_a_pattern_is_tested_without_a_rule(shop: Shop) -> None:
    shop.cli("rules", "test", "--where", '{"a": [1]}', "--event", '{"a": 1}')
    no = shop.cli("rules", "test", "--where", '{"a": [1]}', "--event", '{"a": 2}', code=1).stdout
    assert "where: a is 2, but the pattern wants [1]" in no
    shop.put_book("book", "--where", '{"country": ["DK"]}')
    other = ("rules", "test", "book", "--where", '{"country": ["SE"]}', "--event", '{"country": "SE"}')
    assert "book matches till.Sold" in shop.cli(*other, code=1).stdout


def test_who_says_for_each_rule_why_not(shop: Shop) -> None:
    assert shop.json("rules", "who", "till.Sold") == []
    shop.put_target("log", "log")
    shop.put_book("book", "--where", '{"country": ["DK"]}')
    shop.cli("rules", "put", "all", "--target", "log")
    shop.cli("rules", "put", "other", "--source", "ledger", "--target", "log", "--unchecked")
    shop.cli("rules", "put", "off", "--target", "log", "--disabled")
    lines = shop.cli("rules", "who", "till.Sold").stdout.splitlines()
    assert [line.split(maxsplit=2) for line in lines[1:]] == [
        ["all", "yes", "log"],
        ["book", "if", 'ledger, if where {"country":["DK"]}'],
        ["off", "no", "enabled: the rule is disabled"],
        ["other", "no", "sources: the event is from till, and the rule takes those from ledger"],
    ]
    found = shop.json("rules", "who", "till.Sold", "--event", '{"country": "SE"}')
    assert [(each["rule"], each["matches"], each["field"]) for each in found] == [
        ("all", "yes", None),
        ("book", "no", "where"),
        ("off", "no", "enabled"),
        ("other", "no", "sources"),
    ]


# Targets.


def test_targets_are_put_paused_and_deleted(shop: Shop) -> None:
    shop.put_target("slow", "command", "actor=ledger", "command=Book", "attempts=3", "description=slow one")
    slow = json.loads(shop.cli("targets", "show", "slow").stdout)
    assert slow["to"] == {"kind": "command", "actor": "ledger", "command": "Book"}
    assert slow["attempts"] == 3 and slow["description"] == "slow one" and slow["paused"] is False
    shop.cli("rules", "put", "book", "--type", "till.Sold", "--target", f"slow={BOOK}")
    assert "it is a target of book" in shop.cli("targets", "delete", "slow", code=3).stderr

    shop.cli("targets", "pause", "slow")
    account = f"a{uuid.uuid4().hex}"
    shop.wait(shop.bus.command, Sell(account, 1))
    shop.wait(shop.bus.command, Sell(account, 2))

    async def two_wait() -> bool:
        info = await JetStream(shop.bus.connection).find_stream(f"{shop.bus.namespace}-target-slow-tells")
        return info is not None and info.state.messages == 2

    shop.wait(shop.system.until, two_wait)
    rows = {each["name"]: each for each in shop.json("targets", "ls")}
    assert rows["slow"]["paused"] is True and (rows["slow"]["waiting"], rows["slow"]["dead"]) == (2, 0)
    row = next(line for line in shop.cli("targets", "ls").stdout.splitlines() if line.startswith("slow"))
    assert row.split() == ["slow", "command", "ledger.Book", "paused", "2", "0"]
    assert "paused" in shop.cli("targets", "put", "slow", "--kind", "command", "actor=ledger", "command=Book").stderr
    shop.cli("targets", "resume", "slow")
    shop.wait(shop.until_entries, account, "1 sale 1", "2 sale 2")
    shop.cli("rules", "delete", "book")
    assert shop.cli("targets", "delete", "slow").stderr == "slow: deleted\n"


def test_the_list_of_targets_says_why_deliveries_wait(shop: Shop) -> None:
    def until(state: str, waiting: int) -> Any:
        while True:
            row = next(each for each in shop.json("targets", "ls") if each["name"] == "crm")
            if (row["state"], row["waiting"]) == (state, waiting):
                return row

    async def broken(_: Received) -> web.Response:
        return web.Response(status=500)

    async def crowded(_: Received) -> web.Response:
        return web.Response(status=429, headers={"Retry-After": "1"})

    with shop.endpoint() as served:
        shop.put_target("crm", "http", f"url={served.url}", "first=0.01", "longest=2")
        shop.cli("rules", "put", "all", "--type", "till.Sold", "--target", "crm")
        served.answers = [broken] * 10_000
        shop.wait(shop.bus.command, Sell("north", 1))
        assert re.fullmatch(r"\d+ s ago: .*500.*", until("down", 1)["failure"])
        assert " s ago: " in next(line for line in shop.cli("targets", "ls").stdout.splitlines() if "crm" in line)
        served.answers = [crowded] * 10_000
        shop.cli("targets", "pause", "crm")
        assert until("paused", 1)["failure"] == ""
        shop.cli("targets", "resume", "crm")
        assert "429" in until("busy", 1)["failure"]
        served.answers.clear()
        assert until("on", 0)["failure"] == ""


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["x"], "--kind: give the kind"),
        (["x", "--kind", "commandd"], "there is no kind 'commandd': did you mean command?"),
        (["x", "--kind", "log", "levell=info"], "levell: no such field: did you mean 'level'?"),
        (["x", "--kind", "log", "level=loud"], "to.level: 'loud'"),
        (["x", "--kind", "command", "actor=ledger"], "to: object missing required field `command`"),
        (["x", "--kind", "log", "attempts=0"], "attempts: expected `int` >= 1"),
        (["x", "--kind", "log", "to:={}"], "the fields of the place by themselves"),
        (["x", "--kind", "log", "--file", "x"], "either --file or --kind"),
    ],
)
def test_a_wrong_setting_of_a_target_is_named(shop: Shop, arguments: list[str], wanted: str) -> None:
    assert wanted in shop.cli("targets", "put", *arguments, code=2).stderr


def test_a_target_and_a_rule_are_put_from_files(shop: Shop, tmp_path: Path) -> None:
    (tmp_path / "web.yaml").write_text("to: {kind: event, type: ledger.Noted, key: $.till}\nrate: 5\n")
    shop.cli("targets", "put", "noted", "--file", "web.yaml")
    assert shop.json("targets", "ls")[1]["rate"] == 5.0
    (tmp_path / "rule.json").write_text('{"types": ["till.Sold"], "targets": [{"target": "ledger"}]}')
    shop.cli("rules", "put", "book", "--file", "rule.json", "--unchecked")
    assert shop.json("rules", "ls")[0]["types"] == ["till.Sold"]


# Without a router, and around it.


def test_without_a_router_the_commands_say_how_to_start_one(shop: Shop) -> None:
    for arguments in (["rules", "ls"], ["targets", "show", "x"]):
        result = CliRunner().invoke(actorloom, [*arguments, *shop.flags[:2], "--namespace", "nobody"])
        assert result.exit_code == 4
        assert "no router runs in namespace 'nobody': start one by `actorloom run runtime.router`" in result.stderr


async def test_a_rule_is_kept_while_no_router_runs(nats_server: EmbeddedServer, namespace: str) -> None:
    async with testing.running(Rules, Targets, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(PutTarget("log", TargetFields(to=LogKind())))
        rule = await system.bus.command(PutRule("all", RuleFields(targets=[RuleTarget("log")])))
        assert not await wait_in_force(system.bus, rule)


async def test_the_owners_of_all_partitions_have_a_rule_in_force(nats_server: EmbeddedServer, namespace: str) -> None:
    class Parted(Router):
        options = Options(partitions=4)

    async with testing.running(Rules, Targets, Parted, url=nats_server.url, namespace=namespace) as system:
        await system.bus.command(PutTarget("log", TargetFields(to=LogKind())))
        rule = await system.bus.command(PutRule("all", RuleFields(targets=[RuleTarget("log")])))
        assert await wait_in_force(system.bus, rule)
        for key in map(str, range(8)):
            assert await system.bus.query(GetInForce(key, "all")) == rule.version


def test_a_version_that_never_comes_is_not_waited_for_without_an_end(shop: Shop) -> None:
    shop.put_book("book")

    async def wait() -> None:
        rule = await shop.bus.query(GetRule("book"))
        await wait_in_force(shop.bus, replace(rule, version=10_000), timeout=0.05)

    with pytest.raises(
        TimeoutError, match=r"book: version 10000 is kept, and was not in force in all routers within 0\.05 s"
    ):
        shop.wait(wait)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("rules show", ["book", "bread"]),
        ("rules put", ["book", "bread"]),
        ("rules test", ["book", "bread"]),
        ("rules put x --target", []),
        ("targets pause", []),
    ],
)
def test_names_are_completed(shop: Shop, words: str, wanted: list[str]) -> None:
    for name in ("book", "bread", "salt"):
        shop.put_book(name)
    command, sub, *rest = words.split()
    complete = ShellComplete(actorloom, {}, "actorloom", "_COMPLETE")
    found = complete.get_completions([command, sub, *shop.flags, *rest], "b")
    assert [each.value for each in found] == wanted
    if not wanted:
        found = complete.get_completions([command, sub, *shop.flags, *rest], "le")
        assert [each.value for each in found] == ["ledger"]
