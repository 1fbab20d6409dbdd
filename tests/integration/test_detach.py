"""Jobs that outlive their client: detached, killed, recovered by other clients, each exactly once."""

import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pconnect import ConfigurationError, JobLostError, pconnect
from pconnect.jobs.job import JobCancelledError
from pconnect.views.network_views import ClientNetwork
from srp_tools import Credentials, VerifierFile, make_verifier
from tests.support.clients import ClientProcess
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

pytestmark = pytest.mark.slow  # quick ones: tests.pconnect.views.test_detach_views
# A job leaves a mark in a folder for each run.
_JOB = """
folder = {folder!r}
def job(k, waits=False):
    import os, time
    while waits and not os.path.exists(os.path.join(folder, f"../go-{{k}}")):
        time.sleep(0.01)
    with open(os.path.join(folder, str(k)), "ab") as file:
        file.write(b"x")
    time.sleep(0.1 + 0.01 * (k % 10))
    print("this is", k)
    return k * k
"""


def options(folder: Path) -> tuple[str, ...]:
    return f"--spool-dir={folder}", "--slots=2"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server with two slots and its own spool."""
    folder = tmp_path_factory.mktemp("detach")
    with run_server(folder, *options(folder / "spool"), users=users) as running:
        yield running


@pytest.fixture(scope="module")
def servers(
    server: Server, tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]
) -> Iterator[list[Server]]:
    folder = tmp_path_factory.mktemp("other")
    with run_server(folder, *options(folder / "spool"), users=users) as second:
        yield [server, second]


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def recover(server: Server, token: str, **options: Any) -> ClientNetwork:
    login = {"user": server.credentials.user, "password": server.credentials.password}
    return pconnect(recover=token, **(login | {"timeout": DEADLINE} | options))


def runs(marks: Path) -> dict[int, int]:
    """Return the number of runs of each job."""
    return {int(path.name): path.stat().st_size for path in marks.iterdir()}


def spools(*servers: Server) -> list[Path]:
    return [path for server in servers for path in (server.folder / "spool").glob("*/kept/*")]


def sessions(server: Server) -> list[dict[str, Any]]:
    return list(server.status_now()["sessions"])


def slots_used(server: Server) -> int:
    return int(server.status_now()["slots"]["used"])


def assert_nothing_left(*servers: Server) -> None:
    for server in servers:
        wait_until(lambda server=server: not sessions(server), "the end of the sessions")  # type: ignore[misc]
        wait_until(lambda server=server: not slots_used(server), "the slots")  # type: ignore[misc]
    assert spools(*servers) == []


@pytest.mark.parametrize("is_killed", [False, True])
def test_another_process_gets_the_results(
    is_killed: bool, servers: list[Server], marks: Path, tmp_path: Path
) -> None:
    path = tmp_path / "token" / "file"
    script = (
        _JOB.format(folder=str(marks))
        + f"""
with quiet(net): jobs = [net.submit(job, k, k >= 4) for k in range(30)]
jobs[3].result(20)
token = net.detach(path={str(path)!r})
for k in range(30):
    error = jobs[k].exception(0)
    assert (jobs[k].result() == k * k) if error is None else "recover it with the token" in str(error), error
say([k for k in range(30) if jobs[k].exception(0) is not None])
say(token)
time.sleep({60 if is_killed else 0})
"""
    )
    with ClientProcess(script, *servers) as client:
        left = json.loads(client.line())
        token = client.line()
        if is_killed:
            client.process.kill()
        client.process.wait(DEADLINE)
    assert path.read_text() == token + "\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert servers[0].credentials.password not in token
    assert any(session["detached"] for server in servers for session in sessions(server))
    assert set(left) >= set(range(4, 30))
    go(tmp_path, *range(30))
    with recover(servers[0], token) as net:
        assert list(net.jobs) == [k + 1 for k in left]
        assert [job.result(DEADLINE) for job in net.jobs.values()] == [k * k for k in left]
        job = net.jobs[30]
        assert (job.name, job.stdout) == ("job(...)", "this is 29\n")
        assert job.duration is not None and job.duration > 0.1
        assert {job.host for job in net.jobs.values()} == {server.host for server in servers}
    assert runs(marks) == dict.fromkeys(range(30), 1)
    assert_nothing_left(*servers)


def detach(
    server: Server,
    marks: Path,
    count: int,
    *,
    waits: bool = True,
    then: Callable[[ClientNetwork], object] | None = None,
    **options: Any,
) -> str:
    """Detach jobs on one server and return the token."""
    names: dict[str, Any] = {}
    exec(_JOB.format(folder=str(marks)), names)
    net = server.connect()
    executor = net.executor(**options)
    for k in range(count):
        executor.submit(names["job"], k, waits)
    if then is not None:
        then(net)
    return net.detach()


def go(tmp_path: Path, *jobs: int) -> None:
    """Release waiting jobs."""
    for k in jobs:
        (tmp_path / f"go-{k}").touch()


def test_results_wait_for_whoever_comes(server: Server, marks: Path, tmp_path: Path) -> None:
    token = detach(server, marks, 6)
    go(tmp_path, *range(6))
    wait_until(lambda: not sessions(server), "the end of the detached session")
    assert slots_used(server) == 0
    with recover(server, token) as net:
        assert [job.result(DEADLINE) for job in net.jobs.values()] == [k * k for k in range(6)]
    with pytest.raises(
        ConfigurationError, match="all results were recovered before, the --keep-results time"
    ):
        recover(server, token)
    assert_nothing_left(server)


def test_what_is_not_acknowledged_comes_again(server: Server, marks: Path, tmp_path: Path) -> None:
    token = detach(server, marks, 8)
    go(tmp_path, 0)
    script = f"""
old = pconnect(recover={token!r})
say(next(iter(old.jobs.values())).result(20))
time.sleep(60)
"""
    with ClientProcess(script, server) as client:
        client.line()
        client.process.kill()
        client.process.wait(DEADLINE)
    go(tmp_path, *range(8))
    with recover(server, token) as net:
        assert [job.result(DEADLINE) for job in net.jobs.values()] == [k * k for k in range(1, 8)]
    assert runs(marks) == dict.fromkeys(range(8), 1)
    assert_nothing_left(server)


def test_of_two_who_recover_each_result_has_one(server: Server, marks: Path, tmp_path: Path) -> None:
    token = detach(server, marks, 12)
    with recover(server, token) as first, recover(server, token) as second:
        go(tmp_path, *range(12))
        outcomes = {
            number: [net.jobs[number].exception(DEADLINE) for net in (first, second)]
            for number in range(1, 13)
        }
    for number, errors in outcomes.items():
        assert errors.count(None) == 1, (number, errors)
        for error in filter(None, errors):
            assert "another client has recovered it" in str(error)
    assert runs(marks) == dict.fromkeys(range(12), 1)
    assert_nothing_left(server)


def test_who_may_recover(server: Server, marks: Path, tmp_path: Path) -> None:
    token = detach(server, marks, 2)
    other = Credentials("bob", "another password of the same file")
    users_file = next(
        Path(word.removeprefix("--auth-file=")) for word in server_arguments(server) if "auth-file" in word
    )
    VerifierFile(users_file).add(make_verifier(other, 2048))
    with pytest.raises(ConfigurationError, match="a user other than bob has detached this network"):
        recover(server, token, user=other.user, password=other.password)
    forged = change(token, secret="00" * 24)
    with pytest.raises(ConfigurationError, match=r"node 1 \(127.*the secret in the token is wrong"):
        recover(server, forged)
    with pytest.raises(ConfigurationError, match="nothing of this network is kept here"):
        recover(server, change(token, network="00" * 16))
    with pytest.raises(ConfigurationError, match="not a complete token"):
        recover(server, token[:-7])
    go(tmp_path, 0, 1)
    with recover(server, token) as net:
        assert [job.result(DEADLINE) for job in net.jobs.values()] == [0, 1]
    assert_nothing_left(server)


def change(token: str, **fields: object) -> str:
    from base64 import urlsafe_b64decode, urlsafe_b64encode

    return urlsafe_b64encode(json.dumps(json.loads(urlsafe_b64decode(token)) | fields).encode()).decode()


def server_arguments(server: Server) -> list[str]:
    return list(map(str, server.process.args))  # type: ignore[arg-type]


def test_a_worker_that_dies_meanwhile(server: Server, marks: Path) -> None:

    def die_once(folder: Path, k: int) -> int:
        path = folder / f"died-{k}"
        again = path.exists()
        path.touch()
        print("about to die", flush=True)
        while not (folder / "go").exists():
            time.sleep(0.01)
        if not again:
            os.kill(os.getpid(), signal.SIGKILL)
        return k

    net = server.connect()
    patient, hasty = net.executor(retries=1), net.executor()
    for k in range(3):
        patient.submit(die_once, marks, k)
    hasty.submit(die_once, marks, 7)
    token = net.detach()
    (marks / "go").touch()
    with recover(server, token) as net:
        *again, lost = net.jobs.values()
        assert [job.result(DEADLINE) for job in again] == [0, 1, 2]
        with pytest.raises(JobLostError, match=r"is lost: its worker died: SIGKILL.*\nabout to die"):
            lost.result(DEADLINE)
        assert lost.stdout == "about to die\n"
    assert_nothing_left(server)


def test_who_recovers_jobs_can_cancel_them(server: Server, marks: Path) -> None:
    def stubborn() -> None:
        while True:
            try:
                time.sleep(60)
            except KeyboardInterrupt:
                print("no", flush=True)

    def begin(net: ClientNetwork) -> None:
        jobs = [net.executor(grace=0.3, retries=2).submit(stubborn), net.submit(time.sleep, 60)]
        wait_until(lambda: all(job.state == "running" for job in jobs), "the jobs")
        net.submit(abs, -1)

    token = detach(server, marks, 0, then=begin)
    with recover(server, token) as net:
        jobs = list(net.jobs.values())
        for job in reversed(jobs):  # first the waiting one
            assert job.cancel()
            with pytest.raises(JobCancelledError) as error:
                job.result(DEADLINE)
            assert job.state == "cancelled"
        assert (jobs[0].stdout, len(jobs)) == ("no\n", 3)
        assert "SIGKILL" in str(error.value.__cause__)
    assert_nothing_left(server)


def test_limits_and_fresh_processes_stay(server: Server) -> None:
    net = server.connect()
    alone = net.executor(isolate=True)
    for _ in range(4):
        alone.submit(os.getpid)
    net.executor(time_limit=0.3).submit(time.sleep, 60)
    net.executor(allow_pickle=True).submit(lambda: Path)
    net.executor().submit(lambda: Path)
    token = net.detach()
    with recover(server, token) as net:
        *pids, slow, pickled, unpickled = net.jobs.values()
        assert len({job.result(DEADLINE) for job in pids}) == 4
        with pytest.raises(TimeoutError, match=r"the time limit of 0\.3 s passed"):
            slow.result(DEADLINE)
        assert pickled.result(DEADLINE) is Path
        with pytest.raises(TypeError, match="allow_pickle=True"):
            unpickled.result(DEADLINE)
        assert not pickled.cancel()
    assert_nothing_left(server)


def test_the_server_is_stopped_meanwhile(
    tmp_path: Path, users: tuple[Credentials, Path], marks: Path
) -> None:
    folder = tmp_path / "server"
    settings = *options(folder / "spool"), "--name=kept"
    with run_server(folder, *settings, users=users) as server:
        token = detach(server, marks, 6)
        go(tmp_path, 0, 1)
        wait_until(lambda: len(list(spools(server)[0].glob("*.result"))) == 2, "two results")
        pids = [session["pid"] for session in sessions(server)]
        server.process.terminate()
        wait_gone(*pids)
        server.process.wait(DEADLINE)
    ports = f"--cmd-port={server.cmd_port}", f"--data-port={server.data_port}"
    with run_server(folder, *settings, *ports, users=users), recover(server, token) as net:
        errors = [job.exception(DEADLINE) for job in net.jobs.values()]
        assert errors[:2] == [None, None]
        assert all("is lost: the server was stopped" in str(error) for error in errors[2:])
        wait_until(lambda: not spools(server), "the end of the spool")


def test_the_supervisor_is_killed_meanwhile(server: Server, marks: Path, tmp_path: Path) -> None:
    token = detach(server, marks, 6)
    [session] = sessions(server)
    go(tmp_path, 0)
    with recover(server, token) as net:
        assert net.jobs[1].result(DEADLINE) == 0
        os.kill(session["pid"], signal.SIGKILL)
        errors = [job.exception(DEADLINE) for job in net.jobs.values()]
    assert errors[0] is None
    assert all("is lost: the session that ran it was killed" in str(error) for error in errors[1:])
    assert all(count == 1 for count in runs(marks).values())
    assert_nothing_left(server)


def test_an_engine_that_dies_takes_its_jobs_with_it(server: Server, marks: Path) -> None:
    pids: list[int] = []
    token = detach(
        server, marks, 30, then=lambda net: pids.extend(net.eval("__import__('os').getpid()").result() or [])
    )
    os.kill(pids[0], signal.SIGKILL)
    with recover(server, token) as net:
        assert "the engine died: SIGKILL" in str(list(net.jobs.values())[-1].exception(DEADLINE))
    assert_nothing_left(server)


def test_a_client_that_dies_without_a_word_takes_its_jobs_with_it(server: Server, marks: Path) -> None:
    script = (
        _JOB.format(folder=str(marks))
        + "jobs = [net.submit(job, k) for k in range(40)]\nsay(jobs[0].result(20))\n"
    )
    with ClientProcess(script + "time.sleep(60)", server) as client:
        client.line()
        client.process.kill()
        client.process.wait(DEADLINE)
    assert_nothing_left(server)
    assert len(runs(marks)) < 20


def test_nothing_to_detach(server: Server) -> None:
    with server.connect(2) as net:
        with pytest.raises(ConfigurationError, match="no job was submitted"):
            net.detach()
        net.submit(pow, 2, 3).result(DEADLINE)
        with pytest.raises(ConfigurationError, match="all jobs have ended"):
            net.detach()
        with pytest.raises(ConfigurationError, match="not a part of it"):
            net[1:].detach()
        assert net.submit(pow, 2, 4).result(DEADLINE) == 16
    assert_nothing_left(server)


def test_a_server_that_cannot_keep_it(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with run_server(tmp_path / "server", *options(tmp_path / "spool"), users=users) as server:
        (tmp_path / "spool").rmdir()
        (tmp_path / "spool").write_text("not a folder")
        with server.connect() as net:
            job = net.submit("__import__('time').sleep", 1)
            with pytest.raises(ConfigurationError, match=r"node 1 \(.*the server cannot keep jobs"):
                net.detach()
            assert job.result(DEADLINE) is None
