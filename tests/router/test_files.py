"""Files of rules and targets: YAML and JSON are read alike, errors name the field, and a difference names each field."""

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import ConfigurationError
from runtime.router.files import Change, read_files
from runtime.router.rule import RuleFields
from runtime.router.target import CommandKind, TargetFields
from runtime.router.yaml_text import read_yaml

FILE = """
targets:
  ledger: {to: {kind: command, actor: ledger, command: Book}, max_age: 60}
rules:
  book:
    types: [till.Sold]
    where: {country: [NO, on, 2026-03-01, 12:30, 007, 1e3, ~, true]}
    targets:
    - {target: ledger, input: {account: $.till, note: "{$.note?}"}}
"""


def written(folder: Path, text: str, name: str = "rules.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_a_file_has_targets_and_rules_by_name(tmp_path: Path) -> None:
    content = read_files([written(tmp_path, FILE)])
    assert content.targets == {"ledger": TargetFields(to=CommandKind("ledger", "Book"), max_age=60.0)}
    rule = content.rules["book"]
    assert rule.targets[0].input == {"account": "$.till", "note": "{$.note?}"}
    # As YAML 1.2 has it: no country is false, and nothing is a date.
    assert rule.where == {"country": ["NO", "on", "2026-03-01", "12:30", 7, 1000.0, None, True]}
    assert msgspec.json.encode((rule.where or {})["country"]) == b'["NO","on","2026-03-01","12:30",7,1000.0,null,true]'


def test_several_files_and_stdin_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"targets": {"log": {"to": {"kind": "log"}}}, "rules": null}'))
    content = read_files([written(tmp_path, FILE), "-"])
    assert [*content.targets] == ["ledger", "log"] and [*content.rules] == ["book"]


texts = st.text(st.characters(categories=["L", "N", "P", "S"]) | st.just(" "), max_size=5)
plain = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts)
data = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)


@given(value=data)
def test_json_is_yaml(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False)
    assert json.dumps(read_yaml(text, "file")) == json.dumps(value)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("rules: {Book: {targets: [{target: log}]}}", "rules.Book: a name is a lower-case letter"),
        ("rule: {}", "there is no map rule: did you mean rules?"),
        ("rules: [a]", "rules: write a map by name"),
        ("- a", "write an object with the maps targets and rules"),
        ("rules: {book: {}}", "rules.book: object missing required field `targets`"),
        ("rules: {book: {targets: []}}", "rules.book.targets: expected `array` of length >= 1"),
        (
            "rules: {book: {targets: [{target: log}], wherre: {}}}",
            "rules.book: object contains unknown field `wherre`: did you mean where?",
        ),
        ("rules: {book: {targets: [{target: 5}]}}", "rules.book.targets[0].target: expected `str`, got `int`"),
        ("rules: {book: {targets: [{target: log, input: $.}]}}", "rules.book.targets[0].input: '$.' is not a path"),
        ("rules: {book: {targets: [{target: log}], where: {a: [{numericc: 1}]}}}", "rules.book.where.a"),
        ("rules: {book: {targets: [{target: log}], types: [sold]}}", "rules.book.types[0]: 'sold' is not the type"),
        ("targets: {log: {to: {kind: lug}}}", "targets.log.to.kind: invalid value 'lug'"),
        ("targets: {log: {to: {kind: log, level: loud}}}", "targets.log.to.level: 'loud'"),
        ("targets: {log: {to: {kind: log}, attempts: 0}}", "targets.log.attempts: expected `int` >= 1"),
        ("targets: {a: {to: {kind: log}}}\ntargets: {}", ":2: the field targets stands twice in a map"),
        ("targets:\n  a: {to: {kind: log}}\n  a: {to: {kind: log}}", ":3: the field a stands twice in a map"),
        ("targets: {", ":1: "),
        ("? [a]\n: 1", "the name of a field is not a text"),
        ('{"rules": {}, "rules": {}}', "the field rules stands twice in an object"),
        ("targets: !!python/name:os.system", "could not determine a constructor"),
    ],
)
def test_a_wrong_file_is_refused_with_the_field(text: str, wanted: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        read_files([path])
    assert str(caught.value).startswith(path) and wanted in str(caught.value)


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    paths = [written(tmp_path, FILE), written(tmp_path, FILE, "more.yaml")]
    with pytest.raises(ConfigurationError, match=r"more\.yaml: targets\.ledger: it stands in .*rules\.yaml as well"):
        read_files(paths)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no\.yaml: the file cannot be read: No such file"):
        read_files([str(tmp_path / "no.yaml")])


def rule(**fields: Any) -> RuleFields:
    return msgspec.convert({"targets": [{"target": "log"}], **fields}, RuleFields)


def shown(old: RuleFields | TargetFields | None, new: RuleFields | TargetFields | None) -> list[str]:
    """Return the differences as lines, with a sign in front."""
    lines: list[str] = []
    for each in Change("rule", "r", 1, old, new).differences():
        lines += [f"- {each.field}: {each.old}"] if each.old is not None else []
        lines += [f"+ {each.field}: {each.new}"] if each.new is not None else []
    return lines


def test_a_difference_names_each_field_in_the_order_of_the_fields() -> None:
    old = rule(where={"country": ["DK"], "a": {"b": [1]}}, description="x")
    new = rule(
        targets=[{"target": "log", "input": {"n": "$.n"}}, {"target": "crm"}],
        where={"country": ["DK", "SE"], "a": {"b": [1]}, "a.b": [1]},
        enabled=False,
    )
    assert shown(old, new) == [
        "- targets.log: {}",
        '+ targets.log.input.n: "$.n"',
        "+ targets.crm: {}",
        '- where.country: ["DK"]',
        '+ where.country: ["DK","SE"]',
        '+ where."a.b": [1]',
        "+ enabled: false",
        '- description: "x"',
    ]
    assert shown(None, rule(types=["a.B"])) == ["+ targets.log: {}", '+ types: ["a.B"]']
    assert shown(rule(where={"a": [True]}), rule(where={"a": [1]})) == ["- where.a: [true]", "+ where.a: [1]"]


patterns = st.dictionaries(
    st.sampled_from(["a", "a.b", "b", ""]),
    st.lists(plain, max_size=2) | st.dictionaries(st.sampled_from(["b", "c"]), st.lists(plain, max_size=2), max_size=2),
    max_size=3,
)


@given(old=patterns, new=patterns)
def test_there_is_a_difference_exactly_if_the_json_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    encode = msgspec.json.Encoder(order="sorted").encode
    assert bool(shown(rule(where=old), rule(where=new))) == (encode(old) != encode(new))
