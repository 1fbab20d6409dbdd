"""The limits of a session, as watched by the supervisor of one node; see `pserver.limits.session_watch`."""

from collections.abc import Callable

from pserver.limits.folder_size import FolderSize
from pserver.limits.session_watch import SessionWatch


class NodeWatch:
    """One node's use of the resources that its session's limits restrict.

    `folder`: the node's folder. `work`: returns a value that changes with every activity of the client; whether a
    command or a job is running; and the number of bytes that the current engine has printed. `runs_programs`: whether
    any other process is running; any supervisor of the session may call it.
    """

    def __init__(
        self,
        watch: SessionWatch,
        folder: str,
        work: Callable[[], tuple[object, bool, int]],
        runs_programs: Callable[[], bool],
        now: float,
    ) -> None:
        self._watch = watch
        self._use = watch.add_node(now, runs_programs)
        self._folder = FolderSize(folder, now) if watch.looks_at_disk else None
        self._work = work

    def look(self, now: float) -> str:
        """Measure the use; return which limit was reached, and who set it; ``""`` if none."""
        if self._watch.looks_at_work:
            seen, is_busy, printed = self._work()
            self._watch.note_output(self._use, printed)
            self._watch.note_work(self._use, seen, now, is_busy=is_busy)
        if self._folder is not None:
            self._folder.step(now)
            self._use.disk = self._folder.size
        return self._watch.why_over(now)

    def time_left(self, now: float) -> float:
        """Return the seconds until the next regular `look`."""
        seconds = self._watch.time_left(now)
        return seconds if self._folder is None else min(seconds, self._folder.time_left(now))
