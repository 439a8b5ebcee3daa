"""The rules of a schema as text, for the old and the new side of a change."""

from collections.abc import Iterable
from typing import Any

import msgspec

from runtime.contracts.shapes import Shape


def types(shapes: Iterable[Shape]) -> str:
    """Return the kinds of values of several shapes."""
    names = [each.kind if each.values is None or each.values == (None,) else texts(each.values) for each in shapes]
    names = list(dict.fromkeys(names))
    return "of any type" if len(names) == 6 else " or ".join(names) if names else "nothing"


def texts(values: Iterable[Any]) -> str:
    """Return the only values that are permitted."""
    return "one of " + ", ".join(msgspec.json.encode(each).decode() for each in values)


def patterns(shape: Shape) -> str:
    """Return the patterns or formats of a text."""
    texts = [f"a match of {each}" for each in sorted(shape.patterns)] or [f"a {each}" for each in sorted(shape.formats)]
    return " and ".join(texts) if texts else "any text"


def rules(rules: Iterable[str]) -> str:
    """Return keywords that are not read."""
    return ", ".join(sorted(rules)) or "without this rule"


def bounds(shape: Shape) -> str:
    """Return the bounds of a shape."""
    parts: list[str] = []
    if shape.kind in ("integer", "number"):
        parts += [f"{'above' if shape.low.exclusive else 'at least'} {shape.low.value}"] if shape.low else []
        parts += [f"{'below' if shape.high.exclusive else 'at most'} {shape.high.value}"] if shape.high else []
        parts += [f"a multiple of {each}" for each in sorted(shape.steps)]
        return " and ".join(parts) if parts else f"any {shape.kind}"
    unit = {"string": "character", "array": "item"}.get(shape.kind, "field")
    parts += [f"at least {_counted(shape.shortest, unit)}"] if shape.shortest else []
    parts += [f"at most {_counted(shape.longest, unit)}"] if shape.longest is not None else []
    parts += ["without equal items"] if shape.unique else []
    return " and ".join(parts) if parts else f"any number of {unit}s"


def _counted(number: int, unit: str) -> str:
    return f"{number} {unit}{'s' * (number != 1)}"
