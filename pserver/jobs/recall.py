"""Recall: how a client gets back jobs that it has sent to a worker, when they wait behind a job that takes long.

A worker reads no messages while it runs a job, so asking it would not help. It shares a page of memory with its
supervisor, and a record in that page has three numbers::

    job         the running job; 0 between jobs            written by the worker
    started     when that job began                        written by the worker, before the job
    recalled    begin no job that was sent after this      written by the supervisor

The sequence, with the module that does each step:

1. The supervisor reports that a job takes long (RUNNING; `pserver.session.worker_manager`).
2. The client sends RECALL to the worker, as a mark after the jobs that it has sent so far. Then it asks the supervisor,
   also with RECALL, and sends the worker nothing until the answer arrives (`pconnect.scheduler.node_workers`).
3. The supervisor calls `RecallRecord.recall`. If the answer is yes, it is binding: the worker begins none of the jobs
   before the mark, and the client reassigns them. If it is no, the worker runs them.
4. At the end of the job, the worker calls `RecallRecord.end`. If the answer is yes, `Intake` drops the jobs that have
   arrived, and those that arrive before the mark.

Steps 3 and 4 may coincide, and both sides must get the same answer. A file lock on the page orders them. The supervisor
does not wait for the lock: if the worker holds it, the worker is at the end of its job, and the answer is no. The
kernel releases the lock of a process that dies.

Short jobs skip the lock, which costs two system calls. After a job shorter than `SHORT_SECONDS`, the worker does not
read `recalled`; it takes that time from the clock after it has recorded that it runs no job. The supervisor recalls
nothing behind a job that has run for less than `LONG_SECONDS`. So when the supervisor reads the page, the worker's last
write is at least as old as the difference of the two: long enough to be visible on any processor.

``tests/pserver/jobs/test_recall.py`` runs the steps of the two sides in every possible order.
"""

import fcntl
import mmap
import os
import struct
import time
from collections import deque
from typing import Any

RECORD_BYTES = 24
#: After a shorter job, the worker does not check for a recall.
SHORT_SECONDS = 0.1
#: Behind a shorter job, the supervisor recalls nothing.
LONG_SECONDS = 0.2

# Native, so each number is written by one store.
_JOB, _STARTED, _RECALLED = 0, 8, 16
_NUMBER = struct.Struct("Q")
_TIME = struct.Struct("d")


class RecallRecord:
    """The record at the start of a page of memory, on either side.

    `descriptor`: of the same memory, for the lock; the caller may close it afterwards.
    """

    def __init__(self, memory: mmap.mmap, descriptor: int) -> None:
        self._memory = memory
        self._descriptor = os.dup(descriptor)
        self._job = 0
        self._started = 0.0

    def close(self) -> None:
        """Close the descriptor; the caller owns the memory."""
        os.close(self._descriptor)

    def running(self) -> tuple[int, float]:
        """Return the running job, and when it began; 0 between jobs."""
        job = self._load(_NUMBER, _JOB)  # first: its start time was written before it
        return job, self._load(_TIME, _STARTED) if job else 0.0

    # --- the worker ---

    def begin(self, job: int, started: float) -> None:
        """Record that a job begins."""
        self._job, self._started = job, started
        self._store(_TIME, _STARTED, started)
        self._store(_NUMBER, _JOB, job)

    def end(self) -> bool:
        """Record that the job has ended; return whether the jobs behind it are recalled."""
        self._store(_NUMBER, _JOB, 0)
        if self._now() - self._started < SHORT_SECONDS:
            return False
        self._lock(wait=True)
        recalled: int = self._load(_NUMBER, _RECALLED)
        self._unlock()
        return recalled == self._job

    # --- the supervisor ---

    def recall(self, job: int) -> bool:
        """If the job still runs, have the worker begin no job sent after it, and return True."""
        if not self._lock(wait=False):
            return False
        try:
            now = self._now()  # before reading the job, which otherwise may be older than it seems
            running, started = self.running()
            if running != job or now - started < LONG_SECONDS:
                return False
            self._store(_NUMBER, _RECALLED, job)
            return True
        finally:
            self._unlock()

    # --- the steps whose order matters between the two sides; a test replaces them ---

    def _load(self, form: struct.Struct, position: int) -> Any:
        return form.unpack_from(self._memory, position)[0]

    def _store(self, form: struct.Struct, position: int, value: float) -> None:
        form.pack_into(self._memory, position, value)

    def _now(self) -> float:
        return time.monotonic()

    def _lock(self, *, wait: bool) -> bool:
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX allows both
            return False
        return True

    def _unlock(self) -> None:
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN)


class Intake:
    """The jobs that a worker has received but not begun, in order."""

    def __init__(self) -> None:
        #: The number, the contents, and the arrival time of each.
        self.jobs: deque[tuple[int, Any, float]] = deque()
        self.now = 0.0  #: arrival time of the jobs added next, by `time.monotonic`
        self._recalled = 0  # jobs are dropped up to the mark with this number

    def add(self, number: int, contents: Any) -> None:
        """Add a job, unless it arrives before the mark of a recall."""
        if not self._recalled:
            self.jobs.append((number, contents, self.now))

    def recall(self, job: int) -> None:
        """Drop the waiting jobs, and those that arrive before the mark that the client has sent for this job."""
        self.jobs.clear()
        self._recalled = job

    def mark(self, job: int) -> None:
        """Handle the mark of a recall; it has no effect if the recall was refused."""
        if job == self._recalled:
            self._recalled = 0

    def clear(self) -> None:
        """Drop the waiting jobs, but no later ones."""
        self.jobs.clear()
        self._recalled = 0
