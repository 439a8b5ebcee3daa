"""Event patterns with all operators, and events that they often match: strategies for property tests."""

from typing import Any

from hypothesis import strategies as st

texts = st.sampled_from(
    ["", "a", "A", "ab", "ba", "aba", "é", "É", "ß", "SS", "𝄞", "10.0.0.1", "::ffff:a00:1", "::1", "a*b"]
)
numbers = st.sampled_from([-1, 0, 1, 2, 2.5, 1.0, 300, 3e2, -0.0, 10**17, 1e17, 2**53])
literals: st.SearchStrategy[Any] = st.none() | st.booleans() | texts | numbers | st.just(2**53 + 1)
names = st.sampled_from(["a", "b", "c", "é"])

_folded = st.builds(lambda text: {"equals-ignore-case": text}, texts)
_full_texts = texts.filter(bool)
_wildcards = st.sampled_from(["a*", "*b", "a*a", "*", "a", "", "\\**", "*é*"])
_excluded = (
    texts
    | numbers
    | st.lists(texts, min_size=1, max_size=3)
    | st.lists(numbers, min_size=1, max_size=3)
    | st.builds(
        lambda name, listed: {name: listed},
        st.sampled_from(["prefix", "suffix", "equals-ignore-case"]),
        _full_texts | st.lists(_full_texts, min_size=1, max_size=2),
    )
    | st.builds(lambda text: {"wildcard": text}, _wildcards)
)
_ranges: st.SearchStrategy[list[object]] = st.builds(
    lambda sign, number: [sign, number], st.sampled_from(["<", "<=", "=", ">=", ">"]), numbers
) | st.builds(
    lambda low, other, number, width: [low, number, other, number + width],
    st.sampled_from([">", ">="]),
    st.sampled_from(["<", "<="]),
    st.integers(-2, 300),
    st.integers(1, 9),
)


def _operator(name: str, operands: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda operand: {name: operand}, operands)


operators = st.one_of(
    _operator("prefix", texts | _folded),
    _operator("suffix", texts | _folded),
    _operator("equals-ignore-case", texts),
    _operator("wildcard", _wildcards),
    _operator("anything-but", _excluded),
    _operator("numeric", _ranges),
    _operator("cidr", st.sampled_from(["10.0.0.0/8", "::/0", "0.0.0.0/0"])),
    _operator("exactly", texts),
    _operator("exists", st.booleans()),
)
matchers = literals | st.lists(literals | operators, min_size=1, max_size=3)


def _fields(inner: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(names, matchers | inner, min_size=least, max_size=3)


@st.composite
def _patterns(draw: st.DrawFn, depth: int = 1) -> dict[str, Any]:
    inner = _patterns(depth - 1) if depth else st.nothing()
    found = draw(_fields(inner))
    if draw(st.integers(0, 3)) == 0:
        free = st.sampled_from(["d", "e"])
        alternatives = st.lists(st.dictionaries(free, matchers | inner, min_size=1, max_size=2), min_size=2, max_size=3)
        found["$or"] = draw(alternatives)
        if draw(st.booleans()):
            found = {"$or": found["$or"]}
    if draw(st.integers(0, 3)) == 0:
        found[draw(st.sampled_from(["x.a", "x.b", "x.a.b"]))] = draw(matchers)
    return found


event_patterns = _patterns()
"""Valid patterns: nested, with dots in names, ``$or``, and each operator."""

_leaf_or_array = literals | st.lists(literals, max_size=3)
_keys = st.sampled_from(["a", "b", "c", "é", "d", "e", "x", "x.a", "a.b"])
objects = st.recursive(
    st.dictionaries(_keys, _leaf_or_array, max_size=5),
    lambda inner: st.dictionaries(
        _keys,
        _leaf_or_array
        | inner
        | st.lists(inner | literals, max_size=3)
        | st.lists(st.lists(inner, max_size=2), max_size=2),
        max_size=4,
    ),
    max_leaves=6,
)
any_bodies: st.SearchStrategy[Any] = objects | st.lists(objects, max_size=2) | literals
"""Decoded events, with nested arrays of objects."""


_EXAMPLES: dict[str, Any] = {
    "numeric": lambda operand: (
        operand[1] if operand[0] in ("=", ">=", "<=") else operand[1] + (operand[0] == ">") - 0.5
    ),
    "cidr": lambda operand: operand.partition("/")[0],
    "wildcard": lambda operand: operand.replace("*", "xy").replace("\\xy", "*"),
    "anything-but": lambda operand: 7,
    "exists": lambda operand: 0 if operand else {},
}
"""For an operator, a function that returns a value that it matches; the operand itself for the others."""


def _example(matcher: Any) -> Any:
    if not isinstance(matcher, dict):
        return matcher
    [(name, operand)] = matcher.items()
    return _EXAMPLES.get(name, lambda same: next(iter(same.values())) if isinstance(same, dict) else same)(operand)


def _likely(draw: st.DrawFn, pattern: dict[str, Any]) -> dict[str, Any]:
    """Return an event that a pattern matches, or nearly so, with arrays around some of its values."""
    found: dict[str, Any] = {}
    for key, value in pattern.items():
        if key == "$or":
            found |= _likely(draw, draw(st.sampled_from(value)))
            continue
        part = (
            _likely(draw, value)
            if isinstance(value, dict)
            else _example(draw(st.sampled_from(value)) if isinstance(value, list) else value)
        )
        around = draw(st.integers(0, 7))
        found[key] = (
            [part]
            if around == 0
            else [draw(any_bodies), part]
            if around == 1
            else [[{}], [part]]
            if around == 2
            else part
        )
        if around == 3:
            found.pop(key)
            head, dot, tail = key.partition(".")
            found |= {head: {tail: part}} if dot else {}
    return found


@st.composite
def _bodies_for(draw: st.DrawFn, listed: list[dict[str, Any]]) -> Any:
    return _likely(draw, draw(st.sampled_from(listed)))


def bodies_for(*listed: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return a strategy of decoded events, many of which match one of these patterns."""
    return _bodies_for([*listed]) | any_bodies if listed else any_bodies
