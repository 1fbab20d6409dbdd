"""Recall: how a client gets back the jobs that it has sent to a worker behind one that turns out to be long.

A worker that runs a job reads nothing, so asking it would not help. It shares a page of memory with its supervisor, and
a record in it has three numbers::

    job         that the worker runs; 0 between jobs       written by the worker
    started     when that job began                        written by the worker, before the job
    recalled    begin nothing that was sent behind this    written by the supervisor

The sequence, with the module that does each step:

1. The supervisor says that a job is long (RUNNING; `pserver.session.worker_manager`).
2. The client sends RECALL to the worker, as a mark behind the jobs it has sent so far. Then it asks the supervisor,
   with RECALL too, and meanwhile sends the worker nothing (`pconnect.scheduler.node_workers`).
3. The supervisor calls `RecallRecord.recall`. If the answer is yes, it holds: the worker will begin none of the jobs
   before the mark, and the client gives them to others. If it is no, the worker does them.
4. At the end of the job the worker calls `RecallRecord.end`. If that says yes, `Intake` drops what is there and what
   comes up to the mark.

Steps 3 and 4 meet, and both ends must come to the same answer. A file lock on the page orders them. The supervisor
does not wait for it: if the worker has it, the worker is at the end of its job, and the answer is no. The kernel
releases the lock of a process that dies.

Short jobs do without the lock, which costs two system calls. A worker that has needed less than `SHORT_SECONDS`, by the
clock that it reads after it has written that it runs no job, does not look at `recalled`; and the supervisor does not
recall behind a job that has not run for `LONG_SECONDS`. So when the supervisor looks, what the worker wrote is at least
the difference of the two old: long enough for any processor to have made it visible.

``tests/pserver/jobs/test_recall.py`` walks through every order of the steps of the two ends.
"""

import fcntl
import mmap
import os
import struct
import time
from collections import deque
from typing import Any

RECORD_BYTES = 24
#: A worker does not look for a recall after a shorter job.
SHORT_SECONDS = 0.1
#: The supervisor recalls nothing behind a shorter job.
LONG_SECONDS = 0.2

# Native, so that each number is written in one piece.
_JOB, _STARTED, _RECALLED = 0, 8, 16
_NUMBER = struct.Struct("Q")
_TIME = struct.Struct("d")


class RecallRecord:
    """The record at the beginning of a page of memory, at either end.

    `descriptor`: of the same memory, for the lock; it may be closed afterwards.
    """

    def __init__(self, memory: mmap.mmap, descriptor: int) -> None:
        self._memory = memory
        self._descriptor = os.dup(descriptor)
        self._job = 0
        self._started = 0.0

    def close(self) -> None:
        """Close the descriptor; the memory belongs to the caller."""
        os.close(self._descriptor)

    def running(self) -> tuple[int, float]:
        """Return the job that runs, and when it began; 0 between jobs."""
        job = self._load(_NUMBER, _JOB)  # first: what belongs to it was written before
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
        """Have the worker begin nothing that was sent behind a job, if it still runs that; return whether it does."""
        if not self._lock(wait=False):
            return False
        try:
            now = self._now()  # before the look at the job, else that may be older than it seems
            running, started = self.running()
            if running != job or now - started < LONG_SECONDS:
                return False
            self._store(_NUMBER, _RECALLED, job)
            return True
        finally:
            self._unlock()

    # --- the steps that the order of the two ends is about; a test puts its own in their place ---

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
    """The jobs that a worker has received and not begun, in order."""

    def __init__(self) -> None:
        #: Each with its number, contents, and when it came.
        self.jobs: deque[tuple[int, Any, float]] = deque()
        self.now = 0.0  #: when what comes next was taken in, by the clock of `time.monotonic`
        self._recalled = 0  # jobs are dropped up to the mark with this number

    def add(self, number: int, contents: Any) -> None:
        """Add a job, unless it comes before the mark of a recall."""
        if not self._recalled:
            self.jobs.append((number, contents, self.now))

    def recall(self, job: int) -> None:
        """Drop what is there, and what comes up to the mark that the client has sent for this job."""
        self.jobs.clear()
        self._recalled = job

    def mark(self, job: int) -> None:
        """Take the mark of a recall; it means nothing if the recall was refused."""
        if job == self._recalled:
            self._recalled = 0

    def clear(self) -> None:
        """Drop what is there, and nothing else."""
        self.jobs.clear()
        self._recalled = 0
