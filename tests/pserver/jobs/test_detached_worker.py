"""A worker's talk with its supervisor once the client has left."""

import socket
from pathlib import Path

import pytest

from pconnect.jobs.job import PLAIN
from pconnect.protocol.kinds import Kind
from pconnect.protocol.messages import encode_message
from pserver.jobs.detached_worker import await_store, decode, keep_results, orders
from pserver.jobs.job_store import JobStore, digest_of


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
    return JobStore.make(tmp_path, bytes(16), 1, "alice", digest_of(b"secret"))


def test_small_results_are_kept_one_by_one(store: JobStore) -> None:
    small = [bytes(encode_message(Kind.RESULT, number, [PLAIN, number], 2**20)[0]) for number in (1, 2)]
    keep_results(store, [memoryview(b"".join(small))])
    assert (store.result(1), store.result(2)) == (small[0], small[1])


def test_large_results_are_kept_and_reports_are_not(store: JobStore) -> None:
    large = encode_message(Kind.RESULT, 5, [PLAIN, bytearray(2**17)], 2**20)
    assert len(large) > 1
    keep_results(store, large)
    assert store.result(5) == b"".join(large)
    keep_results(store, encode_message(Kind.REPORT, 6, bytearray(2**17), 2**20))
    keep_results(store, encode_message(Kind.REPORT, 6, "half", 2**20))
    assert store.results() == {5}


def test_jobs_are_read_as_from_the_client() -> None:
    function = b"".join(encode_message(Kind.FUNCTION, 1, ["pow", {}], 2**20))
    job = b"".join(encode_message(Kind.JOB, 4, [1, [2, 3], {}, None], 2**20))
    assert [(m.kind, m.tag) for m in decode([function, job])] == [(Kind.FUNCTION, 1), (Kind.JOB, 4)]
