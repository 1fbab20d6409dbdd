"""The output of jobs: standard output and standard error are files, which are read and emptied after each job."""

import os
from typing import Any

from pserver.system.flush import flush_output

_MAX_BYTES = 2**20  # of each output stream of a job; the end is kept
_STREAMS = (1, 2)


class JobOutput:
    """The standard output and standard error that this process has at creation."""

    def __init__(self) -> None:
        # Keep copies, for jobs that close the descriptors or replace them by other files.
        self._kept = {descriptor: os.dup(descriptor) for descriptor in _STREAMS}
        self._files = {descriptor: _file(os.fstat(descriptor)) for descriptor in _STREAMS}

    def take(self) -> list[Any] | None:
        """Return and discard a job's output, if any: both streams, with the number of bytes cut from each."""
        taken: list[Any] = []
        flush_output()
        for descriptor in _STREAMS:
            try:
                size = self._size(descriptor)
                kept = os.pread(descriptor, _MAX_BYTES, max(0, size - _MAX_BYTES)) if size else b""
                if size:
                    os.ftruncate(descriptor, 0)
            except OSError:  # a job has closed the copy as well
                size, kept = 0, b""
            taken += [kept, size - len(kept)]
        return taken if any(taken) else None

    def say(self, words: str) -> None:
        """Write a line to standard error, whatever jobs have done to the stream."""
        os.write(self._kept[2], f"{words}\n".encode(errors="replace"))

    def _size(self, descriptor: int) -> int:
        try:
            status = os.fstat(descriptor)
        except OSError:  # closed
            status = None
        if status is None or _file(status) != self._files[descriptor]:
            os.dup2(self._kept[descriptor], descriptor)
            status = os.fstat(descriptor)
        return status.st_size


def _file(status: os.stat_result) -> tuple[int, int]:
    return status.st_ino, status.st_dev
