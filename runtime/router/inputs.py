"""The input of a target: JSON data in which some texts are paths into the event. The result is JSON by construction.

| Text | Result |
|---|---|
| ``"$.order.id"`` | the value, with its type |
| ``"$.items[*].id"`` | the list of these values |
| ``"$.note?"`` | the value; the field or the element is left out if the event does not have it |
| ``"Order {$.id} by {$.user?}"`` | a text; other values than texts stand in it as compact JSON, and a missing optional one as nothing |
| ``"$"``, ``"$event"`` | the body of the event; the whole event: its attributes, and its body as ``data`` |
| ``"$id"``, ``"$type"``, ``"$source"``, ``"$key"``, ``"$time"``, ``"$rule"``, ``"$target"`` | one fact about the event or the delivery |
| ``"$$5"``, ``"{$$.a}"`` | the texts ``$5`` and ``{$.a}`` |

Keys of objects are constants. The idea is that of the input transformer of Amazon EventBridge, without templates of text.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from runtime.router.input_paths import MISSING, Path, find, parse_path, path_end
from runtime.wire.printable import lone_surrogate

DEEPEST: Final = 64
"""Levels of an input at most."""


class InputError(ValueError):
    """An input that is wrong, or that cannot be made for an event.

    Args:
        place: The place in the input, such as ``rule big, target crm: input.note``.
        reason: The reason, without the place.
    """

    def __init__(self, place: str, reason: str) -> None:
        super().__init__(f"{place}: {reason}")
        self.place = place
        self.reason = reason


class PathMissing(InputError):
    """The event does not have the value of a path that is not optional.

    Args:
        place: The place in the input.
        path: The path as it is written.
    """

    def __init__(self, place: str, path: str) -> None:
        super().__init__(place, f"the event has no {path} (write {path}? if it is optional)")
        self.path = path


class Occurrence(msgspec.Struct, frozen=True):
    """One event for one target of one rule: the values that the paths of an input find."""

    attributes: Mapping[str, object]
    """The attributes of CloudEvents: specversion, id, source, type, time in ISO 8601, subject, and extensions."""
    body: object
    """The decoded JSON of the body."""
    key: str | None
    """The key of the event; None if it has none."""
    rule: str
    """The name of the rule."""
    target: str
    """The name of the target."""

    def root(self, name: str) -> object:
        """Return the value that a path begins at, by its reserved name, or `MISSING`."""
        match name:
            case "":
                return self.body
            case "event":
                return {**self.attributes, "data": self.body}
            case "key":
                return MISSING if self.key is None else self.key
            case "rule":
                return self.rule
            case "target":
                return self.target
            case _:
                return self.attributes.get(name, MISSING)


class Constant(msgspec.Struct, frozen=True):
    """A value that is the same for each event: a text, a number, a boolean or null."""

    value: str | int | float | bool | None


class Value(msgspec.Struct, frozen=True):
    """A text that is exactly one path: the value keeps its type."""

    path: Path
    place: str
    """The place in the input, for errors."""


class Text(msgspec.Struct, frozen=True):
    """A text with paths in it."""

    parts: tuple[str | Path, ...]
    place: str
    """The place in the input, for errors."""

    def make(self, occurrence: Occurrence, encode: Callable[[str], str] = str) -> str:
        """Return the text for one event.

        Args:
            occurrence: The event.
            encode: Returns the form in which the text of a value stands in the whole text.

        Raises:
            PathMissing: The event does not have the value of a path that is not optional.
        """
        return "".join(each if isinstance(each, str) else self._part(each, occurrence, encode) for each in self.parts)

    def _part(self, path: Path, occurrence: Occurrence, encode: Callable[[str], str]) -> str:
        found = _find(path, occurrence, self.place)
        if found is MISSING:
            return ""
        return encode(found if isinstance(found, str) else msgspec.json.encode(found).decode())


class Items(msgspec.Struct, frozen=True):
    """A list."""

    nodes: "tuple[Node, ...]"


class Fields(msgspec.Struct, frozen=True):
    """An object."""

    nodes: "dict[str, Node]"


Node = Constant | Value | Text | Items | Fields
"""One part of an input."""


class Input(msgspec.Struct, frozen=True):
    """An input that is ready for use; see `compile_input`."""

    node: Node
    """The outermost part."""
    where: str
    """The place of the input, for errors."""

    def make(self, occurrence: Occurrence) -> object:
        """Return the input for one event, as data that JSON can express.

        Raises:
            PathMissing: The event does not have the value of a path that is not optional.
        """
        return _make(self.node, occurrence)


def compile_input(value: object, *, where: str) -> Input:
    """Check an input, and return it in a form that makes the input of each event.

    Args:
        value: The input as decoded JSON or YAML.
        where: The place of the input, with which the texts of errors begin: ``rule big, target crm: input``.

    Raises:
        InputError: A part of the input is not JSON data, or a text has an invalid path. The text names the place.
    """
    node = _compile(value, where, 1)
    if isinstance(node, Value) and node.path.optional:
        raise InputError(where, f"{node.path.text} cannot be optional: it is the whole input")
    return Input(node, where)


def compile_text(value: str, *, where: str) -> Text:
    """As `compile_input`, for a text that stays a text: a path stands in braces, and ``"$.a"`` alone is refused."""
    return Text(tuple(_parts(value, where)), where)


def _compile(value: object, place: str, depth: int) -> Node:
    if depth > DEEPEST:
        raise InputError(place, f"the input has more than {DEEPEST} levels")
    match value:
        case str():
            return _compile_text(value, place)
        case bool() | None:
            return Constant(value)
        case int() | float():
            return Constant(_number(value, place))
        case list():
            return Items(tuple(_compile(each, f"{place}[{at}]", depth + 1) for at, each in enumerate(value)))
        case dict():
            return Fields(
                {_name(name, place): _compile(each, f"{place}.{name}", depth + 1) for name, each in value.items()}
            )
        case _:
            raise InputError(place, f"a value of the type {type(value).__name__} is not JSON: write it as a text")


def _name(name: object, place: str) -> str:
    if not isinstance(name, str):
        raise InputError(place, f"the name {name!r} of a field is not a text: write it in quotes")
    return _encodable(name, place)


def _number(value: float, place: str) -> int | float:
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(place, f"{value} is not a JSON number")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise InputError(place, "an integer has 64 bits at most: write it as a text")
    return value


def _encodable(text: str, place: str) -> str:
    if lone_surrogate(text):
        raise InputError(place, "the text has half of a character (a lone surrogate)")
    return text


def _compile_text(text: str, place: str) -> Node:
    if text.startswith("$") and not text.startswith("$$"):
        return Value(_path(text, place), place)
    parts = tuple(_parts(text, place))
    return Constant("".join(map(str, parts))) if all(isinstance(each, str) for each in parts) else Text(parts, place)


def _parts(text: str, place: str) -> Iterator[str | Path]:
    """Yield the parts of a text: the texts between its paths, and the paths."""
    _encodable(text, place)
    literal: list[str] = []
    at = 0
    while (dollar := text.find("$", at)) >= 0:
        if text.startswith("$$", dollar):
            literal.append(text[at : dollar + 1])
            at = dollar + 2
            continue
        if dollar == at or text[dollar - 1] != "{":
            hint = "write a path as {$.field}, and a dollar sign as $$"
            raise InputError(place, f"{text[dollar : dollar + 20]!r} begins with a single dollar sign: {hint}")
        end = path_end(text, dollar)
        if not text.startswith("}", end):
            raise InputError(
                place, f"{text[dollar - 1 : end + 20]!r} has no path in braces: it ends at {text[end : end + 20]!r}"
            )
        yield "".join((*literal, text[at : dollar - 1]))
        yield _path(text[dollar:end], place)
        literal, at = [], end + 1
    yield "".join((*literal, text[at:]))


def _path(text: str, place: str) -> Path:
    try:
        return parse_path(_encodable(text, place))
    except ValueError as error:
        raise InputError(place, str(error)) from None


def _make(node: Node, occurrence: Occurrence) -> object:
    match node:
        case Constant():
            return node.value
        case Value():
            return _find(node.path, occurrence, node.place)
        case Text():
            return node.make(occurrence)
        case Items():
            made = [_make(each, occurrence) for each in node.nodes]
            return [each for each in made if each is not MISSING]
        case Fields():
            fields = {name: _make(each, occurrence) for name, each in node.nodes.items()}
            return {name: each for name, each in fields.items() if each is not MISSING}


def _find(path: Path, occurrence: Occurrence, place: str) -> object:
    """Return the value of a path, or `MISSING` if it is optional."""
    root = occurrence.root(path.root)
    found = root if root is MISSING else find(root, path)
    if found is MISSING and not path.optional:
        raise PathMissing(place, path.text)
    return found
