"""How an engine forks workers: while it is idle, without harm to itself and its connections."""

import os
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pconnect import network_get_info, precv, psend, reval
from pconnect.loop.event_loop import EventLoop
from pconnect.views.network_views import ClientNetwork
from pserver.engine.forks import Forks
from tests.support.servers import Server, open_files
from tests.support.waiting import DEADLINE, wait_gone, wait_until

MIB = 2**20


@pytest.fixture
def net(two_slots: Server) -> Iterator[ClientNetwork]:
    with two_slots.connect() as network:
        yield network


def engine_pid(net: ClientNetwork) -> int:
    return int(network_get_info(net)[1]["pid"])


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def new_workers(net: ClientNetwork, count: int) -> None:
    """Run jobs in `count` separate processes."""
    executor = net.executor(isolate=True)
    pids = {job.result(DEADLINE) for job in [executor.submit(os.getpid) for _ in range(count)]}
    assert len(pids) == count


def test_a_worker_is_the_child_of_the_spawner_and_not_of_the_engine(net: ClientNetwork) -> None:
    pid, parent = net.submit(lambda: (os.getpid(), os.getppid())).result(DEADLINE)
    engine = engine_pid(net)
    wait_until(lambda: children(engine) == [], "the end of the intermediate process")
    assert {pid, engine} <= set(children(parent))


def test_a_worker_has_the_workspace_after_the_last_command(net: ClientNetwork) -> None:
    reval("import time; x = 0\nfor _ in range(30): time.sleep(0.01); x += 1", net)
    assert net.submit("lambda: x").result(DEADLINE) == 30  # not while the loop is running
    net["x"] = "new"
    assert net.submit("lambda: x").result(DEADLINE) == "new"
    net.submit("lambda: globals().update(x=7)").result(DEADLINE)
    assert net.eval("x").result() == ["new"]  # changes by a job stay in the worker


def test_connections_of_the_engine_are_unharmed_by_forks(net: ClientNetwork) -> None:
    """Values of 8 MB pass in both directions before, during and after the start of workers."""
    data = np.arange(MIB, dtype=np.float64)

    def exchange() -> None:
        reval("value = precv(sockets[0]); psend(value * 2, sockets[0])", net)
        psend(data, net[1], timeout=DEADLINE)
        np.testing.assert_array_equal(precv(net[1], timeout=DEADLINE), data * 2)

    exchange()
    executor = net.executor(isolate=True)
    jobs = [executor.submit(os.getpid) for _ in range(8)]
    while not all(job.done() for job in jobs):
        exchange()
    assert len({job.result() for job in jobs}) == 8
    exchange()
    assert net.eval("1 + 1").result() == [2]


def test_a_value_that_is_under_way_goes_on(net: ClientNetwork) -> None:
    """A command of the engine waits for a half-sent value: the fork happens after it, and the value arrives whole."""
    data = np.random.default_rng(0).random(MIB)
    reval("import time\nvalue = precv(sockets[0])\ntime.sleep(0.3)\npsend(value, sockets[0])", net)
    psend(data, net[1])
    job = net.submit(sum, [1, 2])
    np.testing.assert_array_equal(precv(net[1], timeout=DEADLINE), data)
    assert job.result(DEADLINE) == 3


def test_nothing_of_a_worker_stays_in_the_engine(net: ClientNetwork) -> None:
    pid = engine_pid(net)
    before = open_files(pid)
    new_workers(net, 6)
    wait_until(lambda: open_files(pid) == before and not children(pid), "the end of all forks")


def test_what_waits_to_be_printed_is_printed_once(
    net: ClientNetwork, capsys: pytest.CaptureFixture[str]
) -> None:
    source = """
import sys, threading
def write():
    event.wait()
    sys.stdout = open(1, "w", buffering=2**16, closefd=False)
    sys.stdout.write("once")
event = threading.Event()
thread = threading.Thread(target=write)
thread.start()
"""
    reval(source, net).result(DEADLINE)
    reval("event.set(); thread.join()", net).result(DEADLINE)
    job = net.submit(print, "mine")
    job.result(DEADLINE)
    assert job.stdout == "mine\n"
    net.close()
    assert capsys.readouterr().out.count("once") == 1


@pytest.mark.parametrize("which", [1, 2])
def test_an_engine_that_cannot_fork_says_so_and_is_asked_again(
    net: ClientNetwork, which: int, caplog: pytest.LogCaptureFixture
) -> None:
    """The engine makes the first fork, the intermediate process the second."""
    source = f"""
import errno, os
true_fork, forks = os.fork, 0
def fork():
    global forks
    forks += 1
    if forks == {which}:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    return true_fork()
os.fork = fork
"""
    reval(source, net).result(DEADLINE)
    job = net.submit(sum, [1, 2])
    words = (
        "the engine cannot fork: Resource temporarily unavailable" if which == 1 else "the engine cannot fork"
    )
    wait_until(lambda: words in caplog.text, "the refusal")
    assert not job.done()
    reval("os.fork = true_fork", net).result(DEADLINE)
    assert job.result(DEADLINE) == 3
    assert job.losses == 0


def test_an_engine_that_is_asked_while_it_computes_forks_later(net: ClientNetwork, tmp_path: Path) -> None:
    begun, go_on = tmp_path / "begun", tmp_path / "go on"
    source = f"""
import time
from pathlib import Path
Path({str(begun)!r}).touch()
while not Path({str(go_on)!r}).exists():
    time.sleep(0.001)
"""
    command = reval(source, net)
    wait_until(begun.exists, "the command")
    job = net.submit(os.getpid)
    with pytest.raises(TimeoutError):
        job.result(0.5)
    assert not command.done()
    go_on.touch()
    assert job.result(DEADLINE) != engine_pid(net)
    command.result(DEADLINE)


def test_the_engine_ends_in_order_while_it_is_asked_to_fork(net: ClientNetwork) -> None:
    executor = net.executor(isolate=True)
    jobs = [executor.submit(time.sleep, 0.0) for _ in range(50)]
    jobs[0].result(DEADLINE)
    pid = engine_pid(net)
    assert net.close() == []
    wait_gone(pid)
    wait_until(lambda: all(job.done() for job in jobs), "the end of all jobs")


def test_a_request_for_which_there_is_no_room_is_refused_and_the_next_one_is_heard() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.settimeout(DEADLINE)
    loop = EventLoop()
    forks = Forks(theirs, loop)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ours, theirs:
        for _ in range(2):
            socket.send_fds(ours, [b"1"], [0, 1, 2, 0])
            loop.poll(DEADLINE)
            assert forks.asked
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
            try:
                forks.fork(lambda: None, None)  # type: ignore[arg-type]
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            assert ours.recv(100) == b"the engine cannot fork: Too many open files"
        loop.close()
