"""A page of memory that a worker shares with its supervisor: its current job, and results that it has not sent yet.

When a worker dies, the page survives. It tells the supervisor which job was running, so no other job counts as lost,
and holds the results of earlier jobs. Each field has one writer, and is written by one store. `pserver.jobs.recall`
describes how the two processes agree on a recall.
"""

import mmap
import os
import struct
from typing import NamedTuple

from pserver.jobs.recall import RECORD_BYTES, RecallRecord
from pserver.statistics.work_page import WORK_BYTES, WorkPage

# Native, so each number is written by one store. The running job is in the recall record, which comes first.
_FIELDS = struct.Struct("dQdQdI")
_JOB = struct.Struct("Q")
_DONE = struct.Struct("Qd")
_SECONDS = struct.Struct("d")
_UNSENT = struct.Struct("I")
_TRAFFIC = struct.Struct("QQ")
_LIMIT_AT, _INTERRUPT_AT, _TRANSFER_AT, _DONE_AT, _UNSENT_AT = (RECORD_BYTES + n for n in (0, 8, 16, 24, 40))
_SENDING_AT, _DETACHED_AT = _UNSENT_AT + 4, _UNSENT_AT + 5
_TRAFFIC_AT = 80
_WORK_AT = 96
_RESULTS_AT = _WORK_AT + WORK_BYTES
_PAGE_BYTES = 2**17 + WORK_BYTES
#: Space for results that wait to be sent together.
RESULT_BYTES = _PAGE_BYTES - _RESULTS_AT


class Status(NamedTuple):
    """The current state of a worker."""

    job: int  #: number of the running job, 0 between jobs
    started: float  #: when it began, by the clock of `time.monotonic`, which all processes of a machine share
    limit: float  #: time limit in seconds; 0 for no limit
    interrupted: int  #: the job to interrupt; written by the supervisor
    transfer: float  #: total seconds spent on receiving jobs and sending results
    #: The number of finished jobs, and their total duration.
    jobs: int
    seconds: float
    unsent: int  #: bytes of waiting results


class SharedStatus:
    """The page, on either side.

    `descriptor`: of the memory, as returned by `make`; the caller may close it afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _PAGE_BYTES)
        self._view = memoryview(self._map)
        self._record = RecallRecord(self._map, descriptor)
        #: The finished and running work, for the statistics.
        self.work = WorkPage(self._map, _WORK_AT)

    @staticmethod
    def make() -> int:
        """Return a descriptor of memory for a page; the caller closes it."""
        descriptor = os.memfd_create("pserver-worker", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _PAGE_BYTES)
        return descriptor

    def read(self) -> Status:
        """Return the contents of the page."""
        job, started = self._record.running()
        limit, *others = _FIELDS.unpack_from(self._map, _LIMIT_AT)
        return Status(job, started, limit if job else 0.0, *others)

    def traffic(self) -> tuple[int, int]:
        """Return the numbers of bytes that the worker has received and sent."""
        received, sent = _TRAFFIC.unpack_from(self._map, _TRAFFIC_AT)
        return received, sent

    def close(self) -> None:
        """Unmap the memory; the other process keeps the page."""
        self._record.close()
        self._view.release()
        self._map.close()

    # --- written by the worker ---

    def begin(self, job: int, started: float, limit: float) -> None:
        """Record that a job begins."""
        _SECONDS.pack_into(self._map, _LIMIT_AT, limit)
        self._record.begin(job, started)

    def end(self, jobs: int, seconds: float) -> bool:
        """Record that no job is running, and the totals; return whether the jobs behind this one are recalled."""
        _DONE.pack_into(self._map, _DONE_AT, jobs, seconds)
        return self._record.end()

    def keep(self, result: bytes, before: int) -> int:
        """Append an encoded result to the `before` bytes of earlier ones; return the total number of bytes."""
        begin = _RESULTS_AT + before
        end = begin + len(result)
        self._map[begin:end] = result
        _UNSENT.pack_into(self._map, _UNSENT_AT, end - _RESULTS_AT)
        return end - _RESULTS_AT

    def results(self, count: int) -> memoryview:
        """Return the first `count` bytes of the waiting results."""
        return self._view[_RESULTS_AT : _RESULTS_AT + count]

    def clear(self) -> None:
        """Record that the waiting results have been sent."""
        _UNSENT.pack_into(self._map, _UNSENT_AT, 0)

    def spend(self, transfer: float) -> None:
        """Record the total seconds spent on transfers."""
        _SECONDS.pack_into(self._map, _TRANSFER_AT, transfer)

    def count_bytes(self, received: int, sent: int) -> None:
        """Record the total number of bytes that have passed over the link to the client."""
        _TRAFFIC.pack_into(self._map, _TRAFFIC_AT, received, sent)

    def set_sending(self, is_sending: bool) -> None:
        """Record whether a message to the client is being sent."""
        self._map[_SENDING_AT] = is_sending

    def is_sending(self) -> bool:
        """Return the last value passed to `set_sending`."""
        return bool(self._map[_SENDING_AT])

    # --- written by the supervisor ---

    def detach(self) -> None:
        """Stop sending to the client; a message on the pipe says where results go from now on."""
        self._map[_DETACHED_AT] = 1

    def is_detached(self) -> bool:
        """Whether `detach` was called."""
        return bool(self._map[_DETACHED_AT])

    def interrupt(self, job: int) -> None:
        """Record the job that the next signal is for."""
        _JOB.pack_into(self._map, _INTERRUPT_AT, job)

    def interrupted(self) -> int:
        """Return the last value passed to `interrupt`."""
        job: int = _JOB.unpack_from(self._map, _INTERRUPT_AT)[0]
        return job

    def recall(self, job: int) -> bool:
        """Recall the jobs sent after a running job; see `pserver.jobs.recall`."""
        return self._record.recall(job)
