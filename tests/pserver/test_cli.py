import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest

from pconnect import pconnect
from pserver.admin.left_sessions import detached_sessions
from pserver.cli import main
from pserver.config.server_config import processor_count
from pserver.ctl.live_status import live_server
from pserver.system.log_file import default_log
from pserver.system.pidfile import PidFile, find_server, list_servers
from pserver.system.runtime_dir import run_time_folder
from srp_tools.private_files import server_file, server_folder
from srp_tools.verifier_file import VerifierFile
from tests.support.places import OPTIONS, listens
from tests.support.waiting import wait_for_line, wait_until

pytestmark = pytest.mark.usefixtures("places")


@contextlib.contextmanager
def _foreground(*options: str, fds: Sequence[int] = ()) -> Iterator[subprocess.Popen[str]]:
    """Run a server in the foreground, and stop it afterwards."""
    command = [sys.executable, "-m", "pserver", "start", "--foreground", *OPTIONS, *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=fds
    ) as process:
        try:
            yield process
        finally:
            process.terminate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _message(sock: socket.socket) -> dict[str, object]:
    sock.settimeout(20)
    with sock.makefile() as file:
        message = json.loads(file.readline())
    assert isinstance(message, dict)
    return message


def test_start_status_stop(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *OPTIONS]) == 0
    server = live_server("default")
    assert server is not None
    status = server.status
    out, err = capsys.readouterr()
    assert err == ""
    assert f"'default' (pid {status['pid']})" in out
    assert f"command port {status['cmd_port']}, data port {status['data_port']}" in out
    assert f"Its log is {default_log('default')}\n" in out
    assert out.endswith("Stop it with: pserver stop\n")
    assert listens(status["cmd_port"])

    assert main(["status"]) == 0
    head, row, users = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "PID", "COMMANDS", "DATA", "ADDRESS", "TLS", "SINCE", "SESSIONS", "SLOTS"]
    ports = [str(status["cmd_port"]), str(status["data_port"])]
    assert row.split()[:6] == ["default", str(status["pid"]), *ports, "127.0.0.1", "yes"]
    assert row.split()[-4:] == ["0", "0", "of", str(processor_count())]
    file = VerifierFile(server_file())
    assert users == f"Users of default: {file.path}, fingerprint {file.fingerprint()}"
    assert status["users"] == {"file": str(file.path), "fingerprint": file.fingerprint()}

    assert main(["stop"]) == 0
    assert capsys.readouterr().out == f"Stopped default (pid {status['pid']}).\n"
    assert not listens(status["cmd_port"])


def test_a_name_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *OPTIONS, "--name=my.one"]) == 0
    assert capsys.readouterr().out.endswith("Stop it with: pserver stop --name my.one\n")
    assert main(["stop", "--name", "default"]) == 3
    assert main(["status", "--name=my.one"]) == 0
    assert main(["stop", "--name=my.one"]) == 0


def test_stop_names_the_detached_jobs_that_it_would_lose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [
        "--no-tls",
        "--allow-root",
        "--cmd-port=0",
        "--data-port=0",
        f"--spool-dir={tmp_path}",
        "--slots=1",
    ]
    assert main(["start", *options, "--name=one"]) == 0
    server = find_server("one")
    assert server is not None
    net = pconnect(("127.0.0.1", server.status["cmd_port"]), use_tls=False)
    network = net.network_id
    job = net.submit("__import__('time').sleep", 1000)
    wait_until(job.running, "the job")
    net.detach()
    wait_until(lambda: bool(detached_sessions("one")), "the server to list the detached session")
    assert main(["stop", "--name=one"]) == 1
    session = rf"session \d+ of user '\(no login\)', network {network}"
    assert re.search(
        rf"pserver: the server 'one' is running detached jobs: {session}\. Wait .* --when-idle --name one, .*"
        "pserver stop --force --name one",
        capsys.readouterr().err,
    )
    assert find_server("one") is not None
    assert main(["stop", "--name=one", "--force"]) == 0
    out = capsys.readouterr().out
    assert "stopping the server ends the detached jobs of 1 session(s)" in default_log("one").read_text()
    assert re.fullmatch(rf"Stopped one \(pid \d+\)\.\nEnded the detached jobs of {session}\.\n", out)


@pytest.mark.parametrize("option", ["--slots", "--cpus"])
def test_the_number_of_slots(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    count = processor_count() + 1
    assert main(["start", *OPTIONS, option, str(count)]) == 0
    assert main(["status"]) == 0
    assert f" 0 of {count}\n" in capsys.readouterr().out
    server = live_server("default")
    assert server is not None
    assert server.status["slots"] == {"total": count, "used": 0}
    warning = f"WARNING --slots {count}: jobs will share the {count - 1} processors of this machine\n"
    log = default_log("default")
    wait_for_line(log, warning)


def test_no_more_slots_can_be_spared_than_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    count = processor_count()
    assert main(["start", *OPTIONS, f"--slots=-{count}"]) == 1
    assert f"--slots -{count}: that leaves none of {count} processors" in capsys.readouterr().err


def test_status_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *OPTIONS, "--name=one"]) == 0
    capsys.readouterr()
    assert main(["status", "--json"]) == 0
    (status,) = json.loads(capsys.readouterr().out)
    keys = (
        "bind cmd_port data_port log_error log_file name pid sessions slots socket started use_tls user users "
        "version"
    )
    assert set(keys.split()) <= set(status)
    assert status["name"] == "one"
    assert status["sessions"] == []
    assert main(["status", "--json", "--name=one"]) == 0
    assert json.loads(capsys.readouterr().out) == [status]
    assert main(["status", "--json", "--name=two"]) == 3
    assert json.loads(capsys.readouterr().out) == []


def test_a_server_that_starts_is_in_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    with PidFile("one"):
        assert main(["status"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split() == ["one", str(os.getpid()), "starting"]


def test_none_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == 3
    assert main(["status", "--name", "one"]) == 3
    assert main(["stop", "--name", "one"]) == 3
    expected = [
        "no server is running",
        "no server named 'one' is running",
        "no server named 'one' is running",
    ]
    assert capsys.readouterr() == ("", "".join(f"pserver: {line}\n" for line in expected))


def test_when_another_runs_its_name_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with PidFile("one"), PidFile("two"):
        assert main(["stop", "--name", "three"]) == 3
    told = "pserver: no server named 'three' is running; choose one of these with --name: one, two\n"
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_foreground_ends_with_a_signal(number: signal.Signals) -> None:
    with _foreground() as process:
        line = _line(process)
        server = find_server("default")
        assert server is not None
        assert server.pid == process.pid
        assert f"command port {server.status['cmd_port']}, data port {server.status['data_port']}" in line
        assert server.status["log_file"] is None
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - begin < 5.0  # idle: a tenth of a second, but machines are busy
    assert find_server("default") is None


@pytest.mark.slow
def test_the_foreground_logs_to_standard_error_or_a_file(tmp_path: Path) -> None:
    with _foreground() as process:
        _line(process)
        process.terminate()
        _, err = process.communicate(timeout=60)
    date = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO "
    assert re.match(date, err)
    log = tmp_path / "folder" / "log"
    with _foreground(f"--log-file={log}") as process:
        _line(process)
        process.terminate()
        assert process.communicate(timeout=60)[1] == ""
    assert re.match(date, log.read_text())
    assert log.stat().st_mode & 0o777 == 0o600


def test_stop_ends_one_in_the_foreground() -> None:
    with _foreground() as process:
        _line(process)
        assert main(["stop"]) == 0
        assert process.wait(10) == 0


def test_a_parent_is_told_that_it_is_ready_and_may_go() -> None:
    ours, theirs = socket.socketpair()
    with _foreground(f"--parent-fd={theirs.fileno()}", fds=[theirs.fileno()]) as process:
        theirs.close()
        with ours:
            message = _message(ours)
            server = live_server("default")
            assert server is not None
            assert message == {"ready": server.status}
        # The parent has closed the socket, but the server is still running.
        assert listens(server.status["cmd_port"])
        assert process.poll() is None


def test_a_server_on_a_lifeline_ends_with_it() -> None:
    ours, theirs = socket.socketpair()
    with _foreground(f"--parent-fd={theirs.fileno()}", "--lifeline", fds=[theirs.fileno()]) as process:
        theirs.close()
        with ours:
            assert _message(ours)["ready"]
            assert process.poll() is None
        assert process.wait(10) == 0


def test_a_parent_is_told_why_it_cannot_start(capsys: pytest.CaptureFixture[str]) -> None:
    ours, theirs = socket.socketpair()
    server_file().unlink()
    options = ["start", "--foreground", *OPTIONS, f"--parent-fd={theirs.detach()}"]
    with ours:
        assert main(options) == 1
        error = _message(ours)["error"]
    assert isinstance(error, str)
    assert "generate-srp-data" in error
    assert capsys.readouterr().err == f"pserver: {error}\n"


@pytest.mark.slow
def test_without_the_parent_that_waits_for_it_no_server_is_left() -> None:
    ours, theirs = socket.socketpair()
    ours.close()
    with _foreground(f"--parent-fd={theirs.fileno()}", fds=[theirs.fileno()]) as process:
        theirs.close()
        _, err = process.communicate(timeout=20)
        assert process.returncode == 1
    assert err.endswith("pserver: the program that started this server has gone\n")
    assert find_server("default") is None


def test_without_tls_it_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", "--cmd-port=0", "--data-port=0", "--allow-root", "--no-tls"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("pserver: WARNING: without TLS there is no encryption and no login.")
    assert "127.0.0.1" in err
    server = find_server("default")
    assert server is not None
    main(["status"])
    assert capsys.readouterr().out.splitlines()[1].split()[5] == "no"


def test_the_reason_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        assert main(["start", *OPTIONS, f"--cmd-port={port}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pserver: the server could not start: ")
    assert str(port) in err


def test_a_server_that_hangs_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *OPTIONS]) == 0
    server = find_server("default")
    assert server is not None
    os.kill(server.pid, signal.SIGSTOP)
    capsys.readouterr()
    assert main(["stop", "--timeout", "0.1"]) == 0
    assert capsys.readouterr().err == (
        f"pserver: default (pid {server.pid}) did not stop within 0.1 s and was killed\n"
    )
    assert not listens(server.status["cmd_port"])


def test_an_open_run_time_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_time_folder()
    folder.chmod(0o755)
    for arguments in (["start", *OPTIONS], ["status"], ["stop"]):
        assert main(arguments) == 1
        assert f"chmod 700 {folder}" in capsys.readouterr().err
    folder.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="asks for root")
def test_sessions_run_as_root_only_if_that_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    options = [option for option in OPTIONS if option != "--allow-root"]
    for mode in ([], ["--foreground"]):
        assert main(["start", *options, *mode]) == 1
        text = capsys.readouterr().err
        assert text.startswith(
            "pserver: no user can log in: the user 'alice' cannot log in: there is no account"
        )
        assert main(["start", *options, *mode, "--no-tls"]) == 1
        assert capsys.readouterr().err.startswith("pserver: this account is root, and without logins")
    assert list_servers() == []


@pytest.mark.parametrize(
    "arguments",
    ["", "begin", "start --nice", "start --fore", "start --cmd-port=http", "start --join=a:http", "stop one"],
)
def test_wrong_usage(arguments: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments.split())
    assert caught.value.code == 2
    assert "usage: pserver" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--detach", "--lifeline", "--parent-fd=0"])
def test_options_for_programs_need_the_foreground(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *OPTIONS, option]) == 1
    assert "--detach need --foreground" in capsys.readouterr().err


def test_unusable_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["start", *OPTIONS, "--cmd-port=65536"]) == 1
    assert main(["status", "--name=a/b"]) == 1
    assert capsys.readouterr().err.count("pserver: --") == 2


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "pserver", "status"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr == "pserver: no server is running\n"


def test_the_demo_gets_its_own_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    demo = ModuleType("pserver.demo.demo")
    monkeypatch.setattr(demo, "main", len, raising=False)
    monkeypatch.setitem(sys.modules, "pserver.demo.demo", demo)
    assert main(["demo", "--help", "x"]) == 2


def test_the_demo_without_its_packages(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "pserver.demo.demo", None)
    assert main(["demo"]) == 1
    assert "pip install 'pserver[demo]'" in capsys.readouterr().err


def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["start", "--max-file-size", "10q"])
    assert caught.value.code == 2
    assert "'10q' is not a size: give a number of bytes" in capsys.readouterr().err


def test_doctor_checks_this_machine_and_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        free = first.getsockname()[1], second.getsockname()[1]  # another program may have the default ports
    (server_folder() / "pserver.toml").write_text("cmd_port = {}\ndata_port = {}\n".format(*free))
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert re.search(r"^ok    Python 3\.", out, re.MULTILINE)
    assert "tpasswd, mode 0600, fingerprint " in out
    server_file().chmod(0o644)
    assert main(["doctor"]) == 1
    assert re.search(r"^WRONG .*tpasswd.*\n      -> .*chmod 600", capsys.readouterr().out, re.MULTILINE)
