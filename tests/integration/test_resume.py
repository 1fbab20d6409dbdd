"""Killed clients that resume from another process: their variables, repeated results, and refusals."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    ConnectionLostError,
    RemoteError,
    ServerRefusedError,
    allreduce,
    reval,
)
from pconnect.link.missing_hosts import MissingHostsWarning
from pconnect.resume.resume_file import path_of
from pconnect.views.network_views import ClientNetwork
from srp_tools import Credentials, VerifierFile, make_verifier
from tests.support.clients import ClientProcess
from tests.support.resuming import client, come_back, kill, mark, orphans
from tests.support.servers import Server, connect, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until

pytestmark = pytest.mark.slow
LIMIT = 20.0


@pytest.fixture(scope="module")
def users(users: tuple[Credentials, Path]) -> tuple[Credentials, Path]:
    VerifierFile(users[1]).add(make_verifier(Credentials("mallory", "another password"), 2048))
    return users


@pytest.fixture
def server(tmp_path: Path, users: tuple[Credentials, Path]) -> Iterator[Server]:
    """Yield a server whose sessions wait for five minutes."""
    with run_server(tmp_path / "waits", "--orphan-timeout=5", "--shared-account", users=users) as running:
        yield running


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "resume"


def end(file: Path, server: Server) -> None:
    come_back(file, server).close()


def test_an_idle_client_that_was_killed_finds_its_workspace_and_its_results(
    file: Path, server: Server
) -> None:
    script = (
        "net.eval('x = sockets.node * 10').result(); net.eval('x + 1').result(); "
        "reval('1 / 0', net[1]).exception(); net.apply(lambda a: np.arange(a), 4).result()"
    )
    with client(file, script, server, server) as process:
        kill(process, server)
    assert file.stat().st_mode & 0o777 == 0o600
    with come_back(file, server) as net:
        assert net.resumed
        assert net.pull("x") == [10, 20]
        assert not orphans(server)
        sources = [(command.node, command.source) for command in net.commands]
        assert sources[:4] == [(node, text) for text in ("x = sockets.node * 10", "x + 1") for node in (1, 2)]
        assert [command.result(LIMIT) for command in net.commands[2:4]] == [11, 21]
        with pytest.raises(RemoteError, match="ZeroDivisionError"):
            net.commands[4].result(LIMIT)
        assert [command.result(LIMIT).tolist() for command in net.commands[5:]] == [[0, 1, 2, 3]] * 2
        # Links between engines have survived, and collective calls start afresh.
        net.eval("psend(sockets.node, sockets[3 - sockets.node])").result(LIMIT)
        assert net.eval("precv(sockets[3 - sockets.node])").result(LIMIT) == [2, 1]
        sums = net.eval("allreduce(sockets.node, sockets)")
        assert allreduce(0, net, timeout=LIMIT) == 3
        assert sums.result(LIMIT) == [3, 3]
        net.restart(timeout=LIMIT)
        assert net.eval("'x' in globals()").result(LIMIT) == [False, False]
    assert not file.exists()
    wait_until(lambda: not server.status_now()["sessions"], "the end of the session")


def test_a_command_that_ran_goes_on_and_its_result_and_output_come(file: Path, server: Server) -> None:
    source = (
        "import time\nprint('begins', flush=True)\npsend('runs', sockets[0])\n"
        "for i in range(20): print('line', i, flush=True); time.sleep(0.05)\n'the result'"
    )
    script = f"run = net.eval({source!r}); later = net.eval('5 + 5'); precv(net[1])"
    with client(file, script, server) as process:
        kill(process, server)
    net = come_back(file, server)
    running = net.commands[0]
    assert running.result(LIMIT) == "the result"
    lines = running.stdout.splitlines()
    # Output in transit to the killed client is lost; later output is here, in order.
    assert lines == [f"line {i}" for i in range(20)][20 - len(lines) :]
    assert lines
    [first, later] = net.commands
    assert (first.source, later.source, later.result(LIMIT)) == (source, "5 + 5", 10)
    net.close()


def test_a_command_that_ends_meanwhile_and_one_that_computes(
    file: Path, server: Server, tmp_path: Path
) -> None:
    script = (
        "a = net[1].eval('import time; time.sleep(0.7); 1'); b = net[2].eval('while True: pass')\n"
        f"reval({mark(tmp_path / 'mark')!r}, net[1])"
    )
    with client(file, script, server, server) as process:
        kill(process, server)
    wait_until((tmp_path / "mark").exists, "the end of the first command")
    with come_back(file, server) as net:
        first = next(command for command in net.commands if command.node == 1)
        assert first.result(LIMIT) == 1
        busy = next(command for command in net.commands if command.node == 2)
        assert not busy.done()
        net[2].interrupt()
        with pytest.raises(RemoteError, match="KeyboardInterrupt"):
            busy.result(LIMIT)
        assert "while True" in busy.source
        assert net.eval("1").result(LIMIT) == [1, 1]


def test_an_engine_that_dies_meanwhile_can_be_restarted(file: Path, server: Server) -> None:
    script = (
        "pid, = net.eval('import os; os.getpid()').result(); say(pid)\n"
        "run = net.eval('import time; time.sleep(0.5); print(12, flush=True); os._exit(3)')"
    )
    with client(file, script, server) as process:
        pid = int(process.line())
        kill(process, server)
    wait_gone(pid)
    with come_back(file, server) as net:
        with pytest.raises(ConnectionLostError, match=r"died|lost|exit status 3"):
            net.eval("1").result(LIMIT)
        net.restart(timeout=LIMIT)
        assert net.eval("1").result(LIMIT) == [1]


def test_nobody_comes_back_in_time(tmp_path: Path, file: Path, users: tuple[Credentials, Path]) -> None:
    with run_server(tmp_path / "s", "--orphan-timeout=0.02", "--shared-account", users=users) as server:
        with client(file, "", server) as process:
            assert process.line() == "ready"
            [session] = server.status_now()["sessions"]
            process.process.kill()
            process.process.wait(DEADLINE)
        wait_gone(session["pid"])
        server.wait_for_log("its client disconnected and did not come back within 0.02 minutes")
        with come_back(file, server) as net:  # there is nothing to resume: it makes a new connection
            assert not net.resumed
            assert net.commands == []
            assert net.eval("'x' in globals()").result(LIMIT) == [False]


def check_that_a_session_ends_with_its_client(server: Server) -> None:
    with ClientProcess("say('ready'); time.sleep(1000)", server) as process:
        assert process.line() == "ready"
        [session] = server.status_now()["sessions"]
        process.process.kill()
        process.process.wait(DEADLINE)
        wait_gone(session["pid"])


def test_by_default_a_session_ends_with_its_client_and_the_user_is_told(
    tmp_path: Path, file: Path, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "s", "--shared-account", users=users) as server:
        with pytest.warns(
            RuntimeWarning, match="end with this client: start these servers with --orphan-timeout"
        ):
            net = connect([server], resume=file)
        net.close()
        check_that_a_session_ends_with_its_client(server)


def test_a_client_that_did_not_ask_for_it_takes_its_session_with_it(server: Server) -> None:
    check_that_a_session_ends_with_its_client(server)


def test_another_user_with_the_file_finds_nothing(file: Path, server: Server) -> None:
    with client(file, "", server) as process:
        kill(process, server)
    mallory = {"user": "mallory", "password": "another password"}
    with come_back(file, server, **mallory, resume=_copy(file)) as net:
        assert not net.resumed  # that user's own session, as after any other login
        assert net.network_id not in {session["network"] for session in orphans(server)}
    assert orphans(server)
    end(file, server)


def _copy(file: Path) -> Path:
    copy = file.with_name("copy")
    copy.write_text(file.read_text())
    copy.chmod(0o600)
    return copy


def test_the_file_without_the_password_opens_nothing(file: Path, server: Server) -> None:
    with client(file, "", server) as process:
        kill(process, server)
    with pytest.raises(AuthenticationError):
        come_back(file, server, password="stolen file, and no password")
    assert b"PRIVATE KEY" not in file.read_bytes()
    assert len(orphans(server)) == 1
    end(file, server)


def test_who_comes_while_the_first_is_there_is_refused_or_takes_over(file: Path, server: Server) -> None:
    with connect([server], resume=file) as net:
        net.eval("x = 7").result(LIMIT)
        with pytest.raises(
            ConnectError, match="another client has this session: close that one, or come back"
        ):
            come_back(file, server)
        assert net.eval("x").result(LIMIT) == [7]
        other = come_back(file, server, take_over=True)
        assert other.pull("x") == [7]
        with pytest.raises(ConnectionLostError, match="another client has taken over the session"):
            net.eval("x").result(LIMIT)
    assert other.eval("x").result(LIMIT) == [7]
    other.close()


def test_jobs_end_when_another_takes_over_and_the_next_client_has_all_slots(
    file: Path, server: Server
) -> None:
    net = connect([server], resume=file)
    jobs = [net.submit(time.sleep, 1000) for _ in range(8)]
    wait_until(lambda: any(job.running() for job in jobs), "a job to run")
    other = come_back(file, server, take_over=True)
    for job in jobs:
        assert isinstance(job.exception(LIMIT), ConnectionLostError)
    net.close()
    wait_until(lambda: server.status_now()["slots"]["used"] == 0, "the slots")
    assert other.submit(abs, -3).result(LIMIT) == 3
    other.close()


def test_of_two_that_come_at_once_one_comes_back(file: Path, server: Server) -> None:
    with client(file, "net.eval('x = 1').result()", server) as process:
        kill(process, server)
    came: list[ClientNetwork] = []
    refused: list[Exception] = []

    def come() -> None:
        try:
            came.append(come_back(file, server))
        except ConnectError as error:
            refused.append(error)

    threads = [threading.Thread(target=come) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert (len(came), len(refused)) == (1, 1)
    assert "another client has this session" in str(refused[0])
    assert came[0].resumed
    assert came[0].pull("x") == [1]
    came[0].close()


def test_a_server_that_is_gone_is_reported_and_may_be_missing(
    tmp_path: Path, file: Path, server: Server, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "s", "--orphan-timeout=5", "--shared-account", users=users) as second:
        with client(file, "net.eval('x = sockets.node').result()", server, second) as process:
            kill(process, server)
        gone = second.host
    with pytest.raises(ConnectError) as caught:
        come_back(file, server)
    assert list(caught.value.reasons) == [gone]
    wait_until(lambda: bool(orphans(server)), "the session to wait again")
    with pytest.warns(MissingHostsWarning, match="connected without 1 of 2 engines"):
        net = come_back(file, server, required=False)
    assert net[1].eval("x").result(LIMIT) == 1
    with pytest.raises(ConnectionLostError):
        net[2].eval("x").result(LIMIT)
    assert list(net.missing) == [gone]
    net.close()


def test_a_session_that_has_ended_is_reported_with_what_to_do(
    tmp_path: Path, file: Path, server: Server, users: tuple[Credentials, Path]
) -> None:
    with run_server(tmp_path / "s", "--orphan-timeout=5", "--shared-account", users=users) as second:
        with client(file, "net.eval('x = sockets.node').result()", server, second) as process:
            kill(process, server)
        [session] = second.status_now()["sessions"]
        os.kill(session["pid"], signal.SIGKILL)
        wait_until(lambda: not second.status_now()["sessions"], "the end of the session")
        with pytest.raises(
            ConnectError, match=r"no session is waiting there: .* add required=False"
        ) as caught:
            come_back(file, server)
        assert list(caught.value.reasons) == [second.host]
        wait_until(lambda: bool(orphans(server)), "the session to wait again")
        with pytest.warns(MissingHostsWarning), come_back(file, server, required=False) as net:
            assert net[1].eval("x").result(LIMIT) == 1


def test_it_comes_back_again_and_again_also_after_a_daemon_was_replaced(file: Path, server: Server) -> None:
    with client(file, "net.eval('x = 0').result()", server) as process:
        kill(process, server)
    for count in range(3):
        with client(file, "net.eval('x += 1').result()", server) as process:
            kill(process, server)
        assert len(orphans(server)) == 1, count
    with come_back(file, server) as net:
        assert net.pull("x") == [3]


def test_much_output_is_bounded(file: Path, server: Server, tmp_path: Path) -> None:
    source = "import sys, time\ntime.sleep(0.5)\nfor i in range(40): print('x' * 99_999)\n'end'"
    script = f"net.eval({source!r}); reval({mark(tmp_path / 'mark')!r}, net)"
    with client(file, script, server) as process:
        kill(process, server)
    wait_until((tmp_path / "mark").exists, "the end of the command")
    with come_back(file, server) as net:
        run = net.commands[0]
        assert run.result(LIMIT) == "end"
        assert "bytes of output were dropped" in run.stdout
        assert reval("print('as ever')", net[1]).result(LIMIT) is None


def test_a_name_is_a_file_in_the_folder_for_state(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with connect([server], resume="work"):
        assert path_of("work").exists()
        with pytest.raises(ConfigurationError, match="belongs to a network of other hosts"):
            connect([server] * 2, resume="work")
    assert not path_of("work").exists()


def test_a_server_that_takes_no_new_session_takes_back_those_that_there_are(
    tmp_path: Path, file: Path, users: tuple[Credentials, Path]
) -> None:
    options = "--orphan-timeout=5", "--max-sessions=1", "--shared-account"
    with run_server(tmp_path / "s", *options, users=users) as server:
        with client(file, "net.eval('x = 1').result()", server) as process:
            kill(process, server)
        with pytest.raises(ServerRefusedError):
            connect([server])
        with come_back(file, server) as net:
            assert net.pull("x") == [1]


def test_nodes_find_a_new_daemon_while_they_wait(
    tmp_path: Path, file: Path, users: tuple[Credentials, Path]
) -> None:
    options = "--orphan-timeout=5", "--shared-account", "--name=same"
    with run_server(tmp_path / "s", *options, users=users) as first:
        with client(file, "net.eval('x = 1').result()", first, first) as process:
            kill(process, first)
        first.process.kill()
        first.process.wait(DEADLINE)
        with run_server(tmp_path / "s", *options, users=users) as second:
            assert second.cmd_port == first.cmd_port
            wait_until(lambda: bool(orphans(second)), "the session to come back to the server")
            wait_until(lambda: len(orphans(second)[0]["nodes"]) == 2, "its other node")
            with come_back(file, second) as net:
                assert net.pull("x") == [1, 1]
