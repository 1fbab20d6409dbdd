"""The starter itself: what its processes inherit and do not inherit, and the answers to requests that fail."""

import gc
import json
import os
import resource
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pserver.starter import starter_process
from pserver.starter.starter import StarterProcess
from pserver.system.process_marks import make_mark
from pserver.system.session_folder import make_folder
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_for_line, wait_gone, wait_until


@pytest.fixture
def starter() -> Iterator[StarterProcess]:
    process = StarterProcess(256)
    process.await_ready()
    process.sock.settimeout(DEADLINE)
    yield process
    process.close()


def ask(starter: StarterProcess, words: dict[str, Any], *ends: socket.socket) -> None:
    socket.send_fds(starter.sock, [json.dumps(words).encode()], [end.fileno() for end in ends])


def start(
    starter: StarterProcess, number: int, settings: dict[str, Any]
) -> tuple[socket.socket, socket.socket]:
    """Request a session; return the client's end of its connection, and the daemon's end of its control socket."""
    client, sock = socket.socketpair()
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with sock, theirs:
        ask(starter, {"session": number, "settings": settings, "received": ""}, sock, theirs)
    control.settimeout(DEADLINE)
    return client, control


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {
        "auth_file": str(tmp_path / "tpasswd"),
        "data_port": 1,
        "bind": [],
        "login_timeout": DEADLINE,
        "log_file": str(tmp_path / "log"),
        "proof_timeout": DEADLINE,
        "peer": "a test",
        "user": "alice",
        "kept": str(tmp_path),
        "sessions_path": str(tmp_path / "sessions"),
        "limits": {},
    }


def test_a_session_says_that_it_is_there_and_the_starter_how_it_ended(
    starter: StarterProcess, settings: dict[str, Any]
) -> None:
    client, control = start(starter, 7, settings)
    with client, control:
        data, ends, _, _ = socket.recv_fds(control, 4096, 2)
        assert len(ends) == 1
        pid = json.loads(data)["here"]
        assert psutil.Process(pid).ppid() == starter.pid
        os.close(ends[0])
        client.close()
        assert "failed" in json.loads(control.recv(4096))
        assert control.recv(4096) == b""
    assert json.loads(starter.sock.recv(4096)) == {"ended": 7, "code": 0}


def test_a_session_has_nothing_of_the_starter_and_its_signals_as_they_should_be(
    starter: StarterProcess, settings: dict[str, Any]
) -> None:
    client, control = start(starter, 7, settings)
    with client, control:
        data, ends, _, _ = socket.recv_fds(control, 4096, 2)
        os.close(ends[0])
        pid = json.loads(data)["here"]
        status = Path(f"/proc/{pid}/status").read_text()
        masks = dict(line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
        assert int(masks["SigBlk"], 16) == 0
        ignored = {number for number in signal.Signals if int(masks["SigIgn"], 16) >> (number - 1) & 1}
        assert ignored - {signal.SIGINT} <= {signal.SIGPIPE, signal.SIGXFSZ}  # Python's own default
        inode = Path(f"/proc/{starter.pid}/fd/{starter_socket(starter)}").stat().st_ino
        inodes = {link.stat().st_ino for link in Path(f"/proc/{pid}/fd").iterdir() if link.exists()}
        assert inode not in inodes


def starter_socket(starter: StarterProcess) -> str:
    arguments: Any = starter._process.args
    return str(arguments[-2])


def test_everything_is_loaded_in_the_starter() -> None:
    modules = {"numpy", "tlslite", "cryptography", "pserver.session.supervisor", "pserver.engine.engine"}
    assert modules <= set(sys.modules)  # imported with the starter's module, as in its process
    assert gc.get_freeze_count() > 0
    assert starter_process.main.__module__ == "pserver.starter.starter_process"


def test_a_request_without_room_for_its_descriptors_fails_alone(
    starter: StarterProcess, settings: dict[str, Any]
) -> None:
    client, control = start(starter, 6, settings)
    with client, control:
        assert control.recv(4096)  # it is ready
    assert json.loads(starter.sock.recv(4096)) == {"ended": 6, "code": 0}
    resource.prlimit(starter.pid, resource.RLIMIT_NOFILE, (open_files(starter.pid), 256))
    client, control = start(starter, 7, settings)
    with client, control:
        assert control.recv(4096) == b""
        client.settimeout(DEADLINE)
        assert client.recv(1) == b""
    assert json.loads(starter.sock.recv(4096)) == {"failed": 7, "why": "Too many open files"}
    resource.prlimit(starter.pid, resource.RLIMIT_NOFILE, (256, 256))
    client, control = start(starter, 8, settings)
    with client, control:
        assert "here" in json.loads(control.recv(4096))


def test_a_session_that_is_killed_is_told_of(starter: StarterProcess, settings: dict[str, Any]) -> None:
    client, control = start(starter, 7, settings)
    with client, control:
        os.kill(json.loads(control.recv(4096))["here"], signal.SIGKILL)
        assert json.loads(starter.sock.recv(4096)) == {"ended": 7, "code": -9}


def test_sessions_live_on_without_it(starter: StarterProcess, settings: dict[str, Any]) -> None:
    client, control = start(starter, 7, settings)
    with client, control:
        pid = json.loads(control.recv(4096))["here"]
        starter.kill()
        wait_gone(starter.pid)
        assert psutil.Process(pid).is_running()
        client.close()
        wait_gone(pid)


def test_a_spawner_for_a_session_that_has_lost_its_own(starter: StarterProcess) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            ask(starter, {"spawner": os.getpid(), "uid": None}, theirs)
        wait_until(lambda: psutil.Process(starter.pid).children() != [], "the spawner")
        [spawner] = psutil.Process(starter.pid).children()
        assert spawner.is_running()
    wait_gone(spawner.pid)
    wait_until(lambda: psutil.Process(starter.pid).children() == [], "the spawner to be reaped")


def test_what_a_killed_session_leaves_is_removed(starter: StarterProcess, tmp_path: Path) -> None:
    folder = tmp_path / "pserver-x"
    (folder / "deep").mkdir(parents=True)
    with subprocess.Popen(["sleep", "1000"]) as left:
        resource.prlimit(left.pid, 10, ((mark := make_mark()), resource.RLIM_INFINITY))
        ask(starter, {"remove": str(folder), "mark": mark, "uid": None})
        assert left.wait(DEADLINE) == -signal.SIGKILL
    wait_until(lambda: not folder.exists(), "the folder to be removed")


def test_folders_that_earlier_servers_left_are_removed(starter: StarterProcess, tmp_path: Path) -> None:
    log, name = tmp_path / "log", f"test-{secrets.token_hex(4)}"
    log.touch()
    daemon, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with daemon, control:
        left = make_folder(control, 5, tmp_path, name)
    form = {"file": str(log), "format": "text", "level": "info"}
    ask(starter, {"clean": name, "before": time.time() + 1, "log": form})
    wait_until(lambda: not Path(left).exists(), "the folder to be removed")
    wait_for_line(log, f"removed {left}: left behind by")


def test_old_results_are_removed_by_a_process_of_their_own(starter: StarterProcess, tmp_path: Path) -> None:
    kept, log = tmp_path / "kept", tmp_path / "log"
    log.touch()
    old, new = kept / "ab-1", kept / "cd-1"
    for folder in (old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    request = {"sweep": str(kept), "days": 7.0, "log": {"file": str(log), "format": "text", "level": "info"}}
    ask(starter, request)
    wait_until(lambda: not old.exists(), "the old results to be removed")
    assert new.exists()
    wait_for_line(log, "never recovered")
    wait_until(lambda: psutil.Process(starter.pid).children() == [], "the process to be reaped")
    kept.rename(tmp_path / "other")
    kept.write_text("no folder")
    ask(starter, request)
    wait_for_line(log, "cannot remove old results")
