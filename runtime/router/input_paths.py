"""One path into an event: its form in an input, and the value that it finds.

A path begins with ``$``, the body of the event, or with a reserved name such as ``$id``. Steps follow: ``.name``, ``['any name']``,
``[0]``, ``[-1]`` (from the end) and ``[*]`` (each element). A ``?`` at the end makes the path optional.
"""

import re
from typing import Final

import msgspec

RESERVED: Final = ("event", "id", "type", "source", "key", "time", "rule", "target")
"""The names that may follow the dollar sign."""

EACH: Final = "*"
"""The step to each element of a list. The name of a field is a `Field`, so that it can be ``*`` as well."""


class Field(msgspec.Struct, frozen=True):
    """The step to one field of an object."""

    name: str


Step = Field | int | str
"""A field, the index of an element, or `EACH`."""


class Path(msgspec.Struct, frozen=True):
    """A path into an event."""

    text: str
    """The path as it is written, for errors."""
    root: str
    """A name of `RESERVED`; empty for the body of the event."""
    steps: tuple[Step, ...]
    """The steps from the root."""
    optional: bool
    """Whether the event may lack the value."""


class Missing:
    """The type of `MISSING`."""


MISSING: Final = Missing()
"""Stands for a value that an event does not have. It is never part of an input."""

_HEAD = re.compile(r"\$(?!\$)([A-Za-z_]\w*)?")
"""Match the beginning of a path, with its reserved name."""

_STEP = re.compile(r"\.([\w-]+)|\[(-?[0-9]{1,9})\]|(\[\*\])|\['((?:[^'\\]|\\['\\])+)'\]")
"""Match one step."""

_WHOLE = re.compile(rf"{_HEAD.pattern}(?:{_STEP.pattern})*\??")
"""Match the longest path at a place of a text."""


def path_end(text: str, start: int) -> int:
    """Return the offset behind the longest path that begins at `start`, or `start` if none does."""
    found = _WHOLE.match(text, start)
    return start if found is None else found.end()


def parse_path(text: str) -> Path:
    """Return the path that a text is.

    Raises:
        ValueError: The text is no path. The error has the reason.
    """
    head = _HEAD.match(text)
    if head is None or path_end(text, 0) != len(text):
        at = path_end(text, 0)
        raise ValueError(f"{text[:80]!r} is not a path: it ends at {text[at : at + 20]!r}")
    root = head[1] or ""
    if root and root not in RESERVED:
        raise ValueError(f"${root} is not known: write $.{root} for a field of the event, or one of {_reserved()}")
    return Path(text, root, tuple(map(_step, _STEP.finditer(text, head.end()))), text.endswith("?"))


def _reserved() -> str:
    return ", ".join(f"${name}" for name in RESERVED)


def _step(match: re.Match[str]) -> Step:
    name, index, each, quoted = match.groups()
    if index is not None:
        return int(index)
    if each is not None:
        return EACH
    return Field(name if name is not None else re.sub(r"\\(.)", r"\1", quoted))


def find(value: object, path: Path) -> object:
    """Return the value that the steps of a path find in `value`.

    A path with ``[*]`` finds a list, flat if there are several. If the path is optional, the list leaves out the elements that lack
    the rest of the path; else one such element makes the whole value `MISSING`.

    Args:
        value: The value of the root, as decoded JSON.
        path: The path.

    Returns:
        The value, or `MISSING`. A null that is there is a value.
    """
    if EACH not in path.steps:
        for step in path.steps:
            value = _child(value, step)
        return value
    first = path.steps.index(EACH)
    start = find(value, msgspec.structs.replace(path, steps=path.steps[:first]))
    if not isinstance(start, list):
        return MISSING
    found: list[object] = start
    for step in path.steps[first + 1 :]:
        if step == EACH:
            found = [child for each in found for child in (each if isinstance(each, list) else (MISSING,))]
        else:
            found = [_child(each, step) for each in found]
        if MISSING in found:
            if not path.optional:
                return MISSING
            found = [each for each in found if each is not MISSING]
    return found


def _child(value: object, step: Step) -> object:
    """Return the value at one step, or `MISSING`."""
    if isinstance(step, Field):
        return value.get(step.name, MISSING) if isinstance(value, dict) else MISSING
    if isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
        return value[step]
    return MISSING
