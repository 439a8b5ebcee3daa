"""Compares an input with the JSON Schemas of its events, and with the JSON Schema of the message that it becomes.

A problem is certain: no value of the named event fits, or the message lacks a field for each event. An input that fits one event has
no problem, except for an optional part that fits only if the event lacks it.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from itertools import product
from typing import Literal

import msgspec

from runtime.router.input_paths import EACH, Field, Path
from runtime.router.inputs import Constant, Fields, Input, Items, Node, Text, Value
from runtime.wire.schema_paths import UNKNOWN, Unknown, at_path, field_names
from runtime.wire.schemas import Schema

_DEEPEST = 8
"""Levels of fields of one value that are compared."""

_Found = list[Schema] | Literal[Unknown.UNKNOWN]
"""The schemas of the values at a path; see `at_path`."""


class Problem(msgspec.Struct, frozen=True):
    """A part of an input that never fits."""

    place: str
    """The place in the input: ``rule big, target crm: input.note``."""
    reason: str
    """The reason, with the names of the field and of the event or message."""

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


class _Wanted(msgspec.Struct, frozen=True):
    """A place in the message: its name, its schema, and the path."""

    name: str
    schema: Schema
    path: tuple[str | int, ...] = ()

    def inner(self, step: str | int) -> "_Wanted":
        return _Wanted(self.name, self.schema, (*self.path, step))

    def found(self) -> _Found:
        return at_path(self.schema, self.path)

    def required(self) -> frozenset[str]:
        """Return the fields that an object here has to have; none if there may be anything."""
        found = self.found()
        objects = [] if found is UNKNOWN else [each.get("required", ()) for each in found if each["type"] == "object"]
        return frozenset(objects[0]).intersection(*objects[1:]) if objects else frozenset()

    def label(self) -> str:
        """Return the place for a text: ``payments.Charge``, or its field."""
        return f"the field {_dotted(self.path)} of {self.name}" if self.path else self.name


def check_input(
    checked: Input, events: Mapping[str, Schema], message: tuple[str, Schema] | None = None
) -> list[Problem]:
    """Return the problems of an input, in the order of its parts.

    Args:
        checked: The input.
        events: The JSON Schemas of the events that the rule takes, by the names of their types. A type without one is left out.
        message: The name and the JSON Schema of the message that the input becomes; None if it may be anything.
    """
    problems: list[Problem] = []
    wanted = None if message is None else _Wanted(*message)
    _check(checked.node, checked.where, events, wanted, problems)
    return problems


def _check(
    node: Node, place: str, events: Mapping[str, Schema], wanted: _Wanted | None, problems: list[Problem]
) -> None:
    match node:
        case Constant():
            if wanted is not None:
                _compare([_constant(node.value)], "the constant", place, wanted, problems)
        case Value():
            _check_path(node.path, place, events, problems)
            if wanted is not None:
                _check_value(node.path, place, events, wanted, problems)
        case Text():
            for part in node.parts:
                if isinstance(part, Path):
                    _check_path(part, place, events, problems)
            if wanted is not None:
                _compare([{"type": "string"}], "the text", place, wanted, problems)
        case Items():
            if wanted is not None and _compare([{"type": "array"}], "the list", place, wanted, problems):
                wanted = None
            for at, each in enumerate(node.nodes):
                _check(each, f"{place}[{at}]", events, None if wanted is None else wanted.inner(at), problems)
                if isinstance(each, Value) and each.path.optional:
                    wanted = None  # the positions of the next ones are not certain
        case Fields():
            _check_fields(node, place, events, wanted, problems)


def _check_fields(
    node: Fields, place: str, events: Mapping[str, Schema], wanted: _Wanted | None, problems: list[Problem]
) -> None:
    if wanted is not None and _compare([{"type": "object"}], "the object", place, wanted, problems):
        wanted = None
    for name, each in node.nodes.items():
        inner = None if wanted is None else wanted.inner(name)
        if wanted is not None and inner is not None and inner.found() == []:
            known = field_names(wanted.schema, wanted.path)
            problems.append(Problem(f"{place}.{name}", f"{wanted.label()} has no field {name}{_near(name, known)}"))
            inner = None
        _check(each, f"{place}.{name}", events, inner, problems)
    for name in sorted(wanted.required() - node.nodes.keys()) if wanted is not None else ():
        assert wanted is not None
        problems.append(Problem(place, f"the required field {name} of {wanted.label()} is not given"))


def _check_path(path: Path, place: str, events: Mapping[str, Schema], problems: list[Problem]) -> None:
    """Add a problem for each type of event that does not have a path; for an optional one, only if no type has it."""
    lacking = {name: reason for name, schema in events.items() if (reason := _lacking(path, schema)) is not None}
    if path.optional and len(lacking) < len(events):
        return
    problems += [Problem(place, f"{path.text}: the event {name} has no {reason}") for name, reason in lacking.items()]


def _lacking(path: Path, schema: Schema) -> str | None:
    """Return the first step of a path that an event cannot have, with a similar name if there is one."""
    steps = _body_steps(path)
    for length in range(1, len(steps or ()) + 1):
        assert steps is not None
        step = steps[length - 1]
        if _at(schema, steps[:length]) != []:
            continue
        if not isinstance(step, Field):
            return f"list at ${_written(steps[: length - 1])}"
        known = {name for each in _concrete(schema, steps[: length - 1]) for name in field_names(schema, each)}
        return f"field ${_written(steps[:length])}{_near(step.name, known)}"
    return None


def _check_value(
    path: Path, place: str, events: Mapping[str, Schema], wanted: _Wanted, problems: list[Problem]
) -> None:
    """Add a problem for each type of event whose value at a path never fits."""
    steps = _body_steps(path)
    if steps is None:
        if not path.steps:
            kind = "object" if path.root == "event" else "string"
            _compare([{"type": kind}], path.text, place, wanted, problems)
        return
    if EACH in steps:
        _compare([{"type": "array"}], path.text, place, wanted, problems)
        return
    for name, schema in events.items():
        if (reason := _misfit(schema, steps, wanted, 0)) is not None:
            problems.append(Problem(place, f"{path.text} of the event {name} {reason}"))


def _misfit(schema: Schema, steps: Sequence[Field | int | str], wanted: _Wanted, depth: int) -> str | None:
    """Return the reason why no value of an event at a path fits the place in the message, with the fields that it requires."""
    found = _at(schema, steps)
    allowed = wanted.found()
    if found is UNKNOWN or not found or allowed is UNKNOWN or not allowed:
        return None  # a missing path has a problem of its own
    if not any(_overlap(a, b) for a, b in product(found, allowed)):
        return f"is {_kinds(found)}, and {wanted.label()} is {_kinds(allowed)}"
    if depth == _DEEPEST or {each["type"] for each in found} != {"object"}:
        return None
    for name in sorted(wanted.required()):
        inner = [*steps, Field(name)]
        if _at(schema, inner) == []:
            return f"has no field {name}, which {wanted.label()} requires"
        if (reason := _misfit(schema, inner, wanted.inner(name), depth + 1)) is not None:
            return f"does not fit: its field {name} {reason}"
    return None


def _compare(given: list[Schema], label: str, place: str, wanted: _Wanted, problems: list[Problem]) -> bool:
    """Add a problem if no value of the schemas `given` fits the place in the message. Returns whether it did."""
    allowed = wanted.found()
    if allowed is UNKNOWN or not allowed or any(_overlap(a, b) for a, b in product(given, allowed)):
        return False
    problems.append(Problem(place, f"{label} is {_kinds(given)}, and {wanted.label()} is {_kinds(allowed)}"))
    return True


def _overlap(a: Schema, b: Schema) -> bool:
    """Return whether a value may fit two schemas of one type each, by their types and listed values."""
    if a["type"] != b["type"] and {a["type"], b["type"]} != {"integer", "number"}:
        return False
    return "enum" not in a or "enum" not in b or any(value in b["enum"] for value in a["enum"])


def _constant(value: str | float | bool | None) -> Schema:
    match value:
        case None:
            kind = "null"
        case bool():
            kind = "boolean"
        case str():
            kind = "string"
        case int():
            kind = "integer"
        case _:
            kind = "number"
    return {"type": kind, "enum": [value]}


def _kinds(found: list[Schema]) -> str:
    """Return the types and listed values of schemas, for a text: ``string``, ``integer or null``, ``one of "a", "b"``."""
    listed = [value for each in found for value in each.get("enum", ())]
    if listed and all("enum" in each for each in found):
        texts = [msgspec.json.encode(value).decode() for value in listed[:5]]
        return f"{'one of ' if len(listed) > 1 else ''}{', '.join(texts)}{', …' if len(listed) > 5 else ''}"
    return " or ".join(dict.fromkeys(each["type"] for each in found))


def _body_steps(path: Path) -> tuple[Field | int | str, ...] | None:
    """Return the steps of a path from the body of the event; None if the path leads elsewhere."""
    if not path.root:
        return path.steps
    return path.steps[1:] if path.root == "event" and path.steps[:1] == (Field("data"),) else None


def _at(schema: Schema, steps: Sequence[Field | int | str]) -> _Found:
    """Return the schemas of the values of an event at a path."""
    found: list[Schema] = []
    for each in _concrete(schema, steps):
        more = at_path(schema, each)
        if more is UNKNOWN:
            return UNKNOWN
        found += more
    return found


def _concrete(schema: Schema, steps: Sequence[Field | int | str]) -> list[tuple[str | int, ...]]:
    """Return the paths that together describe a path with ``[*]`` or an index from the end: one per kind of element."""
    paths: list[tuple[str | int, ...]] = [()]
    for step in steps:
        if isinstance(step, Field):
            paths = [(*path, step.name) for path in paths]
        elif isinstance(step, int) and step >= 0:
            paths = [(*path, step) for path in paths]
        else:
            paths = [(*path, at) for path in paths for at in range(_kinds_of_elements(schema, path))]
    return paths


def _kinds_of_elements(schema: Schema, path: tuple[str | int, ...]) -> int:
    found = at_path(schema, path)
    return 1 if found is UNKNOWN else 1 + max((len(each.get("prefixItems", ())) for each in found), default=0)


def _written(steps: Sequence[Field | int | str]) -> str:
    return "".join(f".{step.name}" if isinstance(step, Field) else f"[{step}]" for step in steps)


def _dotted(path: Sequence[str | int]) -> str:
    return "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in path).removeprefix(".")


def _near(name: str, known: set[str] | frozenset[str]) -> str:
    """Return the hint at a similar name, or at the names that there are."""
    close = get_close_matches(name, sorted(known), n=1)
    if close:
        return f" (is {close[0]} meant?)"
    return f" (it has {', '.join(sorted(known)[:8])})" if known else ""
