"""The comparison of two JSON Schemas: which values of a writer does a reader refuse?

The writer is closed and the reader is open: a writer writes the fields of its schema and no others, and a reader ignores fields
that it does not know, as msgspec does. Both directions of a change are looked at by two calls::

    breaks(old, new)                  # a new reader of old data
    breaks(new, old, newer="writer")  # an old reader of new data

No break means that every value is read. A break may be reported for a change that hurts no value, such as a regular expression
that was written in another way.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from runtime.contracts import wording
from runtime.contracts.shapes import Document, Node, Shape, accepts, same
from runtime.errors import CodecError
from runtime.wire.schemas import WIDER_PATTERNS

Side = Literal["reader", "writer"]

_READER_KINDS = {
    "missing": "field-required",
    "optional": "field-required",
    "unknown": "field-removed",
    "type": "type-narrowed",
    "value": "value-removed",
    "bound": "bound-tightened",
}
"""The kinds of a change to the reader."""
_WRITER_KINDS = {
    "missing": "field-removed",
    "optional": "field-optional",
    "unknown": "field-added",
    "type": "type-widened",
    "value": "value-added",
    "bound": "bound-loosened",
}
"""The kinds of a change to the writer."""


class Break(msgspec.Struct, frozen=True):
    """A change after which the reader refuses something that the writer writes."""

    field: str
    """The path of the field: ``items[].price``; ``prices.*`` for the values of a dict. Empty for the whole value."""
    kind: str
    """The kind of the change: ``field-required``, ``field-removed``, ``field-optional``, ``field-added``, ``type-changed``,
    ``type-narrowed``, ``type-widened``, ``value-removed``, ``value-added``, ``bound-tightened``, ``bound-loosened``,
    ``pattern-changed`` or ``rule-changed``."""
    old: str
    """The rule before the change, as text."""
    new: str
    """The rule after it."""

    def __str__(self) -> str:
        return f"{self.field or 'the value'} was {self.old}, is {self.new} ({self.kind})"


def breaks(writer: Any, reader: Any, *, newer: Side = "reader") -> list[Break]:
    """Return all that a reader refuses although the writer writes it.

    Args:
        writer: The JSON Schema of the writer.
        reader: That of the reader.
        newer: The side that has changed. It decides between the two names of a kind, and which text is old.

    Raises:
        CodecError: A schema is no JSON Schema, or has a reference that leads nowhere.
    """
    both = _Comparison(writer, reader, newer)
    try:
        return list(dict.fromkeys(both.compare(both.writer.root, both.reader.root)))
    except (
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:  # schemas from files have any form
        raise CodecError(f"a schema is no JSON Schema: {error}") from error


class _Comparison:
    """Compares two schemas. Each pair of nodes is compared once, and a pair that contains itself is assumed to fit."""

    def __init__(self, writer: Any, reader: Any, newer: Side) -> None:
        self.writer = Document(writer)
        self.reader = Document(reader)
        self._newer = newer
        self._found: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Break]] = {}

    def compare(self, writer: Node, reader: Node) -> list[Break]:
        """Return the breaks between two nodes, with paths from there."""
        writer, reader = self.writer.resolved(writer), self.reader.resolved(reader)
        pair = (tuple(map(id, writer)), tuple(map(id, reader)))
        if pair not in self._found:
            self._found[pair] = []
            self._found[pair] = self._compare(self.writer.shapes(writer), self.reader.shapes(reader))
        return self._found[pair]

    def _compare(self, writers: list[Shape], readers: list[Shape]) -> list[Break]:
        found: list[Break] = []
        unread: list[Shape] = []
        for shape in writers:
            alike = [each for each in readers if _same_kind(shape, each)]
            if not alike:
                unread.append(shape)
            elif shape.values is not None:
                found += self._values(shape.values, alike)
            else:
                found += self._shape(shape, alike)
        if unread:
            # A number that has to be an integer is the same type, narrowed.
            whole = any({one.kind, other.kind} == {"number", "integer"} for one in unread for other in readers)
            part = whole or len(unread) < len(writers)
            kind = self._kind("type") if part else "type-changed"
            return [self._break(kind, wording.types(writers), wording.types(readers)), *found]
        return found

    def _values(self, values: Sequence[Any], readers: list[Shape]) -> list[Break]:
        """Return the break of values that no shape of the reader permits."""
        if all(any(accepts(each, value) for each in readers) for value in values):
            return []
        if any(each.values is not None for each in readers):
            known = [value for each in readers for value in each.values or ()]
            return [self._break(self._kind("value"), wording.texts(values), wording.texts(known))]
        return [self._break(self._kind("bound"), wording.texts(values), " or ".join(map(wording.bounds, readers)))]

    def _shape(self, writer: Shape, readers: list[Shape]) -> list[Break]:
        """Return the breaks with the shape of the reader that fits best."""
        known = [value for each in readers for value in each.values or ()]
        readers = [each for each in readers if each.values is None]
        if not readers:
            return [self._break(self._kind("type"), writer.kind, wording.texts(known))]
        tagged = [(each, self._other_tag(writer, each)) for each in readers]
        candidates = [each for each, tag in tagged if not tag] or readers
        if all(tag for _, tag in tagged):
            return self._tags(tagged[0][1], writer, readers)
        best: list[Break] | None = None
        for each in candidates:
            found = self._rules(writer, each)
            if best is None or len(found) < len(best):
                best = found
            if not found:
                break
        return best or []

    def _tags(self, tag: str, writer: Shape, readers: list[Shape]) -> list[Break]:
        """Return the break of a member of a union whose tag no member of the other union has."""
        ours = self._constants(self.writer, writer.properties[tag])
        theirs = [value for each in readers for value in self._constants(self.reader, each.properties.get(tag, ()))]
        return [self._break(self._kind("value"), wording.texts(ours), wording.texts(theirs), tag)]

    def _other_tag(self, writer: Shape, reader: Shape) -> str:
        """Return the field by which an object is certainly of another type than the reader's; empty if there is none."""
        for name in writer.properties.keys() & reader.properties.keys():
            ours = self._constants(self.writer, writer.properties[name])
            theirs = self._constants(self.reader, reader.properties[name])
            if ours and theirs and not any(same(one, other) for one in ours for other in theirs):
                return name
        return ""

    def _constants(self, document: Document, node: Node) -> list[Any]:
        """Return the only values of a node; nothing if it has other values."""
        if not any(isinstance(each, dict) and each.keys() & {"enum", "const", "$ref"} for each in node):
            return []
        shapes = document.shapes(node)
        return [] if any(each.values is None for each in shapes) else [v for each in shapes for v in each.values or ()]

    def _rules(self, writer: Shape, reader: Shape) -> list[Break]:
        """Return the breaks between two shapes of one kind."""
        found: list[Break] = []
        if writer.kind == "array":
            found += self._items(writer, reader)
        elif writer.kind == "object":
            found += self._fields(writer, reader)
        if self._exceeds(writer, reader):
            found.append(self._break(self._kind("bound"), wording.bounds(writer), wording.bounds(reader)))
        unmatched = [
            each for each in reader.patterns if not ({each} | WIDER_PATTERNS.get(each, set())) & writer.patterns
        ]
        if unmatched or (reader.formats - writer.formats and not reader.patterns):
            found.append(self._break("pattern-changed", wording.patterns(writer), wording.patterns(reader)))
        if reader.rules - writer.rules:
            found.append(self._break("rule-changed", wording.rules(writer.rules), wording.rules(reader.rules)))
        return found

    def _exceeds(self, writer: Shape, reader: Shape) -> bool:
        """Return whether the writer may go beyond a bound of the reader."""
        shortest, longest = self._size(writer)
        return (
            shortest < reader.shortest
            or (reader.longest is not None and (longest is None or longest > reader.longest))
            or (reader.unique and not writer.unique)
            or _lowest(writer) < _lowest(reader)
            or _highest(writer) > _highest(reader)
            or any(not any(_multiple(ours, step) for ours in writer.steps) for step in reader.steps)
        )

    def _size(self, writer: Shape) -> tuple[int, int | None]:
        """Return the smallest and the largest number of characters, items or fields that the writer writes."""
        longest = writer.longest
        if writer.kind == "array" and writer.rest is None:
            longest = min(len(writer.prefix), len(writer.prefix) if longest is None else longest)
        elif writer.kind == "object" and writer.others is None:
            longest = min(len(writer.properties), len(writer.properties) if longest is None else longest)
        return max(writer.shortest, len(writer.required | ({writer.tag} - {""}))), longest

    def _items(self, writer: Shape, reader: Shape) -> list[Break]:
        found: list[Break] = []
        known = max(len(writer.prefix), len(reader.prefix))
        ends = [each for each in (self._size(writer)[1], reader.longest) if each is not None]
        for index in range(min(known, *ends) if ends else known):
            found += self._inner(f"[{index}]", writer.item(index), reader.item(index))
        if not ends or min(ends) > known:
            found += self._inner("[]", writer.rest, reader.rest)
        return found

    def _fields(self, writer: Shape, reader: Shape) -> list[Break]:
        found: list[Break] = []
        for name, node in writer.properties.items():
            theirs = reader.properties.get(name, reader.others)
            unknown = not self._permits(reader, name) or (theirs is not None and not self.reader.shapes(theirs))
            if unknown:
                found.append(self._break(self._kind("unknown"), "present", "refused", name))
            else:
                found += self._inner(name, node, theirs)
        more = writer.others is not None and bool(self.writer.shapes(writer.others))
        if more:
            for name in reader.properties.keys() - writer.properties.keys():
                found += self._inner(name, writer.others, reader.properties[name])
            found += self._inner("*", writer.others, reader.others)
            found += self._inner("*", (*writer.names, _TEXT), (*reader.names, _TEXT))
        for name in sorted(reader.required - writer.required - {writer.tag}):
            there = name in writer.properties or more
            ours = "optional" if there else "absent"
            found.append(self._break(self._kind("optional" if there else "missing"), ours, "required", name))
        return found

    def _permits(self, reader: Shape, name: str) -> bool:
        return not reader.names or any(accepts(each, name) for each in self.reader.shapes(reader.names))

    def _inner(self, step: str, writer: Node | None, reader: Node | None) -> list[Break]:
        if writer is None or reader is None:
            return []
        return [_below(step, each) for each in self.compare(writer, reader)]

    def _kind(self, change: str) -> str:
        return (_READER_KINDS if self._newer == "reader" else _WRITER_KINDS)[change]

    def _break(self, kind: str, writer: str, reader: str, field: str = "") -> Break:
        old, new = (writer, reader) if self._newer == "reader" else (reader, writer)
        return Break(field, kind, old, new)


_TEXT: dict[str, Any] = {"type": "string"}


def _below(step: str, found: Break) -> Break:
    """Return a break with the path of its parent in front."""
    dot = "." if found.field and found.field[0] != "[" else ""
    return msgspec.structs.replace(found, field=f"{step}{dot}{found.field}")


def _same_kind(writer: Shape, reader: Shape) -> bool:
    return writer.kind == reader.kind or (writer.kind, reader.kind) == ("integer", "number")


def _multiple(ours: float, step: float) -> bool:
    ratio = ours / step
    return math.isclose(ratio, round(ratio), rel_tol=1e-9) and round(ratio) != 0


def _lowest(shape: Shape) -> tuple[float, bool]:
    """Return the lowest number of a shape in a form that orders; of integers without the sign of exclusion."""
    if shape.low is None:
        return -math.inf, False
    if shape.kind == "integer":
        return (math.floor(shape.low.value) + 1 if shape.low.exclusive else math.ceil(shape.low.value)), False
    return shape.low.value, shape.low.exclusive


def _highest(shape: Shape) -> tuple[float, bool]:
    if shape.high is None:
        return math.inf, True
    if shape.kind == "integer":
        return (math.ceil(shape.high.value) - 1 if shape.high.exclusive else math.floor(shape.high.value)), True
    return shape.high.value, not shape.high.exclusive
