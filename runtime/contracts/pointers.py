"""JSON pointers (RFC 6901) into a document: its objects with their pointers, and references that lead nowhere."""

from collections.abc import Iterator
from typing import Any, NamedTuple, cast

from runtime.wire.json_pointers import escaped, resolve


class Problem(NamedTuple):
    """A fault of a document."""

    pointer: str
    """The place, as a JSON pointer: ``/channels/orders.query.get_order/address``."""
    text: str
    """The fault, in one sentence."""

    def __str__(self) -> str:
        return f"{self.pointer}: {self.text}"


def walk(value: Any, pointer: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each object of a document with its pointer, the outer ones first."""
    if isinstance(value, dict):
        found = cast("dict[str, Any]", value)
        yield pointer, found
        for name, each in found.items():
            yield from walk(each, f"{pointer}/{escaped(name)}")
    elif isinstance(value, list):
        for index, each in enumerate(cast("list[Any]", value)):
            yield from walk(each, f"{pointer}/{index}")


def dangling(document: Any) -> Iterator[Problem]:
    """Yield a problem for each reference to a place that the document does not have."""
    for pointer, each in walk(document):
        ref = each.get("$ref")
        if not isinstance(ref, str) or not ref.startswith("#"):
            continue
        try:
            resolve(document, ref)
        except LookupError:
            yield Problem(f"{pointer}/$ref", f"{ref} does not exist")
