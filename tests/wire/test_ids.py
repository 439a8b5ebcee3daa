"""Message ids: new ones, derived ones, and the time in them."""

import os
import random
import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.wire.ids import MAX_ID, accept_id, derived_id, id_time, is_derived, key_for, new_id
from runtime.wire.tokens import key_token

OF = ("orders/1", "payments.Pay", "2")
"""The sender, the type and the key of a derived id."""
MILLIS = st.integers(1, 2**48 - 1)


def id_of(millis: int) -> str:
    """Return a UUIDv7 with this time, in Unix milliseconds."""
    return str(uuid.UUID(int=millis << 80 | 7 << 76 | 2 << 62 | 12345))


def parsed(text: str) -> uuid.UUID:
    """Return the UUID, whose text must be in the canonical form."""
    found = uuid.UUID(text)
    assert str(found) == text and found.variant == uuid.RFC_4122
    return found


def test_a_new_id_is_a_uuid7_with_the_present_time() -> None:
    before, made, after = int(time.time() * 1000), new_id(), time.time()
    assert parsed(made).version == 7
    carried = id_time(made)
    assert carried is not None and before / 1000 <= carried <= after
    assert len({new_id() for _ in range(1000)}) == 1000


@given(st.text(max_size=60), st.integers(1, 10_000))
def test_a_derived_id_depends_on_what_a_handler_sends_and_on_nothing_else(parent: str, ordinal: int) -> None:
    derived = derived_id(parent, ordinal, "orders/1", "payments.Pay", "2")
    assert parsed(derived).version == 8 and is_derived(derived)
    assert derived == derived_id(parent, ordinal, "orders/1", "payments.Pay", "2")
    others = {
        derived_id(parent, ordinal + 1, "orders/1", "payments.Pay", "2"),
        derived_id(parent + "x", ordinal, "orders/1", "payments.Pay", "2"),
        derived_id(parent, ordinal, "orders/12", "payments.Pay", "2"),
        derived_id(parent, ordinal, "orders/1", "payments.Refund", "2"),
        derived_id(parent, ordinal, "orders/1", "payments.Pay", "3"),
        derived_id(parent, ordinal, "orders/1", "payments.Pay", ""),
    }
    assert len(others) == 6 and derived not in others
    assert not is_derived(parent)
    assert not is_derived(new_id())


@given(MILLIS)
def test_a_derived_id_has_the_time_of_its_ancestors(millis: int) -> None:
    first = id_of(millis)
    assert id_time(first) == millis / 1000
    child = derived_id(first, 1, *OF)
    for ordinal in range(5):
        assert id_time(child) == millis / 1000
        child = derived_id(child, ordinal, *OF)


@given(MILLIS)
def test_the_id_of_a_reaction_has_the_time_of_its_event(millis: int) -> None:
    assert id_time(f"{id_of(millis)}.on_created") == millis / 1000
    assert id_time(derived_id(f"{id_of(millis)}.on_created", 3, *OF)) == millis / 1000


@given(st.text(max_size=40))
def test_reading_the_time_of_a_foreign_id_never_raises(text: str) -> None:
    found = id_time(text)
    assert found is None or (len(text) >= 36 and text[14] in "78")


def test_ids_without_time() -> None:
    assert id_time(str(uuid.uuid4())) is None
    assert id_time("order-1") is None
    assert id_time(derived_id("order-1", 1, *OF)) is None
    assert id_time("-1234567-1234-7234-9234-123456789abc") is None
    assert id_time("+_123456-1234-7234-9234-123456789abc") is None


ACCEPTED = ["x", "x" * MAX_ID, "ü" * (MAX_ID // 2), "a b.c*>$%", "😀", "\ufffd"]
REFUSED = ["", "x" * (MAX_ID + 1), "ü" * (MAX_ID // 2 + 1), "a\tb", "a\r\nb", "\x7f", "\x00", "\ud800", "a\u2028b"]


@pytest.mark.parametrize("text", ACCEPTED)
def test_an_id_from_outside_is_printable_text_of_up_to_256_bytes(text: str) -> None:
    assert accept_id(text) == text


@pytest.mark.parametrize("text", REFUSED)
def test_other_text_is_no_id(text: str) -> None:
    assert accept_id(text) is None


@given(st.text(max_size=MAX_ID + 10))
def test_an_accepted_id_fits_headers_and_subjects(text: str) -> None:
    if accept_id(text) is not None:
        assert len(text.encode()) <= MAX_ID and not set(text) & set("\r\n")
        for suffix in ("", ".on_created", ":18446744073709551615"):
            assert key_token(text + suffix)


@given(st.text(max_size=40), st.text(max_size=40))
def test_a_created_key_depends_on_the_id_of_the_command_alone(first: str, second: str) -> None:
    assert parsed(key_for(first)).version == 5
    assert (key_for(first) == key_for(second)) == (first == second)


def test_new_ids_do_not_depend_on_the_seed_of_the_random_module() -> None:
    made: set[str] = set()
    for _ in range(50):
        random.seed(1)
        made.add(new_id()[-17:])
    assert len(made) == 50


def test_a_forked_process_creates_other_ids() -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.write(writing, ",".join(new_id() for _ in range(300)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    made = os.read(reading, 300 * 37).decode().split(",")
    os.close(reading)
    os.close(writing)
    parts = {text[-21:] for text in [*made, *(new_id() for _ in range(300))]}
    assert len(made) == 300 and len(parts) == 600
