"""Sessions in real cgroups, if this machine lets a test make some."""

import contextlib
import functools
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pconnect import EngineDiedError, JobLostError, reval
from pserver.limits.cgroup import own_cgroup
from srp_tools.credentials import Credentials
from srp_tools.errors import ConfigurationError
from tests.support.accounts import needs_root
from tests.support.own_accounts import accounts_server, passable_folder, password_of
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

Users = tuple[Credentials, Path]
BY_THE_SERVER = "the server's administrator has set"
# Memory shared by processes does not count towards any single process.
SHARED = "m = __import__('mmap').mmap(-1, 2**30); [m.write(bytes(2**24)) for _ in range(30)]"
# A program in a session of its own that has removed its mark.
STRAY = """
import resource, subprocess
resource.setrlimit(10, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
stray = subprocess.Popen(["setsid", "sleep", "1000"], start_new_session=True).pid
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """Yield the folder of an empty cgroup with all controllers that a server needs."""
    try:
        parent = own_cgroup()
        group = parent / f"test-{secrets.token_hex(4)}"
        (parent / "cgroup.subtree_control").write_text("+memory +pids +cpu")
        group.mkdir()
    except (OSError, ConfigurationError) as error:
        pytest.skip(f"needs a cgroup (version 2) with the controllers memory, pids and cpu: {error}")
    yield group
    for each in (*group.glob("pserver-*"), group):
        wait_until(functools.partial(removed, each), "the processes in the cgroup to end")


@contextlib.contextmanager
def run_in(group: Path, folder: Path, users: Users, *options: str) -> Iterator[Server]:
    """Run a server that is alone in a cgroup."""
    before = own_cgroup()
    (group / "cgroup.procs").write_text("0")
    try:
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(run_server(folder / "server", *options, users=users))
            (before / "cgroup.procs").write_text("0")
            yield server
    finally:
        (before / "cgroup.procs").write_text("0")


def removed(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:  # the last process is still ending
        return False
    return True


def members(folder: Path) -> set[int]:
    return set(map(int, (folder / "cgroup.procs").read_text().split()))


def sessions(group: Path) -> list[Path]:
    return sorted(group.glob("pserver-session-*"))


def test_a_session_is_in_a_cgroup_and_its_server_in_another(
    group: Path, tmp_path: Path, users: Users
) -> None:
    with run_in(group, tmp_path, users, "--session-memory=1g", "--session-processors=1.5") as server:
        with server.connect(2) as net:
            engines = set(engine_pids(net).values())
            (session,) = sessions(group)
            (pid,) = set(server.sessions(net))
            assert session.name == f"pserver-session-{pid}"
            spawner = psutil.Process(min(engines)).ppid()
            assert members(session) == {*engines, spawner}
            assert {server.process.pid, pid} <= members(group / "pserver-server")
            assert members(group) == set()
            assert (session / "memory.max").read_text() == f"{2**30}\n"
            assert (session / "cpu.max").read_text() == "150000 100000\n"
            worker = net.submit("lambda: __import__('os').getpid()").result(DEADLINE)
            assert worker in members(session)
        wait_until(lambda: not sessions(group), "the cgroup to be removed")
        assert re.search(r"sessions have cgroups in .*: memory, pids, cpu", server.log)


def test_the_kernel_ends_who_shares_too_much_memory_and_the_client_reads_why(
    group: Path, tmp_path: Path, users: Users
) -> None:
    why = "the kernel killed it because the session's processes together exceeded 300m of memory"
    with run_in(group, tmp_path, users, "--session-memory=300m") as server, server.connect() as net:
        with pytest.raises(EngineDiedError) as caught:
            reval(SHARED, net[1]).result(DEADLINE)
        assert f"died: SIGKILL ({why}; {BY_THE_SERVER} --session-memory 300m)" in str(caught.value)
        net[1].restart()
        with pytest.raises(JobLostError, match=re.escape(f"SIGKILL ({why}; {BY_THE_SERVER}")):
            net.submit(f"lambda: exec({SHARED!r}, {{}})").result(DEADLINE)
        os.kill(engine_pids(net)[1], signal.SIGKILL)
        with pytest.raises(EngineDiedError) as caught:
            net[1].eval("1").result(DEADLINE)
        assert why not in str(caught.value)


def test_processes_count_for_each_session(group: Path, tmp_path: Path, users: Users) -> None:
    many = "[__import__('threading').Thread(target=__import__('time').sleep, args=(9,)).start() for _ in range(40)]"
    with (
        run_in(group, tmp_path, users, "--session-processes=30") as server,
        server.connect() as net,
        server.connect() as other,
    ):
        assert len(sessions(group)) == 2
        who = f"a session may have 30 processes and threads: {BY_THE_SERVER} --session-processes 30"
        with pytest.raises(RuntimeError, match=who):
            net[1].eval(many).result(DEADLINE)
        program = "__import__('subprocess').run(['true'])"
        with pytest.raises(OSError, match=who):
            net[1].eval(program).result(DEADLINE)
        assert other[1].eval(f"{program}.returncode").result(DEADLINE) == 0


@pytest.mark.slow
def test_processors_are_shared_out(group: Path, tmp_path: Path, users: Users) -> None:
    busy = "t = __import__('time'); end = t.monotonic() + 2; c = t.process_time()\nwhile t.monotonic() < end: pass"
    with run_in(group, tmp_path, users, "--session-processors=0.2") as server, server.connect() as net:
        reval(busy, net[1]).result(DEADLINE)
        used = net[1].eval("t.process_time() - c").result(DEADLINE)
        assert 0.1 < used < 1.0
        (session,) = sessions(group)
        assert (
            int(
                dict(line.split() for line in (session / "cpu.stat").read_text().splitlines())["nr_throttled"]
            )
            > 0
        )


def test_what_has_run_away_from_a_session_ends_with_it(group: Path, tmp_path: Path, users: Users) -> None:
    with run_in(group, tmp_path, users, "--session-processes=100") as server:
        with server.connect() as net:
            reval(STRAY, net[1]).result(DEADLINE)
            stray = net[1].eval("stray").result(DEADLINE)
            assert psutil.pid_exists(stray)
        wait_gone(stray)
        wait_until(lambda: not sessions(group), "the cgroup to be removed")


def test_another_spawner_goes_where_the_first_one_was(group: Path, tmp_path: Path, users: Users) -> None:
    with run_in(group, tmp_path, users, "--session-memory=1g") as server, server.connect() as net:
        spawner = psutil.Process(psutil.Process(engine_pids(net)[1]).ppid())
        spawner.kill()
        with pytest.raises(EngineDiedError):
            net[1].eval("__import__('time').sleep(1000)").result(DEADLINE)
        net[1].restart()
        (session,) = sessions(group)
        engine = engine_pids(net)[1]
        assert members(session) == {engine, psutil.Process(engine).ppid()}


def test_the_cgroup_of_a_killed_session_is_removed_before_the_next_one(
    group: Path, tmp_path: Path, users: Users
) -> None:
    with run_in(group, tmp_path, users, "--session-memory=1g") as server:
        with server.connect() as net:
            (pid,) = server.sessions(net)
            (left,) = sessions(group)
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not members(left), "the processes of the session to be gone")
        with server.connect() as net:
            (pid,) = server.sessions(net)
            assert [each.name for each in sessions(group)] == [f"pserver-session-{pid}"]


def test_a_stranger_in_the_cgroup_leaves_all_as_it_was(group: Path, tmp_path: Path, users: Users) -> None:
    with run_in(group, tmp_path, users, "--session-memory=400m") as server:
        stranger = subprocess.Popen(["sleep", "1000"])
        try:
            (group / "cgroup.procs").write_text(str(stranger.pid))
            with server.connect() as net, pytest.raises(MemoryError, match="--session-memory 400m"):
                net[1].eval("bytearray(2**30)").result(DEADLINE)
        finally:
            stranger.kill()
            stranger.wait()
        why = f"that are not this server's, such as {stranger.pid}"
        assert re.search(rf"sessions have no cgroups, so limits apply to each process: .* {why}", server.log)
        assert server.process.pid in members(group)
        assert not (group / "pserver-server").exists()


@needs_root
@pytest.mark.slow
def test_a_session_with_an_account_can_neither_leave_its_cgroup_nor_change_its_limits(group: Path) -> None:
    attempt = "open('{}', 'w').write('{}')"
    with passable_folder() as folder, contextlib.ExitStack() as stack:
        before = own_cgroup()
        (group / "cgroup.procs").write_text("0")
        try:
            server = stack.enter_context(accounts_server(folder, "--session-memory=300m"))
        finally:
            (before / "cgroup.procs").write_text("0")
        with server.connect(user="alice", password=password_of("alice")) as net:
            (session,) = sessions(group)
            engine = engine_pids(net)[1]
            assert members(session) == {engine, psutil.Process(engine).ppid()}
            for path, value in ((session / "memory.max", "max"), (group / "cgroup.procs", engine)):
                with pytest.raises(PermissionError):
                    net[1].eval(attempt.format(path, value)).result(DEADLINE)
            with pytest.raises(EngineDiedError, match="--session-memory 300m"):
                reval(SHARED, net[1]).result(DEADLINE)
            psutil.Process(psutil.Process(server.sessions(net)[0]).children()[0].pid).kill()
            net[1].restart()
            engine = engine_pids(net)[1]
            assert members(session) == {engine, psutil.Process(engine).ppid()}
            reval(STRAY, net[1]).result(DEADLINE)
            stray = net[1].eval("stray").result(DEADLINE)
        wait_gone(stray)
        with server.connect(user="alice", password=password_of("alice")):
            assert [each.name for each in sessions(group)] != [session.name]
