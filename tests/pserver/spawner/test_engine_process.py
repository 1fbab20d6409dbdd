import errno
import os
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from pconnect import precv, reval
from pserver.spawner.engine_process import EngineProcess
from pserver.spawner.spawner import SpawnerProcess
from tests.support.servers import Server, open_files


@pytest.fixture
def engine() -> Iterator[EngineProcess]:
    spawner = SpawnerProcess([])
    process = EngineProcess(spawner.for_node())
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
            engine.start_anew()
        assert engine.pid == 0
        assert engine.spawner.end_engine() is None  # it was ended
        engine._close_ends()
        engine._begin()
        engine.kill()
        assert engine.spawner.end_engine() is None
    engine.start_anew()
    assert engine.pid != first


def test_another_one_takes_its_place(engine: EngineProcess) -> None:
    before = open_files()
    for _ in range(3):
        first = engine.pid
        engine.signal(signal.SIGKILL)
        assert has_ended(engine)
        assert engine.exit_code() == -signal.SIGKILL
        engine.start_anew()
        assert engine.pid != first
        assert Path(f"/proc/{engine.pid}").exists()
        assert not select.select([engine.pidfd], [], [], 0)[0]
    assert open_files() <= before + 1  # the first pidfd was opened when it was asked for


def test_what_was_passed_on_to_the_old_engine_is_closed(engine: EngineProcess) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not engine.refuse_handover()
        engine.signal(signal.SIGKILL)
        assert has_ended(engine)
        engine.exit_code()
        with theirs:
            socket.send_fds(engine.handover, [b"preamble"], [theirs.fileno()])
        engine.start_anew()
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
        reval("psend(pathlib.Path(f'/proc/{os.getppid()}/cmdline').read_bytes(), sockets[0])", net)
        reval("psend(pathlib.Path('/proc/self/cmdline').read_bytes(), sockets[0])", net)
        supervisor, own = (precv(net[1], timeout=20) for _ in range(2))
    assert supervisor == own
