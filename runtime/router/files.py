"""Rules and targets in files, and the difference between the files and the ones that are kept.

A file is YAML or JSON with two maps, `targets` and `rules`, by name. The values are those of `TargetFields` and `RuleFields`::

    targets:
      ledger: {to: {kind: command, actor: ledger, command: Book}}
    rules:
      book:
        types: [till.Sold]
        targets: [{target: ledger, input: {account: $.till, amount: $.total}}]

YAML is read by the rules of its version 1.2: ``NO`` and ``on`` are texts, and so is a date.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import msgspec

from runtime.client.bus import Bus
from runtime.errors import ConfigurationError, Rejected
from runtime.router.following import all_pages
from runtime.router.rule import DeleteRule, ListRules, Name, PutRule, Rule, RuleFields
from runtime.router.rules import check_rule
from runtime.router.target import DeleteTarget, ListTargets, PutTarget, Target, TargetFields
from runtime.router.targets import check_kind
from runtime.wire.value_faults import find_unencodable

F = TypeVar("F", TargetFields, RuleFields)

_MAPS = ("targets", "rules")
_PLAIN = re.compile(r"[\w$-]+").fullmatch
"""Match the name of a field that needs no quotes in a path."""
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`")
_NO_NAME = "Expected `str` matching regex"
"""The beginning of the error of msgspec for a text that is not a `Name`, the only type here with a form."""


class Content(msgspec.Struct, frozen=True):
    """The content of files."""

    targets: dict[str, TargetFields]
    """By name, in the order of the files."""
    rules: dict[str, RuleFields]
    """By name, in the order of the files."""


class Difference(msgspec.Struct, frozen=True):
    """One field that two versions do not have in common."""

    field: str
    """The path of the field: ``where.country``."""
    old: str | None
    """Its value before, as JSON; None if it is not there."""
    new: str | None
    """Its value after, as JSON; None if it is not there."""


class Change(msgspec.Struct, frozen=True):
    """One rule or target that is to be created, replaced or deleted."""

    kind: Literal["target", "rule"]
    name: str
    version: int
    """The version that is kept now; 0 for none."""
    old: TargetFields | RuleFields | None
    """The fields that are kept now; None for none."""
    new: TargetFields | RuleFields | None
    """The fields that are to be kept; None to delete it."""

    @property
    def sign(self) -> Literal["+", "-", "~"]:
        """``+`` for one that is created, ``-`` for one that is deleted, ``~`` for one that is replaced."""
        return "+" if self.old is None else "-" if self.new is None else "~"

    def differences(self) -> list[Difference]:
        """Return the fields that differ, in the order of the fields. Of objects, each field is compared by itself."""
        order = (TargetFields if self.kind == "target" else RuleFields).__struct_fields__
        old, new = _leaves(self.old), _leaves(self.new)
        fields = [field for field in {**old, **new} if old.get(field) != new.get(field)]
        fields.sort(key=lambda field: order.index(field.partition(".")[0]))
        return [Difference(field, old.get(field), new.get(field)) for field in fields]


def read_files(paths: Iterable[str]) -> Content:
    """Return the content of files together.

    Args:
        paths: The paths. ``-`` is stdin, in YAML or JSON.

    Raises:
        ConfigurationError: A file cannot be read, a field is wrong, or a name stands twice. The text names the file and the field.
    """
    targets: dict[str, TargetFields] = {}
    rules: dict[str, RuleFields] = {}
    places: dict[str, str] = {}
    for path in paths:
        found = _content(path)
        for place in (f"{kind}.{name}" for kind in _MAPS for name in found[kind]):
            if (other := places.setdefault(place, path)) != path:
                raise ConfigurationError(f"{path}: {place}: it stands in {other} as well")
        for name, value in found["targets"].items():
            targets[name] = read_target(value, f"{path}: targets.{name}")
        for name, value in found["rules"].items():
            rules[name] = read_rule(value, f"{path}: rules.{name}")
    return Content(targets, rules)


def read_rule(value: object, place: str) -> RuleFields:
    """Return a rule, given its decoded JSON or YAML and its place in errors, which may be empty.

    Raises:
        ConfigurationError: A field is wrong. The text names the place and the field.
    """
    return _checked(value, place, RuleFields, check_rule)


def read_target(value: object, place: str) -> TargetFields:
    """Return a target, given its decoded JSON or YAML and its place in errors, which may be empty.

    Raises:
        ConfigurationError: A field is wrong. The text names the place and the field.
    """
    return _checked(value, place, TargetFields, lambda target: check_kind(target.to))


def read_data(path: str) -> object:
    """Return the decoded content of a YAML or JSON file; ``-`` is stdin.

    Raises:
        ConfigurationError: The file cannot be read, or a field stands twice in an object.
    """
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigurationError(f"{path}: the file cannot be read: {reason}") from None
    try:
        return read_json(text)
    except (ValueError, RecursionError) as error:
        if path.endswith(".json") or isinstance(error, _Twice):
            raise ConfigurationError(f"{path}: {error}") from None
    from runtime.router.yaml_text import read_yaml

    return read_yaml(text, path)


def read_json(text: str) -> object:
    """Return the value of a JSON text.

    Raises:
        ValueError: It is not JSON, or an object has a field twice, of which only one would count.
        RecursionError: It has too many levels.
    """
    return json.loads(text, object_pairs_hook=_object)


async def changes(bus: Bus, content: Content, *, prune: bool = False) -> list[Change]:
    """Return the changes that make the kept rules and targets those of files, in the order in which they can be made.

    Targets come before the rules that name them, and deletions last.

    Args:
        bus: The bus.
        content: The content of the files.
        prune: Whether rules and targets that the files do not have are deleted.

    Raises:
        RequestError: The actors ``rules`` or ``targets`` do not answer.
    """
    targets = {each.name: each for each in await list_targets(bus)}
    rules = {each.name: each for each in await list_rules(bus)}
    found = [
        *(_change("target", name, targets.get(name), new) for name, new in content.targets.items()),
        *(_change("rule", name, rules.get(name), new) for name, new in content.rules.items()),
    ]
    if prune:
        found += [_change("rule", name, rules[name], None) for name in rules if name not in content.rules]
        found += [_change("target", name, targets[name], None) for name in targets if name not in content.targets]
    return [each for each in found if each.differences()]


async def make_change(bus: Bus, change: Change, *, unchecked: bool = False) -> Rule | None:
    """Make a change, unless the rule or target has another version by now.

    Args:
        bus: The bus.
        change: The change.
        unchecked: Put a rule although the contracts of events and targets do not fit it.

    Returns:
        The rule as it is kept now, for `runtime.router.in_force.wait_in_force`; of a deleted rule, what is left of it. None for a target.

    Raises:
        RequestError: The change is refused, or its actor does not answer.
    """
    match change.new:
        case RuleFields():
            return await bus.command(PutRule(change.name, change.new, change.version, unchecked))
        case TargetFields():
            await bus.command(PutTarget(change.name, change.new, change.version))
        case None if change.kind == "rule":
            return deleted(await bus.command(DeleteRule(change.name, change.version)))
        case None:
            await bus.command(DeleteTarget(change.name, change.version))
    return None


def deleted(rule: Rule) -> Rule:
    """Return what is left of a rule that was deleted, given the rule as it was."""
    return msgspec.structs.replace(rule, version=rule.version + 1, deleted=True)


async def list_rules(bus: Bus) -> list[Rule]:
    """Return all rules in the order of their names. Raises the errors of `Bus.query`."""
    return cast("list[Rule]", await all_pages(lambda page: bus.query(ListRules(page=page))))


async def list_targets(bus: Bus) -> list[Target]:
    """Return all targets in the order of their names. Raises the errors of `Bus.query`."""
    return cast("list[Target]", await all_pages(lambda page: bus.query(ListTargets(page=page))))


def fields_of(kept: Rule | Target) -> RuleFields | TargetFields:
    """Return the part of a rule or target that its author writes."""
    kind = RuleFields if isinstance(kept, Rule) else TargetFields
    return kind(**{name: getattr(kept, name) for name in kind.__struct_fields__})


class _Twice(ValueError):
    """A field stands twice in an object."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(f"the field {next(name for name in names if names.count(name) > 1)} stands twice in an object")
    return found


def _content(path: str) -> dict[str, Mapping[str, object]]:
    """Return the maps of a file. Raises `ConfigurationError` if it has others, or a name that none can have."""
    value = read_data(path)
    if not isinstance(value, dict):
        raise ConfigurationError(f"{path}: write an object with the maps targets and rules")
    found: dict[str, Mapping[str, object]] = {kind: {} for kind in _MAPS}
    for kind, named in cast("dict[object, object]", value).items():
        if kind not in _MAPS:
            raise ConfigurationError(f"{path}: there is no map {kind!s}{_hint(str(kind), _MAPS)}")
        if named is None:
            continue
        if not isinstance(named, dict):
            raise ConfigurationError(f"{path}: {kind}: write a map by name")
        found[kind] = cast("dict[str, object]", named)
        for name in found[kind]:
            try:
                msgspec.convert(name, Name)
            except msgspec.ValidationError:
                raise ConfigurationError(f"{path}: {kind}.{name}: {NAME_RULE}") from None
    return found


NAME_RULE = "a name is a lower-case letter, and then letters, digits, - and _: 64 characters at most"
"""The rule for names of rules and targets, for error texts."""


def _checked(value: object, place: str, kind: type[F], check: Callable[[F], None]) -> F:
    try:
        found = msgspec.convert(value, kind)
        check(found)
    except msgspec.ValidationError as error:
        path, reason = _fault(str(error), kind)
        where = (place + path).removeprefix(".")
        raise ConfigurationError(f"{where}: {reason}" if where else reason) from None
    except Rejected as error:
        raise ConfigurationError(f"{place}.{error}".removeprefix(".")) from None
    try:
        msgspec.json.encode(found)
    except UnicodeEncodeError:
        where = (place + find_unencodable(found).removeprefix("$")).removeprefix(".")
        raise ConfigurationError(f"{where}: the text has half of a character (a lone surrogate)") from None
    return found


def _fault(text: str, kind: type[msgspec.Struct]) -> tuple[str, str]:
    """Return the path of the field and the reason in an error of msgspec."""
    reason, _, path = text.partition(" - at `$")
    unknown = _UNKNOWN_FIELD.fullmatch(reason)
    hint = _hint(unknown[1], kind.__struct_fields__) if unknown and not path else ""
    path = path.removesuffix("`")
    if reason.startswith(_NO_NAME):
        return path, NAME_RULE
    return path, f"{reason[:1].lower()}{reason[1:]}{hint}"


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f": did you mean {near[0]}?" if near else ""


def _change(
    kind: Literal["target", "rule"], name: str, kept: Rule | Target | None, new: TargetFields | RuleFields | None
) -> Change:
    version = 0 if kept is None else kept.version
    return Change(kind, name, version, None if kept is None else fields_of(kept), new)


def _leaves(value: TargetFields | RuleFields | None) -> dict[str, str]:
    """Return the fields as JSON by their paths; a default is left out. The targets of a rule have their names as parts of the paths."""
    if value is None:
        return {}
    data = cast("dict[str, Any]", msgspec.to_builtins(value))
    if isinstance(value, RuleFields):
        data["targets"] = {each.pop("target"): each for each in data["targets"]}
    found: dict[str, str] = {}
    _collect(data, "", found)
    return found


def _collect(value: Mapping[str, Any], path: str, found: dict[str, str]) -> None:
    for name, each in value.items():
        place = path + (name if _PLAIN(name) else msgspec.json.encode(name).decode())
        if isinstance(each, dict) and each:
            _collect(cast("dict[str, Any]", each), f"{place}.", found)
        else:
            found[place] = msgspec.json.encode(each).decode()
