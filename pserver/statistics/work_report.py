"""A supervisor's reports to the daemon on the jobs of its node: at most one a second, and only if something changed.

Workers count in memory shared with the supervisor. The supervisor reports the differences since its last message, so
the daemon can add them up. This includes workers that have died, even if they were killed in the middle of a job.
"""

import math
import time
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from pserver.statistics.work import Running, Span, Work
from pserver.statistics.work_page import WorkPage

_TELL_SECONDS = 1.0
_MOST_SPANS = 256  # waiting to be reported; if there are more, the last ones
_SPANS_AT_ONCE = 64  # in one message, which is limited in length
_ROWS_AT_ONCE = 64


class _Status(Protocol):
    """See `pserver.jobs.shared_status.Status`."""

    @property
    def job(self) -> int: ...
    @property
    def started(self) -> float: ...
    @property
    def transfer(self) -> float: ...
    @property
    def jobs(self) -> int: ...
    @property
    def seconds(self) -> float: ...


class _Page(Protocol):
    """See `pserver.jobs.shared_status.SharedStatus`."""

    work: WorkPage

    def read(self) -> _Status: ...
    def traffic(self) -> tuple[int, int]: ...


class Worker(Protocol):
    """See `pserver.session.worker_process.WorkerProcess`."""

    number: int
    lease: int
    pid: int

    @property
    def page(self) -> _Page:
        """The memory that it shares with its supervisor."""


class Daemon(Protocol):
    """See `pserver.session.slot_client.SlotClient`."""

    @property
    def has_daemon(self) -> bool:
        """Whether there is a daemon."""

    def tell_work(self, words: Mapping[str, object]) -> bool:
        """Send it a message, if it can take one now; return whether it could."""


class _Seen(NamedTuple):
    """How much of a worker's work has been reported."""

    work: Work = Work()
    ended: int = 0


class WorkReport:
    """The work of the workers of one node, to be reported to `daemon`."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self.past = Work()  #: work of workers that have ended
        self.past_jobs = 0  #: number of jobs that they had done, including programs
        self._seen: dict[int, _Seen] = {}  # by worker
        # Not reported yet:
        self._work: dict[int, Work] = {}  # by lease
        self._spans: deque[tuple[int, Span]] = deque(maxlen=_MOST_SPANS)
        self._running: list[list[object]] | None = []  # as reported; ``None``: the daemon does not know
        self._due = 0.0

    def tend(self, workers: Iterable[Worker], now: float) -> float:
        """Send a report if one is due and something has changed; return the seconds until the next call."""
        if now >= self._due:
            self._due = now + _TELL_SECONDS
            self._report(workers)
        is_done = not (self._work or self._spans or self._running)
        return math.inf if is_done else self._due - now

    def _report(self, workers: Iterable[Worker]) -> None:
        if not self._daemon.has_daemon:
            self._running = None  # a new daemon knows nothing
        running = []
        for worker in workers:
            self._look(worker)
            if worker.pid and (status := worker.page.read()).job:
                running.append([worker.lease, *_running(worker, status)])
        self._tell(running)

    def ended(self, worker: Worker) -> None:
        """Count the work of a worker that has ended, including the job lost with it, before its page is closed."""
        self._look(worker)
        del self._seen[worker.number]
        status = worker.page.read()
        self.past = self.past.plus(work_of(worker.page))
        self.past_jobs += status.jobs
        if status.job:
            begin, is_program, label = _running(worker, status)
            lost = Work(programs_lost=1) if is_program else Work(jobs_lost=1)
            self.past = self.past.plus(lost)
            self._add(worker.lease, lost)
            self._spans.append(
                (worker.lease, Span(begin, max(begin, time.time()), is_program, "lost", label))
            )

    def end(self, workers: Iterable[Worker]) -> None:
        """Report everything to the daemon because the node ends; running jobs are lost."""
        for worker in workers:
            self.ended(worker)
        self._tell([])

    def _look(self, worker: Worker) -> None:
        before = self._seen.get(worker.number, _Seen())
        work = work_of(worker.page)
        if work == before.work:
            self._seen.setdefault(worker.number, before)
            return
        spans, ended = worker.page.work.spans(before.ended)
        self._seen[worker.number] = _Seen(work, ended)
        self._add(worker.lease, work.since(before.work))
        self._spans += [(worker.lease, span) for span in spans]

    def _add(self, lease: int, work: Work) -> None:
        if any(work):
            self._work[lease] = self._work.get(lease, Work()).plus(work)

    def _tell(self, running: list[list[object]]) -> None:
        """Send the unreported data, in messages of limited length."""
        if running != self._running:
            for begin in range(0, max(1, len(running)), _ROWS_AT_ONCE):
                rows = running[begin : begin + _ROWS_AT_ONCE]
                if not self._daemon.tell_work({"running": rows, "is_more": begin > 0}):
                    self._running = None
                    return
            self._running = running
        while self._work:
            leases = list(self._work)[:_ROWS_AT_ONCE]
            rows = [[lease, *self._work[lease].shown().values()] for lease in leases]
            if not self._daemon.tell_work({"work": rows}):
                return
            for lease in leases:
                del self._work[lease]
        while self._spans:
            spans = list(self._spans)[:_SPANS_AT_ONCE]
            if not self._daemon.tell_work({"spans": [[lease, *_shown(span)] for lease, span in spans]}):
                return
            for _ in spans:
                self._spans.popleft()


def work_of(page: _Page) -> Work:
    """Return the work of a worker so far; the worker does not know how it ends, and which job is then lost."""
    (received, sent), transfer = page.traffic(), page.read().transfer
    seconds = transfer if 0.0 <= transfer < math.inf else 0.0
    return page.work.counts()._replace(transfer_seconds=seconds, bytes_in=received, bytes_out=sent)


def _running(worker: Worker, status: _Status) -> Running:
    """Return the running job; a worker may not have recorded its label yet."""
    known = worker.page.work.running(status.job)
    if known is not None:
        return known
    return Running(round(time.time() - max(0.0, time.monotonic() - status.started), 3), False, "")


def _shown(span: Span) -> list[Any]:
    return [round(span.begin, 6), round(span.end, 6), *span[2:]]
