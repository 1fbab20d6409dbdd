import errno
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from pconnect import precv, reval
from pserver.spawner.engine_process import EngineProcess
from pserver.spawner.spawner import SpawnerProcess
from srp_tools.errors import ConnectionLostError
from srp_tools.steps import deadline_after, run
from tests.support.servers import Server, open_files
from tests.support.waiting import DEADLINE, wait_gone


def start(
    engine: EngineProcess, request_spawner: Callable[[socket.socket], object] = socket.socket.close
) -> None:
    run(engine.start(request_spawner), deadline_after(DEADLINE))


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    spawner = SpawnerProcess([])
    process = EngineProcess(spawner.for_node())
    start(process)
    yield process
    process.kill()
    process.close()
    spawner.close()


def has_ended(engine: EngineProcess) -> bool:
    return bool(select.select([engine.pidfd], [], [], 10)[0])


def test_a_signal_ends_it_and_a_second_one_does_no_harm(engine: EngineProcess) -> None:
    engine.signal(signal.SIGKILL)
    assert has_ended(engine)
    assert engine.exit_code() == -signal.SIGKILL
    engine.signal(signal.SIGKILL)


def test_it_ends_with_its_supervisor(engine: EngineProcess) -> None:
    engine.pipe.close()
    assert has_ended(engine)


def test_it_has_nothing_of_what_is_not_for_it() -> None:
    ours, theirs = socket.socketpair()
    spawner = SpawnerProcess([theirs])
    engine = EngineProcess(spawner.for_node())
    start(engine)
    try:
        theirs.close()
        assert ours.recv(1) == b""
    finally:
        engine.kill()
        ours.close()
        engine.close()
        spawner.close()


def test_without_room_for_a_descriptor_an_engine_can_be_ended(
    engine: EngineProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    first = engine.pid
    engine.signal(signal.SIGKILL)
    assert has_ended(engine)
    engine.exit_code()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        with pytest.raises(OSError, match="Too many open files"):
            start(engine)
        assert engine.pid == 0
    assert engine.spawner.end_engine() in {None, -signal.SIGKILL}  # it was ended
    start(engine)
    assert engine.pid != first


def test_another_one_takes_its_place(engine: EngineProcess) -> None:
    before = open_files()
    for _ in range(3):
        first = engine.pid
        engine.signal(signal.SIGKILL)
        assert has_ended(engine)
        assert engine.exit_code() == -signal.SIGKILL
        start(engine)
        assert engine.pid != first
        assert Path(f"/proc/{engine.pid}").exists()
        assert not select.select([engine.pidfd], [], [], 0)[0]
    assert open_files() <= before + 1  # the first pidfd was opened during the request


_BE_SPAWNER = """
import socket, sys
from pserver.spawner.spawner_process import be_spawner
be_spawner(socket.socket(fileno=int(sys.argv[1])))
"""


def spawner_at(end: socket.socket) -> None:
    """Act as the server's daemon: have a process become the spawner at this end."""
    arguments = [sys.executable, "-c", _BE_SPAWNER, str(end.fileno())]
    process = subprocess.Popen(arguments, pass_fds=[end.fileno()])
    process.returncode = 0  # other code waits for it


def test_another_spawner_takes_the_place_of_one_that_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    first = SpawnerProcess([])
    engine = EngineProcess(first.for_node())
    start(engine)
    folder = tmp_path / "pserver-x"
    folder.mkdir(0o700)
    engine.spawner.inherit(str(folder))
    for _ in range(3):
        before = engine.pid
        os.kill(psutil.Process(before).ppid(), signal.SIGKILL)
        wait_gone(before)
        assert engine.exit_code() == -signal.SIGKILL
        assert engine.spawner.is_gone
        start(engine, spawner_at)
        assert engine.pid not in {0, before}
        assert not engine.spawner.is_gone
    last = psutil.Process(engine.pid).ppid()
    engine.kill()
    assert folder.exists()
    engine.close()
    wait_gone(last)
    assert not folder.exists()
    first.close()


def test_a_spawner_that_dies_while_it_is_asked_is_replaced_too(engine: EngineProcess) -> None:
    spawner = psutil.Process(engine.pid).ppid()
    os.kill(spawner, signal.SIGSTOP)
    engine.signal(signal.SIGKILL)
    engine._is_asked_for = False
    steps = engine.start(spawner_at)
    next(steps)
    os.kill(spawner, signal.SIGKILL)
    assert select.select([engine.spawner], [], [], DEADLINE)[0]
    next(steps)
    assert engine.waits_for.startswith("the server's daemon")
    run(steps, deadline_after(DEADLINE))
    assert engine.pid


def test_without_another_spawner_the_error_says_what_is_missing(engine: EngineProcess) -> None:
    os.kill(psutil.Process(engine.pid).ppid(), signal.SIGKILL)
    engine.exit_code()
    with pytest.raises(
        ConnectionLostError, match="daemon has not started a new one: check whether the server is running"
    ):
        start(engine)
    assert engine.pid == 0
    kept: list[socket.socket] = []
    before = open_files()
    with pytest.raises(TimeoutError):
        run(engine.start(lambda end: kept.append(end.dup())), time.monotonic() + 0.1)
    assert engine.waits_for == "the server's daemon, which must start a new process that starts engines"
    kept.pop().close()
    assert open_files() <= before
    start(engine, spawner_at)  # the earlier request is forgotten
    assert engine.pid


def test_a_spawner_that_is_stopped_for_a_while_loses_nothing(engine: EngineProcess) -> None:
    spawner = psutil.Process(engine.pid).ppid()
    os.kill(spawner, signal.SIGSTOP)
    threading.Timer(0.5, os.kill, (spawner, signal.SIGCONT)).start()
    assert engine.exit_code() == -signal.SIGKILL
    os.kill(spawner, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        run(engine.start(spawner_at), time.monotonic() + 0.1)
    os.kill(spawner, signal.SIGCONT)
    start(engine)
    assert psutil.Process(engine.pid).ppid() == spawner


def test_what_was_passed_on_to_the_old_engine_is_closed(engine: EngineProcess) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not engine.refuse_handover()
        engine.signal(signal.SIGKILL)
        assert has_ended(engine)
        engine.exit_code()
        with theirs:
            socket.send_fds(engine.handover, [b"preamble"], [theirs.fileno()])
        start(engine)
        ours.settimeout(10)
        assert ours.recv(1) == b""


def test_engines_draw_different_random_numbers(server: Server) -> None:
    with server.connect(2) as net:
        reval("psend(np.random.rand(4), sockets[0])", net)
        first, second = (precv(connection, timeout=20) for connection in net[1:])
    assert not np.array_equal(first, second)


def test_sessions_start_no_fork_server_of_their_own(server: Server) -> None:
    with server.connect() as net:
        reval("import os, pathlib", net)
        reval("psend(pathlib.Path(f'/proc/{os.getppid()}/exe').readlink().as_posix(), sockets[0])", net)
        reval("psend(pathlib.Path('/proc/self/exe').readlink().as_posix(), sockets[0])", net)
        supervisor, own = (precv(net[1], timeout=20) for _ in range(2))
    assert supervisor == own
