"""Real sessions that exceed their limits: what ends, the client's errors, and what continues."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pconnect import ConnectError, ConnectionLostError, EngineDiedError, JobLostError, pconnect
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from tests.support.accounts import needs_root
from tests.support.own_accounts import accounts_server, passable_folder, password_of
from tests.support.servers import Server, engine_pids, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

Users = tuple[Credentials, Path]
BY_THE_SERVER = "the server's administrator has set"


@contextmanager
def limited(folder: Path, users: Users, *options: str, n: int = 1) -> Iterator[tuple[Server, ClientNetwork]]:
    """Yield a server with limits, and a network of `n` of its nodes."""
    with run_server(folder / "server", *options, users=users) as server, server.connect(n) as net:
        yield server, net


def evaluate(net: ClientNetwork, source: str) -> object:
    return net[1].eval(source).result(DEADLINE)


def assert_ends(server: Server, net: ClientNetwork, why: str) -> None:
    """Wait for the end of a session; check that client and log give the reason and nothing is left."""
    pids = engine_pids(net).values()
    with pytest.raises(ConnectionLostError) as caught:  # the client may already know
        evaluate(net, "__import__('time').sleep(1000)")
    what = r"(the session of node 1 .* was ended|node 1 \(.*\) is lost)"
    assert re.search(rf"{what}: {why}; to continue: net\.reconnect\(1\), or connect again", str(caught.value))
    wait_gone(*pids)
    server.wait_for_log(re.compile(f'audit session-end .* how="{why}"'))


def test_memory_ends_in_an_error_that_names_its_limit(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-memory=600m", "--slots=1") as (_, net):
        who = f"each process of a session may have 600m of memory: {BY_THE_SERVER} --session-memory 600m"
        with pytest.raises(MemoryError, match=who):
            evaluate(net, "bytearray(2**30)")
        with pytest.raises(MemoryError, match=who):
            net.submit("lambda: bytearray(2**30)").result(DEADLINE)
        program = "__import__('sys').executable, '-c', 'bytearray(2**30)'"
        assert evaluate(net, f"__import__('subprocess').run([{program}]).returncode") == 1
        assert evaluate(net, "len(bytearray(2**27))") == 2**27


@pytest.mark.slow
def test_processor_time_ends_an_engine_and_another_one_has_it_all_again(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-cpu=1", "--slots=1") as (_, net):
        why = rf"SIGXCPU \(it used 1 s of processor time; {BY_THE_SERVER} --session-cpu 1\)"
        with pytest.raises(EngineDiedError, match=f"engine of node 1 .* died: {why}"):
            evaluate(net, "[None for _ in iter(int, 1)]")
        net[1].restart()
        assert evaluate(net, "1") == 1
        with pytest.raises(Exception, match=f"worker .*died: {why}"):
            net.submit("lambda: [None for _ in iter(int, 1)]").result(DEADLINE)


@pytest.mark.slow
def test_a_session_lasts_so_long_whatever_it_does(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-time=5", n=2) as (server, net):
        assert_ends(server, net, f"the session has lasted 5 s; {BY_THE_SERVER} --session-time 5")


@pytest.mark.slow
def test_an_idle_session_ends_and_a_busy_one_does_not(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--idle-timeout=1.5", "--slots=1", n=2) as (server, net):
        # Each one takes longer than the timeout on one node, while the other node is idle.
        evaluate(net, "__import__('time').sleep(3)")
        net.submit("lambda: __import__('time').sleep(3)").result(DEADLINE)
        net.run(["sleep", "3"])
        # A background program, like the processes of a Dask cluster.
        evaluate(net, "__import__('subprocess').Popen(['sleep', '4']).pid")
        time.sleep(3)
        evaluate(net, "1")
        why = "nothing has run here and the client has sent nothing for 1.5 s"
        server.wait_for_log(why)
        with pytest.raises(EngineDiedError, match=f"{why}; {BY_THE_SERVER} --idle-timeout 1.5"):
            evaluate(net, "__import__('time').sleep(1000)")


def test_output_ends_a_session(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-output=64k") as (server, net):
        evaluate(net, "print('x' * 60000)")
        net[1].eval("print('x' * 10000)")
        assert_ends(
            server, net, f"its commands have printed [0-9]+ bytes; {BY_THE_SERVER} --session-output 64k"
        )


def test_a_full_folder_ends_a_session_and_is_gone(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-disk=1m") as (server, net):
        folder = Path(str(evaluate(net, "str(session_files)")))
        evaluate(net, "(session_files / 'much').write_bytes(bytes(2**21))")
        assert_ends(
            server, net, f"its folder uses [0-9]+ bytes of disk space; {BY_THE_SERVER} --session-disk 1m"
        )
        wait_until(lambda: not folder.exists(), "the folder to be gone")


def test_open_files_end_in_an_error_that_names_its_limit(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-files=100") as (_, net):
        who = f"each process of a session may have 100 files open: {BY_THE_SERVER} --session-files 100"
        with pytest.raises(OSError, match=who):
            evaluate(net, "[open('/dev/null') for _ in range(200)]")
        assert evaluate(net, "1") == 1


def test_niceness_holds_for_engines_workers_and_programs(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--nice=13", "--slots=1") as (_, net):
        nice = "__import__('os').getpriority(0, 0)"
        assert evaluate(net, nice) == 13
        assert net.submit(f"lambda: {nice}").result(DEADLINE) == 13
        assert evaluate(net, "__import__('subprocess').check_output(['nice'])") == b"13\n"


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, 300.0])
def test_a_job_may_take_no_longer_than_the_server_lets_it(
    own: float | None, tmp_path: Path, users: Users
) -> None:
    with limited(tmp_path, users, "--job-time=1", "--slots=1") as (_, net):
        executor = net.executor(time_limit=own)
        with pytest.raises(TimeoutError, match=f"the time limit of 1 s passed; {BY_THE_SERVER} --job-time 1"):
            executor.submit("lambda: __import__('time').sleep(1000)").result(DEADLINE)
        assert executor.submit("lambda: 1").result(DEADLINE) == 1


def test_a_job_may_have_less_time_than_the_server_lets_it(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--job-time=1h", "--slots=1") as (_, net):
        with pytest.raises(TimeoutError) as caught:
            net.executor(time_limit=0.2).submit("lambda: __import__('time').sleep(1000)").result(DEADLINE)
        assert "the time limit of 0.2 s passed" in str(caught.value)
        assert BY_THE_SERVER not in str(caught.value)


@pytest.mark.slow
def test_a_job_that_does_not_end_in_time_loses_its_worker(tmp_path: Path, users: Users) -> None:
    deaf = "lambda: (__import__('signal').signal(2, 1), __import__('time').sleep(1000))"
    with (
        limited(tmp_path, users, "--job-time=1", "--slots=1") as (_, net),
        pytest.raises(
            Exception, match=f"did not end within 5 s of its time limit; {BY_THE_SERVER} --job-time 1"
        ),
    ):
        net.submit(deaf).result(DEADLINE)


@pytest.mark.parametrize("own", [None, 2**34])
def test_a_job_may_have_no_more_memory_than_the_server_lets_it(
    own: int | None, tmp_path: Path, users: Users
) -> None:
    with limited(tmp_path, users, "--job-memory=200m", "--slots=1") as (_, net):
        who = f"a worker may have 200m more memory than at its start: {BY_THE_SERVER} --job-memory 200m"
        executor = net.executor(memory_limit=own)
        with pytest.raises(MemoryError, match=who):
            executor.submit("lambda: bytearray(2**28)").result(DEADLINE)
        assert executor.submit("lambda: len(bytearray(2**27))").result(DEADLINE) == 2**27
        assert evaluate(net, "len(bytearray(2**28))") == 2**28  # a command is not a job


def test_a_job_may_have_less_memory_than_the_server_lets_it(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--job-memory=1g", "--slots=1") as (_, net):
        with pytest.raises(MemoryError) as caught:
            net.executor(memory_limit=2**27).submit("lambda: bytearray(2**28)").result(DEADLINE)
        assert BY_THE_SERVER not in str(caught.value)
        assert net.submit("lambda: len(bytearray(2**28))").result(DEADLINE) == 2**28


def test_another_spawner_sets_the_same_limits(tmp_path: Path, users: Users) -> None:
    with limited(tmp_path, users, "--session-files=100", "--nice=14") as (_, net):
        psutil.Process(engine_pids(net)[1]).parent().kill()
        with pytest.raises(EngineDiedError):
            evaluate(net, "__import__('time').sleep(1000)")
        net[1].restart()
        assert evaluate(net, "__import__('os').getpriority(0, 0)") == 14
        assert evaluate(net, "__import__('resource').getrlimit(7)") == (100, 100)


@pytest.mark.slow
def test_detached_jobs_end_with_the_time_of_their_session(tmp_path: Path, users: Users) -> None:
    with run_server(tmp_path / "server", "--session-time=4", "--slots=1", users=users) as server:
        with server.connect() as net:
            net.submit("lambda: __import__('time').sleep(1000)")
            token = net.detach()
        server.wait_for_log("ending it: the session has lasted 4 s")
        who = server.credentials
        with pconnect(recover=token, user=who.user, password=who.password, timeout=DEADLINE) as back:
            (job,) = back.jobs.values()
            with pytest.raises(
                JobLostError, match=f"the session has lasted 4 s; {BY_THE_SERVER} --session-time 4"
            ):
                job.result(DEADLINE)


@needs_root
@pytest.mark.slow
def test_without_a_cgroup_processes_count_for_the_account() -> None:
    """This limit does not apply to root, so the test needs a server whose sessions run under other accounts."""
    many = "[__import__('threading').Thread(target=__import__('time').sleep, args=(9,)).start() for _ in range(40)]"
    with passable_folder() as folder, accounts_server(folder, "--session-processes=20") as server:
        login: dict[str, Any] = {"user": "alice", "password": password_of("alice")}
        with server.connect(**login) as net:
            account = "the account, including everything that runs under it,"
            who = f"{account} may have 20 processes and threads: {BY_THE_SERVER}"
            with pytest.raises(RuntimeError, match=f"{who} --session-processes 20"):
                evaluate(net, many)
            with pytest.raises(OSError, match=who):
                evaluate(net, "__import__('subprocess').run(['true'])")


# A plain folder replaces the server's cgroup folder, because few test machines have real cgroups.
CGROUPS_IN = """
import sys
from pserver.cli import main
from pserver.limits.cgroup import Cgroups
Cgroups.folder = lambda self, limits: {folder!r}
sys.exit(main(sys.argv[1:]))
"""


def test_a_session_whose_cgroup_cannot_be_made_does_not_begin(tmp_path: Path, users: Users) -> None:
    """Otherwise the session would run with fewer limits than configured, and nobody would notice."""
    code = CGROUPS_IN.format(folder=str(tmp_path / "gone"))
    options = ("--session-memory=1g", "--allow-root", "--shared-account")
    with run_server(
        tmp_path / "server", *options, users=users, wrapped=lambda c: [c[0], "-c", code, *c[3:]]
    ) as server:
        why = r"the server cannot set the limits of the session: .*No such file or directory: .*gone/pserver-session-"
        with pytest.raises(ConnectError, match=why):
            server.connect()
        server.wait_for_log(re.compile(f"cannot start node 1 from .*: {why}"))
