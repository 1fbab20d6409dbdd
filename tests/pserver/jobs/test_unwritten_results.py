"""Results that wait for disk space."""

from pathlib import Path

import pytest

from pserver.jobs.job_store import JobStore, digest_of
from pserver.jobs.unwritten_results import PATIENCE, UnwrittenResults


class Clock:
    now = 5.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore.make(tmp_path, bytes(16), 1, "alice", digest_of(b"secret"))


def move_away(store: JobStore) -> Path:
    return store.folder.rename(store.folder.with_name("away"))


def test_what_cannot_be_written_waits(store: JobStore, caplog: pytest.LogCaptureFixture) -> None:
    unwritten = UnwrittenResults(store)
    unwritten.keep(1, [b"one"])
    assert (len(unwritten), store.result(1)) == (0, b"one")
    away = move_away(store)
    for number in (2, 3):
        unwritten.keep(number, [b"more"])
    unwritten.write()
    assert len(unwritten) == 2 and not unwritten.is_hopeless
    assert "results could not be written to the disk of the server: [Errno 2]" in unwritten.why
    assert caplog.text.count("cannot write the result of job") == 1
    away.rename(store.folder)
    unwritten.write()
    assert (len(unwritten), unwritten.why, store.results()) == (0, "", {1, 2, 3})


def test_what_a_worker_has_written_stays(store: JobStore) -> None:
    unwritten = UnwrittenResults(store)
    store.keep(1, [b"its result"])
    away = move_away(store)
    unwritten.keep(1, [b"it was lost"])
    away.rename(store.folder)
    unwritten.write()
    assert (len(unwritten), store.result(1)) == (0, b"its result")


def test_it_gives_up_when_the_folder_was_removed(store: JobStore) -> None:
    unwritten = UnwrittenResults(store)
    (store.folder / "lock").unlink()
    assert unwritten.is_hopeless
    unwritten.give_up()
    unwritten.write()
    assert unwritten.why == "the folder of its results was removed from the server"


def test_it_gives_up_some_time_after_the_first_refusal(store: JobStore) -> None:
    clock = Clock()
    unwritten = UnwrittenResults(store, clock)
    clock.now += 2 * PATIENCE
    move_away(store)
    unwritten.keep(1, [b"one"])
    clock.now += PATIENCE
    unwritten.write()
    assert not unwritten.is_hopeless
    clock.now += 1
    assert unwritten.is_hopeless
    unwritten.give_up()
    assert len(unwritten) == 0 and "could not be written to the disk" in unwritten.why
