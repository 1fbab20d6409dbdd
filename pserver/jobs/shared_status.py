"""A page of memory that a worker shares with its supervisor: what it is doing, and results that are not sent yet.

When a worker dies, the page stays. From it the supervisor learns which job was running, so that no other counts as
lost, and takes the results of those before it. Each field has one writer, and is written at
once; how the two processes agree on a recall is in `pserver.jobs.recall`.
"""

import mmap
import os
import struct
from typing import NamedTuple

from pserver.jobs.recall import RECORD_BYTES, RecallRecord
from pserver.statistics.work_page import WORK_BYTES, WorkPage

# Native, so that each number is written in one piece. The job that runs is in the record of recalls, which comes first.
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
#: Room for results that wait to be sent together.
RESULT_BYTES = _PAGE_BYTES - _RESULTS_AT


class Status(NamedTuple):
    """What a worker is doing."""

    job: int  #: number of the job that runs, 0 between jobs
    started: float  #: when it began, by the clock of `time.monotonic`, which all processes of a machine share
    limit: float  #: seconds that it may take; 0 for no limit
    interrupted: int  #: the job to interrupt; written by the supervisor
    transfer: float  #: seconds that it has spent on receiving jobs and sending results, in all
    #: How many it has done, and how long that took in all.
    jobs: int
    seconds: float
    unsent: int  #: bytes of results that wait


class SharedStatus:
    """The page, at either side.

    `descriptor`: of the memory, as `make` returned it; it may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _PAGE_BYTES)
        self._view = memoryview(self._map)
        self._record = RecallRecord(self._map, descriptor)
        #: What has run, for the statistics.
        self.work = WorkPage(self._map, _WORK_AT)

    @staticmethod
    def make() -> int:
        """Return a descriptor of memory for a page; the caller closes it."""
        descriptor = os.memfd_create("pserver-worker", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _PAGE_BYTES)
        return descriptor

    def read(self) -> Status:
        """Return what the page says."""
        job, started = self._record.running()
        limit, *others = _FIELDS.unpack_from(self._map, _LIMIT_AT)
        return Status(job, started, limit if job else 0.0, *others)

    def traffic(self) -> tuple[int, int]:
        """Return how many bytes the worker has received and sent."""
        received, sent = _TRAFFIC.unpack_from(self._map, _TRAFFIC_AT)
        return received, sent

    def close(self) -> None:
        """Give the memory back; the other process keeps the page."""
        self._record.close()
        self._view.release()
        self._map.close()

    # --- what the worker writes ---

    def begin(self, job: int, started: float, limit: float) -> None:
        """Record that a job begins."""
        _SECONDS.pack_into(self._map, _LIMIT_AT, limit)
        self._record.begin(job, started)

    def end(self, jobs: int, seconds: float) -> bool:
        """Record that no job runs, and the sums; return whether the jobs behind this one are recalled."""
        _DONE.pack_into(self._map, _DONE_AT, jobs, seconds)
        return self._record.end()

    def keep(self, result: bytes, before: int) -> int:
        """Put an encoded result behind the `before` bytes of others; return how many bytes are there now."""
        begin = _RESULTS_AT + before
        end = begin + len(result)
        self._map[begin:end] = result
        _UNSENT.pack_into(self._map, _UNSENT_AT, end - _RESULTS_AT)
        return end - _RESULTS_AT

    def results(self, count: int) -> memoryview:
        """Return the first `count` bytes of the results that wait."""
        return self._view[_RESULTS_AT : _RESULTS_AT + count]

    def clear(self) -> None:
        """Record that they are sent."""
        _UNSENT.pack_into(self._map, _UNSENT_AT, 0)

    def spend(self, transfer: float) -> None:
        """Record the seconds that all transfers have taken."""
        _SECONDS.pack_into(self._map, _TRANSFER_AT, transfer)

    def count_bytes(self, received: int, sent: int) -> None:
        """Record how much has passed on the link to the client so far."""
        _TRAFFIC.pack_into(self._map, _TRAFFIC_AT, received, sent)

    def set_sending(self, is_sending: bool) -> None:
        """Record that something is about to be sent to the client, or has been."""
        self._map[_SENDING_AT] = is_sending

    def is_sending(self) -> bool:
        """Return what `set_sending` was told last."""
        return bool(self._map[_SENDING_AT])

    # --- what the supervisor writes ---

    def detach(self) -> None:
        """Have nothing more sent to the client; the pipe says where results go from now on."""
        self._map[_DETACHED_AT] = 1

    def is_detached(self) -> bool:
        """Whether `detach` was called."""
        return bool(self._map[_DETACHED_AT])

    def interrupt(self, job: int) -> None:
        """Record which job the next signal is for."""
        _JOB.pack_into(self._map, _INTERRUPT_AT, job)

    def interrupted(self) -> int:
        """Return what `interrupt` was told last."""
        job: int = _JOB.unpack_from(self._map, _INTERRUPT_AT)[0]
        return job

    def recall(self, job: int) -> bool:
        """Recall what was sent behind a job that runs; see `pserver.jobs.recall`."""
        return self._record.recall(job)
