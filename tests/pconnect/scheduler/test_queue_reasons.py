"""The reasons given for a queued job."""

from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.routes.location import Location
from pconnect.scheduler.node_workers import NodeWorkers
from pconnect.scheduler.queue_reasons import why_queued


def worker(node: NodeWorkers, *, is_open: bool = True) -> Any:
    return SimpleNamespace(node=node.number, server=node.server, is_open=is_open, jobs={1: None})


def made(number: int = 1, address: str = "192.0.2.1") -> NodeWorkers:
    server: Any = SimpleNamespace(node=number, host="alpha", running={}, location=Location(address, 1, 2))
    node = NodeWorkers(server)
    node.channel = server  # any object will do
    node.take_facts({"slots": 2, "ready": True, "died": ""})
    return node


def late(node: NodeWorkers) -> NodeWorkers:
    node.want_more()
    node.is_late(0.0)
    return node


def test_before_anything_is_late() -> None:
    node = made()
    assert why_queued([node], [], 0.0) == "node 1 (alpha): a worker is being started"
    node.channel = None
    assert "has not reported yet" in why_queued([node], [], 0.0)
    node = made()
    node.take_facts({"slots": 0, "ready": True, "died": ""})
    assert "offers no slots at present" in why_queued([node], [], 0.0)


def test_all_workers_are_busy() -> None:
    node = made()
    assert "all of its 2 workers are busy with other jobs" in why_queued([node], [worker(node)] * 2, 9.0)
    assert "being started" in why_queued([node], [worker(node), worker(node, is_open=False)], 9.0)


def test_the_engine_is_busy() -> None:
    node = late(made())
    running: Any = node.server.running
    running.update({3: SimpleNamespace(source="sleep(60)"), 4: SimpleNamespace(source="next")})
    assert "its engine is busy with command 'sleep(60)'" in why_queued([node], [], 9.0)


def test_no_slot_is_free() -> None:
    node, same, elsewhere = late(made()), made(2), made(3, "192.0.2.2")
    alone = why_queued([node], [worker(elsewhere)], 9.0)
    assert (
        "its server has 2, of which other nodes of this network use 0; other networks use the rest" in alone
    )
    own = why_queued([node], [worker(same)] * 2, 9.0)
    assert own.endswith("of which other nodes of this network use 2")


@pytest.mark.parametrize(("count", "end"), [(4, "started"), (6, "; and 2 more nodes")])
def test_of_many_nodes_the_first_are_named(count: int, end: str) -> None:
    text = why_queued([made(number) for number in range(1, count + 1)], [], 0.0)
    assert text.count("node ") == 4
    assert text.endswith(end)


def test_a_node_that_can_start_no_worker() -> None:
    node = made()
    node.disable("the folder was removed")
    assert why_queued([node], [], 0.0) == "node 1 (alpha): the folder was removed"
    assert not node.is_ready
