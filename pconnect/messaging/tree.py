"""The tree in which small messages of a collective call travel. No member has more than a few neighbours in it.

Members are numbered from the root around the ring of ranks. As in a heap, member `v` has the children
``4 v + 1 ... 4 v + 4``. With up to five members, every member is a neighbour of the root.
"""

from collections.abc import Iterator

#: The maximum number of children of a member; see doc/decisions/0015-growth.md for the choice.
DEGREE = 4


def parents(rank: int, root: int, size: int) -> list[int]:
    """Return the rank of the next member towards the root, as a list. The root has an empty list.

    Examples
    --------
    >>> [parents(rank, 0, 8) for rank in range(8)], parents(1, 7, 8)
    ([[], [0], [0], [0], [0], [1], [1], [1]], [7])
    """
    place = (rank - root) % size
    return [((place - 1) // DEGREE + root) % size] if place else []


def children(rank: int, root: int, size: int) -> list[int]:
    """Return the ranks of the children of a member.

    Examples
    --------
    >>> children(0, 0, 8), children(1, 0, 8), children(7, 7, 8), children(0, 7, 8)
    ([1, 2, 3, 4], [5, 6, 7], [0, 1, 2, 3], [4, 5, 6])
    """
    first = DEGREE * ((rank - root) % size) + 1
    return [(place + root) % size for place in range(first, min(first + DEGREE, size))]


def branch(rank: int, root: int, size: int) -> Iterator[int]:
    """Return the ranks of this member and of all members behind it, as seen from the root.

    Examples
    --------
    >>> list(branch(1, 0, 8)), list(branch(3, 0, 8)), sorted(branch(5, 5, 8))
    ([1, 5, 6, 7], [3], [0, 1, 2, 3, 4, 5, 6, 7])
    """
    for level in _levels(rank, root, size):
        yield from ((place + root) % size for place in level)


def branch_size(rank: int, root: int, size: int) -> int:
    """Return the number of members in `branch`."""
    return sum(map(len, _levels(rank, root, size)))


def is_flat(size: int) -> bool:
    """Whether all members are neighbours of the root."""
    return size <= DEGREE + 1


def _levels(rank: int, root: int, size: int) -> Iterator[range]:
    first = last = (rank - root) % size
    while first < size:
        yield range(first, min(last + 1, size))
        first, last = DEGREE * first + 1, DEGREE * last + DEGREE
