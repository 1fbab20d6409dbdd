"""Shows what jobs print, as the console of the network shows what commands print.

While a job runs for long, its supervisor sends the beginning of what it has printed, in parts. The result brings the
last of it, which may overlap with that, or leave a gap. What is shown is always a beginning without gaps; a line says
how much more there was. The threads that take in results call this.
"""

import threading
from typing import TYPE_CHECKING

from pconnect.commands.console import Console, Source

if TYPE_CHECKING:
    from pconnect.jobs.job import Job

#: Of each stream of each job. The supervisor sends no more while it runs.
MAX_SHOWN_BYTES = 2**16


class LiveOutput:
    """What the jobs of one network print. `console`: shows it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lock = threading.Lock()
        self._sources: dict[
            tuple[int, int], Source
        ] = {}  # by job and stream; those that have printed and not ended

    def add(self, job: "Job", stream: int, start: int, data: bytes, *, is_last: bool) -> None:
        """Show a part of what a job has printed, which begins `start` bytes after its beginning."""
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
