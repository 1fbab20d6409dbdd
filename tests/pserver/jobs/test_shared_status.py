"""The page shared by a worker and its supervisor, each with its own mapping."""

import os
import signal
from collections.abc import Iterator

import pytest

from pserver.jobs.shared_status import RESULT_BYTES, SharedStatus, Status
from tests.support.servers import open_files

Pages = tuple[SharedStatus, SharedStatus]
NOTHING = Status(0, 0.0, 0.0, 0, 0.0, 0, 0.0, 0)


@pytest.fixture
def pages() -> Iterator[Pages]:
    """Yield the page on both sides."""
    descriptor = SharedStatus.make()
    both = SharedStatus(descriptor), SharedStatus(descriptor)
    os.close(descriptor)
    yield both
    for page in both:
        page.close()


def test_a_new_page_says_nothing(pages: Pages) -> None:
    assert [page.read() for page in pages] == [NOTHING, NOTHING]


def test_each_field_is_seen_at_the_other_end_and_changes_no_other(pages: Pages) -> None:
    worker, supervisor = pages
    expected = NOTHING

    def expect(**changed: float) -> None:
        nonlocal expected
        expected = expected._replace(**changed)  # type: ignore[arg-type]
        assert supervisor.read() == worker.read() == expected

    worker.begin(2**40, 12.5, 3.0)
    expect(job=2**40, started=12.5, limit=3.0)
    supervisor.interrupt(2**64 - 1)
    expect(interrupted=2**64 - 1)
    assert worker.interrupted() == 2**64 - 1
    worker.spend(0.25)
    expect(transfer=0.25)
    worker.keep(b"result", 0)
    expect(unsent=6)
    worker.end(7, 1.5)
    expect(job=0, started=0.0, limit=0.0, jobs=7, seconds=1.5)
    worker.begin(8, 1.0, 0.0)
    expect(job=8, started=1.0)
    worker.clear()
    expect(unsent=0)


def test_results_stand_behind_each_other_until_they_are_sent(pages: Pages) -> None:
    worker, supervisor = pages
    count = worker.keep(b"one", 0)
    count = worker.keep(b"two", count)
    assert count == supervisor.read().unsent == 6
    assert bytes(supervisor.results(count)) == b"onetwo"
    worker.clear()
    assert worker.keep(b"3", 0) == 1
    assert bytes(supervisor.results(1)) == b"3"


def test_results_fill_the_page_and_nothing_else(pages: Pages) -> None:
    worker, supervisor = pages
    worker.begin(1, 2.0, 3.0)
    data = os.urandom(RESULT_BYTES)
    assert worker.keep(data, 0) == RESULT_BYTES
    assert bytes(supervisor.results(RESULT_BYTES)) == data
    assert supervisor.read() == NOTHING._replace(job=1, started=2.0, limit=3.0, unsent=RESULT_BYTES)
    with pytest.raises((ValueError, IndexError)):
        worker.keep(b"x", RESULT_BYTES)


def test_the_page_outlives_who_wrote_it(pages: Pages) -> None:
    worker, supervisor = pages
    child = os.fork()
    if not child:
        worker.begin(5, 1.0, 0.0)
        worker.keep(b"last", 0)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    assert supervisor.read() == NOTHING._replace(job=5, started=1.0, unsent=4)
    assert bytes(supervisor.results(4)) == b"last"


def test_closing_gives_back_the_memory() -> None:
    before = open_files()
    descriptor = SharedStatus.make()
    assert not os.get_inheritable(descriptor)
    page = SharedStatus(descriptor)
    os.close(descriptor)
    page.close()
    assert open_files() == before
    with pytest.raises(ValueError):
        page.read()


def test_bytes_are_counted_beside_full_results(pages: Pages) -> None:
    worker, supervisor = pages
    worker.count_bytes(2**40, 2**41)
    worker.keep(b"x" * RESULT_BYTES, 0)
    assert supervisor.traffic() == (2**40, 2**41)
    assert bytes(supervisor.results(3)) == b"xxx"
