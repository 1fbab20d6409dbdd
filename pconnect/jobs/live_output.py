"""Shows the output of jobs in the same way as the network's console shows the output of commands.

When a job runs for a long time, its supervisor sends the beginning of its output in parts. The result brings the last
part, which may overlap with these, or leave a gap. Only a contiguous beginning is shown; a line tells how much output
follows it. The threads that process results call this module.
"""

import threading
from typing import TYPE_CHECKING

from pconnect.commands.console import Console, Source

if TYPE_CHECKING:
    from pconnect.jobs.job import Job

#: Limit for each stream of a job. The supervisor sends no more than this while the job runs.
MAX_SHOWN_BYTES = 2**16


class LiveOutput:
    """Shows the output of the jobs of one network on `console`."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        # By job and stream, for jobs that have printed and not ended.
        self._sources: dict[tuple[int, int], Source] = {}

    def add(self, job: "Job", stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show a part of a job's output, which begins `start` bytes after the beginning of the output."""
        node, host = job.place
        key = job.number, stream
        if node is None or host is None or node in job.quiet or not (start or data or key in self._sources):
            return
        with self._lock:
            source = self._sources.get(key) or Source(node, f"{host} job {job.number}", stream)
            position = source.shown + source.hidden
            source.hidden += max(0, start - position)
            new = data[max(0, position - start) :]
            shown = b"" if source.hidden else new[: MAX_SHOWN_BYTES - source.shown]
            source.shown += len(shown)
            source.hidden += len(new) - len(shown)
            self._console.show(source, shown)
            if is_last:
                self._sources.pop(key, None)
                self._console.show_end(source)
            else:
                self._sources[key] = source
