"""The parts of a pattern that no event of a type matches, by the JSON Schema of the event."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec

from runtime.actor.patterns import Predicate, compile_branches
from runtime.router.parts import Part, as_json, parts_of
from runtime.wire.schema_paths import UNKNOWN, at_path, field_names, required_fields
from runtime.wire.schemas import Schema

__all__ = ["Problem", "unknown_fields"]

_SHOWN = 5
"""The number of allowed values that an error text lists."""

_MOST_NAMES = 12
"""The number of names in the path of a field that is checked. The ways to read its dots double with each name."""

_TEXT_OPERATORS = frozenset({"prefix", "suffix", "equals-ignore-case", "wildcard", "cidr", "exactly"})


class Problem(msgspec.Struct, frozen=True):
    """A part of a pattern that no event matches. `str` gives a sentence."""

    path: str
    """The names of the field, joined by dots."""
    reason: str
    fatal: bool
    """Whether no event matches the whole pattern. Otherwise others of the listed values or alternatives can match, or the
    part is about the absence of a field that no event has."""

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


def unknown_fields(pattern: Mapping[str, object] | str, schema: Schema) -> list[Problem]:
    """Return the fields of a pattern that no event has, and the listed values that no event has there.

    A part that could match, as far as the schema says, is never returned: bounds and forms of texts and numbers are not
    compared, a field of any type matches, and so does one with more than twelve names in its path.

    Args:
        pattern: As in the `where` of a reaction.
        schema: The JSON Schema of the event, as `runtime.wire.schemas.schema` returns it.

    Returns:
        The problems in the order of the pattern.

    Raises:
        DeclarationError: The pattern is invalid.
    """
    compile_branches(pattern, "pattern")
    return [*_problems(parts_of(pattern), schema)]


def _problems(parts: Sequence[Part], schema: Schema) -> Iterator[Problem]:
    for part in parts:
        if not part.alternatives:
            yield from _problems_of_field(part, schema)
            continue
        found = [[*_problems(each, schema)] for each in part.alternatives]
        fatal = all(any(problem.fatal for problem in problems) for problems in found)
        for problem in (problem for problems in found for problem in problems):
            yield problem if fatal else Problem(problem.path, problem.reason, fatal=False)


def _problems_of_field(part: Part, schema: Schema) -> Iterator[Problem]:
    if part.path.count(".") >= _MOST_NAMES:
        return
    [condition] = part.branches[0].values()
    ways = [*_ways(part.path, schema)]
    found: list[Schema] = []
    for names in ways:
        at = at_path(schema, names, through_arrays=True)
        if at is UNKNOWN:
            return
        found += at
    if not found:
        yield Problem(part.path, _missing(part.path, schema), not condition.absent)
        return
    leaves = [each for each in found if each["type"] != "object"]
    if not leaves:
        yield Problem(part.path, _is_object(part.path, found), not condition.absent)
        return
    always = any(_is_always_there(names, schema) for names in ways)
    reasons = [reason for each in part.wanted if (reason := _never_matches(each, leaves, always))]
    for reason in reasons:
        yield Problem(part.path, reason, len(reasons) == len(part.wanted))


def _ways(path: str, schema: Schema, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the names that lead to a path, with and without dots in them, of which events may have the fields."""
    for end in (*(index for index, char in enumerate(path) if char == "."), len(path)):
        names = (*above, path[:end])
        found = at_path(schema, names, through_arrays=True)
        if end == len(path) or found is UNKNOWN:
            if found:
                yield names
        elif found:
            yield from _ways(path[end + 1 :], schema, names)


def _is_always_there(names: tuple[str, ...], schema: Schema) -> bool:
    """Return whether each event has a leaf at a path. An array may be empty, and an object is not a leaf."""
    found = at_path(schema, names)
    if found is UNKNOWN or not found or any(each["type"] in ("object", "array") for each in found):
        return False
    return all(name in required_fields(schema, names[:count]) for count, name in enumerate(names))


# The reasons.


def _never_matches(matcher: object, leaves: list[Schema], always: bool) -> str:
    """Return why a listed value matches none of the values that the schemas describe; empty if it may."""
    if matcher == {"exists": False}:
        return f"{as_json(matcher)} never matches: each event has the field" if always else ""
    test = compile_branches({"f": [matcher]})[0]["f"].test
    if test is None or any(_may_match(matcher, test, each) for each in leaves):
        return ""
    allowed = [value for each in leaves for value in each.get("enum", ())]
    if any("enum" not in each for each in leaves):
        kinds = " or ".join(dict.fromkeys(_called(each["type"]) for each in leaves))
        return f"{as_json(matcher)} never matches: the field is {kinds}"
    shown = ", ".join([*map(as_json, allowed[:_SHOWN]), *(["…"] if len(allowed) > _SHOWN else [])])
    texts = [value for value in allowed if isinstance(value, str)]
    hint = _nearest(matcher, texts) if isinstance(matcher, str) else None
    return f"{as_json(matcher)} never matches: the field is {'one of ' if len(allowed) > 1 else ''}{shown}" + (
        f"; did you mean {as_json(hint)}?" if hint else ""
    )


def _may_match(matcher: object, test: Predicate, described: Schema) -> bool:
    """Return whether a listed value may match a value of one type."""
    if "enum" in described:
        return any(test(value) for value in described["enum"])
    kind = described["type"]
    if kind == "null":
        return test(None)
    if kind == "boolean":
        return test(True) or test(False)
    if isinstance(matcher, Mapping):
        name = next(iter(cast("Mapping[str, Any]", matcher)))
        return name not in ({"numeric"} if kind == "string" else _TEXT_OPERATORS)
    if kind == "string":
        return isinstance(matcher, str)
    if isinstance(matcher, bool) or not isinstance(matcher, int | float):
        return False
    return kind == "number" or matcher % 1 == 0


def _called(kind: str) -> str:
    return kind if kind == "null" else f"an {kind}" if kind == "integer" else f"a {kind}"


def _missing(path: str, schema: Schema) -> str:
    """Return that no event has a field, with the nearest name beside the first one that is missing."""
    names = path.split(".")
    count = next(
        (count for count in range(1, len(names)) if not at_path(schema, names[:count], through_arrays=True)), len(names)
    )
    above, name = names[: count - 1], names[count - 1]
    hint = _nearest(name, field_names(schema, above, through_arrays=True))
    return f"no event has the field {'.'.join(names[:count])!r}" + (
        f"; did you mean {'.'.join([*above, hint])!r}?" if hint else ""
    )


def _is_object(path: str, found: list[Schema]) -> str:
    name = next((name for each in found for name in each.get("properties", ())), None)
    return f"the field {path!r} is an object; name a field in it" + (f", such as {f'{path}.{name}'!r}" if name else "")


def _nearest(name: str, known: Sequence[str] | frozenset[str]) -> str | None:
    folded = {each.casefold().replace("_", ""): each for each in sorted(known)}
    near = difflib.get_close_matches(name.casefold().replace("_", ""), folded, n=1)
    return folded[near[0]] if near else None
