"""Without descriptors or disk space, operations that need them fail with a clear error; the rest continues."""

import contextlib
import os
import re
import resource
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from pconnect import ConnectError, ConnectionLostError, JobLostError, RemoteError, restart
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import Message
from pconnect.session.login import add_node
from pconnect.views.network_views import ClientNetwork
from srp_tools.credentials import Credentials
from srp_tools.steps import deadline_after, run
from tests.pserver.session.test_session import first_server, terms_of
from tests.support.accounts import needs_root
from tests.support.networks import assert_works
from tests.support.servers import Server, engine_pids, open_files, run_server
from tests.support.waiting import DEADLINE, wait_gone, wait_until


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory, users: tuple[Credentials, Path]) -> Iterator[Server]:
    with run_server(tmp_path_factory.mktemp("server"), "--slots=4", users=users) as running:
        yield running


@contextlib.contextmanager
def without_room(pid: int, room: int = 0) -> Iterator[None]:
    """Allow a process only `room` further descriptors."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = [number for number in range(max(used) + room + 2) if number not in used]
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[room], limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def spawner_of(net: ClientNetwork) -> int:
    return int(psutil.Process(engine_pids(net)[1]).ppid())


@pytest.mark.parametrize("room", [0, 1, 3, 6])
@pytest.mark.parametrize("which", ["session", "spawner"])
def test_a_restart_without_room_for_descriptors_fails_and_another_works(
    roomy: Server, which: str, room: int
) -> None:
    with roomy.connect(2) as net:
        [session] = roomy.sessions(net)
        pid = session if which == "session" else spawner_of(net)
        before = open_files(session)
        with without_room(pid, room):
            with pytest.raises(ConnectError, match="Too many open files") as caught:
                restart(net[2])
            assert "node 2" in str(caught.value)
            assert net[[1]].eval("sockets.node").result(DEADLINE) == [1]
            net.interrupt()  # also on the node that has no engine
        restart(net[2])
        wait_until(lambda: open_files(session) <= before, "nothing to be left open", 10)
        assert_works(net)


@pytest.mark.parametrize("which", ["session", "engine", "spawner"])
def test_a_job_waits_for_room_for_its_worker(roomy: Server, which: str) -> None:
    with roomy.connect(1) as net:
        [session] = roomy.sessions(net)
        with net.executor():  # the job channel exists
            net.submit(os.getpid).result(DEADLINE)
        [worker] = {net.submit(os.getpid).result(DEADLINE)}
        os.kill(worker, 9)
        wait_gone(worker)
        spawner = psutil.Process(spawner_of(net))
        # The process is gone; there may be a new worker.
        wait_until(lambda: worker not in [child.pid for child in spawner.children()], "the end of the worker")
        pids = {"session": session, "engine": engine_pids(net)[1], "spawner": spawner_of(net)}
        with without_room(pids[which]):
            job = net.submit(lambda: 7)
            assert net.eval("3").result(DEADLINE) == [3]
            time.sleep(0.5)
        with contextlib.suppress(JobLostError) if which == "spawner" else contextlib.nullcontext():
            assert job.result(DEADLINE) == 7
        assert_works(net)


@pytest.mark.parametrize("room", [0, 2, 5, 8, 12, 16])
def test_a_further_node_without_room_is_refused_and_nothing_is_left(roomy: Server, room: int) -> None:
    with roomy.connect(1) as net:
        [session] = roomy.sessions(net)
        before = open_files(session)
        with without_room(session, room), contextlib.suppress(ConnectionLostError):  # before it was admitted
            server = run(add_node(first_server(net), 2, terms_of(net)), deadline_after(DEADLINE))
            said: list[Message] = []
            server.command.on_message = said.append
            while not said:
                assert select.select([server.command.fileno()], [], [], DEADLINE)[0]
                server.command.fill()
            server.command.close()
            assert said[0].kind is Kind.STOPPING
            assert "Too many open files" in str(said[0].value)
        wait_until(lambda: open_files(session) <= before + 1, "nothing but the log to be left open", 10)
        assert_works(net)


def test_a_session_whose_folder_was_removed_says_so_wherever_it_is_needed(
    roomy: Server, tmp_path: Path
) -> None:
    why = "the private folder of this session was removed; connect again"
    with roomy.connect(1) as net:
        folder = Path(net[1].eval("str(session_files)").result(DEADLINE)).parent
        file = tmp_path / "a.py"
        file.write_text("a = 1")
        shutil.rmtree(folder)
        calls: list[Callable[[], object]] = [
            lambda: net.put(file, "x"),
            lambda: net.get("x", tmp_path / "y"),
            lambda: net.sync_code(tmp_path),
        ]
        for call in calls:
            with pytest.raises(RemoteError, match=why):
                call()
        assert not folder.exists()  # it is not recreated with access for others
        with pytest.raises(JobLostError, match=why):
            net.submit(os.getpid).result(DEADLINE)
        assert net.eval("1 + 1").result(DEADLINE) == [2]
        assert net.put(file, str(tmp_path / "z")) == [str(tmp_path / "z")]
        with pytest.raises(ConnectError, match=why):
            restart(net)
    with roomy.connect(1) as net:
        assert_works(net)


@needs_root
def test_a_full_disk_delays_workers_and_nothing_else(
    tmp_path: Path, users: tuple[Credentials, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=20", "tmpfs", disk], check=True)
    monkeypatch.setenv("TMPDIR", str(disk))
    try:
        with run_server(tmp_path / "server", "--slots=2", users=users) as server, server.connect(1) as net:
            worker = net.submit(os.getpid).result(DEADLINE)
            with contextlib.suppress(OSError):
                for number in range(20):
                    (disk / f"x{number}").touch()
            assert net.submit(lambda: 8).result(DEADLINE) == 8  # an existing worker runs it
            os.kill(worker, signal.SIGKILL)
            wait_gone(worker)
            job = net.submit(lambda: 9)
            restart(net)
            try:
                server.connect(1).close()  # its session has found space elsewhere
            except ConnectError as error:  # or the last inode on this disk, which its engine then lacks
                assert re.search("No space left on device|the peer closed the connection", str(error))
            for path in disk.glob("x*"):
                path.unlink()
            assert job.result(DEADLINE) == 9
            assert_works(net)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
