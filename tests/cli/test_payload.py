"""Bodies from the command line: pairs typed by a schema, JSON, and invalid ones."""

import io
import json
import sys
from typing import Any

import click
import msgspec
import pytest

from runtime.cli.payload import body, is_pairs


class Inner(msgspec.Struct):
    text: str
    number: int = 0


class Outer(msgspec.Struct, rename="camel"):
    order_id: str
    count: int
    maybe_text: str | None = None
    flag: bool = False
    inner: Inner | None = None
    tags: list[str] = []
    anything: Any = None


SCHEMA = msgspec.json.schema(Outer)


def read(*arguments: str, schema: Any = SCHEMA) -> Any:
    return json.loads(body(arguments, schema))


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("orderId=1", {"orderId": "1"}),
        ('orderId="1"', {"orderId": "1"}),
        ("orderId=true", {"orderId": "true"}),
        ("orderId={}", {"orderId": "{}"}),
        ("orderId=a=b:=c", {"orderId": "a=b:=c"}),
        ("orderId=", {"orderId": ""}),
        ("count=3", {"count": 3}),
        ("count=three", {"count": "three"}),
        ("flag=true", {"flag": True}),
        ("maybeText=null", {"maybeText": None}),
        ("maybeText=3", {"maybeText": "3"}),
        ("inner.text=5", {"inner": {"text": "5"}}),
        ("inner.number=5", {"inner": {"number": 5}}),
        ('tags=["x"]', {"tags": ["x"]}),
        ('inner:={"text":"a"}', {"inner": {"text": "a"}}),
        ("anything=4", {"anything": 4}),
        ("anything=four", {"anything": "four"}),
        ("orderId:=4", {"orderId": 4}),
    ],
)
def test_a_value_gets_the_type_of_the_schema(argument: str, value: Any) -> None:
    assert read(argument) == value


def test_without_a_schema_json_is_recognized() -> None:
    pairs = ("n=3", "s=three", 'q="3"', 'tags=["x"]', "a.b.c=1", "a.b.d=x", "none=null")
    assert read(*pairs, schema=None) == {
        "n": 3,
        "s": "three",
        "q": "3",
        "tags": ["x"],
        "a": {"b": {"c": 1, "d": "x"}},
        "none": None,
    }


def test_one_json_argument_is_the_whole_body() -> None:
    assert body(['{"orderId": 1, "x": [1.50]}'], SCHEMA) == b'{"orderId": 1, "x": [1.50]}'
    assert body(["[1]"], None) == b"[1]"
    assert body([], SCHEMA) == b"{}"


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": "\xc3\xa9"}')))
    assert json.loads(body(["-"], None)) == {"a": "é"}


def test_only_pairs_need_a_schema() -> None:
    assert is_pairs(["a=1"])
    assert not any(map(is_pairs, ([], ["-"], ['{"a": 1}'])))


DEEP = '{"a":' * 3000 + "1" + "}" * 3000


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["orderId"], "'orderId': write key=value"),
        (["=1"], "write key=value"),
        (["orderid=1"], "orderid: no such field: did you mean 'orderId'?"),
        (["inner.txt=1"], "inner.txt: no such field: did you mean 'text'?"),
        (["inner.zzz=1"], "inner.zzz: no such field: the fields are number, text"),
        (["count:=three"], "count:=three: not JSON"),
        (["anything=1", "anything.a=1"], "anything has a value already"),
        (['{"a"'], "the body is not JSON"),
        ([DEEP], "the body is not JSON: it has too many levels"),
        ([f"count:={DEEP}"], "not JSON: it has too many levels"),
        (['{"a":"\udcff"}'], "the body is not JSON: it is not UTF-8"),
        (["orderId=\udcff"], "orderId: it is not UTF-8"),
        (['orderId:="\udcff"'], "orderId: it is not UTF-8"),
        (["count=1", '{"a": 1}'], "write key=value"),
    ],
)
def test_an_invalid_body_is_a_usage_error(arguments: list[str], text: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        body(arguments, SCHEMA)
    assert text in str(refused.value)
