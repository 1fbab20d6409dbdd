from pconnect.values.encoder import pack
from pserver.routes.ways import Ways

GATE = "203.0.113.1"
NODES = pack([
    ["a", [[GATE, 22501], ["10.9.0.2", 12501], [GATE, 22502]]],
    ["b", [[GATE, 22601], ["10.9.0.3", 12501], [GATE, 22602]]],
    ["c", [["203.0.113.3", 12501], ["203.0.113.3", 12502]]],
    ["c", [["203.0.113.3", 12601], ["203.0.113.3", 12602]]],
])  # fmt: skip


def test_behind_one_router_the_inner_places_come_first() -> None:
    assert Ways(NODES, 1, 30.0).places(2) == [("10.9.0.3", 12501), (GATE, 22601), (GATE, 22602)]
    assert Ways(NODES, 3, 30.0).places(2) == [(GATE, 22601), ("10.9.0.3", 12501), (GATE, 22602)]


def test_on_one_machine_the_order_stays() -> None:
    assert Ways(NODES, 3, 30.0).places(4) == [("203.0.113.3", 12601), ("203.0.113.3", 12602)]


def test_what_is_unusual_is_told() -> None:
    ways = Ways(NODES, 3, 30.0)
    ways.note(2, (GATE, 22601))
    assert ways.facts() == {}
    ways.note(2, (GATE, 22602))
    assert ways.facts() == {"routes": {"2": f"at {GATE} port 22602"}}
    ways.note(2, (GATE, 22601))
    assert ways.facts() == {}


def test_a_silent_place_leaves_time_for_other_ways() -> None:
    assert Ways(NODES, 3, 12.0).place_seconds == 2.0
    assert Ways(NODES, 3, 3600.0).place_seconds == 3.5
    assert Ways(NODES, 3, 12.0).hosts == ["client", "a", "b", "c", "c"]


def test_nodes_come_and_go() -> None:
    ways = Ways(NODES, 3, 30.0)
    ways.change(5, "e", [["203.0.113.5", 1]])
    ways.remove(2)
    assert ways.removed == {2: "b"} and ways.places(5) == [("203.0.113.5", 1)]
    ways.change(2, "b", [["203.0.113.6", 1]])
    assert ways.removed == {} and ways.places(2) == [("203.0.113.6", 1)]
