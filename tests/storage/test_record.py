"""The record of a key: stored records are read back, and payloads of another form are refused."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.storage.record import (
    Handled,
    Kind,
    Outgoing,
    Record,
    Unreadable,
    decode_record,
    encode_record,
    is_null,
)
from runtime.wire.tokens import key_token

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXT,
    lambda x: st.lists(x) | st.dictionaries(TEXT, x),
    max_leaves=6,
)
RAW = JSON.map(lambda value: msgspec.Raw(msgspec.json.encode(value)))
TIME = st.floats(0, 4e9)
HANDLED = st.builds(Handled, TEXT, RAW, TIME)
LINE = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
TOKEN = TEXT.map(key_token)
NAME = st.sampled_from(["Added", "OrderPaid", "Ä"])
OUTGOING = st.builds(
    Outgoing,
    LINE,
    st.sampled_from([kind for kind in Kind if kind is not Kind.TELL]),
    NAME,
    TOKEN,
    RAW,
    TIME,
    TEXT,
    LINE,
    LINE,
    LINE,
) | st.builds(Outgoing, LINE, st.just(Kind.TELL), NAME, TOKEN, RAW, TIME, TEXT, target=st.just("payment"))
RECORD = st.builds(
    Record, TEXT, st.integers(1, 9), RAW, st.lists(HANDLED, max_size=9), st.lists(OUTGOING, max_size=4), TIME
)


@given(RECORD)
def test_a_record_is_read_back_as_it_was_written(record: Record) -> None:
    stored = encode_record(record)
    found = decode_record(stored, "orders.turn.1")
    assert encode_record(found) == stored
    assert [entry.id for entry in found.handled] == [entry.id for entry in record.handled]
    assert [bytes(entry.reply) for entry in found.handled] == [bytes(entry.reply) for entry in record.handled]
    assert [(entry.id, entry.kind) for entry in found.outbox] == [(entry.id, entry.kind) for entry in record.outbox]
    assert bytes(found.state) == bytes(record.state) and is_null(found.state) == (bytes(record.state) == b"null")


@given(st.binary(max_size=60) | RECORD.map(encode_record).map(lambda stored: stored[: len(stored) // 2]))
def test_the_error_for_an_unreadable_record_names_its_subject(stored: bytes) -> None:
    with pytest.raises(Unreadable, match=r"orders\.turn\.1: the stored record cannot be read") as found:
        decode_record(stored, "orders.turn.1")
    assert found.value.reason.startswith("orders.turn.1: the stored record is unreadable: ")


def test_an_unknown_field_is_ignored() -> None:
    assert decode_record(b'{"commit_id":"a","later":[1]}', "s").commit_id == "a"


def test_the_kind_of_an_outbox_entry_is_stored_as_one_letter() -> None:
    entry = Outgoing("e1", Kind.EVENT, "Added", "k", msgspec.Raw(b"{}"), 1.0)
    assert encode_record(entry).startswith(b'["e1","e","Added",')


def test_the_first_format_is_not_written_out() -> None:
    record = Record("a")
    assert encode_record(record) == b'{"commit_id":"a"}'
    assert decode_record(encode_record(record), "s").format == 1


@pytest.mark.parametrize(
    "stored",
    [b'{"commit_id":"a","format":3}', b'{"format":3,"written_by":"b"}', b'{"commit_id":["a"],"format":3}'],
    ids=["compatible", "without a field", "with a field of another type"],
)
def test_a_record_in_a_newer_format_is_refused(stored: bytes) -> None:
    with pytest.raises(Unreadable, match=r"orders\.turn\.1: .* \(record format 3; this process knows 2") as refused:
        decode_record(stored, "orders.turn.1")
    assert refused.value.newer_format
