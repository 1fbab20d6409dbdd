"""How a limit is divided among nodes, and which of them gets the next job."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pconnect.detach.shared_limit import SharedLimit

_SLOTS = st.dictionaries(st.integers(1, 5), st.integers(1, 8), min_size=1)


def test_nodes_get_their_parts_by_their_slots() -> None:
    assert SharedLimit(4, {}, {1: 1, 2: 3}).parts == {1: 1, 2: 3}
    assert SharedLimit(1, {}, {1: 1, 2: 3}).parts == {2: 1}
    assert SharedLimit(10**9, {}, {1: 1, 2: 3}).parts == {1: 1, 2: 3}


def test_busy_nodes_keep_a_part_for_each_busy_worker() -> None:
    assert SharedLimit(2, {1: 2}, {1: 2, 2: 8}).parts == {1: 2}
    assert SharedLimit(3, {1: 2}, {1: 2, 2: 8}).parts == {1: 2, 2: 1}


@given(st.integers(1, 30), _SLOTS, st.data())
def test_all_parts_together_keep_the_limit(most: int, slots: dict[int, int], data: st.DataObject) -> None:
    busy = data.draw(
        st.dictionaries(st.integers(1, 5), st.integers(1, 8)).filter(lambda b: sum(b.values()) <= most)
    )
    parts = SharedLimit(most, busy, slots).parts
    assert min(most, sum(slots.values())) <= sum(parts.values()) <= most
    assert all(parts[node] >= count for node, count in busy.items())


def test_jobs_follow_the_parts() -> None:
    limit = SharedLimit(4, {}, {1: 1, 2: 3})
    assert Counter(limit.choose({1, 2}, lambda _: 0.0) for _ in range(40)) == {1: 10, 2: 30}


def test_of_equal_nodes_the_one_with_less_load_is_chosen() -> None:
    limit = SharedLimit(2, {}, {1: 1, 2: 1})
    assert limit.choose({1, 2}, {1: 5.0, 2: 0.5}.__getitem__) == 2


def test_a_node_without_a_part_gets_a_job_of_no_other_node() -> None:
    limit = SharedLimit(2, {3: 2}, {1: 4})
    assert limit.choose({1}, lambda _: 0.0) == 3
