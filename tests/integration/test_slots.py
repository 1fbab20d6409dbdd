"""Slots of a real server, with real sessions and workers."""

import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Server, run_server
from tests.support.waiting import wait_gone, wait_until

_ATTACH, _DETACH, _WALL = 16, 17, 0x40000000  # of <sys/ptrace.h> and <sys/wait.h>


@pytest.fixture
def single(tmp_path: Path) -> Iterator[Server]:
    """Yield a server with one slot."""
    with run_server(tmp_path / "server", "--slots=1") as server:
        yield server


def slots(server: Server) -> dict[str, int]:
    found: dict[str, int] = server.status_now()["slots"]
    return found


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextlib.contextmanager
def held_up(pid: int) -> Iterator[None]:
    """Suspend a process as a debugger does, so the SIGCONT of a session's end does not resume it."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    assert ptrace(_ATTACH, pid, None, None) == 0, os.strerror(ctypes.get_errno())
    os.waitpid(pid, _WALL)
    try:
        yield
    finally:
        ptrace(_DETACH, pid, None, None)


def take_off_mark() -> None:
    """Leave the processes that carry the mark (see `pserver.system.process_marks`)."""
    import resource

    resource.setrlimit(10, (0, resource.getrlimit(10)[1]))


@pytest.mark.slow
def test_a_killed_session_s_slot_is_free_when_its_worker_has_ended(single: Server) -> None:
    with single.connect(1) as net, single.connect(1) as other:
        executor = net.executor()
        (worker,) = [executor.submit(os.getpid).result(20)]
        executor.submit(take_off_mark).result(20)
        busy = executor.submit(time.sleep, 1000)
        wait_until(lambda: busy.state == "running", "the job")
        wait_until(lambda: slots(single) == {"total": 1, "used": 1}, "the slot in the status")
        (supervisor,) = single.sessions(net)
        # The processes that would end the worker with its session are suspended or cannot find it, so it lives longer.
        (spawner,) = [pid for pid in children(supervisor) if worker in children(pid)]
        with held_up(spawner):
            os.kill(supervisor, signal.SIGKILL)
            wait_until(lambda: single.sessions(net) == [], "the end of the session")
            waiting = other.executor().submit(os.getpid)
            with pytest.raises(TimeoutError):
                waiting.result(1.5)
            assert slots(single) == {"total": 1, "used": 1}
            os.kill(worker, signal.SIGKILL)
            assert waiting.result(20) != worker
        wait_gone(spawner)


@pytest.mark.slow
def test_two_networks_share_one_slot_in_turns(single: Server) -> None:
    with single.connect(1) as net, single.connect(1) as other:
        counts = [0, 0]
        executors = [net.executor(), other.executor()]
        jobs = [executor.submit(time.sleep, 0.05) for executor in executors]
        deadline = time.monotonic() + 60.0
        while min(counts) < 30 and time.monotonic() < deadline:  # one turn lasts 1 s or 20 jobs
            for which, executor in enumerate(executors):
                if jobs[which].done():
                    jobs[which] = executor.submit(time.sleep, 0.05)
                    counts[which] += 1
            time.sleep(0.001)
        assert min(counts) > 0.55 * max(counts), counts
        assert min(counts) > 0
