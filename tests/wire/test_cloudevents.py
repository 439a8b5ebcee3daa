"""The header block of an event, in the form of CloudEvents."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire import header_block
from runtime.wire.cloudevents import event_headers, received_id, rfc3339, unix_time
from runtime.wire.ids import accept_id
from runtime.wire.tokens import key_token


def test_the_headers_of_an_event() -> None:
    block = event_headers("orders", "OrderCreated", "id-1", "a%20b", 1.5)
    assert header_block.parse(block) == {
        "Nats-Msg-Id": "id-1",
        "ce-id": "id-1",
        "ce-specversion": "1.0",
        "ce-source": "/orders",
        "ce-type": "orders.OrderCreated",
        "ce-time": "1970-01-01T00:00:01.500000Z",
        "ce-subject": "a%20b",
        "ce-datacontenttype": "application/json",
    }
    assert "ce-subject" not in header_block.parse(event_headers("orders", "DayEnded", "id-1", "_", 1.5))


@given(st.text(max_size=30))
def test_any_key_is_a_valid_header_value(key: str) -> None:
    block = event_headers("orders", "OrderCreated", "id-1", key_token(key), 0.0)
    found = header_block.parse(block)
    assert block.isascii() and set(found) - {"ce-subject"} == set(found) - {"ce-subject", "\r", "\n"}
    assert block.count(b"\r\n") == len(found) + 2


@given(st.floats(0, 4e9))
def test_times_have_the_form_of_rfc_3339(seconds: float) -> None:
    assert rfc3339(seconds).endswith("Z") and "T" in rfc3339(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T02:00:00+02:00", 0.0),
        ("9998-12-31T23:59:59.999999Z", 253370764800.0),
        ("1970-01-01T00:00:01", None),  # the time of an unknown zone
        ("0001-01-01T00:00:00+23:59", None),
        ("0999-12-31T23:59:59Z", None),
        ("9999-12-31T23:59:59-23:59", None),
        ("9999-12-31T23:59:59.999999Z", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_is_one_that_can_be_written_again(text: str, seconds: float | None) -> None:
    found = unix_time(text)
    assert found == (None if seconds is None else pytest.approx(seconds))
    assert found is None or len(rfc3339(found)) == len("1970-01-01T00:00:00.000000Z")


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ([("ce-id", "c"), ("Nats-Msg-Id", "m")], "c"),
        ([("Nats-Msg-Id", "m"), ("ce-id", "c")], "c"),
        ([("Nats-Msg-Id", "m")], "m"),
        ([("nats-msg-id", "m")], "m"),
        ([("ce-id", ""), ("Nats-Msg-Id", "m")], "m"),
        ([("ce-id", "x" * 257), ("Nats-Msg-Id", "m")], "m"),
        ([("ce-id", "a\tb"), ("Nats-Msg-Id", "a\tb")], None),
        ([("X-Nats-Msg-Id", "m")], None),
        ([], None),
    ],
)
def test_the_id_of_a_received_event(headers: list[tuple[str, str]], found: str | None) -> None:
    assert received_id(header_block.encode(headers)) == found
    assert received_id(None) is None


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Zl", "Zp"]), min_size=1, max_size=60))
def test_an_id_is_read_as_it_was_written(event_id: str) -> None:
    if accept_id(event_id) is None:
        return
    block = event_headers("orders", "OrderCreated", event_id, "_", 0.0)
    assert received_id(block) == event_id
    assert header_block.parse(block)["ce-id"].isascii()
