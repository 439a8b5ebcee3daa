"""Integral numbers of a JSON text are found in one pass, whatever else is in the text."""

import msgspec
import pytest

from runtime.wire.integers import with_plain_integers

SIZE = 300_000


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "repeated",
    [b'\\"', b'"', b"\\", b"-", b"e", b"1", b"1.", b"1.0e", b"1,", b'"",', b"1.5,", b"9e999999999,", b'"\\"1.0"'],
)
@pytest.mark.parametrize("end", [b"", b"\\", b'"', b"1.0"])
def test_no_text_takes_more_than_one_pass(repeated: bytes, end: bytes) -> None:
    """A search that begins again at each character would take many minutes for some of these texts."""
    for begin in (b"", b'"', b"["):
        found = with_plain_integers(begin + repeated * (SIZE // len(repeated)) + end)
        assert found is None or len(found) <= SIZE + 70_000


def test_numbers_within_strings_stay() -> None:
    text = rb'{"a 1.0": "\"2.0", "b": [3.0, -4.00, 5e1, 1.5, 120e-1, 7], "c\\": 8.0}'
    assert msgspec.json.decode(with_plain_integers(text) or b"") == {
        "a 1.0": '"2.0',
        "b": [3, -4, 50, 1.5, 12, 7],
        "c\\": 8,
    }
    assert b"3," in (with_plain_integers(text) or b"") and with_plain_integers(b'["1.0", 7, 1.5]') is None


def test_a_body_with_very_many_of_them_is_not_rewritten_to_its_end() -> None:
    found = with_plain_integers(b"[%b]" % b",".join([b"1.0"] * 20_000))
    assert found is not None and found.count(b"1.0") == 10_000
