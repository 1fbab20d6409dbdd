import pytest

from pconnect.messaging.tree import DEGREE, branch, children, parents


@pytest.mark.parametrize("size", [1, 2, 5, 6, 21, 22, 100])
def test_everybody_has_one_way_to_the_root(size: int) -> None:
    for root in (0, size // 2, size - 1):
        found = {child: rank for rank in range(size) for child in children(rank, root, size)}
        assert found.keys() == set(range(size)) - {root}
        assert [parents(rank, root, size) for rank in range(size)] == [
            [found[rank]] if rank in found else [] for rank in range(size)
        ]
        assert sorted(branch(root, root, size)) == list(range(size))
        for rank in range(size):
            behind = [other for child in children(rank, root, size) for other in branch(child, root, size)]
            assert sorted(branch(rank, root, size)) == sorted([rank, *behind])


def test_nobody_has_more_than_a_few_neighbours_and_is_more_than_some_steps_away() -> None:
    size = 1000
    assert max(len(children(rank, 7, size)) for rank in range(size)) == DEGREE
    steps, place = 0, 999
    while place:
        (place,) = parents(place, 0, size)
        steps += 1
    assert steps == 5
