"""The check that a pattern can match: `where` names values that the schema of the event allows.

A pattern is refused at import if it names a field that the event lacks. Here its values are compared with the type of the field.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

from runtime.actor.patterns import compile_pattern
from runtime.contracts.linter_scope import Finding, Scope
from runtime.wire.schema_paths import UNKNOWN, at_path, required_fields
from runtime.wire.schemas import Schema, schema

_TEXTS: Final = frozenset({"prefix", "suffix", "wildcard", "equals-ignore-case", "cidr", "exactly"})
"""The operators that match texts only."""
_SCALARS: Final = frozenset({"string", "integer", "number", "boolean", "null"})

_Path = tuple[str, ...]


def dead_patterns(scope: Scope) -> Iterator[Finding]:
    """Yield a finding for each reaction whose pattern matches no event of its type."""
    for wired in scope.judged:
        for handler in wired.actor.handlers.all_reactions():
            found = scope.sources.function(handler.function)
            if handler.where is None or handler.takes_all or found is None:
                continue
            path = dead_path(handler.contract.type, handler.where)
            module, node = found
            if path is not None:
                text = f"where matches no {handler.contract.type_name}: its {path} has none of the listed values"
                yield Finding(*module.place(node), "dead-where", text)


def dead_path(event: type, pattern: dict[str, Any]) -> str | None:
    """Return the path of a field that never has a value which a pattern lists for it; None if the pattern may match.

    Args:
        event: The type of the events.
        pattern: A valid pattern for them.
    """
    path = _dead(schema(event), pattern, ())
    return None if path is None else ".".join(path)


def _dead(root: Schema, pattern: dict[str, Any], path: _Path) -> _Path | None:
    """Return the path of the first field that never has a listed value; None if the pattern may match."""
    for name, value in pattern.items():
        if name == "$or":
            found = [_dead(root, each, path) for each in value]
            dead = next((each for each in found if each is not None), None) if None not in found else None
        else:
            inner = (*path, *name.split("."))
            if isinstance(value, dict):
                dead = _dead(root, cast("dict[str, Any]", value), inner)
            else:
                listed = list(cast("Sequence[Any]", value)) if isinstance(value, list | tuple) else [value]
                dead = None if any(_may_match(root, inner, each) for each in listed) else inner
        if dead is not None:
            return dead
    return None


def _may_match(root: Schema, path: _Path, value: Any) -> bool:
    found = at_path(root, path, through_arrays=True)
    if found is UNKNOWN or not found:
        return True
    if isinstance(value, dict):
        [(operator, operand)] = cast("dict[str, Any]", value).items()
        if operator == "exists":
            return any(each["type"] != "object" for each in found) if operand else not _always(root, path)
    return any(_may_be(each, value) for each in found)


def _always(root: Schema, path: _Path) -> bool:
    """Return whether each event has a value at a path, which is neither an object nor an array."""
    if any(name not in required_fields(root, path[:length]) for length, name in enumerate(path)):
        return False
    found = at_path(root, path)
    return found is not UNKNOWN and all(each["type"] in _SCALARS for each in found)


def _may_be(field: Schema, value: Any) -> bool:
    """Return whether a field of one type may have a value that a matcher accepts."""
    kind: str = field["type"]
    if kind not in _SCALARS:
        return False
    if "enum" in field:
        matches = compile_pattern({"field": [value]})
        return any(matches({"field": each}) for each in field["enum"])
    if isinstance(value, dict):
        [operator] = cast("dict[str, Any]", value)
        if operator in _TEXTS:
            return kind == "string"
        return operator != "numeric" or kind in ("integer", "number")
    if value is None:
        return kind == "null"
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, str):
        return kind == "string"
    if kind == "integer" and float(value) != int(value):
        return False
    return kind in ("integer", "number") and _in_bounds(field, value)


def _in_bounds(field: Schema, value: float) -> bool:
    return bool(
        field.get("minimum", value) <= value <= field.get("maximum", value)
        and not value <= field.get("exclusiveMinimum", value - 1)
        and not value >= field.get("exclusiveMaximum", value + 1)
    )
