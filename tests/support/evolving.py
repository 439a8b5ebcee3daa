"""Random types of fields with strategies for their values, and small changes of them."""

import itertools
import random
import string
from collections.abc import Callable
from functools import reduce
from typing import Annotated, Any, Literal

import msgspec
from hypothesis import strategies as st
from msgspec import Meta

from runtime.wire.schemas import schema

Values = st.SearchStrategy[Any]
_numbered = itertools.count()


class Kind(msgspec.Struct, frozen=True, eq=False):
    """A type, its values, and how another one is made of it."""

    type: Any
    values: Values
    change: Callable[[random.Random], "Kind"]
    of_struct: bool = False

    def changed(self, seed: int) -> "Kind":
        """Return this kind with one small change."""
        return self.change(random.Random(seed))

    def __repr__(self) -> str:
        return repr(schema(self.type))


def kinds() -> st.SearchStrategy[Kind]:
    """Return a strategy of structs."""
    leaves = st.one_of(_numbers(), _floats(), _strings(), _literals(), st.sampled_from([_plain(bool), _plain(None)]))
    inner = st.recursive(
        leaves,
        lambda each: st.one_of(
            _lists(each), _dicts(each), _pairs(each), _optional(each), _structs(each), _unions(each)
        ),
        max_leaves=5,
    )
    return _structs(inner)


def _plain(kind: Any) -> Kind:
    values: Values = st.none() if kind is None else st.from_type(kind)
    return Kind(kind, values, lambda chance: _plain(chance.choice([bool, None, int, str])))


def _number(low: int | None, high: int | None) -> Kind:
    if low is not None and high is not None and low > high:
        low, high = high, low
    kind = Annotated[int, Meta(ge=low, le=high)] if (low, high) != (None, None) else int

    def change(chance: random.Random) -> Kind:
        if chance.random() < 0.3:
            return _float(low)
        bounds = [chance.choice([None, bound, (bound or 0) + chance.randint(-2, 2)]) for bound in (low, high)]
        return _number(bounds[0], bounds[1])

    least, most = (-(2**40) if low is None and (high or 0) >= 0 else low), high
    return Kind(kind, st.integers(least, most), change)


def _numbers() -> st.SearchStrategy[Kind]:
    bound = st.none() | st.integers(-5, 5)
    return st.builds(_number, bound, bound)


def _float(low: int | None) -> Kind:
    kind = Annotated[float, Meta(gt=low)] if low is not None else float
    values = st.floats(low, allow_nan=False, allow_infinity=False, exclude_min=low is not None)
    return Kind(
        kind, values, lambda chance: chance.choice([_number(low, None), _float(None), _float(chance.randint(-3, 3))])
    )


def _floats() -> st.SearchStrategy[Kind]:
    return st.builds(_float, st.none() | st.integers(-5, 5))


def _string(least: int, more: int | None, pattern: str | None) -> Kind:
    most = None if more is None else least + more
    kind = Annotated[str, Meta(min_length=least, max_length=most, pattern=pattern)]
    if pattern is not None:
        values: Values = st.text("ab", min_size=max(least, 1), max_size=max(most or 5, least, 1)).map(
            lambda text: pattern[1] + text[1:]
        )
        if most == 0:
            values = st.nothing()
    else:
        values = st.text(min_size=least, max_size=most)

    def change(chance: random.Random) -> Kind:
        return chance.choice(
            [
                _string(least + 1, more, pattern),
                _string(least, chance.choice([None, 1, 4]), pattern),
                _string(least, more, chance.choice([None, "^a", "^b"])),
                _literal(("a", "b")),
            ]
        )

    return Kind(kind, values, change)


def _strings() -> st.SearchStrategy[Kind]:
    return st.builds(
        _string, st.integers(0, 2), st.none() | st.integers(1, 3), st.sampled_from([None, None, "^a", "^b"])
    )


def _literal(values: tuple[Any, ...]) -> Kind:
    def change(chance: random.Random) -> Kind:
        others = tuple(dict.fromkeys(chance.choices(["a", "b", "c", 1, 2], k=3)))
        return _literal(chance.choice([others, values[:1], (*values[:1], "d")]))

    return Kind(Literal[values], st.sampled_from(values), change)


def _literals() -> st.SearchStrategy[Kind]:
    return st.lists(st.sampled_from(["a", "b", "c", 1, 2]), min_size=1, max_size=3, unique=True).map(
        lambda each: _literal(tuple(each))
    )


def _list(item: Kind, least: int, most: int | None) -> Kind:
    kind = Annotated[list[item.type], Meta(min_length=least, max_length=most)]
    values = st.lists(item.values, min_size=least, max_size=3 if most is None else most)

    def change(chance: random.Random) -> Kind:
        return chance.choice(
            [
                _list(item.change(chance), least, most),
                _list(item, 1 - least, most),
                _list(item, least, chance.choice([None, 2, 3])),
                item,
            ]
        )

    return Kind(kind, values, change)


def _lists(item: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    return st.builds(_list, item, st.integers(0, 1), st.sampled_from([None, 2]))


def _dict(value: Kind) -> Kind:
    kind = dict[str, value.type]
    values = st.dictionaries(st.sampled_from("abcd"), value.values, max_size=3)
    return Kind(
        kind, values, lambda chance: chance.choice([_dict(value.change(chance)), _struct({"a": value}, {"a"}, "")])
    )


def _dicts(value: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    return value.map(_dict)


def _pair(items: tuple[Kind, ...]) -> Kind:
    kind = tuple[tuple(each.type for each in items)]

    def change(chance: random.Random) -> Kind:
        return chance.choice(
            [_pair((items[0].change(chance), *items[1:])), _pair((*items, items[0])), _list(items[0], 0, None)]
        )

    return Kind(kind, st.tuples(*(each.values for each in items)), change)


def _pairs(item: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    return st.lists(item, min_size=1, max_size=2).map(lambda each: _pair(tuple(each)))


def _nullable(kind: Kind) -> Kind:
    def change(chance: random.Random) -> Kind:
        return chance.choice([kind, _nullable(kind.change(chance))])

    return Kind(kind.type | None if kind.type is not None else None, st.none() | kind.values, change)


def _optional(kind: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    return kind.map(_nullable)


def _struct(fields: dict[str, Kind], optional: set[str], tag: str, strict: bool = False) -> Kind:
    """Return a struct. An optional field is left out if it has its default, a marker that no value is equal to."""
    ordered = [
        (name, fields[name].type)
        if name not in optional
        else (
            name,
            fields[name].type | msgspec.UnsetType if fields[name].type is not None else None | msgspec.UnsetType,
            msgspec.UNSET,
        )
        for name in sorted(fields)
    ]
    kind = msgspec.defstruct(
        f"S{tag}{next(_numbered)}", ordered, kw_only=True, tag=tag or None, forbid_unknown_fields=strict
    )
    given = {
        name: (each.values | st.just(msgspec.UNSET) if name in optional else each.values)
        for name, each in fields.items()
    }

    def change(chance: random.Random) -> Kind:
        name = chance.choice([*fields, "new"])
        rest = {each: kind for each, kind in fields.items() if each != name}
        if name not in fields:
            return _struct({**fields, "new": _plain(int)}, chance.choice([optional, {*optional, "new"}]), tag, strict)
        changed = {**rest, name: fields[name].change(chance)}
        return chance.choice(
            [
                _struct(rest, optional - {name}, tag, strict),
                _struct(changed, optional, tag, strict),
                _struct(changed, optional, tag, strict),
                _struct(fields, optional ^ {name}, tag, strict),
                _struct(fields, optional, tag, not strict),
            ]
        )

    return Kind(kind, st.builds(kind, **given), change, of_struct=True)


def _structs(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    names = st.sampled_from(string.ascii_lowercase[:4])
    return st.builds(
        _struct,
        st.dictionaries(names, inner, max_size=3),
        st.sets(names, max_size=2),
        st.just(""),
        st.sampled_from([False, False, False, True]),
    )


def _union(members: dict[str, Kind]) -> Kind:
    kind = reduce(lambda one, other: one | other, (each.type for each in members.values()))

    def change(chance: random.Random) -> Kind:
        tag = chance.choice(list(members))
        rest = {each: kind for each, kind in members.items() if each != tag}
        return chance.choice(
            [
                _union(rest or members),
                _union({**rest, tag: members[tag].change(chance)}),
                _union({**members, "D": _struct({}, set(), "D")}),
            ]
        )

    return Kind(kind, st.one_of(*(each.values for each in members.values())), change)


def _unions(inner: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    def build(fields: dict[str, dict[str, Kind]]) -> Kind:
        return _union({tag: _struct(each, set(), tag) for tag, each in fields.items()})

    body = st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    return st.dictionaries(st.sampled_from("ABC"), body, min_size=1, max_size=3).map(build)
