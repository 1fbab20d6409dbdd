"""Many jobs, while the test kills workers, engines and one of three servers at random.

The environment variable CHAOS_JOBS sets the number of jobs; the default is a few hundred.
"""

import contextlib
import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import JobLostError
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.servers import Server, connect, open_files, run_server
from tests.support.waiting import wait_gone, wait_until

JOBS = int(os.environ.get("CHAOS_JOBS", "600"))
PAUSE = 0.003 if JOBS < 20_000 else 0.0005
SEED = int(os.environ.get("CHAOS_SEED", "1"))


@pytest.fixture
def three_servers(
    tmp_path: Path, users: tuple[Credentials, Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Server]]:
    with contextlib.ExitStack() as stack:
        # Not in `tmp_path`: the paths of sockets would be too long.
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="chaos-"))
        monkeypatch.setenv("TMPDIR", folder)
        yield [
            stack.enter_context(run_server(tmp_path / str(number), "--slots=2", users=users))
            for number in range(3)
        ]


def work(number: int, diary: str) -> int:
    """Record the run, and compute something that can be checked."""
    with Path(diary, str(os.getpid())).open("ab", buffering=0) as file:
        file.write(b"%d\n" % number)
    time.sleep(PAUSE)
    return sum(k * k for k in range(number % 100))


class Chaos:
    """Kills the processes that it finds."""

    def __init__(self, net: ClientNetwork, servers: list[Server]) -> None:
        self.net = net
        self.servers = servers
        self.random = random.Random(SEED)
        self.kills: Counter[str] = Counter()
        self.lost: set[int] = set()

    def strike(self) -> None:
        living = [node for node in (1, 2, 3) if node not in self.lost]
        node = self.random.choice(living)
        if self.random.random() < 0.8:
            self.kill_worker(node)
        else:
            self.kills["engine"] += 1
            self.net[node].kill()
            self.net[node].restart()

    def kill_worker(self, node: int) -> None:
        facts = self.net.mesh.query(5)  # type: ignore[attr-defined]
        if node in facts and (workers := facts[node][0]["jobs"]["workers"]):
            pid = self.random.choice(workers)[1]
            if pid:
                self.kills["worker"] += 1
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def kill_server(self, node: int) -> None:
        server = self.servers[node - 1]
        sessions = server.sessions(self.net)
        server.process.kill()
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)
        self.lost.add(node)
        self.kills["server"] += 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_job_ends_as_it_should(three_servers: list[Server], tmp_path: Path) -> None:
    diary = tmp_path / "diary"
    diary.mkdir()
    files = open_files()
    net = connect(three_servers)
    chaos = Chaos(net, three_servers)
    executor = net.executor(retries=1000)
    fragile = net.executor()  # whose jobs are lost with their workers
    jobs = {n: executor.submit(work, n, str(diary)) for n in range(JOBS)}
    jobs |= {n: fragile.submit(work, n, str(diary)) for n in range(JOBS, JOBS + JOBS // 10)}
    begin = time.monotonic()
    server_dies_at = len(jobs) // 3
    while not all(job.done() for job in jobs.values()):
        assert time.monotonic() - begin < 1000
        if 3 not in chaos.lost and sum(job.done() for job in jobs.values()) > server_dies_at:
            chaos.kill_server(3)
        time.sleep(chaos.random.uniform(0.02, 0.15))
        chaos.strike()

    assert chaos.kills["worker"] and chaos.kills["server"] == 1

    runs = Counter(int(line) for file in diary.iterdir() for line in file.read_bytes().split())
    states = Counter(str(job.state) for job in jobs.values())
    for number, job in jobs.items():
        if number < JOBS:
            assert job.result() == sum(k * k for k in range(number % 100))
        elif job.exception() is not None:
            assert isinstance(job.exception(), JobLostError)
            assert (job.state, job.losses) == ("lost", 1)
        # Each run but the last counts as a loss; a lost job may not have got as far as its record.
        assert runs[number] <= job.losses + (job.state == "done")
        assert runs[number] >= (job.state == "done")
    print(JOBS, dict(chaos.kills), dict(states), "losses", sum(job.losses for job in jobs.values()))

    net.close()
    for server in three_servers[:2]:
        wait_until(lambda server=server: not server.sessions(net), "the end of the sessions")  # type: ignore[misc]
    wait_until(
        lambda: not list(Path(os.environ["TMPDIR"]).glob("pserver-*")), "the folders of sessions to be gone"
    )
    for pid in [int(file.name) for file in diary.iterdir()]:
        wait_gone(pid)
    wait_until(lambda: open_files() <= files, "descriptors to be closed")
