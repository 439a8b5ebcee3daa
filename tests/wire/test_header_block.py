"""Header blocks: encoding, look-up by name, and tolerance of malformed blocks."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from runtime.errors import CodecError
from runtime.wire import header_block

NAMES = st.text(st.sampled_from("abcXYZ-0123456789"), min_size=1, max_size=20)
VALUES = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=40)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=6))
def test_encoded_headers_can_be_read(pairs: list[tuple[str, str]]) -> None:
    block = header_block.encode(pairs)
    first: dict[str, str] = {}
    for name, value in pairs:
        first.setdefault(name, value.encode().strip().decode())
    assert header_block.parse(block) == first
    for name in first:
        expected = next(v for n, v in pairs if n.lower() == name.lower())
        exact = next(v for n, v in pairs if n == name)
        assert header_block.get(block, name.encode()) == exact.encode().strip().decode()
        assert header_block.get(block, name.swapcase().encode()) in {
            expected.encode().strip().decode(),
            exact.strip(),
        } or any(n == name.swapcase() for n, _ in pairs)
    assert header_block.status(block) == 0 and header_block.description(block) == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [("a", "x\ny"), ("a", "x\ry"), ("a", "x\0y"), ("a:b", "x"), ("", "x"), ("a\r\nb", "x"), ("a b", "x"), ("ä", "x")],
)
def test_a_value_cannot_break_out_of_its_line(name: str, value: str) -> None:
    with pytest.raises(CodecError, match="cannot be part of a header line"):
        header_block.encode([(name, value)])


def test_a_value_that_cannot_be_encoded_is_a_codec_error() -> None:
    with pytest.raises(CodecError, match="cannot be part of a header line"):
        header_block.encode([("a", "\ud800")])


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda tail: b"NATS/1.0\r\nDeadline: " + tail))
def test_a_malformed_block_raises_nothing(block: bytes) -> None:
    header_block.parse(block)
    header_block.get(block, b"Deadline")
    header_block.description(block)
    assert 0 <= header_block.status(block) < 1000


@pytest.mark.parametrize(
    ("block", "code", "text"),
    [
        (b"NATS/1.0 503\r\n\r\n", 503, ""),
        (b"NATS/1.0 404 No Messages\r\nx: y\r\n\r\n", 404, "No Messages"),
        (b"NATS/1.0 100 Idle Heartbeat\r\n\r\n", 100, "Idle Heartbeat"),
        (b"NATS/1.0\r\nx: 503\r\n\r\n", 0, ""),
        (b"NATS/1.0", 0, ""),
        (b"NATS/1.0 5x3\r\n\r\n", 0, ""),
        (None, 0, ""),
    ],
)
def test_the_status_in_the_first_line(block: bytes | None, code: int, text: str) -> None:
    assert (header_block.status(block), header_block.description(block)) == (code, text)


def test_names_are_found_in_any_case_but_not_within_other_names() -> None:
    block = header_block.encode([("X-Deadline", "1"), ("TRACEPARENT", "t")])
    assert header_block.get(block, b"Deadline") is None
    assert header_block.get(block, b"traceparent") == "t"


SMUGGLED = (b"\n", b"\r", b"\n\n", b"\r\r", b"\n\r", b"\0")


@given(st.sampled_from(SMUGGLED), st.sampled_from([b"Idempotency-Key", b"Deadline", b"ce-id", b"Nats-Msg-Id"]), NAMES)
def test_only_the_end_of_a_line_begins_a_header(separator: bytes, name: bytes, other: str) -> None:
    assume(other.lower().encode() != name.lower())
    value = b"a" + separator + name + b": smuggled"
    block = header_block.join(header_block.line(other.encode(), value), header_block.line(b"x-y", b"kept"))
    assert header_block.get(block, name) is None
    assert header_block.get(block, name.lower()) is None
    assert header_block.event_id(block) == b""
    assert header_block.get(block, other.encode()) is None, "it would be passed on"
    assert header_block.parse(block) == {"x-y": "kept"}
