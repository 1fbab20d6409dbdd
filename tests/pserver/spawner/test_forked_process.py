"""A child process that runs a function: its end, and that nothing stays open if it cannot be forked."""

import errno
import os
import signal
import time
from collections.abc import Callable

import psutil
import pytest

from pserver.spawner.forked_process import ForkedProcess
from tests.support.servers import open_files
from tests.support.waiting import DEADLINE


def leave() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("work", "code"), [(lambda: None, 0), (leave, 3), (lambda: os.kill(os.getpid(), 9), -9)]
)
def test_how_it_ended(work: object, code: int) -> None:
    before = open_files()
    process = ForkedProcess(work)  # type: ignore[arg-type]
    assert process.wait(DEADLINE) == code
    process.close()
    assert open_files() == before


def test_one_that_lives_is_not_waited_for() -> None:
    process = ForkedProcess(signal.pause)
    begin = time.monotonic()
    assert process.wait(0.1) is None
    assert time.monotonic() - begin < 5
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(DEADLINE) == -signal.SIGKILL
    process.close()


@pytest.mark.parametrize("work", [lambda: None, signal.pause])
def test_its_end_leaves_nothing(work: Callable[[], object]) -> None:
    before = open_files()
    process = ForkedProcess(work)
    process.end(DEADLINE if work is not signal.pause else 0.1)
    assert not psutil.pid_exists(process.pid)
    assert open_files() == before


@pytest.mark.parametrize("name", ["fork", "pidfd_open"])
def test_where_the_system_refuses_nothing_is_left(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    seen: list[int] = []

    def refuse(*pids: int) -> None:
        seen.extend(pids)
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    before = open_files()
    monkeypatch.setattr(os, name, refuse)
    with pytest.raises(BlockingIOError):
        ForkedProcess(signal.pause)
    assert open_files() == before
    assert not any(map(psutil.pid_exists, seen))
