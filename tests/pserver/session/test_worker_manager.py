"""The supervisor's side of jobs, with real servers: the fate of workers and jobs when engines and clients fail."""

import contextlib
import itertools
import os
import resource
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pconnect import EngineDiedError, JobLostError, network_get_info, precv, reval
from pconnect.views.network_views import ClientNetwork
from tests.support.clients import ClientProcess
from tests.support.servers import Server, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

MIB = 2**20


@pytest.fixture
def net(two_slots: Server) -> Iterator[ClientNetwork]:
    with two_slots.connect() as network:
        yield network


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Server]:
    """Give a server with one slot."""
    with run_server(tmp_path / "server", "--slots=1") as server:
        yield server


def slots_used(server: Server) -> int:
    return int(server.status_now()["slots"]["used"])


def engine_pid(net: ClientNetwork) -> int:
    return int(network_get_info(net)[1]["pid"])


def stay(folder: Path, name: str) -> str:
    """Write the worker's pid to a file; end when the file is removed."""
    path = folder / name
    path.write_text(str(os.getpid()))
    while path.exists():
        time.sleep(0.001)
    return name


def wait_pid(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text() != "", f"a job to make {path.name}")
    return int(path.read_text())


def test_while_the_engine_computes_its_workers_go_on(net: ClientNetwork, tmp_path: Path) -> None:
    job = net.submit(stay, tmp_path, "job")
    pid = wait_pid(tmp_path / "job")
    command = reval("while True: pass", net)
    (tmp_path / "job").unlink()
    assert job.result(DEADLINE) == "job"
    assert net.submit(os.getpid).result(DEADLINE) == pid
    assert not command.done()
    command.cancel()


def test_an_engine_that_dies_takes_its_workers_with_it(net: ClientNetwork, tmp_path: Path) -> None:
    """Running jobs are lost, unless they have retries: these run on the next engine, like waiting jobs."""
    lost = net.submit(stay, tmp_path, "lost")
    again = net.executor(retries=1).submit(stay, tmp_path, "again")
    pids = [wait_pid(tmp_path / name) for name in ("lost", "again")]
    waiting = net.submit(sum, [1, 2])
    os.kill(engine_pid(net), signal.SIGKILL)
    wait_gone(*pids)
    with pytest.raises(JobLostError, match=r"died: SIGKILL \(the engine died: SIGKILL\)"):
        lost.result(DEADLINE)
    (tmp_path / "again").unlink()
    net.restart()
    assert wait_pid(tmp_path / "again") not in pids
    (tmp_path / "again").unlink()
    assert again.result(DEADLINE) == "again"
    assert again.losses == 1
    assert waiting.result(DEADLINE) == 3


def test_a_spawner_that_dies_takes_the_workers_with_it_and_the_jobs_are_told(
    net: ClientNetwork, tmp_path: Path
) -> None:
    job = net.submit(stay, tmp_path, "job")
    pid = wait_pid(tmp_path / "job")
    spawner = psutil.Process(engine_pid(net)).ppid()
    os.kill(spawner, signal.SIGKILL)
    with pytest.raises(JobLostError, match="SIGKILL"):
        job.result(DEADLINE)
    wait_gone(pid)


def test_without_an_engine_jobs_fail_and_with_another_they_run(net: ClientNetwork) -> None:
    assert net.submit(sum, [1, 2]).result(DEADLINE) == 3
    reval("import os; os._exit(7)", net)
    wait_until(lambda: network_get_info(net)[1]["state"] == "died", "the end of the engine")
    with pytest.raises(
        JobLostError, match=r"cannot run on any node: node 1 .*: its engine died: exit status 7"
    ):
        net.submit(sum, [1, 2]).result(DEADLINE)
    net.restart()
    assert net.submit(sum, [1, 2]).result(DEADLINE) == 3


def test_a_restart_ends_workers_and_begins_with_a_new_workspace(net: ClientNetwork, tmp_path: Path) -> None:
    net["x"] = 1
    executor = net.executor(retries=1)
    job = executor.submit(stay, tmp_path, "job")
    pid = wait_pid(tmp_path / "job")
    (tmp_path / "job").write_text("")
    net.restart()
    wait_gone(pid)
    wait_pid(tmp_path / "job")
    (tmp_path / "job").unlink()
    assert job.result(DEADLINE) == "job"
    with pytest.raises(NameError):
        net.submit("lambda: x").result(DEADLINE)


def test_a_job_that_runs_is_told_to_run(net: ClientNetwork, tmp_path: Path) -> None:
    job = net.submit(stay, tmp_path, "job")
    assert job.state == "queued"
    wait_until(lambda: job.state == "running", "the worker to run the job")
    wait_pid(tmp_path / "job")
    (tmp_path / "job").unlink()
    job.result(DEADLINE)


def test_output_of_one_job_takes_no_more_than_a_limit_on_the_disk(net: ClientNetwork) -> None:
    def flood() -> int:
        block = b"x" * MIB
        for _ in range(65):
            os.write(1, block)
        deadline = time.monotonic() + 20
        while os.fstat(1).st_size > 64 * MIB and time.monotonic() < deadline:
            time.sleep(0.01)
        os.write(1, b"end")
        return os.fstat(1).st_size

    job = net.submit(flood)
    assert job.result(DEADLINE) == 3
    assert job.stdout == "end"


def test_closing_the_network_ends_workers(net: ClientNetwork, tmp_path: Path) -> None:
    job = net.submit(stay, tmp_path, "job")
    pid = wait_pid(tmp_path / "job")
    net.close()
    wait_gone(pid)
    with pytest.raises(JobLostError):
        job.result(DEADLINE)


# --- the slot ---


@pytest.mark.slow
def test_a_slot_for_which_the_engine_has_no_time_goes_to_who_has(single: Server) -> None:
    with single.connect() as net, single.connect() as other:
        command = reval("psend('here', sockets[0])\nwhile True: pass", net)
        assert precv(net[1], timeout=DEADLINE) == "here"
        waiting = net.submit(os.getpid)
        wait_until(lambda: slots_used(single) == 1, "the grant")
        assert other.submit(sum, [1, 2]).result(DEADLINE) == 3
        assert not command.done()
        command.cancel()
        assert waiting.result(DEADLINE) > 0


@pytest.mark.slow
def test_a_client_that_hangs_keeps_no_slot(single: Server) -> None:
    """The client does not end its idle worker when the server asks for that, so the server ends it."""
    script = "say(net.submit(os.getpid).result()); time.sleep(1000)"
    with ClientProcess(script, single) as client, single.connect() as net:
        worker = int(client.line())
        os.kill(client.process.pid, signal.SIGSTOP)
        assert net.submit(sum, [1, 2]).result(DEADLINE) == 3
        wait_gone(worker)


@pytest.mark.slow
def test_no_slots_no_jobs(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--slots=0") as server, server.connect() as net:
        with pytest.raises(JobLostError, match="its server offers no slots"):
            net.submit(sum, [1, 2]).result(DEADLINE)
        assert net.eval("1 + 1").result() == [2]


@pytest.mark.slow
def test_jobs_wait_while_an_administrator_takes_all_slots(tmp_path: Path) -> None:
    with run_server(tmp_path / "server", "--slots=1") as server, server.connect() as net:
        assert net.submit(sum, [1, 2]).result(DEADLINE) == 3
        assert server.ask("slots", total=0)["total"] == 0
        wait_until(lambda: slots_used(server) == 0, "the worker to go")
        waiting = net.submit(sum, [3, 4])
        wait_until(lambda: "no slots at present" in waiting.why, "the client to be notified")
        with pytest.raises(TimeoutError):
            waiting.result(1.5)  # longer than jobs wait for a lost node
        server.ask("slots", total=1)
        assert waiting.result(DEADLINE) == 7


# --- reports ---


@pytest.mark.parametrize(
    ("end", "words"),
    [(lambda: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"), (lambda: os._exit(3), "status 3")],
)
def test_how_a_worker_ended_is_told(net: ClientNetwork, end: Callable[[], None], words: str) -> None:
    job = net.submit(end)
    with pytest.raises(JobLostError, match=words):
        job.result(DEADLINE)


def test_facts_count_what_was_done(net: ClientNetwork) -> None:
    list(net.map(abs, range(10)))
    facts = net.mesh.query(5)[1][0]["jobs"]  # type: ignore[attr-defined]
    assert facts["slots"] == 2
    done = [facts["ended"], *(worker[2] for worker in facts["workers"])]
    assert sum(each["jobs_done"] for each in done) >= 10 and sum(each["bytes_in"] for each in done) > 0


@pytest.mark.parametrize("room", [0, 1])
def test_a_session_without_room_for_a_worker_loses_nothing_else(
    net: ClientNetwork, two_slots: Server, room: int
) -> None:
    """The limit is reached between the request for a worker and its first message; other nodes have used the rest."""
    [session] = two_slots.sessions(net)
    command = reval("import time; time.sleep(0.6)", net)  # it cannot fork meanwhile
    job = net.submit(sum, [1])
    with pytest.raises(TimeoutError):
        job.result(0.3)
    before = resource.prlimit(session, resource.RLIMIT_NOFILE)
    free = next(number for number in itertools.count() if not Path(f"/proc/{session}/fd/{number}").exists())
    resource.prlimit(session, resource.RLIMIT_NOFILE, (free + room, before[1]))
    command.result(DEADLINE)
    with contextlib.suppress(TimeoutError):
        job.result(0.3)
    resource.prlimit(session, resource.RLIMIT_NOFILE, before)
    assert job.result(DEADLINE) == 1
    assert net.submit(sum, [1, 2]).result(DEADLINE) == 3


def test_a_restart_says_nothing_of_workers_that_the_engine_had_no_time_to_fork(
    net: ClientNetwork, two_slots: Server, caplog: pytest.LogCaptureFixture
) -> None:
    command = reval("while True: pass", net)
    job = net.submit(sum, [1, 2])
    wait_until(lambda: slots_used(two_slots) > 0, "the request for a worker")
    net.restart()
    assert job.result(DEADLINE) == 3
    assert caplog.messages == []
    assert isinstance(command[0].exception(), EngineDiedError)
