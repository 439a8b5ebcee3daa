"""JSON Schemas and the service accept the same messages."""

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import Meta

from runtime import Actor, Command, DeclarationError, Query, command, query
from runtime.admin import discovery
from runtime.errors import CodecError
from runtime.nats.server import EmbeddedServer
from runtime.wire.codec import MSGPACK, Codec
from runtime.wire.schemas import schema, with_key
from runtime.wire.tokens import MAX_TOKEN, key_token
from tests.support.probe import running


class Color(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 20


class Point(NamedTuple):
    x: int
    y: int = 0


class Size(TypedDict, total=False):
    width: int
    unit: Annotated[str, Meta(pattern="^[a-z]+$")]


class Cat(msgspec.Struct, frozen=True, tag="cat"):
    lives: int = 9


class Dog(msgspec.Struct, frozen=True, tag="dog"):
    name: str


class Row(msgspec.Struct, frozen=True, array_like=True):
    code: Annotated[str, Meta(pattern="^[A-Z]{2}$")]
    count: int = 0


class Part(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    part_code: Annotated[str, Meta(pattern=r"^\d+$")]
    parts: "list[Part]" = []


KINDS: dict[str, Any] = {
    "none": None,
    "bool": bool,
    "int": int,
    "bounded int": Annotated[int, Meta(ge=-5, lt=200)],
    "even": Annotated[int, Meta(multiple_of=2)],
    "float": float,
    "bounded float": Annotated[float, Meta(gt=0, le=100)],
    "number": int | float,
    "str": str,
    "bounded str": Annotated[str, Meta(min_length=2, max_length=3)],
    "country": Annotated[str, Meta(pattern="^[A-Z]{2}$")],
    "end": Annotated[str, Meta(pattern=r"^(a|b$)")],
    "digits": Annotated[str, Meta(pattern=r"^\w[\d]\d$")],
    "absolute": Annotated[str, Meta(pattern=r"\A[$a]\$\Z")],
    "brackets": Annotated[str, Meta(pattern=r"^[]a[]+$")],
    "optional country": Annotated[str, Meta(pattern="^[A-Z]{2}$")] | None,
    "countries": list[Annotated[str, Meta(pattern="^[A-Z]{2}$")]],
    "by country": dict[Annotated[str, Meta(pattern="^[A-Z]{2}$")], int],
    "pair": tuple[int, Annotated[str, Meta(pattern="^[A-Z]{2}$")]],
    "bytes": bytes,
    "datetime": datetime,
    "aware": Annotated[datetime, Meta(tz=True)],
    "naive": Annotated[datetime, Meta(tz=False)],
    "date": date,
    "time": time,
    "naive time": Annotated[time, Meta(tz=False)],
    "timedelta": timedelta,
    "uuid": UUID,
    "decimal": Decimal,
    "enum": Color,
    "int enum": Level,
    "literal": Literal[1, "a", None],
    "list": list[int],
    "bounded list": Annotated[list[int], Meta(min_length=1, max_length=2)],
    "set": set[int],
    "tuple": tuple[int, ...],
    "dict": dict[str, int],
    "by enum": dict[Color, int],
    "by level": dict[Level, int],
    "by literal": dict[Literal["red", "20"], int],
    "by uuid": dict[UUID, int],
    "by date": dict[date, int],
    "named tuple": Point,
    "typed dict": Size,
    "struct": Part,
    "optional struct": Part | None,
    "tagged": Cat,
    "union": Cat | Dog | int | None,
    "row": Row,
    "any": Any,
}
TEXTS = [
    "DE", "DE\n", "de", "\n", "a", "b", "b\n", "ab", "12", "٣", "a12", "é12", "a1٣", "$$", "a$", "a$\n", "]", "[]a", "red", "20",
    "1", "cat", "dog", "cm", "cm\n", "aGk=", "aGk", "aGk=\n", "====", "2020-02-29", "2021-02-29", "1900-02-29", "0000-01-01",
    "2020-01-01T00:00:00", "2020-01-01T00:00:00Z", "2020-01-01 23:59:59.25+01:00", "2020-01-01T24:00:00Z", "2020-04-31T00:00:00Z",
    "2020-01-01T00:00:00+24:00", "00:00:00", "23:59:60", "12:00:00z", "12:00:00.5-0100", "12:00:00\n", "PT1S", "-P1DT1.5H", "P",
    "PT", "P1DT", "P1W", "pt1m2s", "PT1S1M", "12345678-1234-5678-1234-567812345678", "12345678123456781234567812345678",
    "12345678-12345678-1234-567812345678", "1.5", "-1e5", "NaN", "Infinity", "1.", ".", "", "🗝🗝", "éé", "aaaa",
]  # fmt: skip
NUMBERS = [
    "0", "-0", "-0.0", "0.0e5", "1", "1.0", "2.0e0", "1e2", "100E-2", "15e-1", "0.5", "-5", "-5.0", "-6", "199.99", "200.0", "20", "20.0",
    "1e22", "123456789012345678901234567890", "2.50e1", "true", "false", "null",
]  # fmt: skip
SCALARS = st.sampled_from(NUMBERS) | st.sampled_from([json.dumps(text) for text in TEXTS])
NAMES = st.sampled_from(
    ["DE", "DE\n", "red", "green", "1", "20", "01", "partCode", "parts", "type", "name", "lives", "width", "unit", "2020-02-29",
     "12345678123456781234567812345678", "x"]
)  # fmt: skip


def _array(items: list[str]) -> str:
    return f"[{','.join(items)}]"


def _object(items: dict[str, str]) -> str:
    return f"{{{','.join(f'{json.dumps(name)}: {value}' for name, value in items.items())}}}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(_array) | st.dictionaries(NAMES, inner, max_size=3).map(_object),
    max_leaves=5,
)
HOLDERS = {name: msgspec.defstruct("Holder", [("value", kind)]) for name, kind in KINDS.items()}
CODECS = {name: Codec[Any](kind) for name, kind in HOLDERS.items()}
VALIDATORS = {name: Draft202012Validator(schema(kind)) for name, kind in HOLDERS.items()}


def accepted(codec: Codec[Any], text: str) -> bool:
    """Return whether the service takes a body."""
    try:
        codec.decode(text.encode())
    except CodecError:
        return False
    return True


@pytest.mark.parametrize("name", KINDS)
def test_every_text_and_number_is_valid_if_the_service_accepts_it(name: str) -> None:
    outcomes = set()
    # Decimal() of Python reads the digits of all scripts, which no expression of both languages describes.
    texts = [text for text in TEXTS if text != "٣"] if name == "decimal" else TEXTS
    for value in [*NUMBERS, *map(json.dumps, texts)]:
        for text in (f'{{"value": {value}}}', f'{{"value": [{value}]}}', f'{{"value": {{"partCode": {value}}}}}'):
            valid = VALIDATORS[name].is_valid(json.loads(text))
            assert accepted(CODECS[name], text) == valid, text
            outcomes.add(valid)
    assert False in outcomes or name == "any"


@settings(max_examples=300)
@given(value=VALUES)
@example(value='{"type": "dog", "name": "DE", "x": 1e2}')
@example(value='["DE", 1.0, "further"]')
@example(value='{"partCode": "12", "parts": [{"partCode": "\\u0663"}]}')
@example(value='{"1": 1, "20": 2.0}')
@example(value="[1, 1.0]")
def test_every_value_is_valid_if_the_service_accepts_it(value: str) -> None:
    text = f'{{"value": {value}}}'
    data = json.loads(text)
    for name, validator in VALIDATORS.items():
        if name == "decimal" and "\\u0663" in value:
            continue  # See the test above: Decimal() reads the digits of all scripts.
        assert accepted(CODECS[name], text) == validator.is_valid(data), (name, text)


def test_a_missing_field_is_invalid_in_both() -> None:
    for name, validator in VALIDATORS.items():
        assert not accepted(CODECS[name], "{}") and not validator.is_valid({})


@given(st.integers(-(10**300), 10**300), st.integers(0, 12), st.integers(0, 3))
def test_an_integer_is_read_in_every_notation(value: int, shift: int, zeros: int) -> None:
    digits = str(abs(value)).rjust(shift + 1, "0")
    notation = f"{digits[:-shift] if shift else digits}.{digits[-shift:] if shift else ''}{'0' * (zeros + 1)}e{shift}"
    notation = f"{'-' if value < 0 else ''}{notation.lstrip('0') if not notation.startswith('0.') else notation}"
    assert CODECS["int"].decode(f'{{"value": {notation}}}'.encode()).value == value


@pytest.mark.parametrize(
    "notation", ["1e999999999", "1e310", "-1E99999999999999", "1.5", "1e-1", "[" + "1e300," * 1000 + "1]"]
)
def test_a_number_that_is_no_integer_or_too_large_is_refused(notation: str) -> None:
    for name in ("int", "list"):
        assert not accepted(CODECS[name], f'{{"value": {notation}}}')


def test_texts_and_other_fields_keep_their_numbers() -> None:
    kind = msgspec.defstruct("Holder", [("a", int), ("b", str), ("c", float), ("d", dict[str, str])])
    found = Codec[Any](kind).decode(rb'{"a": 1.0, "b": "2.0 \" 3e1", "c": 4.5, "d": {"5.0": "6.0"}}')
    assert (found.a, found.b, found.c, found.d) == (1, '2.0 " 3e1', 4.5, {"5.0": "6.0"})


def test_a_final_line_feed_is_refused_in_every_format_and_the_error_names_the_field() -> None:
    codec = Codec[Any](
        msgspec.defstruct("Order", [("parts", list[Part]), ("country", KINDS["optional country"], None)])
    )
    for form in (None, MSGPACK):
        encode = json.dumps if form is None else msgspec.msgpack.encode
        for body, path in (
            ({"parts": [], "country": "DE\n"}, r"\$\.country"),
            (
                {"parts": [{"partCode": "1"}, {"partCode": "1", "parts": [{"partCode": "1\n"}]}]},
                r"\[1\]\.parts\[0\]\.partCode",
            ),
        ):
            data = encode(body)
            with pytest.raises(CodecError, match=f"Expected `str` matching regex .* - at `.*{path}`"):
                codec.decode(data.encode() if isinstance(data, str) else data, *([form] if form else []))


def _keywords(found: Any) -> set[str]:
    """Return the keywords of a schema, without the names of properties and definitions."""
    if isinstance(found, list):
        return {word for each in found for word in _keywords(each)}
    if not isinstance(found, dict):
        return set()
    named = {name for key in ("properties", "$defs") for name in found.get(key, {})}
    inner = [value for key in ("properties", "$defs") for value in found.get(key, {}).values()]
    inner += [
        value for key, value in found.items() if key not in ("properties", "$defs", "default", "enum", "required")
    ]
    return {key for key in found if key not in named or key in ("properties", "$defs")} | _keywords(inner)


VOCABULARY = set(
    "$ref $defs title description type properties required additionalProperties propertyNames items prefixItems minItems maxItems "
    "uniqueItems minProperties maxProperties minLength maxLength pattern minimum maximum exclusiveMinimum exclusiveMaximum "
    "multipleOf enum anyOf default format contentEncoding".split()
)


@pytest.mark.parametrize("name", KINDS)
def test_a_schema_has_only_standard_keywords_and_formats(name: str) -> None:
    found = schema(HOLDERS[name])
    Draft202012Validator.check_schema(found)
    assert _keywords(found) <= VOCABULARY
    formats = {each.get("format") for each in found["$defs"]["Holder"]["properties"].values()}
    assert formats <= {None, "date-time", "date", "time", "duration", "uuid"}


KEYED = with_key(schema(HOLDERS["str"]), HOLDERS["str"], "value")
KEYS = st.tuples(
    st.sampled_from(["k", "-", " ", "é", "€", "🗝", "\n"]),
    st.integers(0, MAX_TOKEN + 1),
    st.sampled_from(["", "k", "€"]),
)


@given(KEYS)
@example(("k", MAX_TOKEN, ""))
@example(("k", MAX_TOKEN, "k"))
@example((" ", MAX_TOKEN // 3, ""))
@example(("é", MAX_TOKEN // 6, "é"))
@example(("🗝", MAX_TOKEN // 12, "🗝"))
def test_a_key_is_valid_if_a_subject_can_hold_it(parts: tuple[str, int, str]) -> None:
    character, count, last = parts
    key = character * count + last
    try:
        fits = len(key_token(key)) <= MAX_TOKEN
    except CodecError:
        fits = False
    assert Draft202012Validator(KEYED).is_valid({"value": key}) == fits


class Inner(msgspec.Struct, frozen=True, rename="camel"):
    note_id: str = "none"


class PutNote(Command[None], actor="notes", key="inner.note_id"):
    inner: Inner | None = None
    country: Annotated[str, Meta(pattern="^[A-Z]{2}$")] = "DE"
    amount: int = 0


class GetNote(Query[Inner], actor="notes", key="id"):
    id: Any = None


class Notes(Actor[Inner]):
    name = "notes"

    @command
    async def put_note(self, message: PutNote) -> None:
        self.state = message.inner

    @query
    async def get_note(self, message: GetNote) -> Inner:
        return Inner(self.key)


async def test_a_running_service_accepts_what_its_announced_schemas_accept(
    nats_server: EmbeddedServer, namespace: str
) -> None:
    bodies = {
        "put_note": [
            {}, {"inner": None}, {"inner": {}}, {"inner": {"noteId": "1"}}, {"inner": {"noteId": 1}}, {"inner": {"noteId": "k" * 1025}},
            {"inner": {"noteId": "é" * 170}}, {"inner": {"noteId": "é" * 171}}, {"inner": {}, "country": "DE\n"},
            {"inner": {}, "amount": 200.0}, {"inner": {}, "amount": 1e2}, {"inner": {}, "amount": -0.0}, {"inner": {}, "amount": 0.5},
        ],
        "get_note": [{}, {"id": None}, {"id": "1"}, {"id": 1}, {"id": 2.0}, {"id": 2.5}, {"id": True}, {"id": "k" * 1025}, {"id": ["a"]}],
    }  # fmt: skip
    outcomes: dict[bool, int] = {True: 0, False: 0}
    async with running(Notes, url=nats_server.url, namespace=namespace) as system:
        [service] = [
            each
            for each in await discovery.services(system.connection, "notes")
            if each.metadata.namespace == namespace
        ]
        assert {each.metadata.key for each in service.endpoints} == {"inner.noteId", "id"}
        for endpoint in service.endpoints:
            assert endpoint.metadata.request is not None
            for body in bodies[endpoint.name]:
                block, payload = await system.connection.request(endpoint.subject, json.dumps(body).encode(), timeout=5)
                valid = Draft202012Validator(endpoint.metadata.request).is_valid(body)
                code = b"Nats-Service-Error-Code: 400" in (block or b"")
                assert code is not valid, (endpoint.name, body, payload)
                outcomes[valid] += 1
    assert outcomes == {True: 9, False: 13}


def test_a_type_that_is_not_defined_is_refused_by_name() -> None:
    kind = msgspec.defstruct("Holder", [("value", "Nowhere")])
    with pytest.raises(DeclarationError, match="Holder: name 'Nowhere' is not defined"):
        schema(kind)
