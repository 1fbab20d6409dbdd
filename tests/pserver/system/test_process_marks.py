"""A mark follows a process everywhere, and all marked processes are found."""

import resource
import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from pserver.system import process_marks
from pserver.system.process_marks import has_marked, kill_marked, make_mark
from tests.support.waiting import wait_gone, wait_until

_START = """
import os, sys
from pserver.system.process_marks import wear_mark, wear_worker_mark
wear_mark(int(sys.argv[1]))
if sys.argv[2] == "worker":
    wear_worker_mark()
print(os.getpid(), flush=True)
"""
STARTED: list[subprocess.Popen[bytes]] = []
_SLEEP = "import time; time.sleep(1000)"
_SETSID = "import subprocess; print(subprocess.Popen(['setsid', 'sleep', '1000'], env={}).pid, flush=True); "
_DAEMON = """
if not os.fork():
    os.setsid()
    if not os.fork():
        print(os.getpid(), flush=True)
        import time; time.sleep(1000)
    os._exit(0)
os.wait()
"""


@pytest.fixture
def mark() -> Iterator[int]:
    made = make_mark()
    yield made
    kill_marked(made)
    while STARTED:
        STARTED.pop().wait()


def start(mark: int, role: str, *more: str, lines: int = 1) -> list[int]:
    """Start a process that has a mark and runs more code; return the numbers that it and its children print."""
    process = subprocess.Popen(
        [sys.executable, "-c", _START + "".join(more), str(mark), role], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        pids = [int(process.stdout.readline()) for _ in range(lines)]
    STARTED.append(process)
    return pids


@pytest.mark.parametrize("more", [_SETSID + _SLEEP, _DAEMON + _SLEEP, _DAEMON])
def test_what_leads_its_own_session_is_killed_too(mark: int, more: str) -> None:
    pids = start(mark, "engine", more, lines=2)
    kill_marked(mark)
    wait_gone(*pids)


def test_a_worker_ends_alone_with_what_it_started_and_all_with_the_node(mark: int) -> None:
    engine = start(mark, "engine", _SETSID + _SLEEP, lines=2)
    first, second = (start(mark, "worker", _SETSID + _SLEEP, lines=2) for _ in range(2))
    kill_marked(mark, first[0])
    wait_gone(*first)
    assert process_marks._find_marked(mark, 0) >= {*engine, *second}
    kill_marked(mark)
    wait_gone(*engine, *second)


def test_a_worker_ends_what_was_started_since_a_time(mark: int) -> None:
    since = (
        "import subprocess, time; from pserver.system.process_marks import kill_started_since, ticks_since_boot;"
        "begin = ticks_since_boot()\nwhile ticks_since_boot() == begin: pass\nbegin = ticks_since_boot();"
        f"{_SETSID} kill_started_since(begin); print(0, flush=True);"
    )
    worker, before, after, _ = start(mark, "worker", _SETSID, since, _SLEEP, lines=4)
    wait_gone(after)
    assert all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in (worker, before))
    engine, *both, _ = start(
        make_mark(), "engine", _SETSID, since, _SLEEP, lines=4
    )  # an engine, not a worker
    assert all(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in both)
    kill_marked(resource.prlimit(engine, 10)[0])


def test_others_are_left_alone(mark: int) -> None:
    [other] = start(other_mark := make_mark(), "engine", _SLEEP)
    unmarked = subprocess.Popen(["sleep", "1000"])
    for nobody in (0, -1, resource.RLIM_INFINITY, mark):
        kill_marked(nobody)
    assert process_marks._find_marked(other_mark, 0) == {other}
    assert unmarked.poll() is None
    unmarked.kill()
    unmarked.wait()
    kill_marked(other_mark)


def test_what_starts_more_and_more_processes_is_killed(mark: int) -> None:
    chain = (
        "import time\nfor _ in range(500):\n    if os.fork():\n        time.sleep(1000)\n    os.setsid()\n"
    )
    start(mark, "engine", chain)
    while len(process_marks._find_marked(mark, 0)) < 20:
        pass
    kill_marked(mark)
    STARTED.pop().wait()
    wait_until(lambda: not process_marks._find_marked(mark, 0), "the end of all processes")


def test_where_the_limit_was_lowered_nothing_is_marked() -> None:
    lower = (
        "import resource, runpy, sys; resource.setrlimit(10, (5, 5)); sys.argv = ['', str(2**30), 'worker'];"
    )
    script = lower + f"exec({_START!r}); print(resource.getrlimit(10))"
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[1] == "(5, 5)"


def test_who_runs_besides_those_that_are_known() -> None:
    mark = make_mark()
    with subprocess.Popen(["sleep", "1000"]) as process:
        resource.prlimit(process.pid, 10, (mark, resource.prlimit(process.pid, 10)[1]))
        assert has_marked(mark, [])
        assert not has_marked(mark, [process.pid])
        assert not has_marked(make_mark(), [])
        process.kill()
        wait_until(lambda: not has_marked(mark, []), "it to become a zombie")
