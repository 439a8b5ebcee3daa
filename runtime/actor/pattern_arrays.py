"""Arrays in event patterns: all fields that a pattern names must match within the same element of an array.

The fields of an event have a place, which is () outside arrays of objects. A match chooses a field for each condition, in the
order of the conditions, and chosen fields must not be in different elements of one array. A condition on the absence of a
field holds if no field of its path is consistent with the fields that are chosen before it. Both are the rules of EventBridge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

__all__ = ["Choice", "Place", "is_consistent"]

Place = tuple[tuple[int, int], ...]
"""The arrays around a field, outermost first, each with the position of the element: ``((3, 0), (4, 7))``."""

_Chosen = dict[int, int]
"""The positions of the elements that are chosen already, by array, with the outer arrays first."""


class Choice(NamedTuple):
    """The fields of an event among which one condition may choose."""

    matching: set[Place]
    """The places of the fields whose values match."""
    present: set[Place]
    """The places of all fields of the path, if the condition may hold without a field; otherwise empty."""
    absent: bool
    """Whether the condition may hold without a field."""


def is_consistent(choices: Sequence[Choice]) -> bool:
    """Return whether each condition holds for fields that are in one element of each array."""
    if not any(choice.absent for choice in choices):
        # A field outside all arrays is consistent with each other field, and fields of one place are with each other.
        bound = [choice.matching for choice in choices if () not in choice.matching]
        if len(bound) < 2 or set.intersection(*bound):
            return True
    return _Search(choices).succeeds(0, {})


class _Search:
    """The search for a field for each condition.

    Its time is about linear in the number of fields: only fields in the chosen elements are tried, and a search that failed is
    not repeated for the same elements.
    """

    def __init__(self, choices: Sequence[Choice]) -> None:
        self._choices = [(_Places(choice.matching), _Places(choice.present), choice.absent) for choice in choices]
        self._relevant: list[set[int]] = [set()]
        """For each condition, the arrays around its fields and around those of later ones."""
        for matching, present, _ in reversed(self._choices):
            self._relevant.insert(0, self._relevant[0].union(matching.sizes, present.sizes))
        self._failed: set[tuple[int, Place]] = set()

    def succeeds(self, at: int, chosen: _Chosen) -> bool:
        """Return whether fields exist for the conditions from `at` on."""
        if at == len(self._choices):
            return True
        relevant = self._relevant[at]
        state = (at, tuple(element for element in chosen.items() if element[0] in relevant))
        if state in self._failed:
            return False
        matching, present, absent = self._choices[at]
        if absent and not any(True for _ in present.consistent(chosen)) and self.succeeds(at + 1, chosen):
            return True
        if any(self.succeeds(at + 1, extended) for extended in matching.consistent(chosen)):
            return True
        self._failed.add(state)
        return False


class _Places:
    """Places, found by the elements that contain them."""

    __slots__ = ("_by_element", "_places", "sizes")

    def __init__(self, places: set[Place]) -> None:
        self._places = list(places)
        self._by_element: dict[tuple[int, int], list[Place]] = {}
        self.sizes: dict[int, int] = {}
        """The number of places in each array."""
        for place in places:
            for element in place:
                self._by_element.setdefault(element, []).append(place)
                self.sizes[element[0]] = self.sizes.get(element[0], 0) + 1

    def consistent(self, chosen: _Chosen) -> Iterator[_Chosen]:
        """Yield the chosen elements with those of a place added, for each place that is in no other element of an array."""
        places = self._places
        for element in chosen.items():
            if self.sizes.get(element[0]) == len(places):  # all remaining places are in this array
                places = self._by_element.get(element, [])
        for place in places:
            extended = dict(chosen)
            if all(extended.setdefault(array, position) == position for array, position in place):
                yield extended
