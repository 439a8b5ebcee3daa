"""The codec: strict decoding and encoding in both formats, with one error."""

from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import CodecError, DeclarationError, InvalidValue
from runtime.wire import header_block
from runtime.wire.codec import FORMATS, JSON, MSGPACK, Codec, Format, check_type, format_in, format_of
from runtime.wire.schemas import schema


class Line(msgspec.Struct, frozen=True, rename="camel"):
    product_id: str
    amount: int = 1


class Basket(msgspec.Struct, frozen=True, rename="camel"):
    name: str
    lines: list[Line] = []
    extra: dict[str, Any] = {}
    parent: "Basket | None" = None


BASKET = Codec[Basket](Basket)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
LINES = st.lists(st.builds(Line, TEXT, st.integers(-(2**63), 2**64 - 1)), max_size=4)
BASKETS = st.builds(Basket, TEXT, LINES, st.dictionaries(TEXT, st.none() | TEXT | st.integers(0, 9)))


@given(BASKETS)
def test_a_value_survives_a_round_trip_in_every_format(basket: Basket) -> None:
    assert BASKET.decode(JSON.encode(basket)) == BASKET.decode_json(JSON.encode(basket)) == basket
    for each in FORMATS:
        assert BASKET.decode(each.encode(basket), each) == basket


class Mixed(msgspec.Struct, frozen=True):
    number: Annotated[int, msgspec.Meta(ge=0)]
    price: float
    ratio: float | None
    text: str
    kind: Literal["a", "b"]
    pairs: tuple[tuple[str, float | None], ...]


MIXED = Codec[Mixed](Mixed)
ANY_VALUE = (
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.sampled_from(["a", "b", "c", "\ud800"])
)
PAIRS = st.lists(st.tuples(ANY_VALUE, ANY_VALUE), max_size=2).map(tuple)


@given(st.builds(Mixed, *[ANY_VALUE] * 5, PAIRS))
def test_a_value_is_encoded_if_and_only_if_its_type_reads_it_back(value: Mixed) -> None:
    try:
        read = msgspec.json.decode(msgspec.json.encode(value), type=Mixed)
    except (msgspec.ValidationError, ValueError):
        read = None
    if read == value:
        assert MIXED.decode_json(MIXED.encode(value)) == value
    else:
        with pytest.raises(InvalidValue, match=r"the value does not fit Mixed: .* - at `\$"):
            MIXED.encode(value)


class Picky(msgspec.Struct, frozen=True):
    number: int

    def __post_init__(self) -> None:
        if self.number in REFUSED:
            raise KeyError("no ValueError")


REFUSED: set[int] = set()


def test_a_value_is_refused_if_its_class_raises_when_it_is_read() -> None:
    value = Picky(5)
    REFUSED.add(5)
    with pytest.raises(InvalidValue, match="no ValueError"):
        Codec[Picky](Picky).encode(value)


class Nothing(msgspec.Struct, frozen=True):
    pass


@pytest.mark.parametrize("each", FORMATS)
def test_an_empty_body_is_an_object_without_fields(each: Format) -> None:
    assert Codec[Nothing](Nothing).decode(b"", each) == Nothing()


@pytest.mark.parametrize("each", FORMATS)
def test_every_format_is_found_by_the_header_of_its_replies(each: Format) -> None:
    block = header_block.join(each.header_line, b"traceresponse: 00-1\r\n")
    assert format_in(block) is format_of(header_block.get(block, header_block.CONTENT_TYPE)) is each
    assert format_in(header_block.join()) is JSON


NESTED = st.integers(1, 100_000).flatmap(
    lambda depth: st.sampled_from(
        [b"[" * depth, b'{"name":"","extra":{"a":' + b"[" * depth, b'{"parent":' * depth, b"\x91" * depth]
    )
)
HUGE = st.sampled_from(
    [b'{"name":"","lines":[{"productId":"","amount":%s}]}' % (b"9" * n) for n in (19, 20, 30, 400, 5000)]
)


@given(
    st.binary(max_size=80) | NESTED | HUGE | BASKETS.map(JSON.encode).map(lambda b: b.replace(b'"', b"\xff", 1)),
    st.sampled_from([None, "application/json", "application/msgpack", "text/xml", "", "application/cloudevents+json"]),
)
def test_arbitrary_bytes_raise_only_a_codec_error(payload: bytes, content_type: str | None) -> None:
    try:
        BASKET.decode(payload, format_of(content_type))
    except CodecError as error:
        assert str(error)  # noqa: PT017 - bytes that decode are fine, too


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "missing required field `name`"),
        (b'{"name":1}', r"Expected `str`, got `int` - at `\$\.name`"),
        (b'{"name":"a","lines":[{"productId":"x","amount":"2"}]}', r"at `\$\.lines\[0\]\.amount`"),
        (b"not json", "malformed"),
        (b'{"name":"\xff"}', "not valid UTF-8"),
        (b'{"name":"","parent":' * 100_000, "nested too deeply"),
    ],
)
def test_the_error_names_the_fault(payload: bytes, text: str) -> None:
    with pytest.raises(CodecError, match=text):
        BASKET.decode(payload)


@pytest.mark.parametrize(
    "name", ["application/msgpack", "application/x-msgpack", "Application/MsgPack; v=1", "application/vnd.msgpack"]
)
def test_the_content_types_of_messagepack(name: str) -> None:
    assert format_of(name) is MSGPACK


@pytest.mark.parametrize(
    "name", [None, "application/json", "application/json; charset=utf-8", "application/cloudevents+json", ""]
)
def test_the_content_types_of_json(name: str | None) -> None:
    assert format_of(name) is JSON


def test_another_content_type_is_refused() -> None:
    with pytest.raises(CodecError, match="'text/xml' is not supported"):
        format_of("text/xml")


class Bomb(msgspec.Struct):
    inner: list[dict[int, str]]


class Wraps(msgspec.Struct):
    bomb: Bomb | None = None


@pytest.mark.parametrize(
    "kind", [dict[int, str], list[dict[float, int]], Bomb, Wraps, dict[str, dict[int, int]], dict[int | str, int]]
)
def test_a_dict_with_keys_of_numbers_is_refused(kind: Any) -> None:
    with pytest.raises(DeclarationError, match="hash-collision bomb"):
        check_type(kind)


def test_a_schema_contains_all_its_definitions() -> None:
    assert set(schema(Basket)["$defs"]) == {"Basket", "Line"}


class Tags(msgspec.Struct, frozen=True):
    tags: frozenset[str] = frozenset()
    more: dict[str, set[int]] = {}
    mixed: frozenset[int | str | None] = frozenset()


@given(st.lists(TEXT, unique=True, max_size=12), st.lists(st.integers(0, 99), unique=True, max_size=12), st.randoms())
def test_equal_messages_with_sets_have_equal_bytes(texts: list[str], numbers: list[int], rng: Any) -> None:
    # The order of a set depends on the hash seed of the process, and on the order in which its items were added.
    colliding = [number * 1024 for number in numbers]
    one = Tags(frozenset(texts), {"a": set(colliding)})
    two = Tags(frozenset(rng.sample(texts, len(texts))), {"a": set(rng.sample(colliding, len(colliding)))})
    codec = Codec[Tags](Tags, repeatable=True)
    assert one == two and codec.encode(one) == codec.encode(two)
    assert codec.decode(codec.encode(one)) == one


def test_a_set_that_cannot_be_ordered_is_encoded_all_the_same() -> None:
    tags = Tags(mixed=frozenset([1, "a", None]))
    codec = Codec[Tags](Tags, repeatable=True)
    assert codec.decode(codec.encode(tags)) == tags
    with pytest.raises(InvalidValue):
        codec.encode(Tags(mixed=frozenset([object()])))  # type: ignore[arg-type]


class SecretLine(Line, frozen=True, rename="camel"):
    secret: str = "s3cret"


class Loose(msgspec.Struct, frozen=True):
    name: str = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loose)

    def __hash__(self) -> int:
        return 0


class SecretLoose(Loose, frozen=True):
    secret: str = "s3cret"


class Crate(msgspec.Struct, frozen=True):
    lines: tuple[Line, ...] = ()


class Crates(msgspec.Struct, frozen=True):
    crates: dict[str, Crate] = {}
    last: Crate | None = None


class Loosely(msgspec.Struct, frozen=True):
    part: Loose


CRATES_CODEC = Codec[Crates](Crates)
LOOSELY = Codec[Loosely](Loosely)
PARTS = st.builds(Line, TEXT) | st.builds(SecretLine, TEXT)
CRATES = st.builds(
    Crates, st.dictionaries(TEXT, st.builds(Crate, st.lists(PARTS, max_size=3).map(tuple))), st.builds(Crate)
)


@given(CRATES)
def test_no_part_of_a_body_has_a_field_that_its_type_does_not_have(crates: Crates) -> None:
    """The parts of subclasses are cut, at any depth. The body of a value without such parts is that of the value."""
    body = CRATES_CODEC.encode(crates)
    assert b"s3cret" not in body
    exact = all(type(line) is Line for crate in crates.crates.values() for line in crate.lines)
    assert not exact or body == JSON.encode(crates)


def test_a_part_with_an_equality_of_its_own_is_cut_as_well() -> None:
    assert b"s3cret" not in LOOSELY.encode(Loosely(SecretLoose()))
