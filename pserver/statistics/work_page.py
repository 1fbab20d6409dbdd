"""A worker's records of its jobs, in the memory that it shares with its supervisor.

The memory holds counts, the running job, and a ring of the last `RING` jobs. The supervisor reads it once a second, so
no message is sent for a job. If there are very many short jobs, it sees the counts of all, but only the last ones in
the ring. The worker is the only writer. It writes an entry in the ring before it increments the counts; entries that
are overwritten during a read are skipped.

User code runs in the worker and could write anything here. So the reader checks the data, and must not rely on it.
"""

import math
import mmap
import struct

from pserver.statistics.work import MAX_LABEL, Running, Span, Work

RING = 256  # jobs; if a second has more, they are not all shown individually
# Native, so each number is written by one store.
_COUNTS = struct.Struct("QQQQQdd")  # entries written to the ring; done and failed, jobs and programs; seconds
_RUNNING = struct.Struct(f"QQd{MAX_LABEL}s")  # job, whether it is a program, start, label
_ENTRY = struct.Struct(f"ddQ{MAX_LABEL}s")  # start, seconds, flags, label
_RUNNING_AT = _COUNTS.size
_RING_AT = 256
WORK_BYTES = _RING_AT + RING * _ENTRY.size
_FAILED, _PROGRAM = 1, 2


class WorkPage:
    """The worker's records in the memory, on either side. `begin_at`: their offset."""

    def __init__(self, memory: mmap.mmap, begin_at: int) -> None:
        self._memory = memory
        self._at = begin_at
        self.labels: dict[int, bytes] = {}  #: names of the worker's functions that have run, by number
        self._counts: list[float] = [0, 0, 0, 0, 0, 0.0, 0.0]
        self._label, self._is_program = b"", False

    # --- the worker ---

    def begin(self, job: int, began: float, label: bytes, *, is_program: bool) -> None:
        """Record a job that has begun. `label`: the beginning of its name in UTF-8."""
        self._label, self._is_program = label, is_program
        _RUNNING.pack_into(self._memory, self._at + _RUNNING_AT, job, is_program, began, label)

    def end(self, began: float, seconds: float, queued: float, *, has_failed: bool) -> None:
        """Record that a job has ended. `queued`: seconds that it waited in the worker before it began."""
        counts, is_program = self._counts, self._is_program
        place = self._at + _RING_AT + int(counts[0]) % RING * _ENTRY.size
        flags = has_failed * _FAILED + is_program * _PROGRAM
        _ENTRY.pack_into(self._memory, place, began, seconds, flags, self._label)
        counts[0] += 1
        counts[1 + flags] += 1
        counts[5] += seconds
        counts[6] += queued
        _COUNTS.pack_into(self._memory, self._at, *counts)
        self._label, self._is_program = b"", False

    # --- the supervisor ---

    def counts(self) -> Work:
        """Return the counts so far; the worker does not know of lost jobs and of transfers."""
        _, done, failed, programs_done, programs_failed, seconds, queued = self._read_counts()
        processing, queue = (each if 0.0 <= each < math.inf else 0.0 for each in (seconds, queued))
        return Work(done, failed, 0, programs_done, programs_failed, 0, processing, queue)

    def running(self, job: int) -> Running | None:
        """Return the running job, if the worker has recorded it already."""
        number, is_program, began, label = _RUNNING.unpack_from(self._memory, self._at + _RUNNING_AT)
        is_known = number == job and math.isfinite(began) and began >= 0
        return Running(began, bool(is_program), _text(label)) if is_known else None

    def spans(self, after: int) -> tuple[list[Span], int]:
        """Return the ended jobs after the first `after` that are still in the ring, and the number of all."""
        count = self._read_counts()[0]
        first = max(after, count - RING)
        entries = [self._entry(index) for index in range(first, count)] if count - first <= RING else []
        overwritten = self._read_counts()[0] - RING + 1 - first
        return [span for span in entries[max(0, overwritten) :] if span is not None], count

    def _read_counts(self) -> tuple[int, int, int, int, int, float, float]:
        counts: tuple[int, int, int, int, int, float, float] = _COUNTS.unpack_from(self._memory, self._at)
        return counts

    def _entry(self, index: int) -> Span | None:
        place = self._at + _RING_AT + index % RING * _ENTRY.size
        began, seconds, flags, label = _ENTRY.unpack_from(self._memory, place)
        if not (math.isfinite(began) and math.isfinite(seconds) and began >= 0 and seconds >= 0):
            return None
        outcome = "failed" if flags & _FAILED else "done"
        return Span(began, began + seconds, bool(flags & _PROGRAM), outcome, _text(label))


def label_of(name: str) -> bytes:
    """Return a name in its stored form: its beginning, in UTF-8."""
    return name[:MAX_LABEL].encode(errors="replace")[:MAX_LABEL]


def _text(label: bytes) -> str:
    return label.rstrip(b"\0").decode(errors="ignore")
