"""Blame: a process that lives has not died, and only events that ran at a death use attempts."""

import random

import pytest

from runtime.intake.blame import exited, first_used, pruned, succeed, take_back, used_attempts
from runtime.storage.positions import ConsumerPosition, Death, Running


def position(floor: int = 0, owner: str = "new", ownership: int = 1, **more: object) -> ConsumerPosition:
    return ConsumerPosition("stream", "consumer", floor, owner, ownership, **more)  # type: ignore[arg-type]


def after(
    known: ConsumerPosition, ran: tuple[int, ...], *, number: int, last: int = 20, attempts: int = 8
) -> ConsumerPosition:
    """Return the position of the next owner if the owner of `known` has died while the events `ran`."""
    running = Running(known.owner, known.ownership, ran)
    current = position(known.floor, f"process {number}", number)
    return succeed(known, current, last, running, lambda owner, ownership: False, attempts)


def never(owner: str, ownership: int) -> bool:
    return False


def test_a_drain_a_survival_and_an_owner_with_nothing_in_hand_are_no_deaths() -> None:
    def survived(owner: str, ownership: int) -> bool:
        return owner == "old" and ownership <= 4

    ran = Running("old", 4, (3,))
    for known, delivered in (
        (position(owner=""), 9),
        (position(5, "old", 9), 5),
        (position(owner="old", ownership=4), 9),
    ):
        new = succeed(known, position(known.floor), delivered, ran, survived, 8)
        assert new == position(known.floor)
    dead = succeed(position(owner="old", ownership=5), position(), 9, ran, survived, 8)
    assert dead.deaths == (Death("old", 5, 9),)


def test_a_first_death_blames_no_event_and_a_second_one_those_that_ran() -> None:
    first = succeed(position(owner="a"), position(owner="b"), 12, None, never, 8)
    assert used_attempts(first) == {} and first.last_in_hand == 12
    # The events of another owner are no evidence.
    assert used_attempts(succeed(first, position(owner="c"), 12, Running("a", 1, (4,)), never, 8)) == {}
    second = succeed(first, position(owner="c"), 12, Running("b", 1, (4, 7)), never, 8)
    assert used_attempts(second) == {4: 2, 7: 2}
    third = succeed(second, position(owner="d"), 15, Running("c", 1, (4, 13)), never, 8)
    assert used_attempts(third) == {4: 3, 7: 2, 13: 2} and third.last_in_hand == 15


def test_an_owner_that_dies_before_its_first_delivery_keeps_the_deaths_before_it() -> None:
    second = after(after(position(owner="a"), (), number=2), (4,), number=3)
    third = succeed(second, position(0, "process 4", 4), 0, Running("process 2", 2, (4,)), never, 8)
    assert third.deaths == second.deaths and used_attempts(third) == {4: 2}


def test_the_death_of_a_process_that_lives_is_taken_back() -> None:
    second = after(after(position(owner="a"), (), number=2), (4, 5), number=3)
    third = after(second, (5,), number=4)
    assert used_attempts(third) == {4: 2, 5: 3}
    back = take_back(third, lambda owner, ownership: owner == "process 2")
    assert used_attempts(back) == {5: 1} and [death.owner for death in back.deaths] == ["a", "process 3"]


def test_events_that_are_done_are_forgotten() -> None:
    second = after(after(position(owner="a"), (), number=2), (4, 7), number=3)
    moved = pruned(position(5, deaths=second.deaths, used=((4, 1), (9, 3))))
    assert used_attempts(moved) == {7: 2, 9: 3}
    done = pruned(position(20, deaths=second.deaths, used=((4, 1),)))
    assert done == position(20)


def test_an_event_that_asks_for_the_end_of_its_process_has_its_attempts() -> None:
    left = exited(position(2, owner=""), {1: 3, 4: 1})
    assert used_attempts(left) == {4: 1}
    assert used_attempts(exited(left, {4: 2})) == {4: 2}
    died = exited(after(after(left, (), number=2), (4, 7), number=3), {4: 5})
    assert used_attempts(died) == {4: 5, 7: 2}, "those that the deaths have used are among them"
    assert used_attempts(take_back(died, lambda owner, ownership: True)) == {4: 4}


@pytest.mark.parametrize(
    ("attempts", "others", "alone"), [(1, 0, 1), (2, 0, 1), (3, 1, 2), (4, 2, 2), (5, 2, 2), (8, 2, 2), (1000, 2, 2)]
)
def test_a_suspect_runs_alone_before_it_is_given_up(attempts: int, others: int, alone: int) -> None:
    assert first_used(attempts, alone=False) == others and first_used(attempts, alone=True) == alone


@pytest.mark.parametrize("attempts", [1, 2, 3, 5, 8, 40])
@pytest.mark.parametrize("seed", range(8))
def test_the_guilty_event_is_exhausted_and_no_innocent_one(attempts: int, seed: int) -> None:
    """Each owner runs suspects one at a time beside some other events, and dies as soon as the guilty one runs."""
    rng = random.Random(seed)
    guilty, known = rng.randint(1, 20), position(owner="first")
    deaths = 0
    while (used := used_attempts(known)).get(guilty, -1) < attempts:
        assert all(count < attempts for count in used.values()), used
        others = [each for each in range(1, 21) if each not in used and each != guilty]
        ran = (guilty, *rng.sample(others, rng.randint(0, min(4, len(others)))))
        deaths += 1
        known = after(known, ran if known.deaths else (), number=deaths + 1, attempts=attempts)
        if rng.random() < 0.2:  # An owner that is paused, or killed before it has read anything.
            known = succeed(known, position(0, f"idle {deaths}", 1), 0, None, never, attempts)
    assert deaths == attempts if attempts > 3 else attempts <= deaths <= attempts + 2
    assert len(known.deaths) <= 8
