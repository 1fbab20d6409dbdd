"""The state of a node's workers, and how many of them are wanted."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.protocol.kinds import Kind, Role
from pconnect.scheduler.node_workers import NodeWorkers
from srp_tools.channel import Channel
from tests.support.links import channels
from tests.support.workers import Far

READY = {"slots": 3, "ready": True, "died": ""}


@pytest.fixture
def links() -> Iterator[tuple[Channel, Channel]]:
    pair = channels()
    yield pair
    for channel in pair:
        channel.close()


@pytest.fixture
def node() -> NodeWorkers:
    server: Any = SimpleNamespace(node=1, host="alpha")
    return NodeWorkers(server)


def opened(node: NodeWorkers, links: tuple[Channel, Channel]) -> Far:
    return Far(node.open(links[0], lambda _: None, lambda _: None), links[1], Role.WORKERS)


def test_a_node_is_ready_when_its_engine_is(node: NodeWorkers, links: tuple[Channel, Channel]) -> None:
    assert not node.is_ready
    opened(node, links)
    assert not node.is_ready
    for facts, gone in [
        ({"slots": 3, "ready": False, "died": ""}, "its engine is not ready"),
        (
            {"slots": 3, "ready": False, "died": "SIGKILL"},
            "its engine died: SIGKILL; to continue: net[1].restart()",
        ),
        (READY, ""),
    ]:
        node.take_facts(facts)
        assert (node.gone, node.is_ready, node.slots) == (gone, not gone, 3)


def test_a_report_about_a_dead_engine_does_not_apply_to_the_next(
    node: NodeWorkers, links: tuple[Channel, Channel]
) -> None:
    opened(node, links)
    node.take_facts(READY)
    node.await_news()  # the server has reported already
    assert node.is_ready
    node.take_facts({"slots": 3, "ready": False, "died": "SIGKILL"})
    node.await_news()
    assert not node.gone and not node.is_ready
    node.take_facts(READY)
    assert node.is_ready
    node.lose("its machine vanished")
    node.await_news()
    assert node.gone == "its machine vanished"


def test_a_node_with_another_session_begins_anew(node: NodeWorkers, links: tuple[Channel, Channel]) -> None:
    opened(node, links)
    node.take_facts(READY)
    node.want_more()
    node.ask(5.0)
    node.lose("its machine vanished")
    another = node.server
    node.revive(another)
    assert (node.gone, node.is_lost, node.channel, node.slots, node.wanted) == ("", False, None, None, 0)
    assert not node.has_answered and not node.is_ready


def test_a_leaving_node_runs_nothing_regardless_of_reports(
    node: NodeWorkers, links: tuple[Channel, Channel]
) -> None:
    opened(node, links)
    node.take_facts(READY)
    node.want_more()
    node.leave(returns=False)
    node.take_facts(READY)
    node.await_news()
    assert (node.is_leaving, node.is_lost, node.is_ready, node.may_run_jobs, node.wanted) == (
        True, False, False, False, 0,
    )  # fmt: skip
    node.lose("it is lost: gone")
    assert (node.is_leaving, node.is_lost) == (True, False)
    node.leave(returns=True)
    assert (node.is_leaving, node.is_ready, node.may_run_jobs) == (True, False, True)
    node.revive(node.server)
    assert not node.is_leaving


def test_a_request_is_sent_only_when_it_changes(node: NodeWorkers, links: tuple[Channel, Channel]) -> None:
    far = opened(node, links)
    node.take_facts({**READY, "slots": 2})
    node.ask(0.0)
    for _ in range(2):
        node.want_more()
    node.ask(0.0)
    node.ask(0.0)
    node.hold(1)
    node.ask(0.0)
    node.hold(-1)
    for _ in range(3):
        node.want_fewer()
    node.ask(0.0)
    told = [(kind, wanted, exclusive) for kind, wanted, exclusive in far.messages()]
    assert told == [(Kind.WANT, 2, False), (Kind.WANT, 2, True), (Kind.WANT, 0, False)]


def test_a_held_server_is_asked_for_all_its_slots(node: NodeWorkers, links: tuple[Channel, Channel]) -> None:
    far = opened(node, links)
    node.hold(1)
    node.ask(0.0)
    node.take_facts(READY)
    node.ask(0.0)
    assert [wanted for _, wanted, _ in far.messages()] == [0, 3]
    assert (node.coming, node.can_have_more(0.0)) == (3, False)


def test_a_server_that_refused_is_not_asked_for_a_while(
    node: NodeWorkers, links: tuple[Channel, Channel]
) -> None:
    far = opened(node, links)
    node.take_facts(READY)
    node.want_more()
    node.ask(10.0)
    node.refuse(10.0)
    assert (node.wanted, node.can_have_more(10.9), node.can_have_more(11.1)) == (0, False, True)
    node.ask(10.0)  # the server has forgotten it as well
    node.want_more()
    node.ask(11.1)
    assert [wanted for _, wanted, _ in far.messages()] == [1, 1]


def test_a_first_worker_is_short_after_a_while(node: NodeWorkers) -> None:
    assert not node.is_short(10.0) and not node.is_short(10.9) and node.is_short(11.1)
    node.is_served()
    assert not node.is_short(20.0)


def test_a_node_with_a_dead_engine_wants_no_workers(node: NodeWorkers) -> None:
    node.want_more()
    node.take_facts({"slots": 3, "ready": False, "died": "SIGKILL"})
    assert node.wanted == 0
    node.lose("it is lost: no answer")
    assert (node.is_lost, node.has_answered, str(node)) == (True, True, "node 1 (alpha)")
