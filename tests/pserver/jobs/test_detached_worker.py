"""The messages between a worker and its supervisor after the client has detached."""

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pconnect.jobs.job import PLAIN
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pserver.jobs.detached_worker import CONNECTION, await_store, decode, keep_results, orders, read_job
from pserver.jobs.job_store import JobStore, digest_of
from pserver.system.descriptors import SpareDescriptor
from tests.support.servers import open_files


def pipe() -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.settimeout(5)
    return ends


def test_what_is_said_in_which_order() -> None:
    ours, theirs = pipe()
    with ours, theirs:
        for word in (b"connection", b"spool /some/where", b"run 3", b"connection", b"run 7", b"end"):
            ours.send(word)
        assert await_store(theirs).folder == Path("/some/where")
        assert list(orders(theirs)) == [3, 7]
        assert [ours.recv(100) for _ in range(3)] == [b"spooling", b"done 3", b"done 7"]


def test_a_long_path_that_was_read_already() -> None:
    ours, theirs = pipe()
    with ours, theirs:
        assert await_store(theirs, b"spool /" + b"x" * 4000).folder == Path("/" + "x" * 4000)


def test_without_a_supervisor_it_ends() -> None:
    ours, theirs = pipe()
    with theirs:
        ours.close()
        with pytest.raises(SystemExit):
            await_store(theirs)


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.make(tmp_path / "kept", bytes(16), 1, "alice", digest_of(b"secret"))


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = pipe()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def spare() -> Iterator[SpareDescriptor]:
    descriptor = SpareDescriptor()
    yield descriptor
    descriptor.close()


def test_a_job_that_has_used_up_all_descriptors_is_read_and_kept(
    store: JobStore, ends: tuple[socket.socket, socket.socket], spare: SpareDescriptor
) -> None:
    store.add_job(1, {"parts": []}, b"a job")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as full:
        full.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)
        resource.setrlimit(resource.RLIMIT_NOFILE, (open_files() + 5, before[1]))
        with contextlib.suppress(OSError):
            while True:
                full.callback(os.close, os.dup(0))
        assert read_job(ends[1], spare, store, 1, set()) == [b"a job"]
        keep_results(ends[1], spare, store, encode_message(Kind.RESULT, 1, [PLAIN, bytearray(2**17)], 2**20))
    assert store.results() == {1}


def test_small_results_are_kept_one_by_one(
    store: JobStore, ends: tuple[socket.socket, socket.socket], spare: SpareDescriptor
) -> None:
    small = [bytes(encode_message(Kind.RESULT, number, [PLAIN, number], 2**20)[0]) for number in (1, 2)]
    keep_results(ends[1], spare, store, [memoryview(b"".join(small))])
    assert (store.result(1), store.result(2)) == (small[0], small[1])


def test_large_results_are_kept_and_reports_are_not(
    store: JobStore, ends: tuple[socket.socket, socket.socket], spare: SpareDescriptor
) -> None:
    large = encode_message(Kind.RESULT, 5, [PLAIN, bytearray(2**17)], 2**20)
    assert len(large) > 1
    keep_results(ends[1], spare, store, large)
    assert store.result(5) == b"".join(large)
    keep_results(ends[1], spare, store, encode_message(Kind.REPORT, 6, bytearray(2**17), 2**20))
    keep_results(ends[1], spare, store, encode_message(Kind.REPORT, 6, "half", 2**20))
    assert store.results() == {5}


@contextlib.contextmanager
def moved_away(store: JobStore, seconds: float) -> Iterator[None]:
    """Make the folder disappear, and come back after some seconds."""
    away = store.folder.parent.rename(store.folder.parent.parent / "away")
    timer = threading.Timer(seconds, lambda: away.rename(store.folder.parent))
    timer.start()
    try:
        yield
    finally:
        timer.join()


def test_a_result_waits_for_its_folder(
    store: JobStore, ends: tuple[socket.socket, socket.socket], spare: SpareDescriptor
) -> None:
    ends[0].send(CONNECTION)  # a connection of the client, which has detached
    with moved_away(store, 0.5):
        keep_results(ends[1], spare, store, encode_message(Kind.RESULT, 5, [PLAIN, bytearray(2**17)], 2**20))
    assert store.results() == {5}


def test_a_job_waits_for_its_folder_but_not_for_itself(
    store: JobStore, ends: tuple[socket.socket, socket.socket], spare: SpareDescriptor
) -> None:
    store.add_job(1, {"parts": []}, b"a job")
    with moved_away(store, 0.5):
        assert read_job(ends[1], spare, store, 1, set()) == [b"a job"]
    with pytest.raises(FileNotFoundError):
        read_job(ends[1], spare, store, 2, set())


@pytest.mark.parametrize("says", [b"end", b""])
def test_who_waits_ends_with_the_supervisor_and_the_hand_over(
    store: JobStore, ends: tuple[socket.socket, socket.socket], spare: SpareDescriptor, says: bytes
) -> None:
    store.remove()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            ends[0].close()
            keep_results(ends[1], spare, store, encode_message(Kind.RESULT, 5, [PLAIN, 1], 2**20))
        os._exit(7)
    if says:
        ends[0].send(says)
    else:
        ends[0].close()
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1


def test_jobs_are_read_as_from_the_client() -> None:
    function = b"".join(encode_message(Kind.FUNCTION, 1, ["pow", {}], 2**20))
    job = b"".join(encode_message(Kind.JOB, 4, [1, [2, 3], {}, None], 2**20))
    assert [(m.kind, m.tag) for m in decode([function, job])] == [(Kind.FUNCTION, 1), (Kind.JOB, 4)]
