"""How the spawner handles the workers and orphans of a session."""

import contextlib
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.engine.command_page import make_memory
from pserver.spawner.spawner import Spawner, SpawnerProcess
from tests.support.waiting import DEADLINE, wait_gone, wait_until

Orphans = tuple[SpawnerProcess, Spawner, socket.socket, list[int]]


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    process = SpawnerProcess([])
    made = process.for_node()
    yield made
    made.close()
    process.close()


def wait_death(spawner: Spawner) -> tuple[int, int] | None:
    assert select.select([spawner.deaths], [], [], DEADLINE)[0], "no death was reported"
    return spawner.read_death()


def test_a_process_of_others_is_not_adopted_and_lives_on(spawner: Spawner) -> None:
    assert spawner.read_death() is None
    with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
        spawner.adopt(stranger.pid)
        assert wait_death(spawner) == (stranger.pid, -signal.SIGKILL)
        spawner.close()
        with pytest.raises(subprocess.TimeoutExpired):
            stranger.wait(0.2)
        stranger.kill()


@pytest.mark.parametrize(
    "request_",
    [b"adopt x", b"adopt -1", b"adopt 0", b"adopt " + b"9" * 30, b"start", b"end x", b"what", b"\xff"],
)
def test_a_request_that_makes_no_sense_changes_nothing(orphans: Orphans, request_: bytes) -> None:
    process, spawner, engine, (pid, _) = orphans
    spawner.adopt(pid)
    with Path("/dev/null").open() as null:
        socket.send_fds(spawner._sock, [request_], [null.fileno()])
        socket.send_fds(process._root, [request_], [null.fileno()])
    engine.send(b"x")
    named = wait_death(spawner)
    if named == (0, -signal.SIGKILL):  # the spawner reports that this one does not exist
        named = wait_death(spawner)
    assert named == (pid, 3)
    assert spawner.end_engine() == -signal.SIGKILL


def test_a_process_that_has_ended_already_is_told_to_be_dead(spawner: Spawner) -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    spawner.adopt(process.pid)
    assert wait_death(spawner) == (process.pid, -signal.SIGKILL)


def stand_in_engine(pipe: socket.socket, *_: object) -> None:
    """Act like forks and the user's code: leave orphans and report their numbers; end one on request."""
    os.setsid()
    told, tell = os.pipe()
    awaited, end = os.pipe()
    for is_first in (True, False):
        if not os.fork():
            if not os.fork():
                os.setsid()
                os.close(end)
                os.write(tell, f"{os.getpid()} ".encode())
                os.read(awaited, 1) if is_first else signal.pause()
                os._exit(3)
            os._exit(0)
        os.wait()
        pipe.send(os.read(told, 20))
    pipe.recv(1)
    os.close(end)
    signal.pause()


@pytest.fixture
def orphans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Orphans]:
    """Yield a spawner with two orphans, one of which exits with status 3 when its engine gets a message."""
    monkeypatch.setattr("pserver.spawner.spawner_process.engine_main", stand_in_engine)
    monkeypatch.setattr("pserver.spawner.spawner_process._CHECK", 0.05)
    with contextlib.ExitStack() as stack:
        process = SpawnerProcess([])
        stack.callback(process.close)
        made = process.for_node()
        stack.callback(made.close)
        pairs = [socket.socketpair() for _ in range(5)]
        for sock in (sock for pair in pairs for sock in pair):
            stack.enter_context(sock)
        memory = make_memory()
        stack.callback(os.close, memory)
        made.request_engine([*(theirs.fileno() for _, theirs in pairs), memory])
        made.engine_pid()
        ours = pairs[0][0]
        ours.settimeout(DEADLINE)
        pids = [int(word) for word in _read_words(ours, 2)]
        for pid in pids:
            pidfd = os.pidfd_open(pid)
            stack.callback(os.close, pidfd)
            stack.callback(_kill, pidfd)
        yield process, made, ours, pids


def _read_words(sock: socket.socket, count: int) -> list[bytes]:
    data = b""
    while data.count(b" ") < count:
        data += sock.recv(100)
    return data.split()


def _kill(pidfd: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_orphans_of_the_session_are_the_spawner_s(
    orphans: Orphans,
) -> None:
    process, _, _, pids = orphans
    assert [parent_of(pid) for pid in pids] == [process.pid] * 2


def test_of_an_orphan_that_was_named_the_exit_code_is_told(
    orphans: Orphans,
) -> None:
    _, spawner, engine, (pid, other) = orphans
    spawner.adopt(pid)
    spawner.adopt(other)
    engine.send(b"x")
    assert wait_death(spawner) == (pid, 3)
    os.kill(other, signal.SIGUSR1)
    assert wait_death(spawner) == (other, -signal.SIGUSR1)
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the zombie")
    spawner.adopt(pid)
    assert wait_death(spawner) == (pid, -signal.SIGKILL)


def test_an_orphan_that_nobody_has_named_is_reaped(
    orphans: Orphans,
) -> None:
    _, spawner, engine, (pid, other) = orphans
    engine.send(b"x")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the zombie")
    os.kill(other, signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{other}").exists(), "the end of the other zombie")
    assert spawner.read_death() is None
    assert spawner.end_engine() == -signal.SIGKILL  # the spawner continues


def test_named_orphans_end_with_the_spawner(orphans: Orphans) -> None:
    _, spawner, _, pids = orphans
    for pid in pids:
        spawner.adopt(pid)
    spawner.close()
    wait_gone(*pids)
