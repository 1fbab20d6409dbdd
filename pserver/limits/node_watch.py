"""The limits of a session as the supervisor of one node watches them; see `pserver.limits.session_watch`."""

from collections.abc import Callable

from pserver.limits.folder_size import FolderSize
from pserver.limits.session_watch import SessionWatch


class NodeWatch:
    """What one node uses of what its session may.

    `folder`: that of the node. `work`: returns something that changes with whatever the client does; whether a command
    or a job runs; and how many bytes the present engine has printed. `runs_programs`: whether anything else does, which
    any of the session's supervisors may ask.
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
        """Look at what there is to see; return which limit was met, and who set it; ``""``: none."""
        if self._watch.looks_at_work:
            seen, is_busy, printed = self._work()
            self._watch.note_output(self._use, printed)
            self._watch.note_work(self._use, seen, now, is_busy=is_busy)
        if self._folder is not None:
            self._folder.step(now)
            self._use.disk = self._folder.size
        return self._watch.why_over(now)

    def time_left(self, now: float) -> float:
        """Return in how many seconds to look again, whatever happens."""
        seconds = self._watch.time_left(now)
        return seconds if self._folder is None else min(seconds, self._folder.time_left(now))
