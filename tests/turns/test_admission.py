"""Admission: the count of waiting messages cannot drift, and callers learn when to try again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import Overloaded
from runtime.turns.admission import QUERIES_PER_SECOND, TURNS_PER_SECOND, Admission, retry_after


class Message:
    """A message as admission sees it."""

    def __init__(self) -> None:
        self.counted = False


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans())))
def test_the_count_is_the_number_of_messages_that_wait(steps: list[tuple[int, bool]]) -> None:
    admission, messages, waiting = Admission("a", 100), [Message() for _ in range(5)], set[int]()
    for number, enters in steps:
        if enters:
            admission.enqueue(messages[number])
            waiting.add(number)
        else:
            admission.dequeue(messages[number])
            waiting.discard(number)
        assert admission.waiting == len(waiting)


def test_a_full_mailbox_refuses_with_a_time_to_retry() -> None:
    admission = Admission("orders", 2)
    for message in (Message(), Message()):
        admission.check()
        admission.enqueue(message)
    with pytest.raises(Overloaded, match=r"orders: the mailbox is full \(2 messages wait\)") as refused:
        admission.check()
    assert refused.value.retry_after == retry_after(2, TURNS_PER_SECOND)


@pytest.mark.parametrize(
    ("waiting", "rate", "seconds"),
    [(0, TURNS_PER_SECOND, 0.05), (1000, TURNS_PER_SECOND, 0.55), (1000, QUERIES_PER_SECOND, 0.25), (10**6, 1, 2.0)],
)
def test_the_time_to_retry_is_the_time_to_drain_within_bounds(waiting: int, rate: int, seconds: float) -> None:
    assert retry_after(waiting, rate) == seconds
