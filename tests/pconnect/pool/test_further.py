import os
import signal
from pathlib import Path

import psutil

from pconnect.pool.further import further_hosts, survey
from pconnect.session.remote_calls import client_mesh
from srp_tools.generate import generate_srp_data
from srp_tools.steps import deadline_after
from tests.support.pools import announce
from tests.support.servers import connect, make_users, run_server
from tests.support.waiting import DEADLINE, wait_until


def test_servers_missing_in_the_network_are_found_with_addresses(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    generate_srp_data(member=True, folder=tmp_path / "users", bits=2048)
    state = f"--spool-dir={tmp_path / 'state'}"
    with (
        run_server(tmp_path / "a", state, users=users) as alpha,
        run_server(tmp_path / "b", state, f"--join={alpha.host}", users=users) as beta,
        connect([alpha, alpha]) as net,
    ):
        wait_until(lambda: alpha.ask("members")["members"] != [], "beta to announce itself")
        announce(alpha, id="77" * 16, addresses=["10.9.9.9", "gate:22502"], cmd_port=9)
        mesh = client_mesh(net.mesh)
        there, answers = survey(mesh, [1, 2], 30.0)
        assert {node: [server.node for server in servers] for node, servers in there.items()} == {1: [1, 2]}
        assert list(answers) == [1]
        found = further_hosts(mesh, 30.0)
        assert [host.label for host in found.pop("77" * 16)] == ["127.0.0.1:9", "10.9.9.9", "gate:22502"]
        [[host]] = found.values()
        assert host.label == beta.host
        assert net.add(host.label) == [3]
        assert list(further_hosts(mesh, 30.0)) == ["77" * 16]
        # A server that does not answer in time, or is lost, still belongs to the network.
        stopped = beta.sessions(net)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it to stop")  # noqa: B023
        _, answers = survey(mesh, list(mesh.servers), 2.0)
        assert list(answers) == [1]
        assert list(further_hosts(mesh, 2.0)) == ["77" * 16]
        for pid in stopped:
            os.kill(pid, signal.SIGKILL)
        mesh.event_loop.run_until(
            lambda: mesh.servers[3].command.error is not None, deadline_after(DEADLINE), "the loss"
        )
        assert list(further_hosts(mesh, 30.0)) == ["77" * 16]
        net.remove(3)
        assert list(further_hosts(mesh, 30.0)) == ["77" * 16]
