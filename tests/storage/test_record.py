"""The record of a key: what is stored is read back, and what is none is refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import CodecError
from runtime.storage.record import Handled, Outgoing, Record, decode_record, encode_record, is_null

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda x: st.lists(x) | st.dictionaries(TEXT, x),
    max_leaves=6,
)
RAW = JSON.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
TIME = st.floats(0, 4e9)
HANDLED = st.builds(Handled, TEXT, RAW, TIME)
OUTGOING = st.builds(Outgoing, TEXT, st.sampled_from("etsx"), TEXT, TEXT, RAW, TIME, TEXT, TEXT, TEXT, TEXT)
RECORD = st.builds(
    Record, TEXT, st.integers(1, 9), RAW, st.lists(HANDLED, max_size=9), st.lists(OUTGOING, max_size=4), TIME
)


@given(RECORD)
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    stored = encode_record(record)
    found = decode_record(stored, "orders.turn.1")
    assert encode_record(found) == stored
    assert [entry.id for entry in found.handled] == [entry.id for entry in record.handled]
    assert [bytes(entry.reply) for entry in found.handled] == [bytes(entry.reply) for entry in record.handled]
    assert [entry.id for entry in found.outbox] == [entry.id for entry in record.outbox]
    assert bytes(found.state) == bytes(record.state) and is_null(found.state) == (bytes(record.state) == b"null")


@given(st.binary(max_size=60) | RECORD.map(encode_record).map(lambda stored: stored[: len(stored) // 2]))
def test_what_is_no_record_names_its_subject(stored: bytes) -> None:
    with pytest.raises(CodecError, match=r"orders\.turn\.1: stored record is unreadable"):
        decode_record(stored, "orders.turn.1")


def test_a_field_that_a_newer_version_added_is_read_over() -> None:
    assert decode_record(b'{"turn":"a","later":[1]}', "s").turn == "a"
