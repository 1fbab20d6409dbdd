import itertools
import random

from pconnect.pool.numbering import Numbering


def test_numbers_follow_the_order_of_places() -> None:
    numbering = Numbering("aabac")
    assert [numbering.is_turn(each) for each in "abc"] == [True, False, False]
    assert numbering.take("a") == 1
    assert [numbering.is_turn(each) for each in "abc"] == [True, True, False]
    assert numbering.take("b") == 3
    assert numbering.take("c") == 5
    assert numbering.finish() == dict(enumerate("aabac", 1))


def test_failures_leave_no_gap() -> None:
    numbering = Numbering("aabc", first=4)
    numbering.fail("a")
    assert numbering.is_turn("b") and numbering.take("b") == 4
    numbering.fail("b")  # has no effect, because b has a number already
    assert numbering.take("c") == 5
    assert numbering.finish() == {4: "b", 5: "c"}


def test_a_late_server_gets_a_later_number() -> None:
    numbering = Numbering("aabc")
    assert numbering.take("b") == 1
    assert numbering.take("a") == 2
    assert numbering.take("c") == 4
    assert numbering.finish() == {1: "b", 2: "a", 3: "a", 4: "c"}


def test_numbers_have_no_holes_whatever_happens() -> None:
    for seed in range(200):
        chance = random.Random(seed)
        places = chance.choices("abcdef", k=8)
        numbering = Numbering(places, first=3)
        servers = list(dict.fromkeys(places))
        chance.shuffle(servers)
        taken = {each: numbering.take(each) for each in servers if chance.random() < 0.6}
        nodes = numbering.finish()
        assert list(nodes) == list(range(3, 3 + len(nodes)))
        assert sorted(nodes.values()) == sorted(each for each in places if each in taken)
        assert all(min(n for n, each in nodes.items() if each == server) == taken[server] for server in taken)


def test_it_is_always_somebody_s_turn() -> None:
    for order in itertools.permutations("abcd"):
        numbering = Numbering("abcd")
        waiting = list(order)
        while waiting:
            server = next(each for each in waiting if numbering.is_turn(each))
            waiting.remove(server)
            numbering.take(server)
        assert numbering.finish() == dict(enumerate("abcd", 1))
