"""Placement: balanced, with the fewest moves, and the same while it is carried out. Seeded cases, and a search of all placements."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Mapping

import pytest

from runtime.host.placement import decide, place

SEED = 20_261
COUNTS = (1, 2, 4, 8, 16, 32, 64)


def cases(count: int, most_members: int = 70) -> Iterator[tuple[list[str], dict[int, str], int]]:
    """Yield members, holders and a number of partitions. Some holders are no members, some partitions have no holder."""
    draw = random.Random(SEED)
    for _ in range(count):
        partitions = draw.choice(COUNTS)
        members = [f"host-{draw.randrange(1000)}.{number}" for number in range(draw.randint(1, most_members))]
        few = draw.sample(members, draw.randint(1, len(members)))
        holding = draw.random()
        names = [*few, "gone", "away"]
        holders = {each: draw.choice(names) for each in range(partitions) if draw.random() < holding}
        yield members, holders, partitions


def moves(placed: Mapping[int, str], members: list[str], holders: Mapping[int, str]) -> int:
    """Return how many partitions a placement takes from members that hold them."""
    return sum(placed[partition] != holder for partition, holder in holders.items() if holder in members)


def imbalance(placed: Mapping[int, str], members: list[str]) -> int:
    count = Counter(placed.values())
    return max(count[member] for member in members) - min(count[member] for member in members)


def least_moves(members: list[str], holders: Mapping[int, str], partitions: int) -> int:
    """Return the least moves of all balanced placements, by trying each."""
    found: list[int] = []
    for owners in itertools.product(members, repeat=partitions):
        placed = dict(enumerate(owners))
        if imbalance(placed, members) <= 1:
            found.append(moves(placed, members, holders))
    return min(found)


def test_every_partition_is_placed_on_a_member_and_the_members_are_balanced() -> None:
    for members, holders, partitions in cases(1000):
        placed = place(members, holders, partitions)
        assert sorted(placed) == list(range(partitions)) and set(placed.values()) <= set(members)
        assert imbalance(placed, members) <= 1, (members, holders)


def test_no_balanced_placement_has_fewer_moves() -> None:
    draw = random.Random(SEED)
    for _ in range(150):
        partitions = draw.choice((2, 4, 8))
        members = [f"m{number}" for number in range(draw.randint(1, 5 if partitions < 8 else 3))]
        names = [*members[: draw.randint(1, len(members))], "gone"]
        holders = {each: draw.choice(names) for each in range(partitions) if draw.random() < 0.8}
        placed = place(members, holders, partitions)
        assert moves(placed, members, holders) == least_moves(members, holders, partitions), (members, holders)


def test_a_balanced_placement_stays_as_it_is() -> None:
    for members, holders, partitions in cases(300):
        placed = place(members, holders, partitions)
        assert place(members, placed, partitions) == placed


def test_a_placement_stays_the_same_while_it_is_carried_out() -> None:
    draw = random.Random(SEED)
    for members, holders, partitions in cases(300):
        placed, now = place(members, holders, partitions), dict(holders)
        for partition in draw.sample(range(partitions), partitions):
            if now.get(partition) != placed[partition]:
                now.pop(partition, None)  # Given back, or its holder is gone.
                assert draw.random() < 0.8 or place(members, now, partitions) == placed
                if draw.random() < 0.7:
                    now[partition] = placed[partition]
        assert place(members, now, partitions) == placed, (members, holders, now)


def test_the_order_in_which_members_are_known_does_not_matter() -> None:
    draw = random.Random(SEED)
    for members, holders, partitions in cases(200):
        mixed = draw.sample(members, len(members))
        assert place(mixed, dict(reversed(holders.items())), partitions) == place(members, holders, partitions)


def test_a_partition_goes_to_a_member_that_can_serve_it() -> None:
    draw = random.Random(SEED)
    for members, holders, partitions in cases(1000, most_members=6):
        unable = {
            each: tuple(n for n in range(partitions) if draw.random() < 0.3) for each in members if draw.random() < 0.5
        }
        placed = place(members, holders, partitions, unable)
        for partition, member in placed.items():
            if holders.get(partition) != member and partition in unable.get(member, ()):
                assert all(partition in unable.get(each, ()) for each in members), "nobody can serve it"


def test_a_partition_stays_with_its_holder_if_nobody_else_can_serve_it() -> None:
    holders = dict.fromkeys(range(4), "a")
    placed = place(["a", "b"], holders, 4, {"b": (0, 1, 2, 3)})
    assert placed == holders
    assert Counter(place(["a", "b"], holders, 4, {"b": (0, 1, 2)}).values()) == {"a": 3, "b": 1}


def test_members_beyond_the_number_of_partitions_stand_by() -> None:
    members = [f"m{number}" for number in range(100)]
    assert set(Counter(place(members, {}, 8).values()).values()) == {1}
    assert place(members, dict(enumerate(members[:8])), 8) == dict(enumerate(members[:8]))
    assert place([], {0: "gone"}, 8) == {}


def test_a_member_takes_what_is_placed_on_it_and_offers_what_it_has_too_much() -> None:
    holders = dict.fromkeys(range(8), "a")
    first, second = decide("a", ["b"], holders, 8), decide("b", ["a"], holders, 8)
    assert first.take | second.take == frozenset(range(8)) and len(first.take) == 4
    assert first.offer == second.take and not second.offer
    assert decide("c", [], {}, 2).take == frozenset((0, 1)), "a member counts itself"
    assert decide("b", ["a"], {0: "a"}, 2, forsaken=[0]).take == frozenset((0, 1))


@pytest.mark.parametrize("seed", range(60))
def test_members_that_know_different_members_stop_moving_partitions(seed: int) -> None:
    """Each member knows some of the others, for ever. The moves end, and each partition is owned."""
    draw = random.Random(SEED + seed)
    partitions = draw.choice((4, 8, 16))
    members = [f"m{number}" for number in range(draw.randint(2, 7))]
    knows = {member: [each for each in members if each != member and draw.random() < 0.6] for member in members}
    holders = {each: draw.choice(members) for each in range(partitions) if draw.random() < 0.7}
    quiet = moved = 0
    while quiet < 3:
        takes = {member: decide(member, knows[member], holders, partitions) for member in members}
        offers = [(each, member) for member in members for each in takes[member].offer]
        before = dict(holders)
        for partition, member in draw.sample(offers, len(offers)):
            waiting = [each for each in members if each != member and partition in takes[each].take]
            if waiting and draw.random() < 0.8:
                holders[partition] = draw.choice(waiting)
                moved += 1
        for partition in set(range(partitions)) - holders.keys():
            waiting = [each for each in members if partition in takes[each].take]
            if waiting:
                holders[partition] = draw.choice(waiting)
            else:  # After some time, any member takes it.
                holders[partition] = draw.choice(members)
        quiet = quiet + 1 if before == holders else 0
        assert moved < 10 * partitions * len(members), "partitions move for ever"
    assert len(holders) == partitions
