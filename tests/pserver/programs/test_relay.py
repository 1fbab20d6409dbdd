"""Streams, signals and ends of programs, tested through real workers."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from pconnect import local_network
from pconnect.programs.completed import ProgramTimeoutError
from pconnect.programs.program import Program
from pconnect.programs.streams import WINDOW, ProgramOutput
from pconnect.views.network_views import ClientNetwork
from pserver.programs.relay import Input
from pserver.system.process_marks import ticks_since_boot
from srp_tools.credentials import Credentials
from tests.support.servers import run_server
from tests.support.waiting import DEADLINE, TRIES, wait_gone, wait_until

MAX_LINE_BYTES = 4095  # of a typed line; Linux drops the rest (termios(3), canonical mode)


@pytest.fixture(scope="module")
def net() -> Iterator[ClientNetwork]:
    with local_network(1) as made:
        yield made


def start(net: ClientNetwork, script: str, **options: Any) -> Program:
    return net.popen(["sh", "-c", script], cwd="/", **options)


def test_much_passes_both_ways_and_little_is_kept(net: ClientNetwork) -> None:
    count, piece = 100, os.urandom(2**20)
    with net.popen(["cat"], cwd="/") as program:

        def write() -> None:
            for _ in range(count):
                program.stdin.write(piece)
            program.stdin.close()

        thread = threading.Thread(target=write)
        thread.start()
        digest, total = hashlib.sha256(), 0
        while data := program.stdout.read(2**20):
            digest.update(data)
            total += len(data)
        thread.join()
        assert (total, digest.hexdigest()) == (count * 2**20, hashlib.sha256(piece * count).hexdigest())
        assert program.wait(DEADLINE) == 0


def test_what_nobody_reads_stops_the_program(net: ClientNetwork) -> None:
    with net.popen(["yes"], cwd="/") as program:
        raw: Any = program.stdout.raw
        assert type(raw) is ProgramOutput

        def arrived() -> int:
            return sum(len(piece) for piece in raw._pieces)

        wait_until(lambda: arrived() == WINDOW, "as much as may be in flight")
        time.sleep(0.2)
        assert arrived() == WINDOW
        assert net[1].eval("1 + 1").result(DEADLINE) == 2
        program.stdout.read(3 * WINDOW)
        program.stdout.close()  # as with `yes | head`
        assert program.wait(DEADLINE) == -signal.SIGPIPE


def test_input_that_is_not_read_waits(net: ClientNetwork) -> None:
    with start(net, "read line; echo $line; exec sleep 60") as program:
        sent = 0
        program.stdin.write(b"first\n")
        done = threading.Event()

        def write() -> None:
            nonlocal sent
            try:
                while True:
                    sent += program.stdin.write(bytes(2**16))
            except BrokenPipeError:
                done.set()

        thread = threading.Thread(target=write)
        thread.start()
        assert program.stdout.readline() == b"first\n"
        wait_until(lambda: sent >= WINDOW, "as much as may be in flight")
        time.sleep(0.2)
        assert sent < 2 * WINDOW
        program.terminate()
        assert done.wait(DEADLINE)
        thread.join()
        assert program.wait(DEADLINE) == -signal.SIGTERM


def test_one_that_reads_no_more_breaks_the_pipe(net: ClientNetwork) -> None:
    with start(net, "head -n 1; exec <&-; sleep 0.3; echo end") as program:
        with pytest.raises(BrokenPipeError, match="no longer reads its standard input"):
            while True:
                program.stdin.write(b"line\n" * 1000)
        assert program.stdout.read() == b"line\nend\n"


def test_input_that_is_closed_before_it_begins(net: ClientNetwork) -> None:
    with net.popen(["cat"], cwd="/") as program:
        program.stdin.close()
        assert (program.stdout.read(), program.wait(DEADLINE)) == (b"", 0)


# --- signals and ends ---


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP", "QUIT", "USR1", "USR2", "WINCH"])
def test_signals_reach_it(net: ClientNetwork, name: str) -> None:
    with start(
        net, f"trap 'echo {name}; exit 7' {name}; echo ready; while :; do sleep 0.02; done"
    ) as program:
        assert program.stdout.readline() == b"ready\n"
        program.send_signal(signal.Signals[f"SIG{name}"])
        assert (program.stdout.readline(), program.wait(DEADLINE)) == (f"{name}\n".encode(), 7)


def test_one_that_comes_with_its_program_is_not_lost(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    """The worker is so slow that it finds both messages at the same time."""
    with run_server(tmp_path / "server", "--slots=1", users=users) as server, server.connect() as net:
        worker = net.submit(os.getpid).result(DEADLINE)
        for _ in range(TRIES):
            os.kill(worker, signal.SIGSTOP)
            with net.popen(["sleep", "1000"], cwd="/") as program:
                wait_until(program.job.running, "it to be sent")
                program.terminate()
                time.sleep(0.2)  # until that has been sent as well
                os.kill(worker, signal.SIGCONT)
                assert program.wait(DEADLINE) == -signal.SIGTERM


def test_it_is_stopped_and_goes_on(net: ClientNetwork) -> None:
    with start(net, "echo $$; read x; echo $x") as program:
        process = psutil.Process(int(program.stdout.readline()))
        program.send_signal(signal.SIGTSTP)
        wait_until(lambda: process.status() == psutil.STATUS_STOPPED, "it to be stopped")
        program.send_signal(signal.SIGCONT)
        program.stdin.write(b"on\n")
        assert program.stdout.readline() == b"on\n"


def test_a_time_limit_ends_it_with_all_in_its_group(net: ClientNetwork) -> None:
    with pytest.raises(ProgramTimeoutError, match=r"sh on node 1 .* timed out at its time limit") as caught:
        net[1].run(["sh", "-c", "sleep 100 & echo $!; wait"], cwd="/", time_limit=0.3, text=True)
    assert isinstance(caught.value.stdout, str)
    wait_gone(int(caught.value.stdout))


def test_what_has_left_the_group_ends_too_but_nothing_of_earlier_programs(net: ClientNetwork) -> None:
    script = "setsid sleep 1000 > /dev/null 2>&1 < /dev/null & echo $!"
    earlier = int(net[1].run(["sh", "-c", script], cwd="/").stdout)
    ticks = ticks_since_boot()
    wait_until(lambda: ticks_since_boot() > ticks, "a later start time than the first program")
    with pytest.raises(ProgramTimeoutError) as caught:
        net[1].run(["sh", "-c", f"{script}; exec sleep 100"], cwd="/", time_limit=0.3)
    assert isinstance(caught.value.stdout, bytes)
    wait_gone(int(caught.value.stdout))
    with start(net, f"{script}; exec sleep 100") as program:
        pid = int(program.stdout.readline())
        program.job.cancel()
        wait_gone(pid)
        program.job.result = lambda *_: None  # type: ignore[method-assign] # the end of the block waits
        program.job.returncode = lambda: 0  # type: ignore[method-assign]
    assert psutil.Process(earlier).name() == "sleep"


def test_one_that_ignores_the_polite_signal_is_killed(net: ClientNetwork) -> None:
    begin = time.monotonic()
    with pytest.raises(ProgramTimeoutError):
        net[1].run(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], cwd="/", time_limit=0.2)
    assert 5 < time.monotonic() - begin < DEADLINE


def test_a_cancelled_one_ends(net: ClientNetwork) -> None:
    with start(net, "echo $$; exec sleep 100") as program:
        pid = int(program.stdout.readline())
        assert program.job.cancel()
        wait_gone(pid)
        wait_until(program.job.done, "the end of the job")
        assert program.job.cancelled()
        program.job.result = lambda *_: None  # type: ignore[method-assign] # the end of the block waits
        program.job.returncode = lambda: 0  # type: ignore[method-assign]
    assert net[1].run(["true"], cwd="/").returncode == 0


# Starts a program with a child that leads its own session, and waits.
CLIENT = """
import sys
from pconnect import pconnect
with pconnect(sys.argv[1], user=sys.argv[2], password=sys.argv[3]) as net:
    program = net.popen(["sh", "-c", "setsid sleep 100 & echo $! $$; exec sleep 100"], cwd="/")
    print(program.stdout.readline().decode(), flush=True)
    program.wait()
"""


def test_it_ends_with_its_client(tmp_path: Path, users: tuple[Credentials, Path]) -> None:
    with run_server(tmp_path / "server", "--slots=1", users=users) as server:
        arguments = [server.host, users[0].user, users[0].password]
        with subprocess.Popen(
            [sys.executable, "-c", CLIENT, *arguments], stdout=subprocess.PIPE, text=True
        ) as client:
            assert client.stdout
            pids = [int(word) for word in client.stdout.readline().split()]
            assert all(map(psutil.pid_exists, pids))
            client.kill()
        for pid in pids:
            wait_gone(pid)


def test_jobs_behind_a_long_one_are_done_by_others_and_its_worker_goes_on(
    tmp_path: Path, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "server", "--slots=1", users=users) as server, server.connect() as net:
        for _ in range(20):
            net.run(["true"], cwd="/")  # short ones: several are sent ahead
        long = net.popen(["sh", "-c", "read x; echo $x"], cwd="/")
        behind = [net.submit(abs, -number) for number in range(10)]
        time.sleep(0.5)  # until the server has reported that it takes long
        assert not any(job.done() for job in behind)
        long.stdin.write(b"word\n")
        assert long.stdout.read() == b"word\n"
        assert [job.result(DEADLINE) for job in behind] == list(range(10))
        assert [net[1].run(["echo", str(k)], cwd="/").stdout for k in range(3)] == [b"0\n", b"1\n", b"2\n"]
        long.stdin.close()


# --- terminals ---


def test_a_terminal(net: ClientNetwork) -> None:
    with start(
        net, "stty size; tty > /dev/null && echo tty; read x; stty size; read x; echo $x", terminal=(33, 99)
    ) as program:
        assert program.stderr is None
        assert [program.stdout.readline() for _ in range(2)] == [b"33 99\r\n", b"tty\r\n"]
        program.resize(20, 50)
        program.stdin.write(b"a\n")
        assert program.stdout.readline() == b"a\r\n"  # the terminal's echo
        assert program.stdout.readline() == b"20 50\r\n"
        program.stdin.write(b"b\n")
        assert program.stdout.read() == b"b\r\nb\r\n"
        assert program.wait(DEADLINE) == 0


def test_keys_of_a_terminal(net: ClientNetwork) -> None:
    with start(
        net,
        "trap 'echo interrupted; exit 9' INT; echo ready; while :; do sleep 0.05; done",
        terminal=(24, 80),
    ) as program:
        assert program.stdout.readline() == b"ready\r\n"
        program.stdin.write(b"\x03")
        assert b"interrupted" in program.stdout.read()
        assert program.wait(DEADLINE) == 9
    with net.popen(["cat"], cwd="/", terminal=(24, 80)) as program:
        program.stdin.close()
        assert program.wait(DEADLINE) == 0


@pytest.mark.parametrize(
    "typed", [b"", b"abc", b"one\n", b"one\ntwo", b"two\x04", b"x" * 5000, b"x\n" * 50_000]
)
def test_the_end_of_input_reaches_it_on_a_terminal_too(net: ClientNetwork, typed: bytes) -> None:
    script = "stty -echo; echo ready; cat"
    with start(net, script, terminal=(24, 80), time_limit=DEADLINE) as program:
        assert program.stdout.readline() == b"ready\r\n"
        with ThreadPoolExecutor(1) as pool:
            output = pool.submit(program.stdout.read)
            program.stdin.write(typed)
            program.stdin.close()
        lines = typed.replace(b"\x04", b"").splitlines(keepends=True)
        assert output.result() == b"".join(line[:MAX_LINE_BYTES].replace(b"\n", b"\r\n") for line in lines)
        assert program.wait() == 0


def test_the_end_of_input_waits_for_a_terminal_that_is_full() -> None:
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    given = Input(is_terminal=True)
    given.add(bytes(2**20))
    given.add(b"")
    granted, taken = given.write(write), b""
    while not given.is_done:
        taken += os.read(read, 2**16)
        granted += given.write(write)
    assert taken + os.read(read, 2**16) == bytes(2**20) + b"\x04\x04"
    os.close(read)
    os.close(write)


def test_one_that_closes_its_terminal_ends_as_it_wants(net: ClientNetwork) -> None:
    with start(net, "exec <&- >&- 2>&-; sleep 0.3; exit 5", terminal=(24, 80)) as program:
        assert program.stdout.read() == b""
        assert program.wait(DEADLINE) == 5


def test_a_terminal_that_is_closed_hangs_up(net: ClientNetwork) -> None:
    with start(net, "echo ready; exec sleep 100", terminal=(24, 80)) as program:
        assert program.stdout.readline() == b"ready\r\n"
        program.stdout.close()
        assert program.wait(DEADLINE) == -signal.SIGHUP


def test_whom_a_program_leaves_on_its_terminal_is_not_waited_for(net: ClientNetwork) -> None:
    with start(net, "nohup sleep 100 & echo started", terminal=(24, 80)) as program:
        assert b"started" in program.stdout.read()
        assert program.wait(DEADLINE) == 0


def test_a_time_limit_may_be_longer_than_the_system_can_wait(net: ClientNetwork) -> None:
    assert net[1].run(["true"], cwd="/", time_limit=1e30).returncode == 0
