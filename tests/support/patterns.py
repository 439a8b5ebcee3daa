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


patterns = _patterns()
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
bodies: st.SearchStrategy[Any] = objects | st.lists(objects, max_size=2) | literals
"""Decoded events, with nested arrays of objects."""
