"""The wiring linter: each mistake of the seeded package at its line, none in the shop and the examples."""

import importlib
import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from runtime import Event
from runtime.actor.patterns import compile_pattern
from runtime.cli import actorloom
from runtime.cli.targets import find_actors
from runtime.contracts.linter import CODES, lint
from runtime.contracts.linter_patterns import dead_path
from runtime.contracts.linter_scope import Scope
from runtime.contracts.source import package_of

ROOT = Path(__file__).parents[2]
SEEDED = Path(__file__).parent / "seeded"
EXAMPLES = [
    "booking", "counter", "hello", "hybrid", "limiter", "long_job", "loyalty", "mailer", "rules", "saga", "testing_an_actor", "timers",
    "tracing_nested",
]  # fmt: skip

Check = Callable[..., list[str]]
"""Lints modules whose texts are given by name, the first one alone, and returns ``module:line code``."""


@pytest.fixture
def check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))

    def run(beside: tuple[str, ...] = (), readers: tuple[str, ...] = (), **modules: str) -> list[str]:
        for name, text in modules.items():
            Path(f"{name}.py").write_text(text)
        importlib.invalidate_caches()
        target = next(iter(modules))
        found = lint(find_actors([target]), find_actors(beside), extra_readers=readers)
        return [f"{each.file.removesuffix('.py')}:{each.line} {each.code}" for each in found]

    return run


def seeded() -> list[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        actors = find_actors(["tests.contracts.seeded"])
    return [f"{each.file}:{each.line} {each.code}" for each in lint(actors)]


def test_each_seeded_mistake_is_found_at_its_line_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    marked = [
        f"{path.relative_to(ROOT)}:{number} {match[1]}"
        for path in sorted(SEEDED.glob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := re.search(r"# finds: ([a-z-]+)", line))
    ]
    assert seeded() == marked
    assert {each.split(" ")[1] for each in marked} == set(CODES)


def test_the_shop_has_no_findings() -> None:
    assert lint(find_actors(["actors"])) == []


def test_the_router_is_read_and_has_no_findings() -> None:
    actors = find_actors(["runtime.router"])
    assert lint(actors, packages=["runtime.router"]) == []
    scope = Scope(actors, (), ["runtime.router"], frozenset())
    assert {module.name for module in scope.modules} >= {"runtime.router.rules", "runtime.router.routing"}
    assert all(package_of(module.name) == "runtime.router" for module in scope.modules)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_have_no_findings(name: str) -> None:
    assert lint(find_actors([f"examples.{name}"])) == []


def test_each_example_with_actors_is_checked() -> None:
    with_actors = {path.relative_to(ROOT / "examples").parts[0] for path in (ROOT / "examples").rglob("*.py")
                   if re.search(r"^class \w+\(Actor", path.read_text(), re.MULTILINE)}  # fmt: skip
    assert {each.removesuffix(".py") for each in with_actors} <= {*EXAMPLES, "follow"}


HEAD = "from runtime import Actor, Command, Event, Query, command, query, react\n"
EMITTER = (
    HEAD
    + """
class Knocked(Event, actor="doors_{0}", key="door"):{1}
    door: str
    loud: bool = False

class Knock(Command[None], actor="doors_{0}"):
    door: str

class Doors(Actor):
    name = "doors_{0}"

    @command
    async def knock(self, message: Knock) -> None:
        {2}
"""
)
READER = (
    HEAD
    + """
from emitter_{0} import Knocked

class Ears(Actor):
    name = "ears_{0}"

    @react
    async def on_knocked(self, event: Knocked) -> None:{1}
        print(event.door, event.loud)
"""
)


def test_messages_of_actors_whose_code_is_not_there_are_not_judged(check: Check) -> None:
    modules = {"reader_a": READER.format("a", ""), "emitter_a": EMITTER.format("a", "", "pass")}
    assert check(**modules) == []
    assert check(beside=("emitter_a",), **modules) == ["reader_a:9 unheard-event"]


def test_readers_beside_the_actors_and_other_readers_read(check: Check) -> None:
    emitter = EMITTER.format("b", "", "self.emit(Knocked(message.door, True))")
    modules = {"emitter_b": emitter, "reader_b": READER.format("b", "")}
    assert check(**modules) == ["emitter_b:3 unread-event"]
    assert check(beside=("reader_b",), **modules) == []
    assert check(readers=("doors_b.Knocked",), **modules) == []


AUDIT = """
from runtime import Actor, AnyEvent, Command, Event, command, react

class Logged(Event, actor="audit_{0}", key="number"):
    number: int

class Forget(Command[None], actor="audit_{0}", key="number"):
    number: int

class Audit(Actor[Logged]):
    name = "audit_{0}"

    @command
    async def forget(self, message: Forget) -> None:  # actorloom: ignore[request-cycle]
        self.emit(Logged(message.number))

    @react(where={{"type": [1]}}{1})
    async def on_event(self, event: AnyEvent) -> None:
        pass
"""


@pytest.mark.parametrize(
    ("number", "sources", "read"),
    [("d", "", {"knocked"}), ("e", ", sources=['doors_e']", {"knocked"}), ("f", ", sources=['audit_f']", {"logged"})],
)
def test_a_reaction_to_any_event_reads_all_of_its_sources(
    check: Check, number: str, sources: str, read: set[str]
) -> None:
    modules = {
        f"audit_{number}": AUDIT.format(number, sources),
        f"emitter_{number}": EMITTER.format(number, "", "self.emit(Knocked(message.door, True))"),
    }
    unread = {"logged": f"audit_{number}:4 unread-event", "knocked": f"emitter_{number}:3 unread-event"}
    found = [*check(beside=(f"emitter_{number}",), **modules)]
    modules = dict(reversed(modules.items()))
    found += check(beside=(f"audit_{number}",), **modules)
    useless = f"audit_{number}:14 unused-ignore"
    assert sorted(found) == sorted([useless, *(line for name, line in unread.items() if name not in read)])


def test_a_comment_of_no_use_is_a_finding_if_the_code_is_complete(check: Check) -> None:
    ignore = "  # actorloom: ignore[unheard-event]"
    emitter = EMITTER.format("c", "  # actorloom: ignore[unread-event, typo]", "self.emit(Knocked.of(message))")
    modules = {"reader_c": READER.format("c", ignore), "emitter_c": emitter}
    assert check(**modules) == []
    assert check(beside=("emitter_c",), **modules) == ["reader_c:9 unused-ignore"]
    modules = {"emitter_c": emitter, "reader_c": modules["reader_c"]}
    assert check(**modules) == ["emitter_c:3 unused-ignore"]  # the typo
    assert check(beside=("reader_c",), **modules) == ["emitter_c:3 unused-ignore"] * 2


@pytest.mark.parametrize(
    ("number", "emit", "unset"),
    [
        (1, "self.emit(Knocked(message.door))", True),
        (2, "self.emit(Knocked(message.door) if message.door else Knocked('x'))", True),
        (3, "self.emit(Knocked(message.door, True))", False),
        (4, "self.emit(Knocked(message.door, loud=message.door != ''))", False),
        (5, "self.emit(Knocked(**{'door': '1'}))", False),
        (6, "self.emit(Knocked(*['1']))", False),
        (7, "self.emit(Knocked.of(message))", False),
        (8, "kind = Knocked; self.emit(kind(message.door))", False),
        (9, "import msgspec; self.emit(msgspec.structs.replace(Knocked(message.door), loud=True))", False),
        (10, "import msgspec; self.emit(msgspec.convert({'door': '1'}, Knocked))", False),
        (11, "self.emit(Knocked(message.door)); self.emit(globals()['Knocked'](message.door, True))", False),
    ],
)
def test_a_field_is_unset_if_each_emitter_certainly_leaves_it_out(
    check: Check, number: int, emit: str, unset: bool
) -> None:
    name = f"f{number}"
    modules = {f"reader_{name}": READER.format(name, ""), f"emitter_{name}": EMITTER.format(name, "", emit)}
    found = check(beside=(f"emitter_{name}",), **modules)
    assert found == ([f"reader_{name}:10 unset-field"] if unset else [])


@pytest.mark.parametrize(
    ("number", "emit", "heard"),
    [
        (1, "self.emit(globals()['Knocked'](message.door))", True),
        (2, "import sys; self.emit(getattr(sys.modules[__name__], 'Knocked')(message.door))", True),
        (3, "from importlib import import_module; self.emit(import_module(__name__).Knocked(message.door))", True),
        (4, "import emitter_n4 as mine; self.emit(getattr(mine, 'Knocked')(message.door))", True),
        (5, "import emitter_n5 as mine; self.emit(vars(mine)['Knocked'](message.door))", True),
        (
            6,
            "self.emit([kind for kind in Event.__subclasses__() if kind.__name__ == 'Knocked'][0](message.door))",
            True,
        ),
        (7, "import math as mine; print(vars(mine), getattr(message, 'door'), mine.pi)", False),
    ],
)
def test_an_event_whose_class_is_looked_up_by_name_may_be_emitted(
    check: Check, number: int, emit: str, heard: bool
) -> None:
    name = f"n{number}"
    modules = {f"reader_{name}": READER.format(name, ""), f"emitter_{name}": EMITTER.format(name, "", emit)}
    assert check(beside=(f"emitter_{name}",), **modules) == ([] if heard else [f"reader_{name}:9 unheard-event"])


def test_a_reaction_reads_its_event_whatever_the_parameters_are(check: Check) -> None:
    emitter = EMITTER.format("p", "", "self.emit(Knocked(message.door))")
    reader = READER.format("p", "").replace("event: Knocked)", "it: Knocked, /)").replace("event.", "it.")
    assert check(beside=("emitter_p",), reader_p=reader, emitter_p=emitter) == ["reader_p:10 unset-field"]


FOLLOWING = """
from emitter_{0} import Knocked

KINDS = (Knocked,)

async def follow(bus, kind):
    async for event in bus.{1}(kind):
        print(event)

async def main(bus):
    for kind in KINDS:
        await follow(bus, kind)
"""


@pytest.mark.parametrize(("number", "method", "read"), [("g", "events", True), ("h", "command", False)])
def test_an_event_that_is_passed_on_to_a_program_may_be_followed(
    check: Check, number: str, method: str, read: bool
) -> None:
    emitter = EMITTER.format(number, "", "self.emit(Knocked(message.door))") + f"\nimport follower_{number}\n"
    found = check(**{f"emitter_{number}": emitter, f"follower_{number}": FOLLOWING.format(number, method)})
    assert found == ([] if read else [f"emitter_{number}:3 unread-event"])


CYCLE = (
    HEAD
    + """
class A(Command[None], actor="a_{0}"):
    pass

class B(Command[None], actor="b_{0}"):
    pass

class One(Actor):
    name = "a_{0}"

    @command
    async def a(self, message: A) -> None:
        await self.command(B())

class Two(Actor):
    name = "b_{0}"

    @command
    async def b(self, message: B) -> None:
        {1}
"""
)


@pytest.mark.parametrize(
    ("number", "send", "cycle"),
    [
        (1, "await self.command(A())", True),
        (2, "answer = A(); await self.command(answer)", True),
        (3, "self.tell(A())", False),
        (4, "answer = A(); self.tell(answer)", False),
        (5, "print(isinstance(message, A))", False),
        (6, "await self.command(B())", False),
        (7, "answer = A(); self.tell(answer); other = B(); await self.command(other)", False),  # it may be either
    ],
)
def test_a_cycle_is_one_in_which_each_handler_waits(check: Check, number: int, send: str, cycle: bool) -> None:
    name = f"cycle_{number}"
    assert check(**{name: CYCLE.format(number, send)}) == ([f"{name}:14 request-cycle"] if cycle else [])


JOB = """
from msgspec import Struct
from runtime import Accepted, Actor, Command, command

class State(Struct, frozen=True):
    pass

class BookTrip(Command[None], actor="trips_{0}", key="trip"):
    trip: str

class BookHotel(Command[{1}], actor="hotels_{0}", key="trip"):
    trip: str

class Trips(Actor[State]):
    name = "trips_{0}"

    @command
    async def book_trip(self, message: BookTrip) -> None:
        await self.command(BookHotel(message.trip))

class Hotels(Actor[State]):
    name = "hotels_{0}"

    @command{2}
    async def book_hotel(self, message: BookHotel) -> None:
        await self.command(BookTrip(message.trip))
"""


def test_nobody_waits_for_the_handler_of_a_long_job(check: Check) -> None:
    assert check(waits=JOB.format("waits", "None", "")) == ["waits:26 request-cycle"]
    assert check(accepts=JOB.format("accepts", "Accepted", "(accept=True)")) == []


class Inner(msgspec.Struct, frozen=True):
    name: str
    size: int | None = None


class Weighed(Event, actor="scales_linted", key="item"):
    item: str
    grams: int
    exact: float
    ok: bool
    kind: Literal["a", "bb"]
    tags: tuple[str, ...] = ()
    inner: Inner | None = None
    parts: list[Inner] = []


VALUES = st.one_of(st.sampled_from(["a", "bb", "c", "", 1, 2.5, True, None]), st.integers(-3, 3))
MATCHERS = st.one_of(
    VALUES,
    st.builds(lambda a: {"prefix": a}, st.sampled_from(["a", "b", "c"])),
    st.builds(lambda a: {"exists": a}, st.booleans()),
    st.builds(lambda a: {"anything-but": a}, st.sampled_from(["a", 1])),
    st.builds(lambda a: {"numeric": [">", a]}, st.integers(-3, 3)),
)
PATHS = st.sampled_from(["item", "grams", "exact", "ok", "kind", "tags", "inner.name", "inner.size", "parts.size"])
FIELDS = st.dictionaries(PATHS, st.lists(MATCHERS, min_size=1, max_size=3), min_size=1, max_size=3)
PATTERNS = st.one_of(FIELDS, st.builds(lambda a, b: {"$or": [a, b]}, FIELDS, FIELDS))


INNERS = st.builds(Inner, st.sampled_from(["a", "bb", ""]), st.sampled_from([None, 1, 2]))
EVENTS = st.builds(
    Weighed,
    item=st.sampled_from(["a", "bb", ""]),
    grams=st.integers(-3, 3),
    exact=st.sampled_from([1.0, 2.5, -3.0]),
    ok=st.booleans(),
    kind=st.sampled_from(["a", "bb"]),
    tags=st.lists(st.sampled_from(["a", "bb"]), max_size=2).map(tuple),
    inner=st.none() | INNERS,
    parts=st.lists(INNERS, max_size=2),
)


@given(PATTERNS, EVENTS)
def test_a_dead_pattern_matches_no_event(pattern: dict[str, Any], event: Weighed) -> None:
    if dead_path(Weighed, pattern) is not None:
        assert not compile_pattern(pattern)(msgspec.to_builtins(event))


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ({"grams": ["many"]}, "grams"),
        ({"grams": [1.5]}, "grams"),
        ({"grams": [{"prefix": "1"}]}, "grams"),
        ({"item": [{"numeric": ["=", 1]}]}, "item"),
        ({"kind": ["c", {"suffix": "x"}]}, "kind"),
        ({"item": [{"exists": False}]}, "item"),
        ({"inner": {"name": [1]}}, "inner.name"),
        ({"$or": [{"ok": ["yes"]}, {"item": [2]}]}, "ok"),
        ({"$or": [{"ok": ["yes"]}, {"item": ["2"]}]}, None),
        ({"tags": [{"exists": False}]}, None),
        ({"inner.name": [{"exists": False}]}, None),
        ({"kind": ["c", "a"]}, None),
        ({"grams": [2.0, "many"]}, None),
    ],
)
def test_patterns_that_match_nothing(pattern: dict[str, Any], path: str | None) -> None:
    assert dead_path(Weighed, pattern) == path


def test_the_command_prints_lines_or_json_and_exits_with_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    bad = CliRunner().invoke(actorloom, ["check", "tests.contracts.seeded"])
    assert (bad.exit_code, len(bad.stdout.splitlines())) == (1, len(seeded()))
    line = "tests/contracts/seeded/messages.py:38: unread-event nobody reads beds.BedDried"
    assert line in bad.stdout.splitlines()
    assert bad.stderr == "14 findings in 5 actors\n"
    data = json.loads(CliRunner().invoke(actorloom, ["check", "tests.contracts.seeded", "--json"]).stdout)
    assert {"file": "tests/contracts/seeded/messages.py", "line": 38, "code": "unread-event",
            "text": "nobody reads beds.BedDried"} in data  # fmt: skip
    good = CliRunner().invoke(actorloom, ["check", "examples.hello"])
    assert (good.exit_code, good.stdout, good.stderr) == (0, "", "no findings in 1 actor\n")
    assert CliRunner().invoke(actorloom, ["check", "no_such_package"]).exit_code == 2


def test_rules_of_files_read_events_and_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    good = tmp_path / "good.yaml"
    good.write_text(
        "targets:\n  note: {to: {kind: log}}\n"
        "rules:\n  dried:\n    types: [beds.BedDried]\n    targets: [{target: note}]\n"
    )
    run = ["check", "tests.contracts.seeded", "--rules"]
    lines = CliRunner().invoke(actorloom, [*run, str(good)]).stdout
    assert "nobody reads beds.BedDried" not in lines and "dead-rule" not in lines
    bad = tmp_path / "bad.json"
    rules = {
        "typed": {"types": ["beds.BedDryed"], "targets": [{"target": "note"}]},
        "lost": {"targets": [{"target": "nowhere"}]},
    }
    bad.write_text(json.dumps({"targets": {"note": {"to": {"kind": "log"}}}, "rules": rules}, indent=1))
    found = [
        line for line in CliRunner().invoke(actorloom, [*run, str(bad)]).stdout.splitlines() if "dead-rule" in line
    ]
    assert len(found) == 2 and all(line.startswith(f"{bad}:") for line in found)
    assert "rule lost: targets: there is no target 'nowhere' in these files" in found[1]
    assert "beds.BedDryed" in found[0] and "BedDried" in found[0]
    bad.write_text("rules: [")
    assert CliRunner().invoke(actorloom, [*run, str(bad)]).exit_code == 2
