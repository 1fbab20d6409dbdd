"""A forked copy of a process with a network: the copy cannot use the network, and cannot harm it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.support.waiting import DEADLINE, wait_gone

# This program runs in a separate process, so forks do not copy the test process.
_BEGIN = """
import atexit, gc, multiprocessing, os, sys, threading, time, warnings
from concurrent.futures import CancelledError, as_completed
import pconnect
from pconnect import *
from pconnect.collectives import barrier, bcast

# Python warns of a fork in a process with threads; here the copy does not use them.
warnings.filterwarnings("ignore", ".*multi-threaded", DeprecationWarning)

def in_copy(work, ends=os._exit):
    '''Run a function in a forked copy, which ends in a way; return what it printed.'''
    sys.stdout.flush()
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        os.close(reading)
        os.dup2(writing, 1)
        try:
            work()
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
        sys.stdout.flush()
        ends(0)
    os.close(writing)
    with open(reading) as lines:
        said = lines.read()
    _, status = os.waitpid(pid, 0)
    assert status == 0, (said, status)
    return said

def check(net):
    '''Check that the network is whole: commands, values, jobs, a restart.'''
    assert net.eval("sockets.node").result(20) == [1, 2]
    reval("psend(precv(sockets[0]), sockets[0])", net[1]), psend(5, net[1])
    assert precv(net[1], timeout=20) == 5
    assert net.submit(pow, 2, 5).result(20) == 32
    assert [info["state"] for info in network_get_info(net)] == ["open"] * 3
"""


def run(script: str, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _BEGIN + script, *arguments],
        capture_output=True,
        text=True,
        timeout=DEADLINE * 2,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert status or done.stderr == ""
    return done.stdout


_ENDS = {
    "exit": "sys.exit(0)",
    "error": "raise SystemExit(0) from ValueError('in the block')",
    "at once": "os._exit(0)",
    "end of the program": "net.__exit__(None, None, None); stack.close(); atexit._run_exitfuncs(); os._exit(0)",
    "freed": "stack.pop_all(); del net, stack; gc.collect(); os._exit(0)",
    "closed": "sclose(net); net.close(); os._exit(0)",
}


@pytest.mark.slow
@pytest.mark.parametrize("made", ["stack.enter_context(local_network(2))", "start_local_network(2)"])
def test_however_copies_end_the_network_lives_on(made: str) -> None:
    script = f"""
import contextlib
with contextlib.ExitStack() as stack:
    net = {made}
    net.submit(pow, 1, 1).result(20)
    for how, end in {_ENDS!r}.items():
        for _ in range(2):
            if not (pid := os.fork()):
                exec(end)
            assert os.waitpid(pid, 0)[1] == 0, how
            check(net)
        net.restart()
        check(net)
        print(how)
    net.close()
"""
    assert run(script).splitlines() == [*_ENDS]


@pytest.mark.slow
def test_a_copy_may_have_a_network_of_its_own() -> None:
    script = """
def work():
    with local_network(1) as own:
        print(own.eval("6 * 7").result(20), own.submit(pow, 2, 3).result(20), end="")

with local_network(2) as net:
    print(in_copy(work))
    check(net)
"""
    assert run(script) == "[42] 8\n"


def test_a_process_of_multiprocessing_ends_without_harm() -> None:
    script = """
def work(queue):
    try:
        net.eval("1").result()
    except ConnectionLostError as error:
        queue.put(str(error))

context = multiprocessing.get_context("fork")
with local_network(2) as net:
    queue = context.SimpleQueue()
    process = context.Process(target=work, args=(queue,))
    process.start(), process.join()
    check(net)
    print(process.exitcode, queue.get())
"""
    assert run(script).startswith("0 this process is a forked copy of process ")


_USES = [
    "reval('x = 1', net)",
    "net[1].eval('1')",
    "net.call(pow, 1, 2)",
    "net['x'] = 1",
    "net.pull('x')",
    "psend(1, net)",
    "precv(net[1])",
    "precv(net[2], timeout=0)",
    "select_sockets(net)",
    "rfeval(pow, 1, 2, connection=net[1])",
    "network_get_info(net)",
    "net.statistics()",
    "restart(net)",
    "net[1].restart()",
    "net[1].interrupt()",
    "net[1].kill()",
    "barrier(net)",
    "bcast(1, net, root=0)",
    "net.submit(pow, 1, 2).result()",
    "net.executor()",
    "net.pool()",
    "list(net.map(abs, [1]))",
    "net.detach()",
    "net.put('/etc/hosts', 'x')",
    "net.get('x', '/tmp/x')",
    "running.result()",
    "net_running.result()",
    "running.exception() and print('ConnectionLostError:', running.exception())",
    "job.result()",
    "job.exception() and print('ConnectionLostError:', job.exception())",
    "[done.result() for done in as_completed([job])]",
    "executor.submit(abs, 1).result()",
    "pool.map(abs, [1])",
    "waited.get()",
    "next(unordered)",
]


@pytest.mark.slow
def test_every_use_in_a_copy_says_what_is_wrong_and_what_to_do() -> None:
    script = f"""
called = []
with local_network(2, slots=2) as net:
    running = reval("import time; time.sleep(4)", net[1])
    net_running = reval("import time; time.sleep(4)", net)
    running.add_done_callback(called.append)
    executor, pool = net.executor(), net.pool()
    job = executor.submit(time.sleep, 4.0)
    job.add_done_callback(called.append)
    waited = pool.apply_async(time.sleep, (4.0,), callback=called.append)
    unordered = pool.imap_unordered(time.sleep, [4.0, 4.0])
    said = {{use: in_copy(lambda: exec(use)) for use in {_USES}}}
    silent = {{use: text for use, text in said.items() if "this process is a forked copy" not in text}}
    assert not silent, silent
    def leave():
        with executor, pool:
            assert running.done() and job.done() and not job.cancel() and not running.cancel()
            assert net.closed and "closed" in repr(net)
        pool.terminate(), gc.collect()
        print("left", called)
    assert in_copy(leave, sys.exit) == "left []\\n"
    assert running.result(20) is None and job.result(20) is None and waited.get(20) is None
    check(net)
    print(len(called))
"""
    assert run(script) == "3\n"


@pytest.mark.slow
def test_a_fork_while_other_threads_use_the_network_harms_nobody() -> None:
    """A lock that another thread held at the fork does not block the copy, and that thread's work continues."""
    script = """
stop = False
def work(node):
    k = 0
    while not stop:
        assert net.submit(pow, k, 2).result(30) == k ** 2
        k += 1
    counts.append(k)

counts = []
with local_network(2, slots=2) as net:
    threads = [threading.Thread(target=work, args=(node,)) for node in (1, 2)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert "forked copy" in in_copy(lambda: net.eval("1")), "eval"
        assert "forked copy" in in_copy(lambda: net.submit(abs, 1).result()), "submit"
    stop = True
    for thread in threads:
        thread.join()
    check(net)
print(len(counts))
"""
    assert run(script) == "2\n"


@pytest.mark.slow
def test_after_the_end_of_the_process_its_copy_keeps_no_server_alive() -> None:
    """Otherwise the engines of a program would outlive it for as long as any child of it runs."""
    script = """
with local_network(1) as net:
    engine = network_get_info(net)[1]["pid"]
    if not (pid := os.fork()):
        os.close(1), os.close(2)
        time.sleep(100)
        os._exit(0)
    print(pid, engine, flush=True)
    os._exit(0)
"""
    pid, engine = map(int, run(script).split())
    try:
        wait_gone(engine)
    finally:
        os.kill(pid, signal.SIGKILL)
