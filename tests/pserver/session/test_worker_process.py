"""A worker as its supervisor holds it."""

import os
import signal
import socket
import subprocess
import tempfile
from pathlib import Path

from pserver.jobs.shared_status import SharedStatus
from pserver.session.worker_process import WorkerProcess, tail_of
from tests.support.servers import open_files


def make_worker(folder: Path) -> WorkerProcess:
    pipe, theirs = socket.socketpair()
    theirs.close()
    memory = SharedStatus.make()
    page = SharedStatus(memory)
    os.close(memory)
    return WorkerProcess(2, 1, pipe, page, [tempfile.TemporaryFile(dir=folder) for _ in range(2)])


def test_a_signal_reaches_it_and_no_other_after_its_end(tmp_path: Path) -> None:
    worker = make_worker(tmp_path)
    with subprocess.Popen(["sleep", "1000"]) as process:
        worker.pid, worker.pidfd = process.pid, os.pidfd_open(process.pid)
        worker.signal(signal.SIGTERM)
        assert process.wait(10) == -signal.SIGTERM
        worker.signal(signal.SIGKILL)
    worker.close()


def test_closing_it_leaves_nothing_open(tmp_path: Path) -> None:
    before = open_files()
    worker = make_worker(tmp_path)
    worker.close()  # before it has said who it is
    worker = make_worker(tmp_path)
    worker.pid, worker.pidfd = os.getpid(), os.pidfd_open(os.getpid())
    worker.close()
    assert open_files() == before


def test_the_tail_of_what_was_printed(tmp_path: Path) -> None:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        assert tail_of(file) == [b"", 0]
        file.write(b"words")
        file.flush()
        assert tail_of(file) == [b"words", 0]
        file.write(b"x" * 5000 + b"end")
        file.flush()
        data, before = tail_of(file)
        assert (data[-4:], len(data) + before) == (b"xend", 5008)
        assert len(data) == 2**11
