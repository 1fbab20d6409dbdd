"""Jobs that outlive their network; the complete path is in `tests.integration.test_detach`."""

import concurrent.futures
import time
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConfigurationError, CredentialError, pconnect
from pconnect.detach.hand_over import Detaching
from pconnect.detach.token import unpack_token
from pconnect.session.remote_calls import client_mesh
from tests.support.servers import Server


def test_a_token_says_where_and_which(one_slot: Server) -> None:
    with one_slot.connect() as net:
        jobs = [net.submit("__import__('time').sleep", 0.2) for _ in range(3)]
        jobs.append(net.executor(allow_pickle=True).submit(time.sleep, 0.2))
        jobs[0].result(20)
        hosts, network_id = (
            [host.ports_named for host in client_mesh(net.mesh).attendance.hosts],
            net.network_id,
        )
        token = unpack_token(net.detach())
        left = [job.number for job in jobs if job.exception(0) is not None]
        assert net.closed
        assert "the network was detached; recover it with the token" in str(jobs[left[-1] - 1].exception(0))
        assert "the network was detached, and the servers do not have this job" in str(
            net.submit(pow, 1, 1).exception(20)
        )
    assert (token.network_id.hex(), list(token.hosts)) == (network_id, hosts)
    assert (token.jobs, set(token.pickled)) == ({1: left}, {4})
    assert 1 not in left


def test_without_a_place_for_the_token_nothing_happens(one_slot: Server, tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o775)
    with one_slot.connect() as net:
        jobs = [net.submit("__import__('time').sleep", 0.1) for _ in range(3)]
        with pytest.raises(
            CredentialError, match=r"writable by others \(mode 0775\); fix it with: chmod go-w"
        ):
            net.detach(path=folder / "token")
        assert [job.result(20) for job in jobs] == [None] * 3
        assert net.submit(pow, 2, 3).result(20) == 8
        assert net.jobs == {}


def test_the_token_may_lie_where_others_can_look(one_slot: Server, tmp_path: Path) -> None:
    path = tmp_path / "job.token"
    tmp_path.chmod(0o755)
    with one_slot.connect() as net:
        net.submit("__import__('time').sleep", 0.2)
        token = net.detach(path=path)
    assert path.read_text() == token + "\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_time_to_hand_over(one_slot: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_slot.connect() as net:
        job = net.submit("__import__('time').sleep", 0.5)
        with (
            monkeypatch.context() as slow,
            pytest.raises(TimeoutError, match="timed out handing the jobs over"),
        ):
            slow.setattr(Detaching, "_plan", lambda _: None)  # as if servers had not answered yet
            net.detach(timeout=0)
        assert job.result(20) is None
        with pytest.raises(ConfigurationError, match="nothing to detach"):
            net.detach()


class Interrupted(concurrent.futures.Future[Any]):
    """Interrupts the first wait for it."""

    times = 0

    def result(self, timeout: float | None = None) -> Any:
        self.times += 1
        if self.times == 1:
            raise KeyboardInterrupt
        return super().result(timeout)


@pytest.mark.parametrize("step", ["uploaded", "left"])
def test_an_interrupt_leaves_all_as_it_was_or_all_to_the_servers(
    server: Server, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    begin = Detaching.__init__

    def begin_interrupted(self: Detaching, *throttles: Any) -> None:
        begin(self, *throttles)
        setattr(self, step, Interrupted())

    monkeypatch.setattr(Detaching, "__init__", begin_interrupted)
    with server.connect() as net:
        jobs = [net.submit("lambda k: __import__('time').sleep(0.3) or k", k) for k in range(3)]
        with pytest.raises(KeyboardInterrupt) as caught:
            net.detach()
        assert net.closed == (step == "left")
        if step == "uploaded":
            assert [job.result(20) for job in jobs] == [0, 1, 2]
            return
    token = caught.value.__notes__[0].split()[-1]
    ended = {job.result() for job in jobs if job.exception() is None}
    with pconnect(recover=token, user=server.credentials.user, password=server.credentials.password) as net:
        assert {job.result(20) for job in net.jobs.values()} | ended == {0, 1, 2}


def test_recovered_jobs_draw_what_they_would_have_drawn(server: Server, tmp_path: Path) -> None:
    def draw(path: str) -> tuple[float, float]:
        import random
        import time
        from pathlib import Path

        from pconnect import rng

        while not Path(path).exists():
            time.sleep(0.01)
        return rng().random(), random.random()

    (tmp_path / "now").touch()
    with server.connect() as net:
        executor = net.executor(seed=7)
        expected = list(executor.map(draw, [str(tmp_path / "now")] * 4))
    net = server.connect()
    executor = net.executor(seed=7)
    for _ in range(4):
        executor.submit(draw, str(tmp_path / "later"))
    token = net.detach()
    (tmp_path / "later").touch()
    who = server.credentials
    with pconnect(recover=token, user=who.user, password=who.password) as net:
        assert [job.result(20) for job in net.jobs.values()] == expected
    assert len(set(expected)) == 4
