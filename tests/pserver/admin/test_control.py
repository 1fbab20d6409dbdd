import dataclasses
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pserver.admin import control
from pserver.admin.control import pserver, start_server
from pserver.ctl.live_status import live_server
from pserver.system.log_file import default_log
from pserver.system.pidfile import list_servers
from srp_tools.credentials import Credentials
from srp_tools.errors import ConfigurationError, CredentialError
from srp_tools.private_files import server_file
from srp_tools.verifier import make_verifier
from srp_tools.verifier_file import VerifierFile
from tests.support.places import OPTIONS, as_number, config, listens
from tests.support.waiting import wait_for_line

pytestmark = pytest.mark.usefixtures("places")


def test_start_returns_when_both_ports_listen() -> None:
    status = start_server(config())
    assert listens(status["cmd_port"])
    assert listens(status["data_port"])
    server = live_server("default")
    assert server is not None
    assert server.status == status
    assert status["name"] == "default"
    assert status["use_tls"] is True
    assert status["sessions"] == []
    assert isinstance(status["started"], int | float)
    assert abs(time.time() - status["started"]) < 60


def test_the_daemon_is_nobodys_child_and_has_no_terminal() -> None:
    pid = as_number(start_server(config())["pid"])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    parent, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
    assert parent != os.getpid()
    assert session not in (pid, os.getsid(0))
    assert terminal == 0
    assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")
    assert Path(f"/proc/{pid}/fd/0").readlink() == Path("/dev/null")


def test_the_daemon_outlives_the_process_that_started_it() -> None:
    options = "bind='127.0.0.1', cmd_port=0, data_port=0, allow_root=True"
    code = f"from pserver.admin.control import pserver; pserver({options})"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
    status = pserver("status")
    assert status is not None
    assert listens(status["cmd_port"])


def test_a_folder_full_of_traps_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "select.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    assert listens(start_server(config())["cmd_port"])


def test_stop_and_start_again_on_the_same_ports() -> None:
    first = start_server(config())
    cmd_port, data_port = as_number(first["cmd_port"]), as_number(first["data_port"])
    # The server closes these connections, which leaves it with sockets in TIME_WAIT.
    with (
        socket.create_connection(("127.0.0.1", cmd_port)),
        socket.create_connection(("127.0.0.1", data_port)),
    ):
        assert pserver("kill") is True
    second = start_server(config(cmd_port=cmd_port, data_port=data_port))
    assert (second["cmd_port"], second["data_port"]) == (cmd_port, data_port)
    assert second["pid"] != first["pid"]


def test_stop_of_an_idle_server_takes_less_than_a_second() -> None:
    status = start_server(config())
    begin = time.monotonic()
    assert pserver("kill") is True
    assert time.monotonic() - begin < 5.0  # 0.1 s on an idle machine, but this one may be busy
    assert not listens(status["cmd_port"])
    assert not listens(status["data_port"])
    assert pserver("status") is None
    assert pserver("kill") is False


def test_two_names_at_once() -> None:
    ports = {start_server(config(name))["cmd_port"] for name in ("one", "two")}
    assert len(ports) == 2
    assert pserver("kill", name="one") is True
    assert [server.name for server in list_servers()] == ["two"]


def test_the_same_name_twice() -> None:
    first = start_server(config())
    log = default_log("default")
    written = log.read_bytes()
    with pytest.raises(ConfigurationError, match=rf"is already running \(pid {first['pid']}\)"):
        start_server(config())
    assert pserver("status") == first
    assert log.read_bytes() == written  # the second server wrote nothing to the log of the first


def test_two_servers_do_not_share_a_log() -> None:
    start_server(config("one"))
    log = default_log("one")
    written = log.read_bytes()
    with pytest.raises(ConfigurationError, match=rf"--log-file {log}: the server 'one' .* writes to it"):
        start_server(dataclasses.replace(config("two"), log_file=log))
    assert log.read_bytes() == written
    for name in ("three", "four"):
        start_server(dataclasses.replace(config(name), log_file="/dev/null"))


@pytest.mark.parametrize("name", ["", "file/below"])
def test_a_log_that_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=f"cannot write the log {tmp_path / name}: .*--log-file"):
        start_server(dataclasses.replace(config(), log_file=tmp_path / name))


@pytest.mark.parametrize(
    "log", ["/dev/stdout", "/dev/stderr", "/dev/fd/1", "/proc/self/fd/1", "/proc/version"]
)
@pytest.mark.parametrize("foreground", [True, False])
def test_a_log_that_is_no_file_of_its_own_is_refused(log: str, foreground: bool) -> None:
    options = ["--foreground"] if foreground else []
    done = subprocess.run(
        [sys.executable, "-m", "pserver", "start", *OPTIONS, *options, "--log-file", log],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert f"--log-file {log}: must be a regular file" in done.stderr
    assert "with --foreground and without --log-file" in done.stderr
    assert list_servers() == []


def test_a_log_that_is_a_terminal_or_a_pipe_is_refused(tmp_path: Path) -> None:
    ours, terminal = os.openpty()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        for log in (os.ttyname(terminal), tmp_path / "pipe"):
            with pytest.raises(ConfigurationError, match=f"--log-file {log}: must be a regular file"):
                start_server(dataclasses.replace(config(), log_file=log))
    finally:
        for end in (ours, terminal, reader):
            os.close(end)


def test_a_log_that_takes_no_lines_is_a_warning() -> None:
    with pytest.warns(RuntimeWarning, match=r"cannot write the log /dev/full \(No space left on device\)"):
        pserver(bind="127.0.0.1", cmd_port=0, data_port=0, allow_root=True, log_file="/dev/full")


def test_a_folder_for_results_that_cannot_be_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=r"--spool-dir .*file: cannot create .*give another"):
        start_server(dataclasses.replace(config(), spool_dir=tmp_path / "file"))


def test_allowed_users_who_do_not_exist_are_a_warning() -> None:
    options: dict[str, Any] = {"bind": "127.0.0.1", "cmd_port": 0, "data_port": 0, "allow_root": True}
    with pytest.warns(RuntimeWarning, match=r"--allow-users: 'bob' cannot log in: not in the users' file"):
        pserver(**options, allow_users=["alice", "bob"])
    log = default_log("default")
    wait_for_line(log, "WARNING --allow-users: 'bob' cannot log in")


@pytest.mark.parametrize("which", ["cmd_port", "data_port"])
def test_a_port_in_use_is_the_reason(which: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        wanted = config(cmd_port=port) if which == "cmd_port" else config(data_port=port)
        with pytest.raises(ConfigurationError, match=f"(?s)could not start: .*{port}.*in use"):
            start_server(wanted)
    assert list_servers() == []


def test_after_kill_9_it_starts_again() -> None:
    first = start_server(config())
    pidfd = os.pidfd_open(as_number(first["pid"]))
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert select.select([pidfd], [], [], 10)[0]
    os.close(pidfd)
    assert pserver("status") is None
    assert pserver("kill") is False
    second = start_server(config(cmd_port=as_number(first["cmd_port"])))
    assert pserver("status") == second


def test_a_start_without_a_word_shows_the_end_of_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    log = default_log("default")
    log.parent.mkdir(parents=True)
    log.write_text("of a former start\n")
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(ConfigurationError, match=f"(?s)exited while starting; .*{log}:\n.*Python") as caught:
        start_server(config())
    assert "former" not in str(caught.value)


def test_a_start_that_takes_too_long_leaves_no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "_START_TIMEOUT", 0.0)
    with pytest.raises(
        ConfigurationError, match=r"timed out after 0 s .*to start; its log is .*default-.*\.log"
    ):
        start_server(config())
    assert list_servers() == []


def test_a_silent_start_has_a_limit() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b'{"ready": ')
        with pytest.raises(TimeoutError):
            control._read_answer(ours, time.monotonic() + 0.05)


def test_the_number_of_slots_is_an_option() -> None:
    status = pserver(bind="127.0.0.1", cmd_port=0, data_port=0, allow_root=True, slots=0)
    assert status["slots"] == {"total": 0, "used": 0}


def test_the_log_is_private_and_appended_to(tmp_path: Path) -> None:
    log = tmp_path / "new" / "log"
    for _ in range(2):
        status = pserver(bind="127.0.0.1", cmd_port=0, data_port=0, log_file=log, allow_root=True)
        assert status["log_file"] == str(log)
        pserver("kill")
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert log.read_text().count("is ready on") == 2


def test_paths_may_be_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = server_file().relative_to(tmp_path)
    status = pserver(
        bind="127.0.0.1", cmd_port=0, data_port=0, auth_file=file, log_file="log", allow_root=True
    )
    assert status["log_file"] == str(tmp_path / "log")


def test_without_tls_only_this_machine_is_served() -> None:
    server_file().unlink()
    status = pserver(use_tls=False, cmd_port=0, data_port=0, allow_root=True)
    assert status["use_tls"] is False
    assert status["bind"] in (["127.0.0.1"], ["localhost"])


def test_without_users_it_does_not_start() -> None:
    server_file().write_text("")
    with pytest.raises(CredentialError, match=r"has no users.*generate-srp-data"):
        start_server(config())
    server_file().unlink()
    with pytest.raises(CredentialError, match=r"no file.*generate-srp-data"):
        start_server(config())


def test_without_groups_it_does_not_start() -> None:
    server_file().with_name("tpasswd.conf").unlink()
    with pytest.raises(CredentialError, match=r"no file .*tpasswd\.conf"):
        start_server(config())


def test_with_an_open_file_it_does_not_start() -> None:
    server_file().chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        start_server(config())


@pytest.mark.skipif(os.geteuid() != 0, reason="asks for root")
def test_sessions_run_as_root_only_if_that_is_allowed() -> None:
    with pytest.raises(
        ConfigurationError, match=r"no user can log in: .*there is no account 'alice'.*--account-map"
    ):
        pserver(bind="127.0.0.1", cmd_port=0, data_port=0)
    with pytest.raises(ConfigurationError, match=r"this account is root, .*--allow-root"):
        pserver(bind="127.0.0.1", cmd_port=0, data_port=0, use_tls=False)
    assert list_servers() == []


@pytest.mark.parametrize("allowed", [{"shared_account": True}, {"allow_users": ["bob"]}])
def test_several_users_share_an_account_only_if_that_is_wanted(allowed: dict[str, Any]) -> None:
    VerifierFile(server_file()).add(make_verifier(Credentials("bob", "horse battery"), 2048))
    with pytest.raises(
        ConfigurationError, match=r"2 users could log in, .* --shared-account; .* --allow-users NAME"
    ):
        start_server(config())
    assert listens(start_server(dataclasses.replace(config(), **allowed))["cmd_port"])


def test_unknown_actions_and_options_are_errors() -> None:
    start_server(config())
    with pytest.raises(ConfigurationError, match=r"pserver\('stop'\): unknown action"):
        pserver("stop")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="this action accepts only the option name"):
        pserver("kill", cmd_port=0)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="colour"):
        pserver(colour=10)  # type: ignore[call-overload]
    assert pserver("status") is not None
