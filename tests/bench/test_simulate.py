"""The simulation of the placement: the goals hold, and a careless placement misses them."""

import pytest

from bench.simulate import MORE, SLOW, careless, simulate


@pytest.mark.parametrize("delay", [0, 3])
@pytest.mark.parametrize(("seed", "members", "partitions"), [(1, 8, 8), (2, 8, 64), (3, 40, 16)])
def test_members_agree_soon_with_the_fewest_moves(seed: int, members: int, partitions: int, delay: int) -> None:
    changes = simulate(seed, members, partitions, 25, delay)
    assert all(each.balance <= 1 and each.ticks <= SLOW for each in changes)
    least = sum(each.least for each in changes)
    assert least <= sum(each.moves for each in changes) <= least * (MORE if delay else 1)


def test_a_placement_without_regard_to_the_holders_moves_too_much() -> None:
    changes = simulate(1, 8, 64, 25, 0, careless)
    assert sum(each.moves for each in changes) > MORE * sum(each.least for each in changes)
