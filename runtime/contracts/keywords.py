"""The schemas inside of a schema: which keywords of JSON Schema have schemas as values, and which have data."""

from collections.abc import Callable, Iterator
from typing import Any, Final, cast

from runtime.wire.schemas import Schema

_DATA: Final = frozenset({"const", "default", "enum", "example", "examples", "required", "pattern"})
"""Keywords whose values are no schemas and have none in them."""
_NAMED: Final = frozenset({"$defs", "definitions", "properties", "patternProperties", "dependentSchemas"})
"""Keywords whose values are schemas by names that an application chooses."""


def schemas_in(keyword: str, value: Any) -> Iterator[Any]:
    """Yield the schemas in the value of a keyword, and numbers and texts that stand in their place."""
    if keyword in _NAMED and isinstance(value, dict):
        yield from cast("Schema", value).values()
    elif keyword not in _DATA:
        yield from cast("list[Any]", value) if isinstance(value, list) else (value,)


def mapped(keyword: str, value: Any, change: Callable[[Any], Any]) -> Any:
    """Return the value of a keyword with each of `schemas_in` changed."""
    if keyword in _NAMED and isinstance(value, dict):
        return {name: change(each) for name, each in cast("Schema", value).items()}
    if keyword in _DATA:
        return value
    return [change(each) for each in cast("list[Any]", value)] if isinstance(value, list) else change(value)
