"""The process that starts engines: how it starts and ends them, and what happens to an engine when it ends itself."""

import contextlib
import itertools
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.accounts.account import Account
from pserver.engine.command_page import make_memory
from pserver.spawner import spawner as spawner_module
from pserver.spawner import spawner_process
from pserver.spawner.spawner import Spawner, SpawnerProcess
from pserver.spawner.spawner_process import _Engine
from srp_tools.errors import ConnectionLostError
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE, wait_gone, wait_until


@pytest.fixture
def _any_may_be_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use children of the test as workers, so that they descend from the spawner."""
    monkeypatch.setattr(spawner_process, "descends_from", lambda *_: True)


@pytest.fixture
def process() -> Iterator[SpawnerProcess]:
    made = SpawnerProcess([])
    yield made
    made.close()


@pytest.fixture
def spawner(process: SpawnerProcess) -> Iterator[Spawner]:
    made = process.for_node()
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """Yield an engine's ends, and keep the other ends open without using them."""
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(5)]
        for pair in pairs:
            for sock in pair:
                stack.enter_context(sock)
        memory = make_memory()
        stack.callback(os.close, memory)
        yield [*(theirs.fileno() for _, theirs in pairs), memory]


def start(spawner: Spawner, ends: list[int]) -> int:
    spawner.request_engine(ends)
    return spawner.engine_pid()


def test_what_is_not_for_an_account_is_closed_before_its_debuggers_can_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    order: list[object] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        monkeypatch.setattr(spawner_module, "become", lambda *_, **__: order.append(theirs.fileno()))
        monkeypatch.setattr(spawner_module, "be_spawner", order.append)
        account = Account("alice", 1, 1, (1,), "/", "/bin/sh")
        spawner_module._run_spawner(ours, [theirs], "", account)
    assert order == [-1, ours]


def test_one_engine_after_the_other(process: SpawnerProcess, spawner: Spawner, ends: list[int]) -> None:
    start(spawner, ends)
    spawner.end_engine()  # by now, it has closed what it must not keep
    before = open_files(), open_files(process.pid)
    for _ in range(5):
        pid = start(spawner, ends)
        assert spawner.end_engine() == -signal.SIGKILL
        assert not Path(f"/proc/{pid}").exists()
    assert (open_files(), open_files(process.pid)) == before


def test_an_engine_that_died_keeps_its_number_until_it_is_asked_for(
    spawner: Spawner, ends: list[int]
) -> None:
    pid = start(spawner, ends)
    os.kill(pid, signal.SIGUSR1)
    wait_gone(pid)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    assert spawner.end_engine() == -signal.SIGUSR1
    assert spawner.end_engine() is None


def test_the_engine_ends_with_the_spawner(process: SpawnerProcess, spawner: Spawner, ends: list[int]) -> None:
    pid = start(spawner, ends)
    os.kill(process.pid, signal.SIGKILL)
    wait_gone(process.pid, pid)
    assert spawner.end_engine() is None
    with pytest.raises(ConnectionLostError, match="the process that starts engines has ended"):
        start(spawner, ends)


def test_closing_it_ends_the_engine_too(ends: list[int]) -> None:
    process = SpawnerProcess([])
    spawner = process.for_node()
    pid = start(spawner, ends)
    spawner.close()
    wait_gone(pid)
    process.close()
    wait_gone(process.pid)


def test_each_node_has_an_engine_of_its_own(process: SpawnerProcess, ends: list[int]) -> None:
    first, second = process.for_node(), process.for_node()
    pids = [start(first, ends), start(second, ends)]
    before = open_files(process.pid)
    third = process.for_node()
    pids.append(start(third, ends))
    # The last engine was forked while the spawner held the descriptors of all others.
    wait_until(lambda: open_files(pids[2]) == open_files(pids[0]), "the engine to close unneeded ends")
    first.close()
    wait_gone(pids[0])
    assert second.end_engine() == -signal.SIGKILL
    third.close()
    wait_gone(pids[2])
    wait_until(
        lambda: open_files(process.pid) < before, "the end of the descriptors of the first and the third node"
    )
    pids.append(start(second, ends))
    second.close()
    wait_gone(pids[3])


def test_the_end_of_one_engine_that_takes_long_delays_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ends: list[int]
) -> None:
    """An engine with very much memory ends slowly; here, it is simulated by one that is not killed at first."""
    deaf, kill = tmp_path / "deaf", _Engine.kill
    monkeypatch.setattr(_Engine, "kill", lambda self: deaf.read_text() == str(self.pid) or kill(self))
    process = SpawnerProcess([])
    slow, other = process.for_node(), process.for_node()
    pid = start(slow, ends)
    start(other, ends)
    deaf.write_text(str(pid))
    codes: list[int | None] = []
    thread = threading.Thread(target=lambda: codes.append(slow.end_engine()))
    thread.start()
    assert other.end_engine() == -signal.SIGKILL
    assert codes == []
    os.kill(pid, signal.SIGKILL)
    thread.join()
    assert codes == [-signal.SIGKILL]
    slow.close()
    other.close()
    process.close()


def test_a_supervisor_that_leaves_an_answer_unread_harms_no_other_node(
    process: SpawnerProcess, spawner: Spawner, ends: list[int]
) -> None:
    pid = start(spawner, ends)
    other = process.for_node()
    other.request_engine(ends)
    assert select.select([other._sock], [], [], DEADLINE)[0]  # there is an answer, but nobody reads it
    other.close()
    third = process.for_node()
    start(third, ends)
    assert Path(f"/proc/{pid}").exists()
    assert spawner.end_engine() == -signal.SIGKILL
    third.close()


def test_a_supervisor_that_takes_no_news_delays_no_other_node(
    process: SpawnerProcess, spawner: Spawner
) -> None:
    busy = process.for_node()
    count = 1000  # more than fit into a socket
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    for _ in range(count):
        busy.adopt(ended.pid)
    assert spawner.end_engine() is None
    assert busy.end_engine() is None
    for _ in range(count):
        wait_until(lambda: busy.read_death() is not None, "the news")
    busy.close()


@pytest.mark.usefixtures("_any_may_be_worker")
def test_a_worker_that_takes_long_to_end_delays_no_other_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The engine has much memory to release, or hangs in the kernel; here, it is simulated by not killing it."""
    monkeypatch.setattr(spawner_process, "kill_with_group", lambda _: None)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = SpawnerProcess([])
    left, other = process.for_node(), process.for_node()
    folder = tmp_path / "pserver-x"
    folder.mkdir(0o700)
    with subprocess.Popen(["sleep", "1000"]) as worker:
        left.adopt(worker.pid)
        left.inherit(str(folder))
        assert left.end_engine() is None
        left.close()
        assert other.end_engine() is None
        assert folder.exists()
        worker.kill()
        wait_until(lambda: not folder.exists(), "the end of the node")
    other.close()
    process.close()


def test_a_folder_of_another_kind_is_not_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = SpawnerProcess([])
    own, inner, link = tmp_path / "pserver-x", tmp_path / "folder" / "pserver-y", tmp_path / "pserver-link"
    own.mkdir(0o700)
    inner.parent.mkdir(0o700)
    inner.mkdir(0o700)
    link.symlink_to(inner)
    for folder in (own, inner, inner.parent, link):
        with contextlib.closing(process.for_node()) as node:
            node.inherit(str(folder))
    process.close()
    assert [folder.exists() for folder in (own, inner, link)] == [False, True, True]


@pytest.mark.usefixtures("_any_may_be_worker")
def test_a_spawner_without_room_for_descriptors_refuses_and_loses_nothing(
    process: SpawnerProcess, spawner: Spawner, ends: list[int]
) -> None:
    pid = start(spawner, ends)
    folder = Path(f"/proc/{process.pid}/fd")
    # It reports the number of the engine before it closes the passed descriptors, including the engine's page.
    wait_until(
        lambda: not any("memfd:" in str(path.resolve()) for path in folder.iterdir()), "the end of its copies"
    )
    in_use = open_files(process.pid)
    free = next(
        number for number in itertools.count() if not Path(f"/proc/{process.pid}/fd/{number}").exists()
    )
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    for room in range(4):
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free + room, hard))
        other = process.for_node()
        with pytest.raises(ConnectionLostError):
            other.request_engine(ends)
            other.engine_pid()
        other.close()
        wait_until(lambda: open_files(process.pid) == in_use, "the end of the node")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (free, hard))
    with subprocess.Popen(["sleep", "20"], start_new_session=True) as worker:
        spawner.adopt(worker.pid)
        assert worker.wait(DEADLINE) == -signal.SIGKILL  # nobody could observe its end
    wait_until(lambda: spawner.read_death() == (worker.pid, -signal.SIGKILL), "the news")
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert Path(f"/proc/{pid}").exists()
    assert spawner.end_engine() == -signal.SIGKILL


def test_it_does_not_end_before_the_supervisors(ends: list[int]) -> None:
    process = SpawnerProcess([])
    spawner = process.for_node()
    process._root.close()
    pid = start(spawner, ends)
    spawner.close()
    wait_gone(pid, process.pid)
    process.close()


def test_an_engine_that_cannot_be_started_is_an_error_and_the_next_one_can(ends: list[int]) -> None:
    """Run in a separate process, because the limit applies to the whole user, and cannot be raised again."""
    script = f"""
import os, resource, socket
from pserver.accounts.account import Account
from pserver.engine.command_page import make_memory
from pserver.spawner import spawner as spawner_module
from pserver.spawner import spawner_process
from pserver.spawner.spawner import SpawnerProcess
process = SpawnerProcess([])
spawner = process.for_node()
pairs = [socket.socketpair() for _ in range(5)]
ends = [*(pair[1].fileno() for pair in pairs), make_memory()]
before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
assert spawner.end_engine() is None  # it knows of the node
in_use = len(os.listdir(f"/proc/{{process.pid}}/fd"))
resource.prlimit(process.pid, resource.RLIMIT_NOFILE, ({len(ends)} + in_use, before[1]))
try:
    spawner.request_engine(ends)
    spawner.engine_pid()
except ConnectionError as error:
    print(error)
resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
spawner.request_engine(ends)
assert spawner.engine_pid() > 0
spawner.close()
process.close()
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout, run.returncode) == (
        "the engine could not be started: Too many open files\n",
        0,
    ), run.stderr


def test_why_a_spawner_failed_is_in_the_log_of_its_session(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("this machine is broken")

    monkeypatch.setattr(spawner_process._Node, "_on_request", fail)
    process = SpawnerProcess([])
    spawner = process.for_node()
    spawner.forget_engine()
    assert select.select([spawner.deaths], [], [], DEADLINE)[0]
    with pytest.raises(ConnectionLostError, match="the process that starts engines has ended"):
        spawner.read_death()
    assert "RuntimeError: this machine is broken" in caplog.text
    spawner.close()
    process.close()
