"""Reports about workers to a daemon; here, the workers are pages of memory."""

import mmap
import time
from collections.abc import Mapping
from typing import Any

import pytest

from pserver.jobs.shared_status import Status
from pserver.statistics.work import Work, read_told
from pserver.statistics.work_page import WORK_BYTES, WorkPage
from pserver.statistics.work_report import WorkReport


class Page:
    """The memory of a worker."""

    def __init__(self) -> None:
        self.work = WorkPage(mmap.mmap(-1, WORK_BYTES), 0)
        self.job, self.transfer, self.count = 0, 0.0, 0

    def read(self) -> Status:
        return Status(self.job, time.monotonic() - 1.0, 0.0, 0, self.transfer, self.count, 0.5, 0)

    def traffic(self) -> tuple[int, int]:
        return 10 * self.count, 20 * self.count


class Worker:
    """A worker."""

    def __init__(self, number: int) -> None:
        self.number, self.lease, self.pid = number, number * 100, number
        self.page = Page()

    def begin(self, job: int, label: bytes = b"f", *, is_program: bool = False) -> None:
        self.page.job = job
        self.page.work.begin(job, 1000.0, label, is_program=is_program)

    def end(self, *, has_failed: bool = False) -> None:
        self.page.job = 0
        self.page.count += 1
        self.page.work.end(1000.0, 0.5, 0.0, has_failed=has_failed)


class Daemon:
    """Records reports; `room` limits how many it accepts."""

    def __init__(self) -> None:
        self.has_daemon = True
        self.room = 1000
        self.told: list[Mapping[str, Any]] = []

    def tell_work(self, words: Mapping[str, Any]) -> bool:
        if not self.has_daemon or not self.room:
            return False
        self.room -= 1
        self.told.append(words)
        return True

    def work(self) -> dict[int, Work]:
        """Return the sums, by lease."""
        sums: dict[int, Work] = {}
        for words in self.told:
            for lease, work in read_told(words).work:
                sums[lease] = sums.get(lease, Work()).plus(work)
        return sums

    def spans(self) -> list[tuple[int, str, str]]:
        """Return the ended jobs: lease, outcome, label."""
        spans = [each for words in self.told for each in read_told(words).spans]
        return [(lease, span.outcome, span.label) for lease, span in spans]


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def report(daemon: Daemon) -> WorkReport:
    return WorkReport(daemon)


def test_it_tells_once_a_second_and_only_news(daemon: Daemon, report: WorkReport) -> None:
    worker, now = Worker(1), 1000.0
    assert report.tend([worker], now) == float("inf") and daemon.told == []
    worker.begin(1)
    worker.end()
    report.tend([worker], now + 0.5)
    assert daemon.told == []
    report.tend([worker], now + 1.0)
    assert daemon.work() == {
        100: Work(1, processing_seconds=0.5, bytes_in=10, bytes_out=20)
    } and daemon.spans() == [(100, "done", "f")]
    count = len(daemon.told)
    report.tend([worker], now + 2.0)
    assert len(daemon.told) == count
    worker.begin(2, b"make", is_program=True)
    for later in (3.0, 4.0):
        report.tend([worker], now + later)
    assert daemon.told[count:] == [{"running": [[100, 1000.0, True, "make"]], "is_more": False}]
    worker.end(has_failed=True)
    report.tend([worker], now + 5.0)
    assert daemon.told[count + 1] == {"running": [], "is_more": False}
    assert daemon.work()[100] == Work(1, 0, 0, 0, 1, 0, 1.0, bytes_in=20, bytes_out=40)


def test_what_runs_in_a_worker_that_dies_is_lost(daemon: Daemon, report: WorkReport) -> None:
    first, second = Worker(1), Worker(2)
    first.begin(1)
    second.page.job = 2  # it has not recorded the job yet
    report.tend([first, second], 1000.0)
    report.ended(first)
    report.end([second])
    assert daemon.work() == {100: Work(jobs_lost=1), 200: Work(jobs_lost=1)}
    assert daemon.spans() == [(100, "lost", "f"), (200, "lost", "")]
    assert report.past == Work(jobs_lost=2)


def test_nothing_is_forgotten_while_there_is_no_daemon(daemon: Daemon, report: WorkReport) -> None:
    worker = Worker(1)
    daemon.has_daemon = False
    worker.begin(1)
    worker.end()
    worker.begin(2)
    assert report.tend([worker], 1000.0) < 5
    report.tend([worker], 1001.0)
    assert daemon.told == []
    daemon.has_daemon = True
    report.tend([worker], 1002.0)
    assert daemon.work() == {100: Work(1, processing_seconds=0.5, bytes_in=10, bytes_out=20)}
    assert [words["running"] for words in daemon.told if "running" in words] == [[[100, 1000.0, False, "f"]]]
    # A new daemon does not know the running jobs.
    daemon.has_daemon = False
    report.tend([worker], 1003.0)
    daemon.has_daemon, daemon.told = True, []
    report.tend([worker], 1004.0)
    assert [words["running"] for words in daemon.told] == [[[100, 1000.0, False, "f"]]]


def test_many_workers_are_told_of_in_parts_that_are_not_too_long(daemon: Daemon, report: WorkReport) -> None:
    workers = [Worker(number) for number in range(1, 200)]
    for worker in workers:
        worker.begin(1)
        worker.end()
        worker.begin(2, "ü".encode() * 40)
    daemon.room = 5  # the socket becomes full halfway
    report.tend(workers, 1000.0)
    daemon.room = 1000
    report.tend(workers, 1001.0)
    assert len(daemon.work()) == 199 and {work.jobs_done for work in daemon.work().values()} == {1}
    assert sum(len(words.get("running", ())) for words in daemon.told) == 199
    assert len(daemon.spans()) == 199
    assert max(len(str(words).encode()) for words in daemon.told) < 2**15
    report.tend(workers, 1002.0)
    assert len(daemon.spans()) == 199
