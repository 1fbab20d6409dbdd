"""The folder of detached jobs is unwritable for a while: no result is lost, and errors give the true reason."""

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import ConfigurationError, JobLostError, pconnect
from pconnect.views.network_views import ClientNetwork
from srp_tools import Credentials
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_until

# The small result waits in the page that a worker shares with its supervisor, the large one in the worker.
_SMALL, _LARGE = 10, 2**20


@contextlib.contextmanager
def running(folder: Path, users: tuple[Credentials, Path], *ports: str) -> Iterator[Server]:
    settings = "--name=kept", "--slots=2", f"--spool-dir={folder / 'spool'}", *ports
    with run_server(folder, *settings, users=users) as server:
        yield server


def move_back(folder: Path) -> None:
    shutil.rmtree(folder / "spool", ignore_errors=True)  # the daemon may have made a new one
    (folder / "away").rename(folder / "spool")


def detach(server: Server, sizes: tuple[int, ...]) -> str:
    with server.connect(1) as net:
        jobs = [net.submit("lambda n: (__import__('time').sleep(2), bytes(n))[1]", size) for size in sizes]
        wait_until(lambda: any(job.running() for job in jobs), "a job to begin")
        return net.detach()


def recover(server: Server, token: str) -> ClientNetwork:
    return pconnect(
        recover=token,
        user=server.credentials.user,
        password=server.credentials.password,
        timeout=DEADLINE,
    )


def test_results_come_although_their_folder_was_away_when_the_jobs_ended(
    tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    sizes = (_SMALL, _LARGE, _SMALL, _LARGE)
    with running(tmp_path, users) as server:
        token = detach(server, sizes)
        (tmp_path / "spool").rename(tmp_path / "away")
        time.sleep(6)  # the first jobs have ended
        move_back(tmp_path)
        with recover(server, token) as net:
            assert [len(job.result(DEADLINE)) for job in net.jobs.values()] == list(sizes)


def test_a_server_that_stops_meanwhile_says_why_results_are_missing(
    tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    with running(tmp_path, users) as server:
        token = detach(server, (_SMALL,))
        ports = f"--cmd-port={server.cmd_port}", f"--data-port={server.data_port}"
        (tmp_path / "spool").rename(tmp_path / "away")
        time.sleep(6)  # the job has ended
        server.process.terminate()
        server.process.wait(DEADLINE)
    move_back(tmp_path)
    with running(tmp_path, users, *ports) as server, recover(server, token) as net:
        [job] = net.jobs.values()
        with pytest.raises(JobLostError, match="the server was stopped; results could not be written"):
            job.result(DEADLINE)


def test_a_session_whose_folder_was_removed_ends(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with running(tmp_path, users) as server:
        token = detach(server, (_SMALL, _SMALL))
        shutil.rmtree(tmp_path / "spool")
        wait_until(lambda: not server.status_now()["sessions"], "the session to end")
        server.wait_for_log("the folder of its results was removed")
        with pytest.raises(ConfigurationError, match="someone has removed or moved their folder"):
            recover(server, token)
