from collections.abc import Iterator
from itertools import count

import pytest

from pconnect.routes.detours import CLIENT, Detours, Dial, GiveUp, Relay


@pytest.fixture
def living() -> list[int]:
    return [1, 2, 3, 4]


@pytest.fixture
def detours(living: list[int]) -> Detours:
    return Detours(lambda: living)


@pytest.fixture
def whys() -> Iterator[str]:
    return (f"why {number}" for number in count(1))


def part(detours: Detours, low: int, high: int, whys: Iterator[str]) -> Relay | GiveUp | Dial | None:
    """Have two nodes report that they cannot reach each other at all."""
    assert detours.missed(low, high, next(whys)) == Dial(high, low)
    return detours.missed(high, low, next(whys))


def test_first_the_other_one_dials(detours: Detours) -> None:
    assert detours.missed(1, 2, "refused") == Dial(2, 1)
    assert detours.relays == {}


def test_then_a_relay_is_dialled_by_whoever_has_dialled_it_before(
    detours: Detours, whys: Iterator[str]
) -> None:
    assert part(detours, 2, 3, whys) == Relay(1, (2, 3), (2, 3))
    assert part(detours, 1, 4, whys) == Relay(2, (1, 4), (4,))
    assert detours.relays == {(2, 3): 1, (1, 4): 2}


def test_a_node_that_could_not_dial_the_relay_is_dialled(detours: Detours, whys: Iterator[str]) -> None:
    detours.missed(1, 3, "refused")  # so 3 dials 1
    assert part(detours, 2, 3, whys) == Relay(1, (2, 3), (2,))


def test_relays_share_the_work(detours: Detours, living: list[int], whys: Iterator[str]) -> None:
    living.extend((5, 6))
    first, second = part(detours, 5, 6, whys), part(detours, 4, 6, whys)
    assert isinstance(first, Relay) and isinstance(second, Relay)
    assert (first.relay, second.relay) == (1, 2)


def test_a_relay_that_fails_is_followed_by_another_and_then_by_the_client(
    detours: Detours, whys: Iterator[str]
) -> None:
    pair = 1, 2
    assert part(detours, *pair, whys) == Relay(3, pair, ())
    assert detours.missed(1, 2, "why 3", 3) == Relay(4, pair, ())
    assert detours.missed(2, 1, "late", 3) is None  # this concerns a relay that was already given up
    assert detours.relay_failed(3, pair, "late") is None
    assert detours.relay_failed(4, pair, "why 4") == Relay(CLIENT, pair, pair)
    assert detours.relays == {pair: CLIENT}
    assert detours.relay_failed(CLIENT, pair, "why 5") == GiveUp(pair, "why 1; why 2; why 3; why 4; why 5")
    assert detours.relays == {}


def test_there_is_an_end_of_trying(detours: Detours, living: list[int], whys: Iterator[str]) -> None:
    living.extend(range(5, 50))
    order = part(detours, 1, 2, whys)
    tried = []
    while isinstance(order, Relay):
        tried.append(order.relay)
        order = detours.relay_failed(order.relay, (1, 2), "no")
    assert tried == [3, 4, 5, CLIENT] and isinstance(order, GiveUp)


def test_a_node_apart_from_one_of_the_two_is_not_a_relay(detours: Detours, whys: Iterator[str]) -> None:
    part(detours, 1, 3, whys)
    part(detours, 2, 4, whys)
    assert part(detours, 1, 2, whys) == Relay(CLIENT, (1, 2), (1, 2))


def test_a_node_that_is_gone_is_not_waited_for(detours: Detours, living: list[int]) -> None:
    living.remove(2)
    assert detours.missed(1, 2, "refused") == GiveUp((1, 2), "refused")


def test_after_a_restart_two_that_are_apart_have_a_relay_at_once(
    detours: Detours, whys: Iterator[str]
) -> None:
    assert part(detours, 1, 2, whys) == Relay(3, (1, 2), ())
    assert detours.missed(1, 2, "refused again") == Relay(3, (1, 2), ())
    assert detours.missed(2, 1, "why not", 3) == Relay(4, (1, 2), ())
    assert detours.missed(2, 1, "refused again") == Relay(3, (1, 2), ())  # also if the other one starts over
    detours.forget(2)
    assert detours.relays == {}
    assert detours.missed(2, 1, "refused again") == Relay(3, (1, 2), ())


def test_a_removed_node_is_no_longer_a_relay(
    detours: Detours, living: list[int], whys: Iterator[str]
) -> None:
    assert part(detours, 1, 2, whys) == Relay(3, (1, 2), ())
    assert isinstance(part(detours, 3, 4, whys), Relay) and detours.beyond(4) == [3]
    living.remove(3)
    assert detours.remove(3) == [(1, 2)]
    assert detours.relays == {} and detours.beyond(4) == []
    assert detours.missed(1, 2, "refused again") == Relay(4, (1, 2), ())
    living.append(5)
    assert detours.missed(1, 2, "why not", 4) == Relay(5, (1, 2), ())
    living.remove(4)
    assert detours.remove(4) == []  # it had been given up
    assert detours.relays == {(1, 2): 5}


def test_after_a_restart_the_same_one_dials(detours: Detours) -> None:
    for _ in range(3):  # node 1 starts over, and cannot dial
        assert detours.missed(1, 2, "refused") == Dial(2, 1)
    assert detours.relays == {}


def test_both_can_be_asked(detours: Detours) -> None:
    """Node 2 also dials when it starts over; its earlier failure does not mean that it is apart from node 1."""
    assert detours.missed(2, 1, "refused") == Dial(1, 2)
    assert detours.missed(1, 2, "refused") == Relay(3, (1, 2), ())


def test_the_nodes_that_a_node_cannot_dial_are_known(detours: Detours, whys: Iterator[str]) -> None:
    detours.missed(1, 2, "refused")
    part(detours, 3, 4, whys)
    assert [detours.beyond(node) for node in (1, 2, 3, 4)] == [[2], [], [4], [3]]
