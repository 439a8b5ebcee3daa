"""The parts of a type: which types can be changed in place, and which read a NaN as another value."""

import dataclasses
import enum
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypedDict, TypeVar
from uuid import UUID

import msgspec
import pytest

from runtime.wire.type_parts import has_mutable_parts, reads_null_as_value

T = TypeVar("T")


class Leaf(msgspec.Struct, frozen=True, tag=True):
    value: int


class Open(msgspec.Struct, tag=True):
    value: int


class Tree(msgspec.Struct, frozen=True):
    children: "tuple[Tree, ...]" = ()


class Bush(msgspec.Struct, frozen=True):
    children: "list[Bush]" = []


class Box(msgspec.Struct, Generic[T], frozen=True):
    value: T


class Pair(NamedTuple):
    one: int
    two: frozenset[str]


class ListPair(NamedTuple):
    one: list[int]


class Typed(TypedDict):
    one: int


@dataclasses.dataclass(frozen=True)
class Frozen:
    one: int


@dataclasses.dataclass
class Unfrozen:
    one: int


class Color(enum.Enum):
    RED = "red"


IMMUTABLE = [
    int, str, bytes, float | None, Leaf, Tree, Box[int], Box[Box[str]], Pair, Frozen, Color, Literal["a", 1], datetime,
    Decimal, UUID, frozenset[tuple[int, ...]], tuple[int, Leaf], msgspec.Raw, Annotated[int, msgspec.Meta(ge=0)],
]  # fmt: skip
MUTABLE = [
    list[int], dict[str, int], set[int], bytearray, Any, object, Open, Leaf | Open, Bush, Box[list[int]], Box[Any], Box,
    ListPair, Typed, Unfrozen, Mapping[str, int], Sequence[int], tuple[Open, ...], Annotated[list[int], "note"],
]  # fmt: skip


@pytest.mark.parametrize("kind", IMMUTABLE, ids=str)
def test_a_type_without_mutable_parts(kind: Any) -> None:
    assert not has_mutable_parts(kind) and not has_mutable_parts(tuple[kind, str])


@pytest.mark.parametrize("kind", MUTABLE, ids=str)
def test_a_type_with_mutable_parts(kind: Any) -> None:
    assert has_mutable_parts(kind) and has_mutable_parts(tuple[kind, str])


@pytest.mark.parametrize("kind", [float | None, Any, object, Box[float | None], dict[str, Any], float | Literal[None]])
def test_a_type_that_reads_a_nan_as_none(kind: Any) -> None:
    assert reads_null_as_value(kind) and reads_null_as_value(tuple[kind, str])


@pytest.mark.parametrize("kind", [float, int | None, Box[float], tuple[float, None], float | msgspec.UnsetType])
def test_a_type_that_refuses_a_nan(kind: Any) -> None:
    assert not reads_null_as_value(kind)
