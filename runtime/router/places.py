"""The places of rules in an index: where a value of an event finds the rules that may match."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from runtime.actor.pattern_addresses import address_of
from runtime.actor.pattern_operators import compile_values, key_of
from runtime.actor.patterns import MAX_NESTED_ARRAYS, Condition, Predicate

__all__ = ["Access", "Places", "Rule", "access_of"]


class Rule:
    """A rule in an index.

    Args:
        name: The name of the rule.
        matches: Tests whether an event matches; None if each event does that finds the rule.
    """

    __slots__ = ("matches", "name", "places")

    def __init__(self, name: str, matches: Predicate | None) -> None:
        self.name = name
        self.matches = matches
        self.places: dict[str, list[Access | None]] = {}
        """Its places by event type. None is the place that each event finds."""


class Access(NamedTuple):
    """The values of one field that find a rule: those for which a condition of its pattern holds."""

    path: str
    keys: tuple[object, ...]
    """Values to be equal to, in the form of `key_of`, and addresses."""
    prefixes: tuple[str, ...]
    tests: tuple[tuple[str, Predicate], ...]
    """Other operators as JSON, each with its predicate."""
    rank: int
    """0 if a value is looked up, 1 if it is tested, 2 if most values pass the test."""


_MOST_PASS = frozenset({"anything-but", "exists"})


def access_of(condition: Condition) -> Access | None:
    """Return the values for which a condition holds; None if it may hold for an absent field."""
    if condition.absent:
        return None
    keys: list[object] = []
    prefixes: list[str] = []
    tests: list[tuple[str, Predicate]] = []
    rank = 0
    for matcher in condition.matchers:
        if not isinstance(matcher, Mapping):
            address = address_of(matcher)
            keys.append(key_of(matcher) if address is None else address)
            continue
        [(name, operand)] = cast("Mapping[str, Any]", matcher).items()
        if name == "exactly":
            keys.append(operand)
        elif name == "numeric" and operand[0] == "=":
            keys.append(key_of(operand[1]))
        elif name == "prefix" and isinstance(operand, str):
            prefixes.append(operand)
        else:
            test, _ = compile_values([matcher], condition.label)
            assert test is not None
            tests.append((json.dumps(matcher, sort_keys=True, default=dict), test))
            rank = max(rank, 2 if name in _MOST_PASS else 1)
    return Access(condition.path, tuple(keys), tuple(prefixes), tuple(tests), rank)


_Rules = set[Rule]


class _Leaf:
    """The rules that the values of one field find."""

    __slots__ = ("addresses", "keys", "prefixes", "tests")

    def __init__(self) -> None:
        self.keys: dict[object, _Rules] = {}
        self.addresses = 0
        """The number of addresses among the keys."""
        self.prefixes: dict[int, dict[str, _Rules]] = {}
        """The rules by a prefix of a text, by the length of the prefix."""
        self.tests: dict[str, tuple[Predicate, _Rules]] = {}
        """Predicates with the rules that share them, by their JSON."""

    def find(self, value: object, found: _Rules) -> None:
        """Add the rules that a value finds."""
        if type(value) is str:
            if value in self.keys:
                found |= self.keys[value]
            for length, texts in self.prefixes.items():
                start = value[:length]
                if start in texts:
                    found |= texts[start]
            if self.addresses and (address := address_of(value)) in self.keys:
                found |= self.keys[address]
        elif (key := key_of(value)) in self.keys:
            found |= self.keys[key]
        for test, rules in self.tests.values():
            if test(value):
                found |= rules

    def add(self, rule: Rule, access: Access) -> None:
        for key in access.keys:
            if key not in self.keys:
                self.keys[key] = set()
                self.addresses += _is_address(key)
            self.keys[key].add(rule)
        for text in access.prefixes:
            self.prefixes.setdefault(len(text), {}).setdefault(text, set()).add(rule)
        for form, test in access.tests:
            self.tests.setdefault(form, (test, set()))[1].add(rule)

    def remove(self, rule: Rule, access: Access) -> None:
        for key in access.keys:
            if _discard(self.keys, key, rule):
                self.addresses -= _is_address(key)
        for text in access.prefixes:
            texts = self.prefixes.get(len(text), {})
            if _discard(texts, text, rule) and not texts:
                del self.prefixes[len(text)]
        for form, _ in access.tests:
            if form in self.tests and rule in (rules := self.tests[form][1]):
                rules.remove(rule)
                if not rules:
                    del self.tests[form]

    def count(self, access: Access) -> int:
        """Return the largest number of rules that a value finds together with one of `access`."""
        counts = [len(self.keys.get(key, ())) for key in access.keys]
        counts += [len(self.prefixes.get(len(text), {}).get(text, ())) for text in access.prefixes]
        counts += [len(self.tests[form][1]) for form, _ in access.tests if form in self.tests]
        return max(counts, default=0)

    def is_empty(self) -> bool:
        return not (self.keys or self.prefixes or self.tests)


def _is_address(key: object) -> bool:
    return type(key) is tuple and len(cast("tuple[object, ...]", key)) == 2  # a tuple of one is a form of `key_of`


def _discard(places: dict[Any, _Rules], key: object, rule: Rule) -> bool:
    """Remove a rule from a place; return whether the place is gone. A list may name a value twice."""
    rules = places.get(key)
    if rules is None:
        return False
    rules.discard(rule)
    if rules:
        return False
    del places[key]
    return True


class _Name:
    """A name that a field of an event may have, in the object where it is looked for."""

    __slots__ = ("below", "leaf", "uses")

    def __init__(self, below: _Names) -> None:
        self.leaf: _Leaf | None = None
        """The rules that a value with this name finds; None if no rule is about it."""
        self.below = below
        """The names to look for in an object with this name."""
        self.uses = 0


_Names = dict[str, _Name]


class Places:
    """The places of the rules of one event type, as a tree of the names of fields.

    A field `a.b` is found in an object `a` and as a field of that name, so both names lead to the same places.
    """

    def __init__(self) -> None:
        self.always: _Rules = set()
        """The rules that each event finds."""
        self._leaves: dict[str, _Leaf] = {}
        self._below: dict[str, _Names] = {"": {}}
        """The names to look for, by the path of the object with a dot behind each name."""

    def find(self, body: object, found: _Rules) -> None:
        """Add the rules that may match an event: each rule that does, and others."""
        found |= self.always
        if type(body) is dict:
            _walk(self._below[""], cast("dict[str, Any]", body), found, 0)

    def add(self, rule: Rule, access: Access | None) -> None:
        """Add a rule at the place `access`; None is the place that each event finds."""
        if access is None:
            self.always.add(rule)
            return
        leaf = self._leaves.get(access.path)
        if leaf is None:
            leaf = self._leaves[access.path] = _Leaf()
            self._add_names(access.path, leaf)
        leaf.add(rule, access)

    def remove(self, rule: Rule, access: Access | None) -> None:
        """Remove a rule from a place that it has."""
        if access is None:
            self.always.discard(rule)
        elif (leaf := self._leaves.get(access.path)) is not None:
            leaf.remove(rule, access)
            if leaf.is_empty():
                del self._leaves[access.path]
                self._remove_names(access.path)

    def cost(self, access: Access) -> tuple[int, int, bool]:
        """Return a value that is smaller for a better place: one that is looked up, with few rules, without prefixes."""
        leaf = self._leaves.get(access.path)
        return access.rank, leaf.count(access) if leaf is not None else 0, bool(access.prefixes)

    def is_empty(self) -> bool:
        """Return whether no rule has a place."""
        return not (self.always or self._leaves)

    def _add_names(self, path: str, leaf: _Leaf) -> None:
        for above, name in _names(path):
            whole = above + name
            names = self._below[above]
            if name not in names:
                names[name] = _Name(self._below.setdefault(f"{whole}.", {}))
            names[name].uses += 1
            if whole == path:
                names[name].leaf = leaf

    def _remove_names(self, path: str) -> None:
        for above, name in _names(path):
            whole = above + name
            found = self._below[above][name]
            found.uses -= 1
            if whole == path:
                found.leaf = None
        for above, name in [*_names(path)]:
            names = self._below.get(above, {})
            if name in names and not names[name].uses:
                del names[name]
                self._below.pop(f"{above}{name}.", None)


def _names(path: str) -> Iterator[tuple[str, str]]:
    """Yield each name that leads to a path, with and without dots in it, after the part of the path above it."""
    ends = [*(index for index, char in enumerate(path) if char == "."), len(path)]
    for start in (0, *(end + 1 for end in ends[:-1])):
        for end in ends:
            if end >= start:
                yield path[:start], path[start:end]


def _walk(names: _Names, body: dict[str, Any], found: _Rules, arrays: int) -> None:
    """Add the rules that the fields of an object find. The depth is that of the patterns, and of `MAX_NESTED_ARRAYS`."""
    for key in names.keys() & body.keys():
        name, value = names[key], body[key]
        kind = type(value)
        if kind is dict:
            if name.below:
                _walk(name.below, value, found, arrays)
        elif kind is list:
            _walk_array(name, value, found, arrays)
        elif name.leaf is not None:
            name.leaf.find(value, found)


def _walk_array(name: _Name, values: list[Any], found: _Rules, arrays: int) -> None:
    for value in values:
        kind = type(value)
        if kind is dict:
            if name.below and arrays < MAX_NESTED_ARRAYS:
                _walk(name.below, value, found, arrays + 1)
        elif kind is list:
            if arrays < MAX_NESTED_ARRAYS:
                _walk_array(name, value, found, arrays + 1)
        elif name.leaf is not None:
            name.leaf.find(value, found)
