"""Fingerprints: equal for the same bytes of the same type, and they name the fields that differ."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from runtime.wire.fingerprint import changed_fields, derived_fingerprint, fingerprint, is_other_run

BODIES = st.dictionaries(st.text(min_size=1, max_size=8), st.integers() | st.text(max_size=8), max_size=8)


def body(fields: dict[str, Any]) -> bytes:
    return json.dumps(fields).encode()


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_a_fingerprint_tells_bodies_and_types_apart(one: bytes, two: bytes) -> None:
    first = fingerprint(b"a.Put", one)
    assert first == fingerprint(b"a.Put", one) and len(first) == 16
    assert (first == fingerprint(b"a.Put", two)) == (one == two)
    assert first not in {fingerprint(b"a.Pu", one), fingerprint(b"a.Put", one + b"\0"), fingerprint(b"a.Put\n", one)}


@given(BODIES, st.data())
def test_the_changed_fields_of_another_run_are_named(fields: dict[str, Any], data: st.DataObject) -> None:
    names = sorted(fields)
    changed = data.draw(st.sets(st.sampled_from(names))) if names else set()
    again = {name: {"was": value} if name in changed else value for name, value in fields.items()}
    stored = derived_fingerprint(b"a.Put", body(fields), "b/1")
    own = derived_fingerprint(b"a.Put", body(again), "b/1")
    assert (stored == own) == (not changed)
    assert is_other_run(stored, own)
    found = changed_fields(stored, body(again))
    assert set(found) <= changed
    assert len(found) >= len(changed) - 1, "two fields share their 16 bits in one of 65,536 cases"


@given(BODIES, st.text(max_size=20))
def test_only_another_run_of_the_same_sender_is_one(fields: dict[str, Any], sender: str) -> None:
    stored = derived_fingerprint(b"a.Put", body(fields), sender)
    again = {**fields, "more": 1}
    assert not is_other_run(stored, derived_fingerprint(b"a.Put", body(again), sender + "x"))
    assert not is_other_run(stored, derived_fingerprint(b"a.Take", body(again), sender))
    assert not is_other_run(stored, fingerprint(b"a.Put", body(again)))
    assert not is_other_run(fingerprint(b"a.Put", body(fields)), derived_fingerprint(b"a.Put", body(again), sender))


def test_a_body_that_is_no_object_has_no_fields() -> None:
    for payload in (b"", b"\xff", b"[1]", b"[" * 100_000, b"\x80"):
        stored = derived_fingerprint(b"a.Put", payload, "b")
        assert len(stored) == 24 and changed_fields(stored, payload) == []
