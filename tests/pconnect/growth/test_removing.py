"""Nodes that are removed from networks of real servers, while work continues."""

import threading
from pathlib import Path

import pytest

from pconnect import (
    CollectiveError,
    ConfigurationError,
    ConnectionLostError,
    JobLostError,
    RemoteError,
    allreduce,
    precv,
    psend,
    restart,
    reval,
)
from pconnect.growth.removing import numbers_of, renew_job_nodes
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientNetwork
from tests.support.begun_jobs import begun, note_and_wait, open_gate
from tests.support.servers import Server, connect
from tests.support.waiting import DEADLINE, wait_until


def sum_of_nodes(net: ClientNetwork) -> None:
    command = reval("allreduce(sockets.node, sockets)", net)
    assert allreduce(0, net, timeout=DEADLINE) == sum(net.nodes)
    command.result(DEADLINE)


def test_numbers_never_change_their_meaning(server: Server) -> None:
    with server.connect(4) as net:
        part, second, third = net[1:4], net[2], net[3]
        net.remove(2)
        assert (net.nodes, len(net), [node.node for node in net]) == ([0, 1, 3, 4], 4, [0, 1, 3, 4])
        assert (net[3] is third, net[-1].node, net[1:4].nodes, net[[1, 3]].nodes) == (True, 4, [1, 3], [1, 3])
        assert [node.node for node in reversed(net)] == [4, 3, 1, 0]
        assert (net.index(third), net[[True, False, True, False]].nodes) == (3, [0, 3])
        assert repr(net).splitlines()[3].startswith("  3  ")
        for broken in (lambda: net[2], lambda: net[[1, 2]], lambda: part[1]):
            with pytest.raises(
                IndexError, match=r"node 2 .* was removed from this network, .* are 0, 1, 3, 4"
            ):
                broken()
        for call in (
            lambda: second.eval("1"),
            lambda: part.eval("1"),
            lambda: psend(1, second),
            lambda: precv(second),
        ):
            with pytest.raises(ConnectionLostError, match=r"node 2 .* was removed"):
                call()
        assert net.eval("(sockets.node, sockets.nodes)").result(DEADLINE) == [
            (k, [0, 1, 3, 4]) for k in (1, 3, 4)
        ]
        with pytest.raises(ConnectionLostError, match=r"node 2 .* was removed from this network"):
            net[1].eval("psend(1, [c for c in sockets.mesh.connections][2])").result(DEADLINE)
        sum_of_nodes(net)
        restart(net[1])
        sum_of_nodes(net)
        assert net.add(server.host) == [5]
        sum_of_nodes(net)
        assert net.close() == []


def test_jobs_of_a_removed_node_go_elsewhere(two_slots: Server, one_slot: Server, tmp_path: Path) -> None:
    with connect([two_slots, one_slot]) as net:
        kept = [tmp_path / str(k) for k in range(9)]
        for folder in kept:
            folder.mkdir()
        jobs = [net.executor(retries=1).submit(note_and_wait, str(folder)) for folder in kept]
        wait_until(lambda: sum(len(begun(folder)) for folder in kept) == 3, "jobs at both nodes")
        there = [k for k, job in enumerate(jobs) if job.running() and job.node == 2]
        bound = net[2].submit(abs, 1)
        net.remove(net[2], grace=0.2)
        for folder in kept:
            open_gate(folder)
        assert [job.result(DEADLINE) for job in jobs] == [1 + (k in there) for k in range(9)]
        assert {job.node for job in jobs} == {1}
        # Only jobs that had begun there begin again, after they have ended there; waiting ones do not count as lost.
        assert [job.losses for job in jobs] == [int(k in there) for k in range(9)]
        assert [begun(folder) for folder in kept] == [[False] * (1 + (k in there)) for k in range(9)]
        with pytest.raises(JobLostError, match="the nodes given in on= were removed"):
            bound.result(DEADLINE)
        with pytest.raises(ConfigurationError, match="the nodes here are"):
            list(net.map(abs, [1], on=2))


def test_what_has_begun_at_a_removed_node_begins_once(server: Server, tmp_path: Path) -> None:
    with server.connect(2) as net:
        job = net[2].submit(note_and_wait, str(tmp_path))
        wait_until(lambda: bool(begun(tmp_path)), "the job to begin")
        net.remove(2, grace=0.1)
        open_gate(tmp_path)
        # The end of its worker may be noticed before that of the node.
        with pytest.raises(JobLostError, match=r"node 2 .* (was removed .* before the job ended|died)"):
            job.result(DEADLINE)
        assert begun(tmp_path) == [False]


def test_what_ends_within_the_grace_is_no_loss(server: Server, tmp_path: Path) -> None:
    with server.connect(1) as net:
        job = net.submit(note_and_wait, str(tmp_path))
        wait_until(lambda: bool(begun(tmp_path)), "the job to begin")
        [node] = client_mesh(net.mesh).scheduler.nodes()

        def let_it_end() -> None:
            wait_until(lambda: node.is_leaving, "the removal to begin")
            open_gate(tmp_path)

        thread = threading.Thread(target=let_it_end)
        thread.start()
        net.remove(1, grace=DEADLINE)
        thread.join()
        assert (job.result(DEADLINE), job.losses, begun(tmp_path)) == (1, 0, [False])


def test_what_runs_there_ends_and_so_do_collective_calls_of_all(server: Server) -> None:
    with server.connect(3) as net:
        runs = net[3].eval("import time; time.sleep(1000)")
        waits = net[1].eval("allreduce(1, sockets)")
        pair = net[2].eval("psend(0, sockets[0]); precv(sockets[3])")
        precv(net[2], timeout=DEADLINE)
        net.remove([3], grace=0.5)
        # It is interrupted, or ends with the session at the latest.
        with pytest.raises(
            (RemoteError, ConnectionLostError), match=r"KeyboardInterrupt on node 3|was removed"
        ):
            runs.result(DEADLINE)
        assert isinstance(error := waits.exception(DEADLINE), CollectiveError | ConnectionLostError)
        assert "removed" in str(error)
        assert isinstance(error := pair.exception(DEADLINE), ConnectionLostError)
        assert "node 3" in str(error)
        sum_of_nodes(net)
        wait_until(
            lambda: [one["nodes"] for one in server.status_now()["sessions"]] == [[1, 2]], "the end there"
        )


def test_which_nodes_can_be_removed(server: Server) -> None:
    with server.connect(2) as net:
        mesh = client_mesh(net.mesh)
        assert numbers_of(mesh, net) == numbers_of(mesh, [1, 2, 1]) == [1, 2]
        assert numbers_of(mesh, net[2]) == numbers_of(mesh, 2) == [2]
        for wrong in (0, 3, [1, 7]):
            with pytest.raises(ConfigurationError, match="is not a node with an engine; these are 1, 2"):
                net.remove(wrong)
        with pytest.raises(ConfigurationError, match="whole network"):
            net[1:].remove(1)
        renew_job_nodes(mesh, [1], 0.0, away=False)  # there are no jobs
        net.remove(2)
        with pytest.raises(ConfigurationError, match=r"node 2 .* was removed"):
            net.remove(2)
        net.remove(1)
        assert (net.nodes, len(net)) == ([0], 1)
        assert net.add(server.host) == [3]
        assert net.eval("sockets.nodes").result(DEADLINE) == [[0, 3]]
