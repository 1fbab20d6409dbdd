"""The facts about this machine, some of them made wrong."""

import os
import resource
import signal
import socket
from pathlib import Path

import pytest

from pserver import pserver
from pserver.doctor import machine
from pserver.doctor.checks import Level
from pserver.doctor.machine import check_machine
from srp_tools.packages import distribution_version
from srp_tools.private_files import server_file
from tests.support.places import as_number
from tests.support.waiting import wait_until

pytestmark = pytest.mark.usefixtures("places")


def found(text: str) -> list[Level]:
    return [each.level for each in check_machine() if text in str(each)]


def test_versions_limits_and_places_are_reported() -> None:
    shown = "\n".join(map(str, check_machine()))
    for part in (
        f"pserver {distribution_version()}", "Python 3.", "numpy", "tlslite-ng", "OpenSSL", "open files", "processes",
        "memory", "/dev/shm", "temporary files", "run-time folder",
    ):  # fmt: skip
        assert part in shown


def test_a_missing_package_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_required", lambda: ["numpy", "no-such-package"])
    assert found("no-such-package is not installed") == [Level.WRONG]
    assert found("ok    numpy") == [Level.OK]


def test_a_port_that_another_program_has_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    assert found("no server is running") == [Level.NOTE]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("PSERVER_CMD_PORT", str(port))
        assert found(f"command port {port}: used by ") == [Level.WRONG]
    assert found(f"command port {port}: free") == [Level.OK]


def test_the_ports_of_a_server_are_fine() -> None:
    status = pserver(cmd_port=0, data_port=0, bind="127.0.0.1", allow_root=True)
    assert isinstance(status, dict)
    assert found(f"command port {status['cmd_port']}: in use by the server 'default'") == [Level.OK]
    assert found(f"data port {status['data_port']}: in use by the server 'default'") == [Level.OK]
    assert found("no server is running") == []
    assert found(f"the users of the server 'default': {server_file()}, fingerprint ") == [Level.OK]
    server_file().unlink()
    wait_until(
        lambda: found("the users of the server 'default' cannot log in") == [Level.WRONG], "a look at it"
    )


def test_a_server_that_does_not_answer_is_wrong() -> None:
    status = pserver(cmd_port=0, data_port=0, bind="127.0.0.1", allow_root=True)
    assert isinstance(status, dict)
    pid = as_number(status["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        assert found(f"the server 'default' (pid {pid}) does not answer") == [Level.WRONG]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_places_that_cannot_be_used_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "open/pserver").mkdir(parents=True)
    (tmp_path / "open/pserver").chmod(0o755)
    with monkeypatch.context() as broken:
        broken.setattr("tempfile.tempdir", str(tmp_path / "missing"))
        broken.setenv("PSERVER_RUNTIME_DIR", str(tmp_path / "open"))
        assert found("missing: cannot be written") == [Level.WRONG]
        assert found("the run-time folder is unusable") == [Level.WRONG]
        assert found("cannot start or find servers") == [Level.WRONG]


def test_a_low_limit_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, 50))
    assert found("open files (ulimit -Hn): 50") == [Level.WRONG]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (50, resource.RLIM_INFINITY))
    assert found("open files (ulimit -Hn): unlimited") == [Level.OK]
