import contextlib
import fcntl
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.system.pidfile import PidFile, StoppedServer, find_server, list_servers, stop_server
from pserver.system.runtime_dir import run_time_folder
from srp_tools.errors import ConfigurationError
from tests.support.places import use_private_places
from tests.support.waiting import DEADLINE

_DAEMON = """
import os, signal, subprocess, sys
from pserver.system.pidfile import PidFile

name, options = sys.argv[1], sys.argv[2:]
if "stubborn" in options:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
with PidFile(name) as pid_file:
    pid_file.write({"name": name, "pid": os.getpid(), "cmd_port": 1})
    if "child" in options:
        subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, close_fds=False)
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    use_private_places(tmp_path, monkeypatch)
    return run_time_folder()


@contextlib.contextmanager
def _process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process, which has written its first line, until the end of the block."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        try:
            yield process
        finally:
            process.kill()


@contextlib.contextmanager
def _daemon(name: str, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    with _process(sys.executable, "-c", _DAEMON, name, *options) as process:
        yield process


@contextlib.contextmanager
def _stranger() -> Iterator[subprocess.Popen[bytes]]:
    with _process("sh", "-c", "echo ready; read line") as process:
        yield process


def _start_time(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]


def test_a_running_server_is_found_with_its_status() -> None:
    with PidFile("one") as pid_file:
        pid_file.write({"name": "one", "pid": os.getpid(), "cmd_port": 12502})
        server = find_server("one")
        assert server is not None
        assert (server.name, server.pid) == ("one", os.getpid())
        assert server.status == {"name": "one", "pid": os.getpid(), "cmd_port": 12502}
        assert find_server("two") is None


def test_a_starting_server_has_a_pid_only() -> None:
    with PidFile("one"):
        server = find_server("one")
        assert server is not None
        assert server.status == {"name": "one", "pid": os.getpid()}


def test_nothing_is_left_of_an_ended_server(folder: Path) -> None:
    with PidFile("one") as pid_file:
        pid_file.write({"pid": os.getpid()})
        assert (folder / "one.json").exists()
    assert find_server("one") is None
    assert [path.name for path in folder.iterdir()] == ["one.pid"]
    assert (folder / "one.pid").read_text() == ""


def test_all_servers_are_listed_by_name() -> None:
    with PidFile("gone"):
        pass
    with PidFile("b"), _daemon("a.pid") as daemon:
        assert [(server.name, server.pid) for server in list_servers()] == [
            ("a.pid", daemon.pid),
            ("b", os.getpid()),
        ]


def test_files_are_private_and_safe_from_cleaners(folder: Path) -> None:
    with PidFile("one") as pid_file:
        pid_file.write({})
        assert [(folder / name).stat().st_mode & 0o7777 for name in ("one.pid", "one.json")] == [0o1600] * 2


def test_a_name_is_taken_once() -> None:
    with _daemon("one") as daemon:
        with pytest.raises(
            ConfigurationError, match=rf"'one' is already running \(pid {daemon.pid}\).* --name one,"
        ):
            PidFile("one").__enter__()
        with PidFile("two"):
            assert len(list_servers()) == 2
    with PidFile("one"):
        pass


@pytest.mark.parametrize("name", ["../one", "", ".one"])
def test_a_name_does_not_lead_elsewhere(name: str) -> None:
    for function in (PidFile, find_server, stop_server):
        with pytest.raises(ConfigurationError, match="--name"):
            function(name)


def test_a_link_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "one.pid").symlink_to(tmp_path / "target")
    with pytest.raises(
        PermissionError, match=r"^/.*/one\.pid is not a regular file of this account; remove it$"
    ):
        PidFile("one").__enter__()
    assert not (tmp_path / "target").exists()


def test_a_status_that_is_too_long_or_a_fifo_is_not_read(folder: Path) -> None:
    with _daemon("one") as daemon:
        status = folder / "one.json"
        with status.open("a") as file:
            file.truncate(2**20 + 1)
        server = find_server("one")
        assert server and server.status == {"name": "one", "pid": daemon.pid}
        status.unlink()
        os.mkfifo(status)
        with pytest.raises(PermissionError, match="not a regular file of this account"):
            find_server("one")


def test_a_killed_server_does_not_run_and_does_not_block(folder: Path) -> None:
    with _daemon("one") as daemon:
        daemon.kill()
        daemon.wait()
        assert (folder / "one.pid").read_text().startswith(f"{daemon.pid}\n")
        assert find_server("one") is None
        assert stop_server("one") is None
        with PidFile("one"):
            server = find_server("one")
            assert server is not None
            assert server.status == {"name": "one", "pid": os.getpid()}


def test_a_child_of_a_killed_server_does_not_hold_its_lock() -> None:
    with _daemon("one", "child") as daemon:
        children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children").read_text().split()
        child = os.pidfd_open(int(children[0]))
        try:
            daemon.kill()
            daemon.wait()
            with PidFile("one"):
                pass
        finally:
            os.close(child)
            os.kill(int(children[0]), 9)


def test_the_status_of_a_predecessor_is_not_believed(folder: Path) -> None:
    with PidFile("one"):
        (folder / "one.json").write_text('{"pid": 1, "cmd_port": 1}')
        server = find_server("one")
        assert server is not None
        assert server.status == {"name": "one", "pid": os.getpid()}


def test_a_reader_sees_whole_statuses() -> None:
    # Too long for one write(2) of Python's.
    statuses = [{"pid": os.getpid(), "text": letter * 100_000} for letter in "ab"]
    seen = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            server = find_server("one")
            seen.append(server is not None and dict(server.status) in statuses)

    with PidFile("one") as pid_file:
        pid_file.write(statuses[0])
        thread = threading.Thread(target=read)
        thread.start()
        for number in range(200):
            pid_file.write(statuses[number % 2])
        done.set()
        thread.join()
    assert seen
    assert all(seen)


def test_a_reader_is_not_taken_for_a_server(folder: Path) -> None:
    with PidFile("one"):
        pass
    reading = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1])\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    fcntl.flock(file, fcntl.LOCK_SH)\n"
        "    fcntl.flock(file, fcntl.LOCK_UN)\n"
    )
    with _process(sys.executable, "-c", reading, str(folder / "one.pid")):
        for _ in range(200):
            with PidFile("one"):
                pass


def test_stop_ends_the_server_and_nothing_else() -> None:
    with _daemon("one") as one, _daemon("two") as two:
        assert stop_server("one") == StoppedServer("one", one.pid, killed=False)
        assert one.wait() == -15
        assert stop_server("one") is None
        assert two.poll() is None
        assert [server.name for server in list_servers()] == ["two"]


def test_a_server_that_does_not_end_is_killed() -> None:
    with _daemon("one", "stubborn") as daemon:
        assert stop_server("one", timeout=0.1) == StoppedServer("one", daemon.pid, killed=True)
        assert daemon.wait() == -9


def test_a_stranger_with_the_number_of_a_stale_file_is_not_signalled(folder: Path) -> None:
    with _stranger() as stranger:
        # Not even a process with the right start time: only the lock counts.
        (folder / "one.pid").write_text(f"{stranger.pid}\n{_start_time(stranger.pid)}\n")
        assert find_server("one") is None
        assert stop_server("one", timeout=0.1) is None
        with PidFile("one"):
            pass
        assert stranger.poll() is None


@pytest.mark.parametrize("text", ["{pid}\n1\n", "{pid}\n", "", "nonsense\n", "999999999\n1\n"])
def test_a_stranger_is_not_signalled_while_the_lock_is_held(
    folder: Path, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This is the state after a new daemon has taken the lock and before it has written its process id."""
    monkeypatch.setattr("pserver.system.pidfile._OWNER_TIMEOUT", 0.1)
    with _stranger() as stranger, (folder / "one.pid").open("w") as file:
        file.write(text.format(pid=stranger.pid))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigurationError, match=f"fuser {re.escape(str(folder))}/one.pid"):
            stop_server("one", timeout=0.1)
        assert stranger.poll() is None


def test_a_server_knows_whether_the_one_before_was_killed() -> None:
    with PidFile("default") as first:
        assert first.predecessor is None
    with PidFile("default") as second:
        assert second.predecessor is None
    code = """
import os
from pserver.system.pidfile import PidFile
file = PidFile("default").__enter__()
file.write({"pid": os.getpid(), "cmd_port": 5})
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=DEADLINE)
    with PidFile("default") as third:
        assert third.predecessor is not None
        assert third.predecessor["cmd_port"] == 5
