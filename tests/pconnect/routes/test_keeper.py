from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.errors import ProtocolError
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.routes import keeper
from pconnect.routes.keeper import RouteKeeper
from pconnect.routes.location import Location


class Command:
    """A command channel that only records the messages sent on it."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.sent: list[tuple[Kind, int, object]] = []
        self.others: list[Message] = []
        self.on_message = self.others.append

    def post(self, kind: Kind, tag: int, value: object) -> None:
        self.sent.append((kind, tag, value))


class Party:
    """Some servers and a keeper of the routes between them."""

    def __init__(self, count: int = 3) -> None:
        self.servers: dict[int, Any] = {
            node: SimpleNamespace(
                node=node, host=f"host{node}", command=Command(), location=Location(f"192.0.2.{node}", 2, 1)
            )
            for node in range(1, count + 1)
        }
        self.keeper = RouteKeeper(bytes(16), bytes(32), 30.0)
        event_loop: Any = SimpleNamespace(flush=lambda _: None)
        self.keeper.attend(self.servers.values(), event_loop)

    def say(self, node: int, kind: Kind, tag: int, value: object) -> None:
        self.servers[node].command.on_message(Message(kind, tag, value, 0))

    def heard(self, node: int) -> list[tuple[Kind, int, object]]:
        sent: list[tuple[Kind, int, object]] = self.servers[node].command.sent
        heard = sent.copy()
        sent.clear()
        return heard


def test_from_a_miss_to_a_relay() -> None:
    party = Party()
    party.say(1, Kind.UNREACHED, 2, ["refused", 0])
    assert party.heard(2) == [(Kind.ROUTE, 1, None)]
    party.say(2, Kind.UNREACHED, 1, ["refused, too", 0])
    assert party.heard(3) == [(Kind.RELAY, 1, [[1, 2], {}, 20.0])]
    assert party.heard(1) == party.heard(2) == []
    party.say(3, Kind.RELAY, 1, None)
    assert party.heard(1) == [(Kind.ROUTE, 2, 3)] and party.heard(2) == [(Kind.ROUTE, 1, 3)]
    assert party.keeper.routes_of(1) == {2: "relayed by node 3"} and party.keeper.routes_of(3) == {}
    assert "node 1 (host1) and node 2 (host2): through node 3 (host3)" in party.keeper.describe()


def test_a_lost_relay_is_no_longer_named() -> None:
    party = Party(4)
    party.say(1, Kind.UNREACHED, 2, ["refused", 0])
    party.say(2, Kind.UNREACHED, 1, ["refused, too", 0])
    assert party.keeper.cut_by([3]) == (
        "node 3 (host3) relayed the data between node 1 (host1) and node 2 (host2), and was removed: they are no "
        "longer connected. net[1].restart() connects them again, and gives node 1 an empty workspace"
    )
    assert party.keeper.cut_by([2, 3]) == party.keeper.cut_by([1]) == ""
    party.servers[3].command.error = ConnectionError()  # it is lost first
    assert party.keeper.describe() == "" and party.keeper.routes_of(1) == {}
    party.keeper.forget([3])  # the two wait for its answer, and take another route
    assert party.heard(4) == [(Kind.RELAY, 2, [[1, 2], {}, 20.0])]
    assert party.keeper.routes_of(1) == {2: "relayed by node 4"}
    party.heard(1)
    party.say(1, Kind.UNREACHED, 3, ["refused", 0])
    assert party.heard(1) == [(Kind.ROUTE, 3, "refused")]
    party.say(4, Kind.RELAY, 2, None)
    party.keeper.forget([4])
    assert party.keeper.routes_of(1) == {}
    party.keeper.forget([1, 2])
    assert party.keeper.describe() == "" and party.keeper.beyond(1) == []


def test_the_client_relays_a_limited_number_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "MOST_PAIRS", 0)
    party = Party(2)
    party.say(1, Kind.UNREACHED, 2, ["refused", 0])
    party.heard(2)
    party.say(2, Kind.UNREACHED, 1, ["refused, too", 0])
    words = "refused; refused, too; the client cannot relay: it relays 0 pairs of nodes, which is the limit"
    assert party.heard(1) == [(Kind.ROUTE, 2, words)] and party.heard(2) == [(Kind.ROUTE, 1, words)]


def test_a_relay_dials_the_nodes_it_can_and_the_other_one_is_notified_later() -> None:
    party = Party()
    party.say(1, Kind.UNREACHED, 3, ["refused", 0])
    party.say(3, Kind.UNREACHED, 1, ["refused", 0])
    places = [["192.0.2.3", 1], ["192.0.2.3", 2]]
    assert party.heard(2) == [(Kind.RELAY, 1, [[1, 3], {3: places}, 20.0])]
    party.heard(1), party.heard(3)
    party.say(2, Kind.RELAY, 1, None)
    assert party.heard(1) == [(Kind.ROUTE, 3, 2)] and party.heard(3) == []


def test_a_lost_node_is_given_up() -> None:
    party = Party()
    party.servers[2].command.error = ConnectionError()
    party.say(1, Kind.UNREACHED, 2, ["refused", 0])
    assert party.heard(1) == [(Kind.ROUTE, 2, "refused")]
    assert party.keeper.describe() == ""


def test_an_unknown_node_is_given_up() -> None:
    party = Party()
    party.say(1, Kind.UNREACHED, 9, ["refused", 0])
    assert party.heard(1) == [(Kind.ROUTE, 9, "refused")]


def test_other_messages_go_on_as_before() -> None:
    party = Party()
    party.say(1, Kind.FACTS, 7, {})
    assert party.servers[1].command.others == [Message(Kind.FACTS, 7, {}, 0)]


def test_unexpected_answers_change_nothing() -> None:
    party = Party()
    party.say(1, Kind.RELAY, 1, None)
    assert all(party.heard(node) == [] for node in (1, 2, 3))


@pytest.mark.parametrize(
    ("kind", "value"), [(Kind.UNREACHED, "refused"), (Kind.UNREACHED, ["a", -1]), (Kind.RELAY, 3)]
)
def test_what_makes_no_sense_is_an_error_of_the_server(kind: Kind, value: object) -> None:
    with pytest.raises(ProtocolError):
        Party().say(1, kind, 2, value)
