"""The fence: which keys need a touch, and for how long."""

import pytest

from runtime import clocks
from runtime.storage import fence
from runtime.storage.fence import FENCED_FOR, Fence


class Clock:
    """A clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(clocks, "elapsed", lambda: self.now)


def test_records_of_former_owners_and_absent_keys_are_fenced_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    fence = Fence(FENCED_FOR)
    own = f"{fence.writer_id}-5"
    assert fence.raised and fence.needed("k", "another-5") and fence.needed("k", None) and not fence.needed("k", own)
    clock.now += FENCED_FOR
    assert not fence.raised and not fence.needed("k", "another-5") and not fence.needed("k", None)
    for seconds in (0.0, -5.0):
        clean = Fence(seconds)
        assert not clean.raised and not clean.needed("k", "another-5") and not clean.needed("k", None)


def test_a_suspect_is_one_until_a_commit_or_for_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    fence = Fence()
    own = f"{fence.writer_id}-5"
    fence.sending.add("k")
    assert not fence.settled
    fence.suspect("k")
    assert fence.raised and not fence.settled and fence.needed("k", own) and not fence.needed("other", own)
    fence.settle("k")
    assert fence.settled and not fence.raised and not fence.needed("k", own)
    fence.suspect("k")
    clock.now += FENCED_FOR - 1
    fence.suspect("later")
    assert fence.needed("k", None) and fence.needed("later", own)
    clock.now += 1
    assert not fence.needed("k", None) and fence.needed("later", own) and fence.raised
    clock.now += FENCED_FOR
    assert not fence.needed("later", own) and fence.settled and not fence.raised


def test_every_key_is_a_suspect_if_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    monkeypatch.setattr(fence, "_MAX_SUSPECTS", 3)
    many = Fence()
    for number in range(4):
        many.suspect(f"k{number}")
    assert len(many._suspects) == 3 and many.needed("k0", f"{many.writer_id}-1") and many.needed("other", None)
    for number in range(4):
        many.settle(f"k{number}")
    assert not many.settled and many.raised
    clock.now += FENCED_FOR
    assert many.settled and not many.needed("other", None)
