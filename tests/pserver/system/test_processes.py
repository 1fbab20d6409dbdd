import errno
import mmap
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from pserver.system.processes import (
    address_space_bytes,
    await_ends,
    descends_from,
    describe_exit,
    interrupt_main_thread,
    is_stopped,
    kill_group,
    kill_with_group,
    own_daemons,
    resident_bytes,
    user_in_title,
)
from tests.support.accounts import NOBODY, needs_root
from tests.support.servers import Server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

SIZE = 2**26


def test_memory_that_is_used_counts_as_resident() -> None:
    before = resident_bytes(os.getpid())
    used = bytearray(os.urandom(2**10) * (SIZE // 2**10))
    after = resident_bytes(os.getpid())
    assert before is not None
    assert after is not None
    assert SIZE * 0.9 < after - before < SIZE * 1.5
    assert len(used) == SIZE


def test_memory_that_is_reserved_counts_as_address_space() -> None:
    before = address_space_bytes()
    with mmap.mmap(-1, SIZE):
        assert SIZE <= address_space_bytes() - before < SIZE * 1.5


def test_a_process_that_has_ended_has_no_memory() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    assert resident_bytes(process.pid) is None


def test_a_process_is_stopped_until_it_goes_on() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not is_stopped(process.pid)
        process.send_signal(signal.SIGSTOP)
        wait_until(lambda: is_stopped(process.pid), "the stop")
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_stopped(process.pid), "it to continue")
        process.kill()
        process.wait()
        assert not is_stopped(process.pid)


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# A grandchild whose parent exits immediately; it prints the process id of its new parent.
GRANDCHILD = """
import os, sys, time
from pserver.system.processes import adopt_orphans, die_with_parent
reader, writer = os.pipe()
def start():
    if os.fork():
        os.wait()
        return
    between = os.getpid()
    if os.fork():
        os._exit(0)
    while os.getppid() == between:
        time.sleep(0.001)
    os.write(writer, f"{os.getpid()} {os.getppid()}".encode())
    os._exit(7)
"""


def test_a_grandchild_whose_parent_ends_becomes_ours() -> None:
    script = f"""{GRANDCHILD}
adopt_orphans()
start()
pid, parent = map(int, os.read(reader, 100).split())
assert parent == os.getpid()
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    assert run(script) == "7\n"


def test_without_that_it_is_another_s() -> None:
    script = f"""{GRANDCHILD}
start()
pid, parent = map(int, os.read(reader, 100).split())
print(parent != os.getpid())
"""
    assert run(script) == "True\n"


def test_a_child_dies_with_its_parent_however_that_ends() -> None:
    script = r"""
import os, signal, time
from pserver.system.processes import die_with_parent
tied = os.fork()
if not tied:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    die_with_parent()
    os.write(1, b"tied\n")  # a single write, so that outputs do not mix
    time.sleep(1000)
free = os.fork()
if not free:
    os.write(1, b"free\n")
    time.sleep(1000)
os.write(1, b"%d %d\n" % (tied, free))
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        lines = sorted(parent.stdout.readline().strip() for _ in range(3))
        tied, free = map(int, lines[0].split())
        assert lines[1:] == ["free", "tied"]
        parent.kill()
        try:
            wait_gone(tied)
            os.kill(free, 0)  # it is still alive
        finally:
            os.kill(free, signal.SIGKILL)
    wait_gone(free)


def test_a_process_descends_from_all_above_it_and_from_no_other() -> None:
    command = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert descends_from(child, parent.pid) and descends_from(child, os.getpid())
        assert not descends_from(parent.pid, child)
        assert not any(descends_from(pid, os.getpid()) for pid in (os.getpid(), os.getppid(), 0, -1, 2**70))
        kill_with_group(parent.pid)
    wait_gone(child)
    assert not descends_from(parent.pid, os.getpid())


def test_only_the_group_that_a_process_leads_is_killed_with_it() -> None:
    with subprocess.Popen(["sleep", "1000"]) as other, subprocess.Popen(["sleep", "1000"]) as one:
        kill_group(one.pid)  # it leads no group
        assert one.poll() is None
        kill_with_group(one.pid)
        assert one.wait() == -signal.SIGKILL
        assert other.poll() is None
        other.kill()


def test_the_ends_of_processes_are_awaited() -> None:
    processes = [subprocess.Popen(["sleep", seconds]) for seconds in ("0.1", "60")]
    pidfds = [os.pidfd_open(process.pid) for process in processes]
    try:
        assert await_ends(pidfds, 0.5) == {pidfds[1]}
        processes[1].kill()
        assert await_ends(pidfds, DEADLINE) == set()
    finally:
        for process, pidfd in zip(processes, pidfds, strict=True):
            process.kill()
            process.wait()
            os.close(pidfd)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "exit status 0"),
        (3, "exit status 3"),
        (-9, "SIGKILL"),
        (-signal.SIGSEGV, "SIGSEGV"),
        (-99, "signal 99"),
    ],
)
def test_how_a_process_ended_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words


def test_each_process_of_a_server_has_a_name_of_its_own(two_slots: Server) -> None:
    with two_slots.connect() as net:
        engine = net[1].eval("__import__('os').getpid()").result(DEADLINE)
        worker = net.submit("lambda: __import__('os').getpid()").result(DEADLINE)
        spawner = psutil.Process(engine).ppid()
        session = psutil.Process(spawner).ppid()
        starter = psutil.Process(session).ppid()
        daemon = two_slots.process.pid
        names = [
            Path(f"/proc/{pid}/comm").read_text().strip()
            for pid in (daemon, starter, session, spawner, engine, worker)
        ]
        assert psutil.Process(worker).ppid() == spawner
        titles = [
            " ".join(psutil.Process(pid).cmdline())
            for pid in (daemon, starter, session, spawner, engine, worker)
        ]
        title = f"pserver: session {session} alice"
        assert titles == [
            f"pserver: daemon {two_slots.status['name']}",
            "pserver: starter",
            title,
            f"pserver: session {session} spawner",
            f"{title} engine 1",
            f"{title} engine 1 worker",
        ]
    roles = ["daemon", "starter", "session", "spawner", "engine", "worker"]
    assert names == [f"pserver:{role}" for role in roles]


def test_what_an_engine_starts_has_its_own_name(two_slots: Server) -> None:
    with two_slots.connect() as net:
        source = "__import__('subprocess').check_output(['cat', '/proc/self/comm'])"
        assert net[1].eval(source).result(DEADLINE) == b"cat\n"


# The main thread blocks SIGINT, but another thread does not: it would receive a signal sent to the whole process.
WITH_ANOTHER_THREAD = """
import signal, threading, time
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
print("begun", flush=True)
input()
print(signal.SIGINT in signal.sigpending(), flush=True)
"""


@pytest.mark.parametrize("is_old", [False, True], ids=["Linux 6.9", "before"])
def test_an_interrupt_is_for_the_main_thread(is_old: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    real = signal.pidfd_send_signal

    def send(pidfd: int, number: int, info: None = None, flags: int = 0) -> None:
        if flags and is_old:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        real(pidfd, number, info, flags)

    monkeypatch.setattr(signal, "pidfd_send_signal", send)
    command = [sys.executable, "-c", WITH_ANOTHER_THREAD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        pidfd = os.pidfd_open(process.pid)
        try:
            assert process.stdout and process.stdout.readline() == "begun\n"
            interrupt_main_thread(process.pid, pidfd)
            assert process.communicate("\n", timeout=DEADLINE)[0] == "True\n"
            with pytest.raises(ProcessLookupError):
                interrupt_main_thread(process.pid, pidfd)
        finally:
            process.kill()
            os.close(pidfd)


_TITLES = """
import os, sys, time
from pserver.system.processes import own_title, set_title
variables = dict(os.environb)
def shown(): return open("/proc/self/cmdline", "rb").read()
assert own_title() == ""
set_title("one\\n\\x1b[2J")
assert (own_title(), shown()) == (r"one\\n\\x1b[2J", b"pserver: one\\\\n\\\\x1b[2J\\0"), shown()
child = os.fork()
if not child:
    set_title("child")
    os._exit(shown() != b"pserver: child\\0")
assert os.waitpid(child, 0)[1] == 0
assert own_title() == r"one\\n\\x1b[2J"  # the child changed only its own title
set_title("x" * 100_000)
assert 0 < len(shown()) < 5000 and shown().startswith(b"pserver: xxx")
assert open("/proc/self/environ", "rb").read().count(b"MARK=1") == 1
begin = time.perf_counter()
for _ in range(100): set_title("y")
print((time.perf_counter() - begin) / 100)
"""


def test_a_title_is_that_of_one_process_and_leaves_the_environment_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _TITLES],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=os.environ | {"MARK": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert float(done.stdout) < 0.01  # takes 40 µs on an idle machine


def test_a_long_name_leaves_room_for_what_comes_behind() -> None:
    assert user_in_title("alice") == "alice"
    assert user_in_title("x" * 100) == "x" * 39 + "…"


_PRETENDER = """
import os, sys
from pserver.system.processes import DAEMON, name_process, set_dumpable
if sys.argv[1:]:
    os.setresuid(int(sys.argv[1]), 0, 0)  # like a program with the set-user-ID bit
name_process(DAEMON)
set_dumpable(False)
print("ready", flush=True)
sys.stdin.read()
"""


@needs_root
@pytest.mark.parametrize("user", [(), (str(NOBODY),)], ids=["of this account", "of another"])
def test_a_daemon_of_another_account_is_none_of_ours(user: tuple[str, ...]) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _PRETENDER, *user], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        assert Path(f"/proc/{process.pid}").stat().st_uid == os.geteuid()  # only apparently this account's
        assert (process.pid in own_daemons()) is (not user)
        process.kill()
