"""The limits of a whole session: how long it lasts, how long it is idle, what it prints and keeps on the disk.

No input or output, and no clock: the supervisors of its nodes say what they see, and when. Each of them ends its own
node when the session has too much. The first that finds this out decides for all.

The supervisors are threads, and share one `SessionWatch` without a lock: each writes only what is its own, and the sums
may be those of a moment ago.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from pserver.config.limit_options import SessionLimits
from pserver.config.option import duration_text, size_text
from pserver.limits.limit_words import set_by

_LOOKS = 10  # how often one looks, within an idle timeout, whether the session is idle
_MOST_SECONDS = 5.0  # between two looks


@dataclass
class NodeUse:
    """What one node has used.

    `runs_programs`: whether there are processes of the node that are neither its engine nor its workers; that takes
    some milliseconds. `seen`: anything that changes when the client does something.
    """

    active_at: float
    runs_programs: Callable[[], bool]
    seen: object = None
    output: int = 0  #: bytes that its commands have printed, with all engines before this one
    last_output: int = 0
    disk: int = 0  #: bytes in its folder


class SessionWatch:
    """What a session has used; `now`: its beginning, by the clock of all later calls."""

    def __init__(self, limits: SessionLimits, now: float) -> None:
        self._limits = limits
        self._began = now
        self._nodes: list[NodeUse] = []
        self._verdict = ""  # for good: a command that begins in the last moment on one node saves none

    @property
    def looks_at_work(self) -> bool:
        """Whether one has to know what a node does, and prints."""
        return self._limits.idle_timeout > 0 or self._limits.output > 0

    @property
    def looks_at_disk(self) -> bool:
        """Whether the folders are to be measured."""
        return self._limits.disk > 0

    def add_node(self, now: float, runs_programs: Callable[[], bool]) -> NodeUse:
        """Return what the supervisor of one more node fills in."""
        use = NodeUse(now, runs_programs)
        self._nodes.append(use)
        return use

    def note_work(self, use: NodeUse, seen: object, now: float, *, is_busy: bool) -> None:
        """Record what a node does: whether something runs, and what has come from the client."""
        if is_busy or seen != use.seen:
            use.seen, use.active_at = seen, now

    def note_output(self, use: NodeUse, count: int) -> None:
        """Record how much the present engine of a node has printed; another one begins at 0."""
        use.output += count - use.last_output if count >= use.last_output else count
        use.last_output = count

    def why_over(self, now: float) -> str:
        """Return which limit the session has met, and who set it; ``""``: none. What one was told, all others are."""
        self._verdict = self._verdict or self._judge(now)
        return self._verdict

    def _judge(self, now: float) -> str:
        limits = self._limits
        if limits.time and now - self._began >= limits.time:
            lasted = f"the session has lasted {limits.time:g} s"
            return f"{lasted}; {set_by('--session-time', duration_text(limits.time))}"
        if limits.idle_timeout and self._is_idle(now):
            idle = f"nothing has run here, and nothing was heard of the client, for {limits.idle_timeout:g} s"
            return f"{idle}; {set_by('--idle-timeout', duration_text(limits.idle_timeout))}"
        if limits.output and (printed := sum(use.output for use in list(self._nodes))) > limits.output:
            return f"its commands have printed {printed} bytes; {set_by('--session-output', size_text(limits.output))}"
        if limits.disk and (kept := sum(use.disk for use in list(self._nodes))) > limits.disk:
            return (
                f"its folder has {kept} bytes on the disk; {set_by('--session-disk', size_text(limits.disk))}"
            )
        return ""

    def time_left(self, now: float) -> float:
        """Return in how many seconds to look again, whatever happens."""
        limits = self._limits
        ends = [self._began + limits.time - now] if limits.time else []
        if limits.output or limits.disk:  # another node may have met it
            ends.append(_MOST_SECONDS)
        if limits.idle_timeout:
            ends.append(min(limits.idle_timeout / _LOOKS, _MOST_SECONDS))
        return max(0.0, min(ends, default=math.inf))

    def _is_idle(self, now: float) -> bool:
        uses = list(self._nodes)
        since = max((use.active_at for use in uses), default=self._began)
        if now < since + self._limits.idle_timeout:
            return False
        for use in uses:
            if use.runs_programs():
                use.active_at = now  # one looks again when the time has passed once more
                return False
        return True
