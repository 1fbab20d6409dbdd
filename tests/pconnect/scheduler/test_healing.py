"""Servers that are killed and started again while jobs are open."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from pconnect import ConnectionLostError, JobLostError
from pconnect.scheduler import healing
from pconnect.scheduler.healing import _Attempts
from pconnect.session.remote_calls import client_mesh
from pconnect.statistics.server_table import ask_servers
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.begun_jobs import begun, note_and_wait, open_gate
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_until


class Member:
    """A server that a test can kill, with its sessions, and start again on the same ports."""

    def __init__(
        self, folder: Path, users: tuple[Credentials, Path], stack: ExitStack, *options: str
    ) -> None:
        self._folder, self._users, self._options = folder, users, options
        self._stack = stack
        self.server = stack.enter_context(run_server(folder, "--slots=2", *options, users=users))
        self._ports = f"--cmd-port={self.server.cmd_port}", f"--data-port={self.server.data_port}"

    def kill(self, net: ClientNetwork) -> None:
        sessions = self.server.sessions(net)
        self.server.process.kill()
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)
        self.server.process.wait(DEADLINE)

    def start(self) -> None:
        again = run_server(self._folder, "--slots=2", *self._ports, *self._options, users=self._users)
        self.server = self._stack.enter_context(again)


@pytest.fixture
def member(tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[Member]:
    with ExitStack() as stack:
        yield Member(tmp_path / "member", users, stack)


def work(table: list[int], k: int) -> int:
    time.sleep(0.002)
    return table[k % 3] + k


@pytest.mark.slow
def test_2000_jobs_while_a_member_is_killed_and_comes_back(server: Server, member: Member) -> None:
    with connect([server, member.server]) as net:
        table = net.broadcast([10, 20, 30])
        results = net.map(work, [table] * 2000, range(2000), retries=2)
        got = [next(results) for _ in range(100)]
        member.kill(net)
        got += [next(results) for _ in range(100)]
        member.start()
        began, healed = time.monotonic(), client_mesh(net.mesh).growth.healing
        while "runs jobs again" not in healed.get(2, ""):
            got.append(next(results))
            assert time.monotonic() - began < 10.0, healed
        shown = ask_servers(client_mesh(net.mesh), [2], {}, DEADLINE)  # its statistics stay available
        assert "timeline" in shown[member.server.host]["document"]
        got += results
        assert got == [[10, 20, 30][k % 3] + k for k in range(2000)]
        assert net[2].executor().count_slots(DEADLINE) == 2
        told = {row[0]: row[4] for row in net.statistics().workers() if row[2] == "all"}
        assert isinstance(told[2], int) and told[2] > 0
        assert [row[-1] for row in net.statistics()] == ["open", "open"]
        assert "2  127.0.0.1" in repr(net) and "it runs jobs again, after" in repr(net)
        # Commands still report it as lost until it is reconnected; then it has the broadcast values.
        with pytest.raises(ConnectionLostError, match=r"net\.reconnect\(2\)"):
            net[2].eval("1").result(DEADLINE)
        assert net.reconnect() == [2]
        assert net.eval("sockets.nodes").result(DEADLINE) == [[0, 1, 2]] * 2
        assert list(net[2].map(work, [table] * 3, range(3))) == [10, 21, 32]
        assert "runs jobs again" not in repr(net)


@pytest.mark.slow
def test_jobs_that_wait_for_the_only_server_get_it(tmp_path: Path, member: Member) -> None:
    with connect([member.server]) as net:
        gate = tmp_path / "gate"
        runs = net.executor(retries=1).submit(_wait_for, str(gate))
        wait_until(runs.running, "the job to begin")
        waits = [net.submit(abs, -k) for k in range(20)]
        member.kill(net)
        gate.touch()
        member.start()
        assert [runs.result(DEADLINE), *(job.result(DEADLINE) for job in waits)] == [1, *range(20)]
        assert runs.losses == 1


def _wait_for(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.01)
    return 1


@pytest.mark.slow
def test_a_lost_node_is_awaited_only_by_earlier_jobs(
    tmp_path: Path, member: Member, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(healing, "BACK_SECONDS", 3.0)
    with connect([member.server]) as net:
        gate = tmp_path / "gate"
        jobs = [net.submit(_wait_for, str(gate)) for _ in range(8)]
        wait_until(jobs[0].running, "the first job to begin")
        member.kill(net)
        wait_until(jobs[0].done, "the loss")
        late = net.submit(abs, 1)
        with pytest.raises(JobLostError, match="cannot run on any node"):
            late.result(2.0)
        with pytest.raises(JobLostError, match=r"cannot run on any node: node 1 .* it is lost"):
            jobs[-1].result(DEADLINE)
        assert "tried" in client_mesh(net.mesh).growth.healing[1]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("x = 1", "commands have left something in its workspace"),
        ("", "its server ended the session on purpose"),
    ],
)
def test_nodes_that_are_not_healed(server: Server, member: Member, command: str, words: str) -> None:
    with connect([server, member.server]) as net:
        if command:
            net.eval(command).result(DEADLINE)
        jobs = [net.executor(retries=2).submit(work, [0, 0, 0], k) for k in range(9)]
        if command:
            member.kill(net)
        else:
            member.server.ask("kill", what=str(member.server.sessions(net)[0]))
        rest = net.map(work, itertools.repeat([0, 0, 0]), itertools.count(), retries=2)
        healed, end = client_mesh(net.mesh).growth.healing, time.monotonic() + DEADLINE
        while words not in healed.get(2, ""):
            assert time.monotonic() < end, healed
            next(rest)
        rest.close()  # type: ignore[attr-defined]
        assert [job.result(DEADLINE) for job in jobs] == list(range(9))


@pytest.mark.slow
def test_jobs_in_a_healed_session_end_before_a_reconnect(
    server: Server, member: Member, tmp_path: Path
) -> None:
    with connect([server, member.server]) as net:
        mesh = client_mesh(net.mesh)
        net.submit(abs, -1).result(DEADLINE)
        member.kill(net)
        member.start()
        job = net[2].submit(note_and_wait, str(tmp_path))
        wait_until(lambda: bool(begun(tmp_path)), "the job to begin in the new session")
        assert "runs jobs again" in mesh.growth.healing[2]
        node = mesh.scheduler.nodes()[1]

        def let_it_end() -> None:
            wait_until(lambda: node.is_leaving, "the reconnect to begin")
            open_gate(tmp_path)

        thread = threading.Thread(target=let_it_end)
        thread.start()
        assert net.reconnect() == [2]
        thread.join()
        assert (job.result(DEADLINE), job.losses, begun(tmp_path)) == (1, 0, [False])


def test_the_text_that_describes_attempts() -> None:
    tries = _Attempts(0.0, 0.0, 0.0)
    assert str(tries) == "it is being brought back for jobs"
    tries.count, tries.why = 1, "refused"
    assert str(tries) == "tried once to bring it back for jobs, last error: refused"
    tries.count, tries.over = 3, "the login is refused"
    assert str(tries) == "tried 3 times to bring it back for jobs, last error: refused; the login is refused"
