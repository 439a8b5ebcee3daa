"""An index of rules: which of many patterns an event matches, at a cost that follows the event and not the number of rules.

Each alternative of a pattern stands at one place: a field that the event must have, with the values for which the pattern
holds there. The values of an event find the rules at their places, and the whole pattern then decides. A mistake in a place
would cost time or miss a rule; a rule that does not match is never returned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from runtime.actor.patterns import Pattern, compile_branches
from runtime.router.places import Access, Places, Rule, access_of

__all__ = ["Index"]

_ALL = "*"


class Index:
    """Rules by name. All methods are synchronous, so an event is matched by the rules before or after a change."""

    def __init__(self) -> None:
        self._rules: dict[str, Rule] = {}
        self._places: dict[str, Places] = {}
        """The places by event type, by ``source.*``, and by ``*``."""

    def __len__(self) -> int:
        """Return the number of rules."""
        return len(self._rules)

    def __contains__(self, name: str) -> bool:
        """Return whether a rule has this name."""
        return name in self._rules

    def add(self, name: str, types: Collection[str] | None, pattern: Mapping[str, object] | str | None) -> None:
        """Add a rule.

        Args:
            name: The name of the rule.
            types: The CloudEvents types of its events, such as ``orders.OrderCreated``; ``orders.*`` for each type of a
                source. None or an empty collection for each event.
            pattern: As in the `where` of a reaction. None to match each event of these types.

        Raises:
            DeclarationError: The pattern is invalid. Nothing has changed.
            ValueError: A rule has this name.
        """
        if name in self._rules:
            raise ValueError(f"the index has a rule {name!r} already")
        self._add(*_compiled(name, pattern), types)

    def replace(self, name: str, types: Collection[str] | None, pattern: Mapping[str, object] | str | None) -> None:
        """Add a rule in place of the one with its name, if there is one.

        The arguments are those of `add`.

        Raises:
            DeclarationError: The pattern is invalid. Nothing has changed, and the old rule is in force.
        """
        compiled = _compiled(name, pattern)
        self.remove(name)
        self._add(*compiled, types)

    def remove(self, name: str) -> None:
        """Remove a rule, if it is there."""
        if name not in self._rules:
            return
        rule = self._rules.pop(name)
        for type_, chosen in rule.places.items():
            places = self._places[type_]
            for access in chosen:
                places.remove(rule, access)
            if places.is_empty():
                del self._places[type_]

    def match(self, type: str, body: object) -> list[str]:
        """Return the names of the rules that an event matches, sorted.

        Args:
            type: The CloudEvents type of the event.
            body: The decoded JSON of the event. One that is not an object has no fields.
        """
        found: set[Rule] = set()
        for key in (type, f"{type.partition('.')[0]}.*", _ALL):
            if key in self._places:
                self._places[key].find(body, found)
        return sorted([rule.name for rule in found if rule.matches is None or rule.matches(body)])

    def _add(self, rule: Rule, alternatives: list[list[Access]], types: Collection[str] | None) -> None:
        self._rules[rule.name] = rule
        for type_ in dict.fromkeys(types or (_ALL,)):
            places = self._places.setdefault(type_, Places())
            chosen = rule.places[type_] = _chosen(alternatives, places)
            for access in chosen:
                places.add(rule, access)


def _compiled(name: str, pattern: Mapping[str, object] | str | None) -> tuple[Rule, list[list[Access]]]:
    """Return a rule without places, and the places of each alternative of its pattern, of which one is enough."""
    if pattern is None:
        return Rule(name, None), []
    branches = compile_branches(pattern, f"rule {name}: pattern")
    conditions = {id(each): each for branch in branches for each in branch.values()}
    accesses = {key: access for key, each in conditions.items() if (access := access_of(each)) is not None}
    alternatives = [[accesses[id(each)] for each in branch.values() if id(each) in accesses] for branch in branches]
    # The place of a pattern of one field says all that the pattern does.
    is_place = len(conditions) == len(accesses) == 1
    return Rule(name, None if is_place else Pattern(branches).matches), alternatives


def _chosen(alternatives: list[list[Access]], places: Places) -> list[Access | None]:
    """Return the best place of each alternative, once; [None] if one of them has no place, or there are none."""
    if not all(alternatives):
        return [None]
    best = [min(each, key=places.cost) for each in alternatives]
    return [*{id(access): access for access in best}.values()] or [None]
