"""The relay's checkpoint: the sequence up to which every record is published."""

from hypothesis import given
from hypothesis import strategies as st

from runtime.storage.checkpoint import Checkpoint

OPERATIONS = st.lists(
    st.tuples(st.sampled_from(["mark done", "begin", "mark done", "mark done"]), st.integers(1, 30)), max_size=60
)


@given(OPERATIONS)
def test_the_position_is_the_last_sequence_before_the_first_gap(operations: list[tuple[str, int]]) -> None:
    checkpoint = Checkpoint()
    done: set[int] = set()
    began = None
    for operation, number in operations:
        if operation == "begin" and began is None:
            began = number
            checkpoint.begin(number)
        elif operation == "mark done":
            done.add(number)
            checkpoint.mark_done(number)
        if began is not None:
            end = began
            while end + 1 in done:
                end += 1
            assert checkpoint.position == end
            publishing = {n for n in range(1, 32) if n % 7 == 0}
            assert checkpoint.unaccounted(1, 31, publishing) == [
                n for n in range(end + 1, 32) if n not in done and n not in publishing
            ]
        else:
            assert checkpoint.position == 0
        for n in range(1, 31):
            assert checkpoint.covers(n) == (n in done or (began is not None and n <= checkpoint.position))


def test_a_checkpoint_without_an_owner_is_bounded() -> None:
    checkpoint = Checkpoint()
    for sequence in range(1, 150_001):
        checkpoint.mark_done(sequence)
    assert len(checkpoint._done_set) <= 100_000 and checkpoint.covers(150_000)
    checkpoint.begin(50_000)
    assert checkpoint.position == 150_000 and not checkpoint._done_set
