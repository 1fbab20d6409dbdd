"""The process that starts engines: what it starts, how it ends it, and what befalls the engine when it ends itself."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pserver.engine.command_page import make_memory
from pserver.session.spawner import Spawner
from srp_tools.errors import ConnectionLostError
from tests.support.servers import open_files
from tests.support.waiting import wait_gone


@pytest.fixture
def spawner() -> Iterator[Spawner]:
    made = Spawner([])
    yield made
    made.close()


@pytest.fixture
def ends() -> Iterator[list[int]]:
    """Give an engine's ends, which nobody speaks to, and keep the others open."""
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


def test_one_engine_after_the_other(spawner: Spawner, ends: list[int]) -> None:
    start(spawner, ends)
    spawner.end_engine()  # now it has closed what is not for it
    before = open_files(), open_files(spawner.pid)
    for _ in range(5):
        pid = start(spawner, ends)
        assert spawner.end_engine() == -signal.SIGKILL
        assert not Path(f"/proc/{pid}").exists()
    assert (open_files(), open_files(spawner.pid)) == before


def test_an_engine_that_died_keeps_its_number_until_it_is_asked_for(
    spawner: Spawner, ends: list[int]
) -> None:
    pid = start(spawner, ends)
    os.kill(pid, signal.SIGUSR1)
    wait_gone(pid)
    assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    assert spawner.end_engine() == -signal.SIGUSR1
    assert spawner.end_engine() is None


def test_the_engine_ends_with_the_spawner(spawner: Spawner, ends: list[int]) -> None:
    pid = start(spawner, ends)
    os.kill(spawner.pid, signal.SIGKILL)
    wait_gone(spawner.pid, pid)
    assert spawner.end_engine() is None
    with pytest.raises(ConnectionLostError, match="the process that starts engines is gone"):
        start(spawner, ends)


def test_closing_it_ends_the_engine_too(ends: list[int]) -> None:
    spawner = Spawner([])
    pid = start(spawner, ends)
    spawner.close()
    wait_gone(spawner.pid, pid)


def test_an_engine_that_cannot_be_started_is_an_error_and_the_next_one_can(ends: list[int]) -> None:
    """In a process of its own, because the limit is one of the whole user, and is not taken back."""
    script = f"""
import os, resource, socket
from pserver.engine.command_page import make_memory
from pserver.session.spawner import Spawner
spawner = Spawner([])
pairs = [socket.socketpair() for _ in range(5)]
ends = [*(pair[1].fileno() for pair in pairs), make_memory()]
before = resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE)
in_use = len(os.listdir(f"/proc/{{spawner.pid}}/fd"))
resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, ({len(ends)} + in_use, before[1]))
try:
    spawner.request_engine(ends)
    spawner.engine_pid()
except ConnectionError as error:
    print(error)
resource.prlimit(spawner.pid, resource.RLIMIT_NOFILE, before)
spawner.request_engine(ends)
assert spawner.engine_pid() > 0
spawner.close()
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert (run.stdout, run.returncode) == (
        "the engine could not be started: Too many open files\n",
        0,
    ), run.stderr
