"""The job store: who may read it, who gets which results, and when it is removed."""

import os
import resource
import shutil
import stat
from pathlib import Path

import pytest

from pconnect.errors import ConfigurationError
from pconnect.jobs.job import LOST, PLAIN
from pconnect.protocol.kinds import Kind, Role
from pconnect.protocol.messages import decode_messages, encode_message
from pserver.jobs.job_store import JobStore, digest_of, is_held, split_results, sweep
from pserver.session.detached_jobs import lost_result

NETWORK, SECRET = bytes(range(16)), b"a secret"
FACTS = {"name": "f(...)", "limit": None, "parts": ["f1", "a2"]}
DAY = 86400.0


def make(kept: Path) -> JobStore:
    store = JobStore.make(kept, NETWORK, 1, "alice", digest_of(SECRET))
    store.add_part("f1", b"a function")
    store.add_part("a2", b"an array")
    for number in (3, 10):
        store.add_job(number, FACTS, b"a job\n\0")
    return store


def find(kept: Path, user: str = "alice", secret: bytes = SECRET, node: int = 1) -> JobStore:
    return JobStore.find(kept, NETWORK, node, user, secret)


def test_nothing_is_left_of_one_for_which_there_are_no_descriptors(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    for room in range(2):  # for the folder, and for its first file
        free = os.open("/", os.O_RDONLY)
        os.close(free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (free + room, before[1]))
        try:
            with pytest.raises(OSError, match="Too many open files"):
                JobStore.make(tmp_path, NETWORK, 1, "alice", digest_of(SECRET))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert list(tmp_path.iterdir()) == []


def test_a_job_comes_back_as_it_was(tmp_path: Path) -> None:
    store = make(tmp_path / "deep" / "kept")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    loaded: set[str] = set()
    assert store.read(3, loaded) == [b"a function", b"an array", b"a job\n\0"]
    assert store.read(10, loaded) == [b"a job\n\0"]
    assert (store.numbers(), store.facts(3)) == ([3, 10], FACTS)


def test_a_result_is_taken_once(tmp_path: Path) -> None:
    store = make(tmp_path)
    first, second = find(tmp_path), find(tmp_path)
    store.keep(3, [b"the ", memoryview(b"result")])
    assert (first.results(), first.has_result(3), first.result(3)) == ({3}, True, b"the result")
    assert [first.take(3), second.take(3), first.take(3)] == [True, False, False]
    assert (second.numbers(), second.results()) == ([10], set())


def test_only_who_has_the_secret_and_the_name(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(ConfigurationError, match="a user other than eve"):
        find(tmp_path, user="eve")
    with pytest.raises(ConfigurationError, match="the secret in the token is wrong"):
        find(tmp_path, secret=b"another")
    with pytest.raises(ConfigurationError, match="nothing of this network is kept here"):
        find(tmp_path, node=2)


@pytest.mark.parametrize("name", ["", "../x", "f", "f1/../../x", "F1", "f1\n"])
def test_parts_stay_in_the_folder(name: str, tmp_path: Path) -> None:
    store = make(tmp_path)
    with pytest.raises(ConfigurationError, match="is not the name of a part"):
        store.add_part(name, b"")


def test_it_goes_with_the_last_job(tmp_path: Path) -> None:
    store, reader = make(tmp_path), find(tmp_path)
    assert reader.take(3)
    reader.remove_if_done()
    assert reader.take(10)
    reader.remove_if_done()
    assert is_held(store.folder)  # the session that runs the jobs removes it
    store.end("")
    assert list(tmp_path.iterdir()) == []


def test_what_was_not_done_has_a_reason(tmp_path: Path) -> None:
    store, reader = make(tmp_path), find(tmp_path)
    assert reader.is_held()
    assert reader.why_ended() == "the session that ran it was killed"
    store.end("the server was stopped")
    assert (reader.is_held(), reader.why_ended()) == (False, "the server was stopped")
    assert reader.take(3) and reader.take(10)
    reader.remove_if_done()
    assert list(tmp_path.iterdir()) == []
    assert (reader.numbers(), reader.results()) == ([], set())


def test_the_reason_is_written_where_there_is_room_for_it(tmp_path: Path) -> None:
    store, reader = make(tmp_path), find(tmp_path)
    size = (store.folder / "lock").stat().st_size
    names = {path.name for path in store.folder.iterdir()}
    store.end("\N{GREEK SMALL LETTER ALPHA}" * 5000)
    assert (store.folder / "lock").stat().st_size == size
    assert {path.name for path in store.folder.iterdir()} == names
    assert reader.why_ended().startswith("\N{GREEK SMALL LETTER ALPHA}" * 1000)


def test_a_folder_that_was_moved_away_is_not_removed(tmp_path: Path) -> None:
    store = make(tmp_path)
    away = store.folder.rename(tmp_path / "away")
    assert not store.is_removed
    shutil.rmtree(away)
    assert store.is_removed


def test_the_sweep_takes_what_is_old_and_nobody_has(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert sweep(kept, 7, 0.0) == 0  # the folder does not exist yet
    store = make(kept)
    store.keep(3, [b"result"])
    now = max(path.stat().st_mtime for path in (store.folder, *store.folder.iterdir()))
    assert sweep(kept, 7, now + 8 * DAY) == 0  # a session still uses it
    store.end("")
    now = max(path.stat().st_mtime for path in (store.folder, *store.folder.iterdir()))
    assert sweep(kept, 7, now + 6.9 * DAY) == 0
    os.utime(store.folder / "3.result", (now, now + DAY))
    assert sweep(kept, 7, now + 7.9 * DAY) == 0
    assert sweep(kept, 7, now + 8.1 * DAY) == 1
    assert list(kept.iterdir()) == []


def test_results_in_a_row_are_told_apart() -> None:
    results = [encode_message(Kind.RESULT, n, [PLAIN, "x" * n, 0.0, 0.0], 2**20)[0] for n in (1, 500)]
    report = encode_message(Kind.REPORT, 7, "half", 2**20)[0]
    found = split_results(b"".join([results[0], report, results[1]]))
    assert found == [(1, [results[0]]), (500, [results[1]])]


def test_a_lost_job_has_a_result() -> None:
    [message] = decode_messages(Role.EMPLOYER, b"".join(lost_result(9, "why", 0.5, [b"out", 0, b"", 0])))
    kind, text, _, seconds, output = message.value
    assert (message.tag, kind, text, seconds, output) == (9, LOST, "why", 0.5, [b"out", 0, b"", 0])
