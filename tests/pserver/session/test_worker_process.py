"""The supervisor's record of a worker."""

import os
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from pserver.jobs.shared_status import SharedStatus
from pserver.session.worker_process import WorkerProcess, start_worker, tail_of
from pserver.system.descriptors import receive_descriptors
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
    worker.close()  # before its first message
    worker = make_worker(tmp_path)
    worker.pid, worker.pidfd = os.getpid(), os.pidfd_open(os.getpid())
    worker.close()
    assert open_files() == before


def test_a_job_that_has_begun_since_then_runs_for_no_time(tmp_path: Path) -> None:
    """A negative time would be invalid, and the client would close the connection."""
    worker = make_worker(tmp_path)
    now = time.monotonic()
    worker.page.begin(5, now + 0.001, 0.0)
    assert worker.facts(now)[-1] == 0.0
    assert worker.facts(now + 2.0)[-1] == pytest.approx(1.999)
    worker.close()


def test_who_it_is_the_system_says(tmp_path: Path) -> None:
    forks, engine = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = open_files()
    with forks, engine:
        for word in (b"7", b"1 7"):
            worker = start_worker(forks, str(tmp_path), 2, 1, 4)
            threads, [end, *others] = receive_descriptors(engine, 100, 4)
            assert threads == b"4"
            with socket.socket(fileno=end) as pipe:
                pipe.send(word)
                if word == b"7":
                    assert worker.first_word() == (os.getpid(), 7)
                    pipe.send(b"later")
                    assert worker.pipe.recv(100) == b"later"
                else:
                    with pytest.raises(ValueError, match="invalid literal"):
                        worker.first_word()
            worker.close()
            for descriptor in others:
                os.close(descriptor)
    assert open_files() == before - 2


def test_what_a_long_job_prints_is_told_once_and_not_without_end(tmp_path: Path) -> None:
    worker, begin = make_worker(tmp_path), time.monotonic()
    out, err = worker.outputs
    worker.page.begin(5, begin, 0.0)
    os.write(out.fileno(), b"early")
    assert worker.look(begin + 0.1) is None
    assert list(worker.printed()) == []  # it may be a short job
    assert worker.look(begin + 1.0) == [5, pytest.approx(1.0)]
    os.write(err.fileno(), b"oh")
    assert list(worker.printed()) == [[5, 1, 0, b"early"], [5, 2, 0, b"oh"]]
    assert list(worker.printed()) == []
    os.write(out.fileno(), bytes(10**6))
    parts = [part for _ in range(10) for part in worker.printed()]
    assert [part[2] for part in parts] == [5 + 2**14 * k for k in range(4)]
    assert sum(len(part[3]) for part in parts) == 2**16 - 5
    worker.page.end(1, 1.0)
    for file in worker.outputs:
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        os.ftruncate(file.fileno(), 0)
    worker.page.begin(6, begin, 0.0)
    os.write(out.fileno(), b"the next")
    assert list(worker.printed()) == []
    assert worker.look(begin + 1.0) is not None
    assert list(worker.printed()) == [[6, 1, 0, b"the next"]]
    worker.close()


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
