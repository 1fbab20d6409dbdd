"""Which nodes get jobs: with recorded answers of servers, and on real servers."""

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pconnect.errors import ConfigurationError
from pconnect.protocol.kinds import Kind
from pconnect.scheduler.placement import Placement
from pconnect.session.remote_calls import client_mesh
from srp_tools.credentials import Credentials
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


class Channel:
    """A job channel that records questions."""

    def __init__(self) -> None:
        self.asked: list[Kind] = []

    def post(self, kind: Kind, _: int, __: object) -> None:
        self.asked.append(kind)


def node(number: int = 1, wanted: int = 0) -> Any:
    server = SimpleNamespace(host="alpha")
    return SimpleNamespace(
        number=number, server=server, channel=Channel(), is_ready=True, wanted=wanted, slots=4
    )


def test_without_rules_all_get_jobs_the_least_busy_first() -> None:
    placement, one = Placement(), node(1, wanted=2)
    placement.look([one], 100.0)
    assert one.channel.asked == [] and placement.accepts(1) and placement.why(one) == ""
    assert placement.rank(one) == 0.5 and placement.rank(node(2)) == 0.0
    placement.take(one, {"error": "unasked"})
    assert placement.accepts(1) and placement.error() is None


def test_in_order_the_first_node_comes_first() -> None:
    placement = Placement(order="ordered")
    assert placement.is_ordered and placement.rank(node(1, wanted=4)) < placement.rank(node(2))


def test_a_server_gets_jobs_while_the_function_accepts_it() -> None:
    placement, one = Placement(lambda server: server.load < 1), node()
    assert not placement.accepts(1) and "waits for its server's first report" in placement.why(one)
    placement.look([one], 100.0)
    placement.look([one], 104.0)
    assert one.channel.asked == [Kind.STATISTICS]
    placement.take(one, {"machine": {"load": [0.5, 0, 0]}})
    assert placement.accepts(1) and placement.accepted([one, node(2)]) == [one]
    placement.look([one], 105.0)
    assert len(one.channel.asked) == 2
    placement.take(one, {"machine": {"load": [1.5, 0, 0]}})
    assert not placement.accepts(1) and placement.why(one) == "accept= rejects it"
    placement.take(one, {"error": "its server has ended"})
    assert placement.why(one) == "accept= cannot decide: its server has ended"


@pytest.mark.parametrize(
    ("function", "what"), [(lambda s: s.nope, "nope"), (lambda _: None, "returned None")]
)
def test_errors_of_the_function_are_reported(function: object, what: str) -> None:
    placement = Placement(function)
    placement.take(node(), {})
    error = placement.error()
    assert error is not None and what in str(error) and "accept= failed for alpha" in str(error)
    assert error.__cause__ is not None and not placement.accepts(1)


def small(server: Any) -> bool:
    return bool(server.load < 1 or server.nope)


def test_an_error_counts_until_the_function_decides_for_the_same_server() -> None:
    placement, one, two = Placement(small), node(1), node(2)
    fine, busy = {"machine": {"load": [0.5, 0, 0]}}, {"machine": {"load": [1.5, 0, 0]}}
    placement.take(one, busy)
    placement.take(two, fine)
    assert placement.error() is not None and placement.accepts(2) and not placement.accepts(1)
    placement.take(one, fine)
    assert placement.error() is None and placement.accepts(1)
    placement.take(one, busy)
    placement.forget(1)  # its session has ended
    assert placement.error() is None and not placement.accepts(1)
    placement.look([one], 100.0)
    assert one.channel.asked == [Kind.STATISTICS]  # a new session is asked immediately


@pytest.mark.parametrize(
    "document",
    [
        {"machine": {"memory_free": 10**400}},
        {"machine": {"load": [10**400]}},
        {"queue": {"waiting": -(10**400)}},
        {"sessions": [], "others": {"sessions": 10**400}},
    ],
)
def test_a_malformed_report_is_not_an_error_of_the_function(document: dict[str, Any]) -> None:
    placement, one = Placement(lambda server: server.load < 1e300), node()
    placement.take(one, document)
    assert placement.error() is None and not placement.accepts(1)
    assert placement.why(one).startswith("accept=")


@pytest.mark.parametrize("options", [{"accept": 8e9}, {"order": "first"}])
def test_invalid_rules_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="is not allowed"):
        Placement(**options)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[list[Server]]:
    """Provide two servers with two slots each and no other clients."""
    folder = tmp_path_factory.mktemp("pair")
    with (
        run_server(folder / "a", "--slots=2", users=users) as first,
        run_server(folder / "b", "--slots=2", users=users) as second,
    ):
        yield [first, second]


def wait_for(path: str) -> None:
    while not Path(path).exists():
        time.sleep(0.01)


def test_jobs_go_to_the_first_hosts_first(pair: list[Server], tmp_path: Path) -> None:
    with connect(pair, placement="ordered") as net:
        for count, expected in ((4, [1, 1, 2, 2]), (2, [1, 1])):  # in the first round both get workers
            gate = tmp_path / str(count)
            jobs = [net.submit(wait_for, str(gate)) for _ in range(count)]
            wait_until(lambda: all(job.running() for job in jobs), "the jobs to run")  # noqa: B023 - called immediately
            gate.touch()
            assert [job.result(DEADLINE) for job in jobs] == [None] * count
            assert sorted(job.node or 0 for job in jobs) == expected


def test_a_server_that_is_not_accepted_gets_no_jobs(pair: list[Server]) -> None:
    name = pair[1].status["name"]
    with connect(pair, accept=lambda server: server.name == name and server.memory_free > 1e6) as net:
        jobs = [net.submit(abs, -number) for number in range(20)]
        assert [job.result(DEADLINE) for job in jobs] == list(range(20))
        assert {job.node for job in jobs} == {2}
        job = net[1].submit(abs, -1)
        wait_until(lambda: "accept= rejects it" in job.why, "the reason")
        job.cancel()
        assert net.eval("1").result(DEADLINE) == [1, 1]
        placement = client_mesh(net.mesh).jobs.placement
        net.remove(1)
        assert set(placement._states) == {2}


def test_a_function_that_fails_fails_the_jobs(pair: list[Server]) -> None:
    with connect(pair, accept=lambda server: server.memory_free > "8 GB") as net:
        error = net.submit(abs, -1).exception(DEADLINE)
        assert isinstance(error, ConfigurationError) and isinstance(error.__cause__, TypeError)
    with pytest.raises(ConfigurationError, match="accept=3 is not allowed: give a function"):
        connect(pair, accept=3)
