"""Workers of a real engine: the state that a job finds and leaves behind, and how jobs are ended."""

import contextlib
import ctypes
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import threadpoolctl

from pconnect import JobLostError, RemoteError, network_get_info, psend
from pconnect.jobs.job import Job
from pconnect.jobs.worker_api import progress
from pconnect.views.network_views import ClientNetwork
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

MIB = 2**20


@pytest.fixture(scope="module")
def net(two_slots: Server) -> Iterator[ClientNetwork]:
    with two_slots.connect() as network:
        yield network


@pytest.fixture(scope="module")
def lone(one_slot: Server) -> Iterator[ClientNetwork]:
    """A network with a single worker."""
    with one_slot.connect() as network:
        yield network


def wait_for(path: Path) -> None:
    wait_until(path.exists, f"a job to make {path.name}")


def two_at_once(net: ClientNetwork, function: Callable[[], object], folder: Path) -> list[Any]:
    """Call a function in two workers, each of which waits for the other."""

    def call(own: int) -> object:
        (folder / str(own)).touch()
        while not (folder / str(1 - own)).exists():
            time.sleep(0.001)
        return function()

    return [job.result(DEADLINE) for job in [net.submit(call, own) for own in range(2)]]


# --- output ---


def speak(word: str) -> None:
    print(f"print {word}")
    os.write(1, f"system {word}\n".encode())
    subprocess.run(["sh", "-c", f"echo child {word}; echo child error {word} >&2"], check=True)
    ctypes.CDLL(None).puts(f"C {word}".encode())
    print(f"error {word}", file=sys.stderr)


def test_all_that_a_job_prints_is_that_job_s(lone: ClientNetwork) -> None:
    jobs = [lone.submit(speak, word) for word in ("one", "two")] + [lone.submit(sum, [])]
    for job in jobs:
        job.result(DEADLINE)
    for job, word in zip(jobs, ("one", "two"), strict=False):
        # This is the system's order: output buffered in the process arrives when the buffer is full or the job ends.
        lines = [f"C {word}", f"child {word}", f"print {word}", f"system {word}"]
        assert sorted(job.stdout.splitlines()) == lines
        assert job.stderr.splitlines() == [f"child error {word}", f"error {word}"]
    assert (jobs[2].stdout, jobs[2].stderr) == ("", "")


def test_of_much_output_the_end_is_kept_and_the_rest_counted(lone: ClientNetwork) -> None:
    def flood() -> None:
        for k in range(3 * MIB // 64):
            print(f"{k:063}")

    job = lone.submit(flood)
    job.result(DEADLINE)
    note, _, kept = job.stdout.partition("\n")
    assert note == f"({2 * MIB} bytes before this are left out)"
    assert len(kept) == MIB
    assert kept.endswith(f"{3 * MIB // 64 - 1:063}\n")
    again = lone.submit(print, "little")
    again.result(DEADLINE)
    assert again.stdout == "little\n"


def test_the_output_of_a_job_that_failed_is_kept(lone: ClientNetwork) -> None:
    def fail() -> None:
        print("before")
        raise LookupError("of the user")

    job = lone.submit(fail)
    with pytest.raises(LookupError):
        job.result(DEADLINE)
    assert job.stdout == "before\n"


# --- limits and ends ---


def test_a_limit_of_memory_is_one_of_the_job(lone: ClientNetwork) -> None:
    worker = lone.submit(os.getpid).result(DEADLINE)
    limited = lone.executor(memory_limit=64 * MIB)
    with pytest.raises(MemoryError):
        limited.submit(bytearray, 128 * MIB).result(DEADLINE)
    assert len(limited.submit(bytes, 16 * MIB).result(DEADLINE)) == 16 * MIB
    assert lone.submit(lambda: len(bytearray(128 * MIB))).result(DEADLINE) == 128 * MIB
    assert lone.submit(os.getpid).result(DEADLINE) == worker


def test_a_limit_of_time_interrupts_the_job_and_not_its_worker(lone: ClientNetwork) -> None:
    worker = lone.submit(os.getpid).result(DEADLINE)
    job = lone.executor(time_limit=0.3).submit(time.sleep, 1000)
    with pytest.raises(TimeoutError, match=r"the time limit of 0\.3 s passed"):
        job.result(DEADLINE)
    assert job.duration is not None
    assert 0.3 <= job.duration < 5.0
    assert lone.submit(os.getpid).result(DEADLINE) == worker


def deaf_job() -> Callable[[Path], None]:
    def be_deaf(folder: Path) -> None:  # sent with the job: importing it would take time
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        (folder / "begun").touch()
        time.sleep(1000)

    return be_deaf


@pytest.mark.slow
def test_a_job_that_ignores_the_limit_of_time_is_killed(net: ClientNetwork, tmp_path: Path) -> None:
    job = net.executor(time_limit=0.5).submit(deaf_job(), tmp_path)
    other = net.submit(time.sleep, 1.0)
    words = r"SIGKILL \(job \d+ did not end within 5 s of its time limit\)"
    with pytest.raises(JobLostError, match=words):
        job.result(DEADLINE)
    assert job.duration is not None
    assert job.duration > 5.0
    assert other.result(DEADLINE) is None
    assert other.losses == 0


def test_a_job_that_ignores_its_cancelling_is_killed_after_a_while(
    net: ClientNetwork, tmp_path: Path
) -> None:
    job = net.executor(grace=0.3).submit(deaf_job(), tmp_path)
    wait_for(tmp_path / "begun")
    begin = time.monotonic()
    assert job.cancel()
    wait_until(job.done, "the end of the job")
    assert time.monotonic() - begin >= 0.3
    assert (job.state, job.cancelled()) == ("cancelled", True)
    assert net.submit(sum, [1, 2]).result(DEADLINE) == 3


def test_only_the_job_that_is_meant_is_interrupted(lone: ClientNetwork) -> None:
    worker = lone.submit(os.getpid).result(DEADLINE)
    for _ in range(30):  # so a signal may arrive just before a job, or just after it
        jobs: list[Job] = [lone.submit(time.sleep, random.uniform(0, 0.003)) for _ in range(10)]
        cancelled = random.choice(jobs)
        time.sleep(random.uniform(0, 0.01))
        cancelled.cancel()
        for job in jobs:
            if job is not cancelled:
                assert job.result(DEADLINE) is None
        wait_until(cancelled.done, "the end of the job that was cancelled")
        assert cancelled.state in {"cancelled", "done"}
    assert lone.submit(os.getpid).result(DEADLINE) == worker


def test_a_signal_that_the_library_has_not_sent_interrupts_no_job(lone: ClientNetwork) -> None:
    assert lone.submit(lambda: os.kill(os.getpid(), signal.SIGINT)).result(DEADLINE) is None


def test_exit_ends_the_job_and_not_its_worker(lone: ClientNetwork) -> None:
    worker = lone.submit(os.getpid).result(DEADLINE)
    with pytest.raises(RemoteError, match=r"SystemExit on node 1 (?s:.*)SystemExit: 3"):
        lone.submit(sys.exit, 3).result(DEADLINE)
    assert lone.submit(os.getpid).result(DEADLINE) == worker


@pytest.mark.parametrize("ending", [None, LookupError()])
def test_a_copy_that_a_job_forks_ends_with_the_job(lone: ClientNetwork, ending: Exception | None) -> None:
    def fork() -> int:
        child = os.fork()
        if not child and ending is not None:
            raise ending
        return child

    copies = [lone.submit(fork).result(DEADLINE) for _ in range(3)]
    assert all(copies)
    assert [lone.submit(abs, k).result(DEADLINE) for k in range(20)] == list(range(20))
    wait_gone(*copies)


# --- what a job finds ---


def test_workers_draw_different_random_numbers(net: ClientNetwork, tmp_path: Path) -> None:
    def draw() -> tuple[float, float]:
        return random.random(), float(np.random.random())

    numbers = {number for drawn in two_at_once(net, draw, tmp_path) for number in drawn}
    numbers |= set(net[1].eval("__import__('random').random(), float(np.random.random())").result(DEADLINE))
    assert len(numbers) == 6


def test_a_worker_has_a_process_group_of_its_own(net: ClientNetwork, tmp_path: Path) -> None:
    groups = two_at_once(net, lambda: (os.getpgid(0), os.getsid(0), os.getpid()), tmp_path)
    for group, session, pid in groups:
        assert group == session == pid
    assert groups[0] != groups[1]


def test_programs_of_a_job_end_with_its_worker(lone: ClientNetwork) -> None:
    def start() -> tuple[int, int]:
        return os.getpid(), subprocess.Popen(["sh", "-c", "sleep 1000; true"]).pid

    worker, program = lone.submit(start).result(DEADLINE)
    os.kill(program, 0)  # it outlives the job,
    os.kill(worker, signal.SIGKILL)
    wait_gone(worker, program)  # and not the worker
    worker, program = lone.submit(start).result(DEADLINE)
    with pytest.raises(JobLostError, match="exit status 4"):
        lone.submit("__import__('os')._exit", 4).result(DEADLINE)
    wait_gone(worker, program)


def test_a_job_has_no_connections_and_says_so(lone: ClientNetwork) -> None:
    for call in ("psend(1, sockets[0])", "precv(sockets[0])"):
        with pytest.raises(RuntimeError, match="a job has no connections to other nodes") as caught:
            lone.submit(f"lambda: {call}").result(DEADLINE)
        assert isinstance(caught.value, RemoteError)


def test_numerical_libraries_share_the_processors(net: ClientNetwork, tmp_path: Path) -> None:
    def threads() -> list[int]:
        return [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]

    share = max(1, len(os.sched_getaffinity(0)) // 2)
    for found in two_at_once(net, threads, tmp_path):
        assert found == [share] * len(found)
        assert found  # numpy's generator


def open_links(pid: int) -> dict[int, str]:
    """Return the targets of a process's descriptors."""
    return {int(path.name): str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir()}


def test_a_worker_has_none_of_the_engine_s_connections(net: ClientNetwork, tmp_path: Path) -> None:
    engine = open_links(network_get_info(net)[1]["pid"])
    one, two = (open_links(pid) for pid in two_at_once(net, os.getpid, tmp_path))
    its_own = {link for link in engine.values() if not link.startswith(("pipe:", "/dev/null"))}
    its_own |= {engine[1], engine[2]}  # its output streams
    assert sum(link.startswith("socket:") for link in its_own) >= 4
    assert not its_own & {*one.values(), *two.values()}
    # Connections to the supervisor and to the client, but none to other workers.
    sockets = [{link for link in links.values() if link.startswith("socket:")} for links in (one, two)]
    assert [len(found) for found in sockets] == [2, 2]
    assert not sockets[0] & sockets[1]


def test_no_result_waits_for_the_client_to_acknowledge_another(one_slot: Server) -> None:
    """With Nagle's algorithm, results that wait in the kernel would be lost with the worker."""

    def delays() -> list[int]:
        found = []
        for path in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(path.name))) as sock:
                if sock.family == socket.AF_INET:
                    found.append(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        return found

    with one_slot.connect(local_links=False) as net:
        assert net.submit(delays).result(DEADLINE) == [1]


def test_a_job_may_have_threads_that_report(lone: ClientNetwork) -> None:
    def report() -> None:
        threads = [threading.Thread(target=progress, args=(k,)) for k in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    told: list[object] = []
    job = lone.submit(report)
    job.add_progress_callback(lambda job: told.append(job.progress))
    job.result(DEADLINE)
    assert set(told) <= set(range(20))  # some may arrive before the callback is set
    assert job.progress in range(20)


def test_the_client_can_use_its_own_connections_meanwhile(lone: ClientNetwork) -> None:
    job = lone.submit(time.sleep, 0.2)
    psend("x", lone[1])
    assert lone.eval("precv(sockets[0])").result(DEADLINE) == ["x"]
    assert job.result(DEADLINE) is None
