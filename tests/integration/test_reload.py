"""Changes of settings and users while servers run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pconnect import AuthenticationError, EngineDiedError, pconnect, reval
from pconnect.views.network_views import ClientNetwork
from pserver.admin.control import pserver
from pserver.ctl.asking import ask
from pserver.system.log_file import default_log
from pserver.system.pidfile import RunningServer, find_server, list_servers, stop_server
from srp_tools.credentials import Credentials
from srp_tools.private_files import server_file, server_folder
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.places import OPTIONS, use_private_places
from tests.support.waiting import DEADLINE, wait_for_line, wait_gone, wait_until

pytestmark = pytest.mark.slow

ALICE, BOB = Credentials("alice", "correct horse"), Credentials("bob", "battery staple")
SHARED = "shared_account = true\n"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_private_places(tmp_path, monkeypatch)
    for each in (ALICE, BOB):
        VerifierFile(server_file()).add(make_verifier(each, 2048))
    monkeypatch.chdir(tmp_path)
    yield
    for server in list_servers():
        stop_server(server.name)


def write(text: str) -> Path:
    path = server_folder() / "pserver.toml"
    path.write_text(SHARED + text)
    path.chmod(0o600)
    return path


def command(*words: str, check: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pserver", *words],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == check, done
    return done


def started(*options: str) -> RunningServer:
    command("start", *OPTIONS, *options)
    server = find_server("default")
    assert server is not None
    return server


def wait_for_log(part: str) -> None:
    wait_for_line(default_log("default"), part)


def connect(server: RunningServer, who: Credentials) -> ClientNetwork:
    host = f"127.0.0.1:{server.status['cmd_port']}"
    return pconnect([host], user=who.user, password=who.password, timeout=DEADLINE, profile="")


def test_what_has_changed_is_taken_in_and_what_needs_a_restart_is_named() -> None:
    write("slots = 1\n")
    server = started()
    with connect(server, ALICE) as net:
        write('slots = 3\nlog_files = 7\nallow_from = ["192.0.2.0/24"]\n')
        said = command("reload").stdout
        assert "slots: 1 -> 3\n" in said and 'allow_from: [] -> ["192.0.2.0/24"]' in said
        assert "log_files: 5 -> 7 (needs a restart)" in said
        assert ask(server, {"do": "status"})["slots"]["total"] == 3
        reval("x = 1", net).result(DEADLINE)
        with pytest.raises(ConnectionError):
            connect(server, ALICE)
    wait_for_log("slots is 3 instead of 1")


def test_an_error_leaves_all_as_it_was_and_has_its_line() -> None:
    path = write("slots = 1\n")
    server = started()
    path.write_text("slots = 2\nmax_failures = -1\n")
    assert f"{path}, line 2" in command("reload", check=1).stderr
    os.kill(server.pid, signal.SIGHUP)
    wait_for_log("so nothing changes")
    server_file().rename(server_file().with_name("away"))
    write("slots = 2\n")
    assert "tpasswd" in command("reload", check=1).stderr
    assert ask(server, {"do": "status"})["slots"]["total"] == 1
    server_file().with_name("away").rename(server_file())
    os.kill(server.pid, signal.SIGHUP)
    wait_until(lambda: ask(server, {"do": "status"})["slots"]["total"] == 2, "the new number")


def test_a_removed_user_is_gone_within_two_seconds_and_reads_why() -> None:
    write("slots = 2\n")
    server = started()
    with connect(server, ALICE) as stays, connect(server, BOB) as goes:
        job = goes.submit("__import__('time').sleep", 1000)
        wait_until(job.running, "the job")
        [engine] = goes.eval("__import__('os').getpid()").result(DEADLINE) or []
        VerifierFile(server_file()).remove("bob")
        begin = time.monotonic()
        assert "this user was removed from the server" in command("reload").stdout
        wait_gone(int(engine))
        assert time.monotonic() - begin < 20.0  # under two seconds on an idle machine
        with pytest.raises(EngineDiedError, match="this user was removed from the server"):
            reval("x = 1", goes).result(DEADLINE)
        reval("x = 1", stays).result(DEADLINE)
    wait_for_log('how="this user was removed from the server"')
    with pytest.raises(AuthenticationError):
        connect(server, BOB)


def test_another_password_and_a_list_of_users_end_sessions_and_detached_jobs() -> None:
    write("")
    server = started("--slots=2")
    net = connect(server, BOB)
    job = net.submit("__import__('time').sleep", 1000)
    wait_until(job.running, "the job")
    net.detach()
    wait_until(
        lambda: ask(server, {"do": "sessions"})["sessions"][0]["detached"], "the session to be detached"
    )
    VerifierFile(server_file()).remove("bob")
    VerifierFile(server_file()).add(make_verifier(Credentials("bob", "another one"), 2048))
    assert "the password of this user was changed" in command("reload").stdout
    wait_until(lambda: ask(server, {"do": "sessions"})["sessions"] == [], "the end of the detached jobs")
    with connect(server, Credentials("bob", "another one")) as again, connect(server, ALICE) as alice:
        assert "Ended" not in command("reload").stdout  # it has the current password
        write('allow_users = ["bob"]\n')
        assert "may no longer log in to the server" in command("ctl", "reload").stdout
        with pytest.raises(EngineDiedError, match="may no longer log in"):
            reval("x = 1", alice).result(DEADLINE)
        reval("x = 1", again).result(DEADLINE)


def test_what_was_given_counts_before_the_file_also_from_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write('slots = 5\nmax_failures = 2\nallow_users = ["alice"]\n')
    monkeypatch.setenv("PSERVER_LOG_FILE", "relative.log")
    status = pserver(
        bind="127.0.0.1",
        cmd_port=0,
        data_port=0,
        allow_root=True,
        slots=1,
        allow_users=[],
        auth_file=server_file(),
    )
    server = find_server("default")
    assert server is not None and status is not None
    assert status["log_file"] == str(tmp_path / "relative.log")
    with connect(server, BOB) as net:  # the file would not allow this user
        write("slots = 7\nmax_failures = 4\n")
        facts = ask(server, {"do": "reload"})
        assert facts == {"changed": {"max_failures": [2, 4]}, "restart": {}, "ended": []}
        reval("x = 1", net).result(DEADLINE)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda file: file.remove("bob"), "this user was removed from the server"),
        (lambda file: file.add(make_verifier(BOB, 2048)), "the password of this user was changed"),
    ],
    ids=["removed", "changed"],
)
def test_a_user_who_was_removed_or_changed_while_the_server_was_down_does_not_come_back(
    change: Callable[[VerifierFile], object], why: str
) -> None:
    write("slots = 2\n")
    server = started()
    with connect(server, ALICE) as stays, connect(server, BOB) as goes:
        [engine] = goes.eval("__import__('os').getpid()").result(DEADLINE) or []
        os.kill(server.pid, signal.SIGKILL)
        wait_gone(server.pid)
        change(VerifierFile(server_file()))
        started()
        wait_gone(int(engine))
        with pytest.raises(EngineDiedError, match=why):
            reval("x = 1", goes).result(DEADLINE)
        reval("x = 1", stays).result(DEADLINE)
