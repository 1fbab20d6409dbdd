"""A page of memory that a worker shares with its supervisor: what it is doing, and results that are not sent yet.

A worker that dies says nothing any more, but the page stays. From it the supervisor learns which job was running, so
that no other counts as lost, and takes the results of those before it. Each field has one writer, and is written at
once; the two processes do not wait for each other.
"""

import mmap
import os
import struct
import threading
import time
from typing import NamedTuple

# Native, so that each number is written in one piece.
_FIELDS = struct.Struct("QddQdQdI")
_RUNNING = struct.Struct("Qdd")
_JOB = struct.Struct("Q")
_DONE = struct.Struct("Qd")
_TRANSFER = struct.Struct("d")
_UNSENT = struct.Struct("I")
_RUNNING_AT, _INTERRUPT_AT, _TRANSFER_AT, _DONE_AT, _UNSENT_AT = 0, 24, 32, 40, 56
_SENDING_AT, _DETACHED_AT = 60, 61
_RECALLED_AT, _AGREED_AT = 64, 72
_RESULTS_AT = 80
_PAGE_BYTES = 2**17
_AGREE_SECONDS = 0.0001
#: Room for results that wait to be sent together.
RESULT_BYTES = _PAGE_BYTES - _RESULTS_AT


class Status(NamedTuple):
    """What a worker is doing.

    Attributes
    ----------
    job
        Number of the job that runs, 0 between jobs.
    started
        When it began, by the clock of `time.monotonic`, which all processes of a machine share.
    limit
        Seconds that it may take; 0 for no limit.
    interrupted
        The job that is to be interrupted; written by the supervisor.
    transfer
        Seconds that it has spent on receiving jobs and sending results, in all.
    jobs, seconds
        How many it has done, and how long that took in all.
    unsent
        Bytes of results that wait.
    """

    job: int
    started: float
    limit: float
    interrupted: int
    transfer: float
    jobs: int
    seconds: float
    unsent: int


class SharedStatus:
    """The page, at either side.

    Parameters
    ----------
    descriptor
        Of the memory, as `make` returned it; it may be closed afterwards.
    """

    def __init__(self, descriptor: int) -> None:
        self._map = mmap.mmap(descriptor, _PAGE_BYTES)
        self._view = memoryview(self._map)
        # To take it keeps the processor from reading what comes after that before it has written what came before.
        self._fence = threading.Lock()

    @staticmethod
    def make() -> int:
        """Return a descriptor of memory for a page; it is to be closed by the caller."""
        descriptor = os.memfd_create("pserver-worker", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _PAGE_BYTES)
        return descriptor

    def read(self) -> Status:
        """Return what the page says."""
        return Status(*_FIELDS.unpack_from(self._map))

    def close(self) -> None:
        """Give the memory back; whoever else has the page keeps it."""
        self._view.release()
        self._map.close()

    # --- what the worker writes ---

    def begin(self, job: int, started: float, limit: float) -> None:
        """Take note that a job begins."""
        _RUNNING.pack_into(self._map, _RUNNING_AT, job, started, limit)

    def end(self, jobs: int, seconds: float) -> None:
        """Take note that no job runs, and of the sums."""
        _RUNNING.pack_into(self._map, _RUNNING_AT, 0, 0.0, 0.0)
        _DONE.pack_into(self._map, _DONE_AT, jobs, seconds)

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
        """Take note that they are sent."""
        _UNSENT.pack_into(self._map, _UNSENT_AT, 0)

    def spend(self, transfer: float) -> None:
        """Take note of the seconds that transfers have taken in all."""
        _TRANSFER.pack_into(self._map, _TRANSFER_AT, transfer)

    def set_sending(self, is_sending: bool) -> None:
        """Take note that something is about to be sent to the client, or has been."""
        self._map[_SENDING_AT] = is_sending

    def is_sending(self) -> bool:
        """Return what `set_sending` was told last."""
        return bool(self._map[_SENDING_AT])

    # --- what the supervisor writes ---

    def detach(self) -> None:
        """Say that nothing more is to be sent to the client; where it goes, comes through the pipe."""
        self._map[_DETACHED_AT] = 1

    def is_detached(self) -> bool:
        """Whether `detach` was called."""
        return bool(self._map[_DETACHED_AT])

    def interrupt(self, job: int) -> None:
        """Say which job the signal is for that comes next."""
        _JOB.pack_into(self._map, _INTERRUPT_AT, job)

    def interrupted(self) -> int:
        """Return what `interrupt` was told last."""
        return self._job_at(_INTERRUPT_AT)

    def recall(self, job: int) -> bool:
        """Have the worker begin nothing after a job of what it has got by its end; return whether it runs still.

        If it does not, the worker may have looked before, and goes on.
        """
        _JOB.pack_into(self._map, _RECALLED_AT, job)
        with self._fence:
            runs_still = self.read().job == job
        _JOB.pack_into(self._map, _AGREED_AT if runs_still else _RECALLED_AT, job if runs_still else 0)
        return runs_still

    def is_recalled(self, job: int) -> bool:
        """Whether, after a job that has just ended, what is there is not to be begun; for the worker."""
        with self._fence:  # the end of the job has to be seen before this looks
            pass
        while self._job_at(_RECALLED_AT) == job:
            if self._job_at(_AGREED_AT) == job:
                return True
            time.sleep(_AGREE_SECONDS)  # the supervisor has not looked yet whether the job runs
        return False

    def _job_at(self, position: int) -> int:
        job: int = _JOB.unpack_from(self._map, position)[0]
        return job
