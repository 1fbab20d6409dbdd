"""Networks that follow their pool."""

import time
from pathlib import Path

import pytest

from pconnect import ConfigurationError
from pconnect.pool.following import DEFAULT_INTERVAL, Following, interval_of
from pconnect.session.remote_calls import client_mesh
from pconnect.views.network_views import ClientConnection, ClientNetwork
from srp_tools.generate import generate_srp_data
from tests.support.pools import announce
from tests.support.servers import connect, make_users, run_server
from tests.support.waiting import DEADLINE, wait_until


def test_how_often_it_asks() -> None:
    assert (interval_of(False), interval_of(True), interval_of(2)) == (0.0, DEFAULT_INTERVAL, 2.0)
    for wrong in (-1, 0, float("inf"), "often"):
        with pytest.raises(ConfigurationError, match="it must be True, False, or seconds"):
            interval_of(wrong)  # type: ignore[arg-type]


def _wait(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.01)
    return 1


def _looks(net: ClientNetwork) -> bool:
    """Do what a thread does before it waits for a job; return whether there is another node."""
    client_mesh(net.mesh).scheduler.attend(None, float("inf"))
    return len(net) == 3


def test_a_server_that_comes_while_jobs_wait_gets_some(tmp_path: Path) -> None:
    users = make_users(tmp_path / "users")
    generate_srp_data(member=True, folder=tmp_path / "users", bits=2048)
    state, gate = f"--spool-dir={tmp_path / 'state'}", tmp_path / "gate"
    with (
        run_server(tmp_path / "a", "--slots=1", state, users=users) as alpha,
        connect([alpha], elastic=0.2) as net,
    ):
        announce(alpha, id="77" * 16, addresses=["127.0.0.1:1"], cmd_port=1)  # where nothing is
        jobs = [net.submit(_wait, str(gate)) for _ in range(6)]
        wait_until(jobs[0].running, "the first job to begin")
        with run_server(tmp_path / "b", "--slots=2", state, f"--join={alpha.host}", users=users) as beta:
            wait_until(lambda: len(alpha.ask("members")["members"]) == 2, "beta to announce itself")
            wait_until(lambda: _looks(net), "the new server")
            assert net[2].host == beta.host
            wait_until(lambda: 2 in {job.node for job in jobs}, "jobs there")
            gate.touch()
            assert [job.result(DEADLINE) for job in jobs] == [1] * 6
            assert net.eval("sockets.nodes").result(DEADLINE) == [[0, 1, 2]] * 2
            [label] = net.missing
            assert label.endswith(":1")
            net.remove(2)


def test_it_asks_when_it_is_time_and_there_is_time_to_add(tmp_path: Path) -> None:
    with run_server(tmp_path / "a") as alpha, connect([alpha]) as net:
        now = [100.0]
        following = Following(client_mesh(net.mesh), 5.0, ClientConnection, lambda: now[0])
        for instant, deadline, is_due in [(104.0, 1e9, False), (106.0, 110.0, False), (106.0, 1e9, True)]:
            now[0] = instant
            before = following._due
            following.look(deadline)
            assert (following._due != before) is is_due
        assert following._due == 111.0
